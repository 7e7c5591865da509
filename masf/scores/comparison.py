"""Paired comparison of filters: which are distinguishable from the best one?

All filters of a cell share truth, measurements and initial ensemble, so that much of the variation
from seed to seed is common to them. What counts is the difference to the best filter, seed by seed:
its mean, with a confidence interval by Student's t over seeds. The best filter is that with the
lowest mean; one that diverged, lost track (masf.scores.tracking) or is missing on some seed is not
comparable there and never the best. Nothing is corrected for multiple comparisons, nor for choosing
the best by the same runs. Below LEAST_SEEDS nothing is judged: so few differences say little about
the tails of their distribution, which is where lost tracks are.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

COMPARED = ["rmse", "rmse_analysis", "crps"]
"""Scores in which filters are compared; lower is better in all of them."""

CONFIDENCE = 0.95

LEAST_SEEDS = 4
"""Filters are called better or indistinguishable from this many seeds on."""

BEST, WORSE, INDISTINGUISHABLE, MISSING, DIVERGED, LOST, TOO_FEW, NO_BEST = (
    "best",
    "worse",
    "indistinguishable",
    "missing",
    "diverged",
    "lost track",
    "too few seeds",
    "no best",
)
"""Verdicts on a filter."""


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """The confidence interval of the mean of ``differences`` (n,), by Student's t; NaN for fewer
    than two.
    """
    from scipy.special import stdtrit

    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(n)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    return float(mean - half), float(mean + half)


def lacking(rows: pd.DataFrame) -> pd.Series:
    """Which rows stand for runs that are missing: some, where results are gathered before all are
    there, and none elsewhere.
    """
    return (
        rows["missing"].astype(bool)
        if "missing" in rows
        else pd.Series(False, index=rows.index, dtype=bool)
    )


def compare(rows: pd.DataFrame, axes: list[str], never_best: Collection[str] = ()) -> pd.DataFrame:
    """Each filter against the best one in each of COMPARED, at each point of an experiment.

    Args:
        rows: scores of an experiment, one row a cell and filter; column ``filter`` is categorical,
            in the order wanted.
        axes: the columns that make a point.
        never_best: filters that others are not measured against, such as a free run.

    Returns:
        One row a score, point and filter: ``best``, the filter that it is compared with ("" if none
        went through all seeds); ``runs``, ``diverged``, ``lost`` and, of results that are not all
        there, ``missing``; ``mean`` of the others;
        ``difference`` to the best, paired, with its interval ``low`` to ``high``; ``verdict``.
    """
    points = [((), rows)] if not axes else rows.groupby(axes, observed=True, sort=True)
    found = [
        {**dict(zip(axes, values, strict=True)), **comparison}
        for values, point in points
        for score in COMPARED
        for comparison in _compare_point(point, score, never_best)
    ]
    return pd.DataFrame(found)


def _compare_point(
    point: pd.DataFrame, score: str, never_best: Collection[str]
) -> list[dict[str, object]]:
    runs = {
        str(name): rows.sort_values("seed") for name, rows in point.groupby("filter", observed=True)
    }
    values = {name: rows[score].to_numpy() for name, rows in runs.items()}
    diverged, lost = (
        {name: int(rows[how].sum()) for name, rows in runs.items()} for how in ("diverged", "lost")
    )
    missing = {name: int(lacking(rows).sum()) for name, rows in runs.items()}
    whole = [name for name in runs if not diverged[name] and not lost[name] and not missing[name]]
    best = min(
        (name for name in whole if name not in never_best),
        key=lambda name: float(np.mean(values[name])),
        default="",
    )
    found: list[dict[str, object]] = []
    for name, own in values.items():
        difference, interval = float("nan"), (float("nan"), float("nan"))
        if best and name in whole:
            difference = float(np.mean(own - values[best]))
            interval = interval if name == best else paired_interval(own - values[best])
        finished = own[np.isfinite(own) & ~runs[name]["lost"].to_numpy(bool)]
        found.append(
            {
                "score": score,
                "filter": name,
                "best": best,
                "runs": len(own),
                "diverged": diverged[name],
                "lost": lost[name],
                **({"missing": missing[name]} if "missing" in point else {}),
                "mean": float(np.mean(finished)) if len(finished) else float("nan"),
                "difference": difference,
                "low": interval[0],
                "high": interval[1],
                "verdict": MISSING
                if missing[name]
                else DIVERGED
                if diverged[name]
                else LOST
                if lost[name]
                else NO_BEST
                if not best
                else BEST
                if name == best
                else _verdict(len(own), *interval),
            }
        )
    return found


def _verdict(seeds: int, low: float, high: float) -> str:
    if seeds < LEAST_SEEDS:
        return TOO_FEW
    return INDISTINGUISHABLE if low <= 0 <= high else WORSE
