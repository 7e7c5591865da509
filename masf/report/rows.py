"""The tables of scores and costs, which of their rows belong to an experiment, and what tuning
found, as rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from masf.atomic import unreadable
from masf.files.tuned import Tuned, tuned_for
from masf.scores.run import SCORES
from masf.study.cells import Cell
from masf.study.situations import situation_in_words
from masf.study.study import Study

AXES = {"gap": "gap", "members": "N"}
"""Axes of an experiment that are no parameters of its system, and what tables call them."""


TUNING_COLUMNS = [
    "point",
    "situation",
    "filter",
    "chosen",
    "default",
    "score",
    "default_score",
    "tuned_score",
    "trials",
    "diverged",
]
"""Of what tuning found."""


def read_rows(path: Path, what: str) -> pd.DataFrame:
    """The rows of scores.parquet or costs.parquet. Raises FileFault where they cannot be read.

    Args:
        path: the file.
        what: what it holds, for the message.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise unreadable(
            path, error, fault=f"cannot be read as {what}", remedy="run stage aggregate again"
        ) from error


def tuned_in(
    study: Study, name: str, cell: Cell, read: Callable[[str, str, Path], Tuned] = tuned_for
) -> Tuned | None:
    """What tuning found for a filter in a cell, if it is tuned. Raises FileFault where its file is
    missing or damaged.
    """
    path = study.tuning_path(name, cell)
    return None if path is None else read(name, cell.settings.system, study.results / path)


def tuning_rows(study: Study, *, allow_missing: bool = False) -> pd.DataFrame:
    """What tuning found, one row a point and filter; points are numbered from 1 on, in the study's
    order. With ``allow_missing``, what is not tuned yet is left out.
    """
    rows = []
    for number, (point, (cell, *_)) in enumerate(study.points.items(), 1):
        for name in study.tuned_filters(point):
            if allow_missing and not (study.results / cell.tuned(name)).is_file():
                continue
            found = tuned_in(study, name, cell)
            assert found is not None
            rows.append(
                {
                    "point": number,
                    "situation": situation_in_words(cell.situation),
                    "filter": name,
                    "chosen": json.dumps(found.chosen),
                    "default": json.dumps(found.default),
                    "score": found.score,
                    "default_score": float("nan")
                    if found.default_score is None
                    else found.default_score,
                    "tuned_score": float("nan")
                    if found.chosen_score is None
                    else found.chosen_score,
                    "trials": found.trials,
                    "diverged": found.diverged,
                }
            )
    return pd.DataFrame(rows, columns=TUNING_COLUMNS)


def experiment_rows(study: Study, name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one experiment, with its filters only, in the study's order."""
    cells = [c.path for c in study.cells.values() if name in c.experiments]
    filters = study.shown_filters(name)
    chosen = rows[rows["cell"].isin(cells) & rows["filter"].isin(filters)].copy()
    chosen["filter"] = pd.Categorical(chosen["filter"], filters, ordered=True)
    return chosen


def on_track(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, in which runs that lost track have no scores, as those that diverged: for means
    over the others.
    """
    scores = [key for key in SCORES if key in rows]
    return rows.assign(**{key: rows[key].where(~rows["lost"].astype(bool)) for key in scores})


def axes(study: Study, name: str) -> dict[str, str]:
    """The columns in which an experiment's cells differ, seeds apart, and what people call them."""
    experiment = study.config.experiments[name]
    found = {"observation": "observed"} if len(experiment.observations) > 1 else {}
    return found | {axis_column(axis): AXES.get(axis, axis) for axis in experiment.varied}


def axis_column(axis: str) -> str:
    """The column of scores.parquet that holds an axis of an experiment."""
    return axis if axis in AXES else f"parameter_{axis}"


def parameter_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table of scores or costs that hold parameters of systems."""
    # Where a filter's parameters came from has a name like theirs.
    return [c for c in columns if c.startswith("parameter_") and c != "parameter_source"]
