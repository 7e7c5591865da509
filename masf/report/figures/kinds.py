"""How each kind of figure is drawn; masf.study.figures.base says what makes a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from masf.report.figures.model_runs import model_runs, model_runs_data
from masf.report.figures.ranks import rank_histograms
from masf.report.figures.space_time import space_time
from masf.report.figures.spectra import spectra
from masf.report.figures.sweep import sweep, sweep_data
from masf.report.figures.trajectories import trajectories
from masf.report.figures.vorticity import animation, vorticity
from masf.report.rows import read_rows
from masf.study import paths
from masf.study.study import Study

DRAWINGS: dict[str, Callable[[Study, Any, Path], Iterable[Figure]]] = {
    "trajectories": lambda study, definition, _: [trajectories(study, definition)],
    "sweep": lambda study, definition, scores: [
        sweep(study, definition, read_rows(scores, "scores"))
    ],
    "rank_histograms": lambda study, definition, _: [rank_histograms(study, definition)],
    "vorticity": lambda study, definition, _: [vorticity(study, definition)],
    "animation": lambda study, definition, _: animation(study, definition),
    "spectra": lambda study, definition, _: [spectra(study, definition)],
    "model_runs": lambda study, definition, scores: [
        model_runs(study, definition, read_rows(scores, "scores"), _costs(scores))
    ],
    "space_time": lambda study, definition, _: [space_time(study, definition)],
}
"""Of each kind the pictures of a figure, from the study, its settings, and the file scores.parquet:
one, or of a figure that moves one after the other.
"""

DATA: dict[str, Callable[[Study, Any, Path], list[pd.DataFrame]]] = {
    "sweep": lambda study, definition, scores: sweep_data(
        study, definition, read_rows(scores, "scores")
    ),
    "model_runs": lambda study, definition, scores: model_runs_data(
        study, definition, read_rows(scores, "scores"), _costs(scores)
    ),
}
"""Of each kind that plots scores what it plots, one table a panel."""


def _costs(scores: Path) -> pd.DataFrame:
    """The costs of the runs whose scores are in a file, which lie beside it."""
    return read_rows(scores.with_name(paths.COSTS), "costs")
