"""Distances to a reference posterior, against their definitions and Monte-Carlo theory."""

from __future__ import annotations

import numpy as np
import pytest

from masf.scores.exactness import EXACTNESS, Analyses, Reference

CYCLES, D, SAVED = 40, 3, 50
COVARIANCE = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 0.5]])


def posterior(seed: int, saved: int = SAVED) -> Analyses:
    """Exact means and covariances, one mean a cycle, with draws from them."""
    rng = np.random.default_rng(seed)
    mean = np.random.default_rng(0).standard_normal((CYCLES, D))
    noise = rng.multivariate_normal(np.zeros(D), COVARIANCE, (saved, CYCLES))
    return Analyses(mean, np.repeat(COVARIANCE[None], CYCLES, axis=0), mean + noise)


def test_distances_by_hand():
    exact = posterior(1)
    shift = np.array([3.0, 0.0, 4.0])
    found = Analyses(exact.mean + shift, 1.5 * exact.covariance, exact.members[:2] * 0)
    reference = Reference(
        Analyses(exact.mean, exact.covariance, exact.members[:2] * 0 + shift),
        {"rmse": 0.4, "rmse_analysis": 0.2},
    )
    moved = reference.distances(found)
    assert moved["mean_distance"] == pytest.approx(5 / np.sqrt(3.5))
    assert moved["covariance_distance"] == pytest.approx(0.5)
    assert moved["energy_distance"] == pytest.approx(np.sqrt(2 * 5))
    assert moved["spread_ratio"] == pytest.approx(np.sqrt(1.5))
    ratios = reference.ratios({"rmse": 0.5, "rmse_analysis": 0.3, "crps": 1.0})
    assert ratios == pytest.approx({"rmse_ratio": 1.25, "rmse_analysis_ratio": 1.5})
    assert moved.keys() | ratios.keys() == EXACTNESS.keys()


def test_exact_posterior_is_at_no_distance_from_itself():
    found = Reference(posterior(1), {}).distances(posterior(2))
    assert found["mean_distance"] == found["covariance_distance"] == 0
    # The spread of the unbiased estimate, by the same with other draws; its root where it is
    # positive.
    others = [
        Reference(posterior(seed), {}).distances(posterior(seed + 100))["energy_distance"]
        for seed in range(3, 9)
    ]
    assert found["energy_distance"] < 0.15
    assert min(others) == 0
    assert max(others) < 0.15


def test_distances_of_an_ensemble_fall_as_the_root_of_its_size():
    """Moments of N draws: <|m - m_r|^2> is tr C / N, and <|C - C_r|^2> is (|C|^2 + (tr C)^2) / (N -
    1).
    """
    exact = posterior(1)
    for n in (10, 1000):
        draws = posterior(7, saved=n).members
        mean = draws.mean(axis=0)
        anomalies = draws - mean
        covariance = np.einsum("nki,nkj->kij", anomalies, anomalies) / (n - 1)
        found = Reference(exact, {}).distances(Analyses(mean, covariance, draws[:2]))
        norm, trace = np.sum(COVARIANCE**2), np.trace(COVARIANCE)
        # Forty cycles of three components and six entries: a few per cent of a chi-square each.
        assert found["mean_distance"] == pytest.approx(np.sqrt(1 / n), rel=0.3)
        assert found["covariance_distance"] == pytest.approx(
            np.sqrt((norm + trace**2) / norm / (n - 1)), rel=0.3
        )
