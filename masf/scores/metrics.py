"""Scores of an estimate of states against the truth, and the distance between two ensembles."""

from __future__ import annotations

import numpy as np

from masf.arrays import slices

RANKED = 19
"""Members among which the truth is ranked: 20 bins, the same whether an ensemble has 20 members or
100,000.
"""

_ROWS = 1000
"""Members whose distances to all others are held in memory at once."""


def rmse_over_components(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square error over the last axis: (..., d) -> (...)."""
    return np.sqrt(np.mean(np.square(estimate.astype(np.float64) - truth), axis=-1))


def mean_spread(spread: np.ndarray) -> np.ndarray:
    """The root of the ensemble variance's mean over components: (..., d) -> (...)."""
    return np.sqrt(np.mean(np.square(spread.astype(np.float64)), axis=-1))


def fair_crps(ensemble: np.ndarray, truth: np.ndarray) -> float:
    """Fair continuous ranked probability score (Ferro 2014) of an ensemble (N, d) for a truth (d,),
    mean over components.
    """
    import scoringrules  # imported late: it takes as long as all the rest of a cheap stage

    # "pwm" is the fair estimator in O(N log N); the one named "fair" is the same number in O(N^2).
    # Of errors: sums of large values would have few digits left.
    errors = (ensemble - truth).astype(np.float64)
    scores = scoringrules.crps_ensemble(np.zeros(len(truth)), errors.T, estimator="pwm")
    return float(np.mean(scores))


def rank_counts(ensemble: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rank histogram (Anderson 1996; Hamill 2001): how many components of the truth (d,) have 0, 1,
    ..., K members below them.

    K = min(N, RANKED) of the N members (N, d) are counted, the first ones; if truth and members are
    draws from one distribution, the K + 1 counts (K + 1,) are equal on average.
    """
    first = ensemble[:RANKED]
    return np.bincount(np.sum(first < truth, axis=0), minlength=len(first) + 1)


def mean_distance(x: np.ndarray, y: np.ndarray | None = None) -> float:
    """E|X - Y| over all pairs of a member of x (N, d) and one of y (M, d); without y over pairs of
    different members of x.
    """
    from scipy.spatial.distance import cdist

    other, pairs = (x, len(x) * (len(x) - 1)) if y is None else (y, len(x) * len(y))
    return sum(float(cdist(x[some], other).sum()) for some in slices(len(x), _ROWS)) / pairs


def squared_energy_distance(x: np.ndarray, y: np.ndarray, within_y: float | None = None) -> float:
    """Squared energy distance (Szekely and Rizzo 2013) D^2 = 2 E|X - Y| - E|X - X'| - E|Y - Y'| of
    two samples (N, d) and (M, d).

    The U-statistic: means within a sample go over pairs of different members, so that the estimate
    is unbiased at any N and M, and negative now and then if the samples have one distribution. For
    d = 1 it is the square of scipy.stats.energy_distance, but for that one's bias. ``within_y`` is
    ``mean_distance(y)``, if it is known.
    """
    return (
        2 * mean_distance(x, y)
        - mean_distance(x)
        - (mean_distance(y) if within_y is None else within_y)
    )
