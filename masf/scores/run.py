"""The scores of one estimate: one number each for a whole run, spin-up left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from masf.scores.exactness import EXACTNESS, Analyses, Reference
from masf.scores.metrics import mean_spread

FLOW_SCORES = {"ssim": "SSIM of vorticity", "csi": "CSI of vorticity"}
"""Scores of systems that are a flow; 1 is perfect."""

SCORES = {
    "rmse": "RMSE",
    "rmse_analysis": "analysis RMSE",
    "rmse_forecast": "forecast RMSE",
    "spread_skill": "spread / error",
    "spread_skill_forecast": "forecast spread / error",
    "crps": "CRPS",
    "crps_forecast": "forecast CRPS",
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


def score(data: Any, *, gap: int, spin_up_cycles: int, reference: Reference | None = None) -> dict[str, float]:
    """The scores of one estimate, spin-up left out; NaN if it diverged.

    Args:
        data: the content of {filter}.nc, see masf.files.netcdf.
        gap: model steps between two measurements.
        spin_up_cycles: how many of the first cycles to leave out.
        reference: what distances are measured to; they are NaN without it.

    Scores of flows are NaN for other systems.
    """
    if data.attrs["diverged"]:
        return dict(MISSING)
    rmse = data["rmse"].values.astype(np.float64)
    after, analyses = slice(spin_up_cycles * gap + 1, None), slice((spin_up_cycles + 1) * gap, None, gap)
    spread = data["spread"].values
    spread = mean_spread(spread.reshape(len(spread), -1)[analyses])
    forecast_error, forecast_spread = (data[name].values[spin_up_cycles:] for name in ("rmse_forecast", "spread_forecast"))
    distances = {} if reference is None else reference.distances(Analyses.of(data, gap, spin_up_cycles))
    of_vorticity = {name: float(np.mean(data[name].values[spin_up_cycles:])) for name in FLOW_SCORES if name in data}
    return (
        MISSING
        | distances
        | of_vorticity
        | {
            "rmse": float(np.sqrt(np.mean(rmse[after] ** 2))),
            "rmse_analysis": float(np.mean(rmse[analyses])),
            "rmse_forecast": float(np.mean(forecast_error)),
            "spread_skill": float(np.sqrt(np.mean(spread**2)) / np.sqrt(np.mean(rmse[analyses] ** 2))),
            "spread_skill_forecast": float(np.sqrt(np.mean(forecast_spread**2) / np.mean(forecast_error**2))),
            "crps": float(np.mean(data["crps"].values[spin_up_cycles:])),
            "crps_forecast": float(np.mean(data["crps_forecast"].values[spin_up_cycles:])),
        }
    )
