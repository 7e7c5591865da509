"""Scores, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import scipy.stats

import masf.scores.metrics
from masf.scores.fields import critical_success_index, structural_similarity
from masf.scores.metrics import (
    fair_crps,
    mean_distance,
    mean_spread,
    rank_counts,
    rmse_over_components,
    squared_energy_distance,
)
from masf.scores.tracking import climatological_spread, lost


def brute_force_fair_crps(ensemble: np.ndarray, truth: np.ndarray) -> float:
    """Ferro (2014): E|X - y| - E|X - X'| / 2, with the second mean over pairs of different
    members.
    """
    n = len(ensemble)
    accuracy = np.abs(ensemble - truth).mean(axis=0)
    pairs = np.abs(ensemble[:, None] - ensemble[None]).sum(axis=(0, 1)) / (n * (n - 1))
    return float(np.mean(accuracy - pairs / 2))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_fair_crps_is_its_definition(n):
    rng = np.random.default_rng(n)
    ensemble, truth = rng.standard_normal((n, 4)), rng.standard_normal(4)
    assert fair_crps(ensemble, truth) == pytest.approx(
        brute_force_fair_crps(ensemble, truth), rel=1e-10
    )
    assert fair_crps(ensemble[::-1], truth) == pytest.approx(fair_crps(ensemble, truth), rel=1e-12)


def test_fair_crps_by_hand():
    assert fair_crps(np.array([[0.0], [2.0]]), np.array([0.0])) == pytest.approx(0.0)
    assert fair_crps(np.array([[0.0], [2.0]]), np.array([5.0])) == pytest.approx(3.0)


def test_fair_crps_of_single_precision():
    rng = np.random.default_rng(0)
    ensemble, truth = rng.standard_normal((100, 6)), rng.standard_normal(6)
    single = fair_crps(ensemble.astype(np.float32), truth.astype(np.float32))
    assert single == pytest.approx(fair_crps(ensemble, truth), abs=1e-5)


def test_rmse_over_components_by_hand():
    mean, truth = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 7.0]])
    np.testing.assert_allclose(rmse_over_components(mean, truth), [np.sqrt(2), 3])


def test_rmse_of_single_precision_loses_no_digits():
    truth = np.full((1000, 10), 1e3, dtype=np.float32)
    np.testing.assert_allclose(
        rmse_over_components(truth + np.float32(0.5), truth), 0.5, rtol=1e-12
    )


def test_mean_spread_averages_variances():
    np.testing.assert_allclose(mean_spread(np.array([[3.0, 4.0], [1.0, 1.0]])), [np.sqrt(12.5), 1])


def test_rank_counts_by_hand():
    ensemble = np.array([[0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    np.testing.assert_array_equal(rank_counts(ensemble, np.array([-1.0, 1.0, 3.0, 4.0])), [1, 1, 2])


@pytest.mark.parametrize(("n", "bins"), [(2, 3), (10, 11), (19, 20), (20, 20), (200, 20)])
def test_rank_histogram_is_flat_for_members_like_the_truth_in_as_many_bins(n, bins):
    rng = np.random.default_rng(0)
    draws = rng.gamma(1.0, size=(n + 1, 20_000))
    counts = rank_counts(draws[1:], draws[0])
    assert len(counts) == bins
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    # Half the spread that it should have: horns at both ends.
    narrow = rank_counts(1 + (draws[1:] - 1) / 2, draws[0])
    assert min(narrow[0], narrow[-1]) > 1.1 * narrow[bins // 2]


def test_squared_energy_distance_is_that_of_scipy_without_its_bias(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((23, 1)), 0.5 + 2 * rng.standard_normal((31, 1))
    bias = mean_distance(x) / len(x) + mean_distance(y) / len(y)
    expected = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2 - bias
    assert squared_energy_distance(x, y) == pytest.approx(expected, rel=1e-12)
    assert squared_energy_distance(x, y, mean_distance(y)) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(masf.scores.metrics, "_ROWS", 7)
    assert squared_energy_distance(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_squared_energy_distance_is_unbiased_for_few_members(shift, bonferroni):
    """Two normal distributions in d = 3, the second ``shift`` away: E|X - Y| is the mean of a
    noncentral chi distribution.
    """
    rng, repeats, d = np.random.default_rng(1), 4000, 3

    def chi_mean(distance: float) -> float:
        # X - Y has variance 2 in each component. E chi = sqrt(pi / 2) L_{1/2}^{(d / 2 -
        # 1)}(-distance^2 / 2), here by a series.
        j = np.arange(60)
        weights = scipy.stats.poisson.pmf(j, distance**2 / 4)
        gamma = scipy.special.gammaln
        return float(2 * np.sum(weights * np.exp(gamma((d + 1) / 2 + j) - gamma(d / 2 + j))))

    expected = 2 * (chi_mean(shift) - chi_mean(0.0))
    found = []
    for _ in range(repeats):
        x, y = rng.standard_normal((4, d)), rng.standard_normal((5, d))
        y[:, 0] += shift
        found.append(squared_energy_distance(x, y))
    assert abs(np.mean(found) - expected) < bonferroni(1) * np.std(found) / np.sqrt(repeats)


def smoothed(field: np.ndarray) -> np.ndarray:
    """Means over the window of Wang et al. (2004), 11 x 11 points, wrapped around the grid."""
    return scipy.ndimage.gaussian_filter(field, 1.5, mode="wrap", radius=5)


def test_structural_similarity_is_its_definition_where_that_is_in_closed_form():
    rng = np.random.default_rng(0)
    truth = scipy.ndimage.gaussian_filter(rng.standard_normal((24, 32)), 1.0, mode="wrap")
    scale = truth.max() - truth.min()
    c1, c2 = (0.01 * scale) ** 2, (0.03 * scale) ** 2
    mean, variance = smoothed(truth), smoothed(truth**2) - smoothed(truth) ** 2
    assert structural_similarity(truth, truth) == pytest.approx(1.0, abs=1e-12)
    # A shift leaves variances and covariance; a change of sign turns mean and covariance round.
    shifted = (2 * mean * (mean + 0.1) + c1) / (mean**2 + (mean + 0.1) ** 2 + c1)
    assert structural_similarity(truth + 0.1, truth) == pytest.approx(shifted.mean(), abs=1e-12)
    turned = (c1 - 2 * mean**2) * (c2 - 2 * variance) / ((2 * mean**2 + c1) * (2 * variance + c2))
    assert structural_similarity(-truth, truth) == pytest.approx(turned.mean(), abs=1e-12)
    # No place on the grid is different from others.
    noisy = truth + 0.1 * rng.standard_normal(truth.shape)
    moved = [np.roll(field, (5, 11), axis=(0, 1)) for field in (noisy, truth)]
    assert structural_similarity(*moved) == pytest.approx(
        structural_similarity(noisy, truth), abs=1e-12
    )


def test_critical_success_index_by_hand():
    truth = np.arange(-10.0, 10.0).reshape(4, 5)
    # Magnitudes above their quantile 0.9, which is 9: the one at -10. Two of the estimate's are.
    assert critical_success_index(truth, truth) == 1
    estimate = truth.copy()
    estimate[3, 4] = 9.5
    assert critical_success_index(estimate, truth) == 1 / 2
    estimate[0, 0] = 0
    assert critical_success_index(estimate, truth) == 0


@pytest.mark.parametrize("score", [structural_similarity, critical_success_index])
def test_scores_of_fields_are_missing_where_the_filter_diverged_or_nothing_happens(score):
    field = np.random.default_rng(0).standard_normal((16, 16))
    broken = field.copy()
    broken[3, 3] = np.nan
    assert np.isnan(score(broken, field))
    assert np.isnan(score(field, np.ones((16, 16))))


@pytest.mark.parametrize(
    ("error", "spread", "is_lost"),
    [
        ([0.1, *[0.8] * 5, 0.1], 0.5, True),
        ([0.8] * 4 + [0.1] + [0.8] * 4, 0.5, False),  # never five in a row
        ([0.8] * 5, 0.6, False),  # far off, and says so
        ([0.69] * 9, 0.1, False),  # nearer than someone who measures nothing
        ([0.8] * 4, 0.1, False),  # too short a run to judge
        ([], 0.1, False),
        ([np.nan] * 9, np.nan, False),
    ],
)
def test_track_is_lost_where_analyses_in_a_row_are_far_off_and_surer_than_they_should_be(
    error: list[float], spread: float, is_lost: bool
) -> None:
    assert lost(np.array(error), np.full(len(error), spread), 1.0) == is_lost
    # In whatever units.
    assert lost(50 * np.array(error), np.full(len(error), 50 * spread), 50.0) == is_lost


def test_climatological_spread_is_that_of_a_sine() -> None:
    phases = 2 * np.pi * np.arange(1000) / 1000
    truth = 7 + np.stack([3 * np.sin(phases), 4 * np.cos(phases)], axis=1)
    assert climatological_spread(truth) == pytest.approx(np.sqrt((9 / 2 + 16 / 2) / 2))


def test_crps_of_large_values_is_that_of_their_departures():
    rng = np.random.default_rng(0)
    errors = np.round(rng.standard_normal((1000, 3)) * 128) / 128
    large = (101_325 + errors).astype(np.float32)
    truth = np.full(3, 101_325, dtype=np.float32)
    assert fair_crps(large, truth) == pytest.approx(fair_crps(errors, np.zeros(3)), rel=1e-4)
