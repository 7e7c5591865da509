"""How each kind of figure is drawn; masf.study.figures.base says what makes a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from masf.atomic import FileFault
from masf.report.figures.ranks import rank_histograms
from masf.report.figures.spectra import spectra
from masf.report.figures.sweep import sweep
from masf.report.figures.trajectories import trajectories
from masf.report.figures.vorticity import animation, vorticity
from masf.study.study import Study

DRAWINGS: dict[str, Callable[[Study, Any, Path], Iterable[Figure]]] = {
    "trajectories": lambda study, definition, _: [trajectories(study, definition)],
    "sweep": lambda study, definition, scores: [sweep(study, definition, read_scores(scores))],
    "rank_histograms": lambda study, definition, _: [rank_histograms(study, definition)],
    "vorticity": lambda study, definition, _: [vorticity(study, definition)],
    "animation": lambda study, definition, _: animation(study, definition),
    "spectra": lambda study, definition, _: [spectra(study, definition)],
}
"""Of each kind the pictures of a figure, from the study, its settings, and the file scores.parquet:
one, or of a figure that
moves one after the other."""


def read_scores(path: Path) -> pd.DataFrame:
    """The scores of all cells. Raises FileFault where they cannot be read."""
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FileFault(
            path, f"cannot be read as scores ({error})", "run stage aggregate again"
        ) from error
