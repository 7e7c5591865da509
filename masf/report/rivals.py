"""A newcomer's runs beside those that come with masf (masf.study.shipped): what each rival's score
is above the newcomer's, in the situations that both ran.

Where runs had the same truth and measurements, differences are paired by seed, as in a study
(masf.scores.comparison), and a rival's mean is of these seeds alone. Elsewhere they are of the two
means, with Welch's interval: wider, because much of the variation from truth to truth is in it.
Runs that diverged or lost track are counted, and left out of means and differences.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from masf.scores.comparison import CONFIDENCE, LEAST_SEEDS, paired_interval
from masf.study.search import is_number
from masf.study.shipped import DIGITS, Run, pairing
from masf.study.situations import differences, log_ratio

UNPAIRED = "unpaired"
IN_WORDS = {
    "checksum": "paired, the same truth by checksum",
    "settings": "paired, the same truth by settings and seed",
    UNPAIRED: "unpaired",
}
"""How it was decided that two runs had the same truth, or that they had not."""


@dataclass(frozen=True)
class Beside:
    """A filter in a situation: the newcomer, or a rival beside it."""

    filter: str
    source: str
    """The study that a rival's runs are from; empty for the newcomer."""
    runs: int
    """Those that are compared: of a rival, its paired ones if there are any."""
    diverged: int
    lost: int
    model_runs: float
    """Forecasts of one member that a cycle took, mean over the runs; NaN where it is not known."""
    mean: float
    std: float
    difference: float
    """The rival's score less the newcomer's, with its interval from ``low`` to ``high``; NaN where
    there is none.
    """
    low: float
    high: float
    pairs: int
    """Runs of the newcomer that went into the difference."""
    how: str
    """A key of IN_WORDS; empty for the newcomer."""

    @property
    def verdict(self) -> str:
        """Whether the rival is better, in words."""
        if not self.source or np.isnan(self.difference):
            return ""
        if self.pairs < LEAST_SEEDS or np.isnan(self.low):
            return "too few seeds"
        if self.low <= 0 <= self.high:
            return "not distinguishable"
        return "higher" if self.low > 0 else "lower"


def by_situation(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by what their cells share but for seed and length."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.situation].append(run)
    return dict(found)


def runs_on_one_seed(runs: Iterable[Run]) -> list[Run]:
    """The first runs of one filter and length on one seed of a situation; empty where there is one
    of each.
    """
    found: dict[tuple[str, str, int, int, int], list[Run]] = defaultdict(list)
    for run in runs:
        length = run.settings.cycles, run.spin_up_cycles
        found[run.situation, run.filter, run.settings.seed, *length].append(run)
    return next((same for same in found.values() if len(same) > 1), [])


def nearest(run: Run, others: Iterable[Run]) -> Run | None:
    """Of other runs, the one whose situation is nearest to a run's: with the fewest differences in
    what is no number, and of these the least distance. None where none is of its system.
    """
    own = json.loads(run.situation)

    def far(other: Run) -> tuple[int, float]:
        apart = differences(own, json.loads(other.situation)).values()
        numbers = [both for both in apart if all(map(is_number, both))]
        return len(apart) - len(numbers), math.hypot(*(log_ratio(*both) for both in numbers))

    candidates = [other for other in others if other.settings.system == run.settings.system]
    return min(candidates, key=far, default=None)


def beside(own: Sequence[Run], rivals: Sequence[Run], score: str) -> list[Beside]:
    """A newcomer's runs in one situation, and each rival's there, best first.

    Args:
        own: runs of one filter, one a seed.
        rivals: runs of others in the same situation. Of a filter that several studies ran, those
            are taken of which the most are paired; of as many, the most runs, of the first study.
        score: one of masf.study.shipped.SCORES.
    """
    of_filter: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in rivals:
        of_filter[run.filter][run.source].append(run)
    found = [_rival(own, _most_paired(own, of.values()), score) for of in of_filter.values()]
    nan = float("nan")
    return [
        _beside(own, _values(own, score), "", (nan, nan, nan), len(own), ""),
        *sorted(found, key=lambda row: (np.isnan(row.mean), row.mean)),
    ]


def _value(run: Run, score: str) -> float:
    """A run's score, to the digits that are shipped, so that the same run is not said to be worse;
    NaN of one that does not count.
    """
    value = float("nan") if run.diverged or run.lost else run.scores.get(score, float("nan"))
    return round(value, DIGITS)


def _values(runs: Iterable[Run], score: str) -> np.ndarray:
    values = np.array([_value(run, score) for run in runs], dtype=float)
    return values[np.isfinite(values)]


def _beside(
    runs: Sequence[Run],
    values: np.ndarray,
    source: str,
    difference: tuple[float, float, float],
    pairs: int,
    how: str,
) -> Beside:
    return Beside(
        filter=runs[0].filter,
        source=source,
        runs=len(runs),
        diverged=sum(run.diverged for run in runs),
        lost=sum(run.lost for run in runs),
        model_runs=float(np.mean([run.model_runs for run in runs])),
        mean=float(values.mean()) if len(values) else float("nan"),
        std=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        difference=difference[0],
        low=difference[1],
        high=difference[2],
        pairs=pairs,
        how=how,
    )


def _pairs(own: Sequence[Run], runs: Sequence[Run]) -> list[tuple[Run, Run, str]]:
    """The runs of the newcomer and of a rival that had the same truth, and what says so."""
    return [(a, b, how) for a in own for b in runs if (how := pairing(a, b)) is not None]


def _most_paired(own: Sequence[Run], of_study: Iterable[list[Run]]) -> list[Run]:
    """Of a rival's runs in several studies, those of which the most are paired."""
    return max(of_study, key=lambda runs: (len(_pairs(own, runs)), len(runs)))


def _rival(own: Sequence[Run], runs: Sequence[Run], score: str) -> Beside:
    """A rival beside the newcomer: paired where any runs are, else unpaired."""
    nan = float("nan")
    if found := _pairs(own, runs):
        differences = np.array([_value(b, score) - _value(a, score) for a, b, _ in found])
        counted = np.isfinite(differences)
        # Mixed ones are called by what proves less.
        how = "settings" if any(how == "settings" for *_, how in found) else "checksum"
        kept = differences[counted]
        interval = paired_interval(kept)
        mean = float(kept.mean()) if len(kept) else nan
        paired = [b for _, b, _ in found]
        # Of the runs behind the difference, so that it is that of the two means.
        values = np.array([_value(b, score) for b in paired])[counted]
        if not len(values):  # the newcomer's do not count
            values = _values(paired, score)
        return _beside(paired, values, runs[0].source, (mean, *interval), len(kept), how)
    theirs, ours = _values(runs, score), _values(own, score)
    mean = float(theirs.mean() - ours.mean()) if len(theirs) and len(ours) else nan
    interval = welch_interval(theirs, ours)
    pairs = min(len(theirs), len(ours))
    return _beside(runs, theirs, runs[0].source, (mean, *interval), pairs, UNPAIRED)


def welch_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The confidence interval of the difference of two means, of samples (n,) and (m,) with
    variances of their own; NaN where one has fewer than two.
    """
    if min(len(first), len(second)) < 2:
        return float("nan"), float("nan")
    from scipy.stats import ttest_ind

    low, high = ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return float(low), float(high)
