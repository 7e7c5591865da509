"""The scores of one estimate: one number each for a whole run, spin-up left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from masf.gaps import Gap, measurement_steps
from masf.scores.averages import AVERAGES, averages
from masf.scores.exactness import EXACTNESS, Analyses, Reference
from masf.scores.fields import FLOW_SCORES, vorticity_scores

SCORES = {
    **AVERAGES,
    **EXACTNESS,
    **FLOW_SCORES,
}
"""Columns of scores.parquet that are scores, and what people call them."""

SHOWN = ["rmse", "rmse_analysis", "crps", "spread_skill"]
"""Scores in all tables for people, to which FLOW_SCORES are added for flows."""

MISSING = dict.fromkeys(SCORES, float("nan"))


def shown_scores(rows: Any) -> list[str]:
    """SHOWN, and those of FLOW_SCORES that a table of scores has of any run."""
    return [*SHOWN, *(key for key in FLOW_SCORES if key in rows and rows[key].notna().any())]


def score(
    data: Any,
    *,
    gap: Gap,
    spin_up_cycles: int,
    reference: Reference | None = None,
    velocities: np.ndarray | None = None,
) -> dict[str, float]:
    """The scores of one estimate, spin-up left out; NaN if it diverged.

    Args:
        data: the content of {filter}.nc, see masf.files.netcdf.
        gap: model steps between two measurements, or a pattern (masf.gaps).
        spin_up_cycles: how many of the first cycles to leave out.
        reference: what is compared with; distances and ratios are NaN without it.
        velocities: (times, 2, n, n) the truth, of a flow; scores of vorticity are NaN without it.
    """
    if data.attrs["diverged"]:
        return dict(MISSING)
    averaged = averages(data, gap=gap, spin_up_cycles=spin_up_cycles)
    compared: dict[str, float] = {}
    if reference is not None:
        analyses = Analyses.of(data, gap, spin_up_cycles)
        compared = reference.distances(analyses) | reference.ratios(averaged)
    of_vorticity: dict[str, float] = {}
    if velocities is not None:
        at = measurement_steps(gap, len(data["crps"]))[spin_up_cycles:]
        series = vorticity_scores(data["mean"].values[at], velocities[at])
        of_vorticity = {name: float(np.mean(values)) for name, values in series.items()}
    return MISSING | compared | of_vorticity | averaged
