"""The local particle filter: against DAPyr's on the same arrays, and its parts against what they
are for.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from test_square_root_filters import Grid, make_filter

from masf.arrays import softmax, to_numpy
from masf.filters.local_pf import effective_sizes, merged, regularisation, sampled
from masf.observations.mask import Mask

REFERENCE = Path(__file__).parent / "data" / "dapyr_analyses.npz"
PLAIN = {"inflation": 1.0}


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("case", range(6))
def test_analyses_are_dapyrs(case, library, reference):
    stride, radius, mixing, share, iterations = json.loads(str(reference["settings"]))[case]
    ensemble, y, expected = (reference[f"{name}_{case}"] for name in ("ensemble", "y", "analysis"))
    d = ensemble.shape[1]
    mean = np.zeros(d)
    if library == "torch":
        ensemble, y, mean = map(torch.as_tensor, (ensemble, y, mean))
    filter_ = make_filter(
        "local_pf",
        Mask(d, np.arange(0, d, stride), noise=1.2),
        like=mean,
        localization_radius=radius,
        mixing=mixing,
        effective_share=share,
        iterations=iterations,
        **PLAIN,
    )
    found = to_numpy(filter_.analyse(ensemble, y))
    assert np.max(np.abs(expected - to_numpy(ensemble))) > 0.3
    # DAPyr finds beta to 1e-5, and a sum of likelihoods has 1e-40 in it.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_beta_reaches_the_effective_number_or_is_1():
    log_weights = np.random.default_rng(0).standard_normal((5, 30)) * np.array(
        [[0.1], [1.0], [5.0], [50.0], [5000.0]]
    )
    beta = regularisation(log_weights, 12.0)
    sizes = effective_sizes(softmax(log_weights / beta[:, None]))
    already = effective_sizes(softmax(log_weights)) >= 12
    assert list(already) == [True, True, False, False, False]
    np.testing.assert_array_equal(beta[already], 1)
    np.testing.assert_allclose(sizes[~already], 12, rtol=1e-9)


def test_sampling_copies_as_often_as_weights_say_and_survivors_keep_their_places():
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal((50, 9)), rng.dirichlet(np.full(9, 0.4), 50)
    chosen = sampled(values, weights)
    copies = np.array([np.bincount(row, minlength=9) for row in chosen])
    assert np.all(np.abs(copies - 9 * weights) < 1 + 1e-9)
    assert np.any(copies == 0)
    survivors = copies > 0
    np.testing.assert_array_equal(chosen[survivors], np.nonzero(survivors)[1])
    np.testing.assert_array_equal(
        sampled(torch.as_tensor(values), torch.as_tensor(weights)), chosen
    )


@pytest.mark.parametrize("mixing", [0.3, 1.0])
def test_merging_keeps_the_mean_and_at_less_than_all_the_variance(mixing):
    rng = np.random.default_rng(0)
    now, copies = rng.standard_normal((2, 6, 40))
    tapers, mean = np.linspace(0.05, 0.95, 6), rng.standard_normal(6)
    variance = rng.uniform(0.2, 0.6, 6)
    found = merged(now, copies, tapers, mean, variance, mixing)
    np.testing.assert_allclose(found.mean(axis=-1), mean, atol=1e-12)
    if mixing < 1:
        np.testing.assert_allclose(found.var(axis=-1, ddof=1), variance, rtol=1e-9)
    # Far from the measurement members stay what they were, moved and scaled.
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, now, strict=True)]
    assert correlation[0] > 0.99 > correlation[-1]


def test_one_scalar_measurement_of_many_members_is_bayes():
    """A prior of two modes; without a taper members are copies by the weights."""
    n, rng = 4000, np.random.default_rng(0)
    ensemble = (rng.choice([-2.0, 2.0], n) + 0.5 * rng.standard_normal(n))[:, None]
    filter_ = make_filter(
        "local_pf",
        Mask(1, [0], noise=1.5),
        localization_radius=None,
        mixing=1.0,
        effective_share=0.01,
        **PLAIN,
    )
    found = filter_.analyse(ensemble, np.array([1.0]))
    variance = 0.25 * 2.25 / 2.5
    means = np.array([-2.0, 2.0]) + 0.1 * (1.0 - np.array([-2.0, 2.0]))
    evidence = scipy.stats.norm.pdf(1.0, [-2.0, 2.0], np.sqrt(2.5))
    shares = evidence / evidence.sum()

    def law(x: np.ndarray) -> np.ndarray:
        return scipy.stats.norm.cdf(x[:, None], means, np.sqrt(variance)) @ shares

    assert scipy.stats.kstest(found[:, 0], law).statistic < 0.05


def test_what_no_measurement_reaches_stays():
    observation = Mask(40, [5, 30], noise=1.0)
    ensemble = np.random.default_rng(0).standard_normal((6, 40))
    filter_ = make_filter(
        "local_pf", observation, Grid(1, 40), localization_radius=2.0, iterations=3, **PLAIN
    )
    found = filter_.analyse(ensemble, np.full(2, 1.5))
    distances = np.abs(np.subtract.outer(np.arange(40), [5, 30])).min(axis=1)
    np.testing.assert_array_equal(found[:, distances >= 4], ensemble[:, distances >= 4])
    assert np.all(np.abs(found - ensemble)[:, distances < 3].max(axis=0) > 1e-3)
    assert 1 < filter_.diagnostics()["effective_size"] <= 6
