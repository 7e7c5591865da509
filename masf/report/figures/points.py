"""What figures of scores plot, as tables: a panel's rows of scores, the points of its lines, and
these with columns for each filter, for plotting elsewhere.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from masf.report.rows import experiment_rows, on_track
from masf.scores.exactness import EXACTNESS
from masf.study.figures.base import FigureSection, PointOfExperiment
from masf.study.study import Study

LOST_SCORE = "lost_score"


def panel_rows(
    study: Study,
    definition: FigureSection,
    panel: PointOfExperiment,
    score: str,
    scores: pd.DataFrame,
    *,
    seed: int | None = None,
) -> pd.DataFrame:
    """The rows of ``scores`` that a panel of ``score`` shows, with the filters' labels; of one seed
    where it is given. Runs that lost track have their score in column LOST_SCORE instead.
    """
    rows = experiment_rows(study, panel.experiment, scores)
    rows = on_track(rows.assign(**{LOST_SCORE: rows[score].where(rows["lost"])}))
    rows = rows[rows["cell"].isin([cell.path for cell in study.point_cells(panel, seed)])]
    filters = study.figure_filters(definition, panel.experiment)
    if score in EXACTNESS:  # the reference has no distance to itself
        filters = [
            name for name in filters if name != study.config.experiments[panel.experiment].reference
        ]
    rows = rows[rows["filter"].isin(filters)]
    return rows.assign(label=[study.filters[str(f)].label for f in rows["filter"]])


def points_over_seeds(rows: pd.DataFrame, score: str, by: str, x: str) -> pd.DataFrame:
    """The points of each filter's line: mean and standard deviation of a score over seeds.

    Args:
        rows: of a panel.
        score: the column that is averaged; runs without it are left out.
        by: the column whose values tell the points of a line apart.
        x: the column of the horizontal axis, which may differ from seed to seed.

    Returns:
        One row a filter and value of ``by``: ``label``, ``x`` (mean over the runs that count),
        ``mean``, ``low`` and ``high``, which are the mean less and plus the standard deviation, NaN
        for a single run. Points without a run that counts are left out.
    """
    counted = rows.dropna(subset=[score, x])
    grouped = counted.groupby(["filter", by], observed=True, sort=True)
    mean, deviation = grouped[score].mean(), grouped[score].std()
    table = pd.DataFrame(
        {
            "label": grouped["label"].first(),
            "x": grouped[x].mean(),
            "mean": mean,
            "low": mean - deviation,
            "high": mean + deviation,
        }
    )
    return table.reset_index()


def wide(points: pd.DataFrame, by: str, x: str | None = None) -> pd.DataFrame:
    """Points of lines with three columns a filter, named as the filter: its value, and by how much
    its bar goes below (``_minus``) and above (``_plus``); in the order of ``by``.

    Args:
        points: as :func:`points_over_seeds` gives them.
        by: the column that the rows are told apart by, which comes first.
        x: what a filter's column of horizontal places is called, as ``enkf_runs``, where they
            differ from filter to filter.
    """
    if points.empty:
        return pd.DataFrame({by: []})
    table = points.assign(
        filter=points["filter"].astype(str),
        minus=points["mean"] - points["low"],
        plus=points["high"] - points["mean"],
    )
    ends = {**({} if x is None else {"x": f"_{x}"}), "mean": "", "minus": "_minus", "plus": "_plus"}
    pivoted = table.pivot_table(
        index=by, columns="filter", values=list(ends), dropna=False, sort=True
    )
    columns = [(kind, name) for name in table["filter"].unique() for kind in ends]
    found = pivoted.reindex(columns=pd.MultiIndex.from_tuples(columns))
    found.columns = pd.Index([f"{name}{ends[kind]}" for kind, name in columns])
    return found.reset_index()


def over_time(times: np.ndarray, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """Lines (times,) over model time, a column a filter."""
    return pd.DataFrame({"model_time": times, **values})
