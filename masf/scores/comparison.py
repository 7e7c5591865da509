"""Paired comparison of filters: which are distinguishable from the best one?

All filters of a cell share truth, measurements and initial ensemble, so that much of the variation
from seed to seed is common to them. What counts is the difference to the best filter, seed by seed:
its mean, with a confidence interval by Student's t over seeds. The best filter is that with the
lowest mean; one that diverged on some seed is not comparable there and never the best. Nothing is
corrected for multiple comparisons, nor for choosing the best by the same runs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

COMPARED = ["rmse", "rmse_analysis", "crps"]
"""Scores in which filters are compared; lower is better in all of them."""

CONFIDENCE = 0.95

BEST, WORSE, INDISTINGUISHABLE, DIVERGED, ONE_SEED = (
    "best",
    "worse",
    "indistinguishable",
    "diverged",
    "one seed",
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


def compare(rows: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Each filter against the best one in each of COMPARED, at each point of an experiment.

    Args:
        rows: scores of an experiment, one row a cell and filter; column ``filter`` is categorical,
            in the order wanted.
        axes: the columns that make a point.

    Returns:
        One row a score, point and filter: ``best``, the filter that it is compared with ("" if all
            diverged); ``runs`` and
        ``diverged``; ``mean``; ``difference`` to the best, paired, with its interval ``low`` to
        ``high``; ``verdict``.
    """
    points = [((), rows)] if not axes else rows.groupby(axes, observed=True, sort=True)
    found = [
        {**dict(zip(axes, values, strict=True)), **comparison}
        for values, point in points
        for score in COMPARED
        for comparison in _compare_point(point, score)
    ]
    return pd.DataFrame(found)


def _compare_point(point: pd.DataFrame, score: str) -> list[dict[str, object]]:
    runs = {
        str(name): rows.sort_values("seed") for name, rows in point.groupby("filter", observed=True)
    }
    values = {name: rows[score].to_numpy() for name, rows in runs.items()}
    diverged = {name: int(rows["diverged"].sum()) for name, rows in runs.items()}
    best = min(
        (name for name in runs if not diverged[name]),
        key=lambda name: float(np.mean(values[name])),
        default="",
    )
    found: list[dict[str, object]] = []
    for name, own in values.items():
        difference, interval = float("nan"), (float("nan"), float("nan"))
        if not diverged[name]:
            difference = float(np.mean(own - values[best]))
            interval = interval if name == best else paired_interval(own - values[best])
        finished = own[np.isfinite(own)]
        found.append(
            {
                "score": score,
                "filter": name,
                "best": best,
                "runs": len(own),
                "diverged": diverged[name],
                "mean": float(np.mean(finished)) if len(finished) else float("nan"),
                "difference": difference,
                "low": interval[0],
                "high": interval[1],
                "verdict": DIVERGED
                if diverged[name]
                else BEST
                if name == best
                else _verdict(*interval),
            }
        )
    return found


def _verdict(low: float, high: float) -> str:
    if np.isnan(low):
        return ONE_SEED
    return INDISTINGUISHABLE if low <= 0 <= high else WORSE
