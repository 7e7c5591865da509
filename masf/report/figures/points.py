"""What figures of scores plot, as tables: a panel's rows of scores, the points of its lines, and
these with columns for each filter, for plotting elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from masf.report.rows import experiment_rows, on_track
from masf.scores.comparison import paired_interval
from masf.scores.exactness import EXACTNESS
from masf.study.figures.base import FigureSection, PointOfExperiment
from masf.study.figures.scores import ScoreFigure
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
    # A single run is shown over time, which shipped scores are not.
    of = study.figure_lines if seed is None else study.figure_filters
    filters = of(definition, panel.experiment)
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


def points_relative(rows: pd.DataFrame, score: str, other: str, by: str) -> pd.DataFrame:
    """The points of each filter's line over another filter's: the geometric mean over seeds of the
    ratio of their scores, paired by cell, with its confidence interval.

    Args:
        rows: of a panel, whose scores are positive.
        score: the column that is compared.
        other: the filter that all are divided by.
        by: the column whose values tell the points of a line apart, and the horizontal axis.

    Returns:
        As :func:`points_over_seeds`, with the interval from ``low`` to ``high``
        (masf.scores.comparison.paired_interval of the logarithms, NaN for a single pair), and
        ``whole``: whether no pair is left out because a run diverged or lost track.
    """
    of_other = rows[rows["filter"] == other].set_index("cell")[score]
    logs = np.log(rows[score] / rows["cell"].map(of_other))
    found = []
    grouped = rows.assign(log=logs).groupby(["filter", by], observed=True, sort=True)
    for (name, value), own in grouped:
        pairs = own["log"].dropna().to_numpy()
        if len(pairs):
            low, high = (0.0, 0.0) if name == other else paired_interval(pairs)
            found.append(
                {
                    "filter": name,
                    by: value,
                    "label": own["label"].iloc[0],
                    "x": value,
                    "mean": np.exp(pairs.mean()),
                    "low": np.exp(low),
                    "high": np.exp(high),
                    "whole": len(pairs) == len(own),
                }
            )
    columns = ["filter", by, "label", "x", "mean", "low", "high", "whole"]
    return pd.DataFrame(found, columns=list(dict.fromkeys(columns)))


def chosen_filters(definition: ScoreFigure, panels: Sequence[pd.DataFrame]) -> list[str]:
    """The filters that a part of a figure shows (masf.study.figures.scores), best first.

    They are ordered by their mean rank over the points of all panels, by the mean over seeds of
    each panel's score; a filter without a run that counts is the last there.

    Args:
        definition: of the part.
        panels: the rows of each panel, with all filters; ``cell`` without its seed is the point.
    """
    ranks = []
    for panel, rows in zip(definition.panels, panels, strict=True):
        score = definition.score_of(panel)
        table = pd.DataFrame(
            {
                "point": rows["cell"].str.rsplit("/", n=1).str[0],
                "filter": rows["filter"].astype(str),
                "loss": rows[score].map(_LOSSES.get(score, float)),
            }
        )
        runs = table.pivot_table(index="point", columns="filter", aggfunc="size")
        means = table.pivot_table(index="point", columns="filter", values="loss")
        means = means.reindex_like(runs)
        ranks.append(means.rank(axis="columns", na_option="bottom").where(runs.notna()))
    mean_ranks = pd.concat(ranks).mean()
    order = list(mean_ranks.sort_values(kind="stable").index)
    return definition.of_part(order)


_LOSSES: dict[str, Callable[[float], float]] = {
    "ssim": lambda v: -v,
    "csi": lambda v: -v,
    "spread_skill": lambda v: abs(np.log(v)),
    "spread_skill_forecast": lambda v: abs(np.log(v)),
}
"""What is small where a score is good, of scores that are not so themselves."""


def diverged_runs(rows: pd.DataFrame, by: str, x: str) -> pd.DataFrame:
    """Of which filters some run diverged, at which value of ``by``: columns ``label``, ``x`` and
    ``runs``, how many did.
    """
    grouped = rows.groupby(["filter", by], observed=True, sort=True)
    table = pd.DataFrame(
        {
            "label": grouped["label"].first(),
            "x": grouped[x].mean(),
            "runs": grouped["diverged"].sum(),
        }
    )
    return table[table["runs"] > 0].dropna().reset_index(drop=True)


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
