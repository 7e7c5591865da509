"""Scores, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from masf.metrics import fair_crps, mean_spread, rmse_over_components, trajectory_rmse


def brute_force_fair_crps(ensemble: np.ndarray, truth: np.ndarray) -> float:
    """Ferro (2014): E|X - y| - E|X - X'| / 2, with the second mean over pairs of different members."""
    n = len(ensemble)
    accuracy = np.abs(ensemble - truth).mean(axis=0)
    pairs = np.abs(ensemble[:, None] - ensemble[None]).sum(axis=(0, 1)) / (n * (n - 1))
    return float(np.mean(accuracy - pairs / 2))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_fair_crps_is_its_definition(n):
    rng = np.random.default_rng(n)
    ensemble, truth = rng.standard_normal((n, 4)), rng.standard_normal(4)
    assert fair_crps(ensemble, truth) == pytest.approx(brute_force_fair_crps(ensemble, truth), rel=1e-10)
    assert fair_crps(ensemble[::-1], truth) == pytest.approx(fair_crps(ensemble, truth), rel=1e-12)


def test_fair_crps_by_hand():
    assert fair_crps(np.array([[0.0], [2.0]]), np.array([0.0])) == pytest.approx(0.0)
    assert fair_crps(np.array([[0.0], [2.0]]), np.array([5.0])) == pytest.approx(3.0)


def test_fair_crps_of_single_precision():
    rng = np.random.default_rng(0)
    ensemble, truth = rng.standard_normal((100, 6)), rng.standard_normal(6)
    single = fair_crps(ensemble.astype(np.float32), truth.astype(np.float32))
    assert single == pytest.approx(fair_crps(ensemble, truth), abs=1e-5)


def test_trajectory_rmse_by_hand():
    mean, truth = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 7.0]])
    # Squares 0, 4, 9, 9: the root of their mean, which is not the mean of the roots over time.
    assert trajectory_rmse(mean, truth) == pytest.approx(np.sqrt(22 / 4))
    np.testing.assert_allclose(rmse_over_components(mean, truth), [np.sqrt(2), 3])


def test_trajectory_rmse_is_missing_where_the_filter_diverged():
    assert np.isnan(trajectory_rmse(np.array([[1.0], [np.nan]]), np.zeros((2, 1))))


def test_trajectory_rmse_of_single_precision_loses_no_digits():
    truth = np.full((1000, 10), 1e3, dtype=np.float32)
    assert trajectory_rmse(truth + np.float32(0.5), truth) == pytest.approx(0.5, rel=1e-12)


def test_mean_spread_averages_variances():
    np.testing.assert_allclose(mean_spread(np.array([[3.0, 4.0], [1.0, 1.0]])), [np.sqrt(12.5), 1])
