"""Scores of an estimate against the truth."""

from __future__ import annotations

import numpy as np


def rmse_over_components(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square error over the last axis: (..., d) -> (...)."""
    return np.sqrt(np.mean(np.square(estimate.astype(np.float64) - truth), axis=-1))


def trajectory_rmse(mean: np.ndarray, truth: np.ndarray) -> float:
    """The paper's RMSE: the root of the mean over all steps and components of (mean - truth)^2, both (times, d)."""
    return float(np.sqrt(np.mean(np.square(mean.astype(np.float64) - truth))))


def mean_spread(spread: np.ndarray) -> np.ndarray:
    """The root of the ensemble variance's mean over components: (..., d) -> (...)."""
    return np.sqrt(np.mean(np.square(spread.astype(np.float64)), axis=-1))


def fair_crps(ensemble: np.ndarray, truth: np.ndarray) -> float:
    """Fair continuous ranked probability score (Ferro 2014) of an ensemble (N, d) for a truth (d,), mean over components."""
    import scoringrules  # imported late: it takes as long as all the rest of a cheap stage

    # "pwm" is the fair estimator in O(N log N); the one named "fair" is the same number in O(N^2).
    scores = scoringrules.crps_ensemble(truth, ensemble.T, estimator="pwm")
    return float(np.mean(scores))
