"""The mixture denoiser with local weights: against densities at single points, the global mixture,
and the Gaussian denoiser.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import torch

from masf.arrays import Stream
from masf.diffusion.denoisers.local import LocalDenoiser
from masf.diffusion.denoisers.local_mixture import LocalMixtureDenoiser
from masf.diffusion.denoisers.mixture import MixtureDenoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper, grid_taper
from masf.observations.settings import observation_settings

SIZE, MEMBERS, RADIUS, NEAR, H = 8, 6, 2.0, 1.0, 0.6
D, POINTS = 2 * SIZE**2, SIZE**2
EVERYWHERE = 200.0
"""A radius whose taper is 1 on the whole grid."""
OPERATORS = {
    "mask": {"operator": "grid", "stride": 3},
    "pooling": {"operator": "average_pooling", "size": 2},
}
TIMES = [0.05, 0.5, 1.0]


def ensemble() -> np.ndarray:
    return 0.5 * np.random.default_rng(1).standard_normal((MEMBERS, D)) + np.linspace(-1, 1, D)


def states() -> np.ndarray:
    """Some near members, so that weights are neither even nor all on one kernel."""
    rng = np.random.default_rng(2)
    return np.concatenate(
        [ensemble()[:2] + 0.5 * rng.standard_normal((2, D)), rng.standard_normal((2, D))]
    )


def process(kind: str) -> ForwardProcess:
    observation = observation_settings({**OPERATORS[kind], "noise": 0.3}).build(D, (SIZE, SIZE))
    return ForwardProcess.for_ensemble(observation.basis(), ensemble())


def mixture(
    kind: str, radius: float = RADIUS, near: float = NEAR, h: float = H
) -> LocalMixtureDenoiser:
    members = ensemble()
    tapers = [GridTaper((SIZE, SIZE), r, members) for r in (radius, near)]
    return LocalMixtureDenoiser(process(kind), members, h, *tapers)


@pytest.mark.parametrize("near", [NEAR, RADIUS])
@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("t", TIMES)
def test_at_each_point_the_kernels_answers_are_weighed_by_their_densities_seen_from_there(
    kind, t, near
):
    denoiser, x = mixture(kind, near=near), states()
    p, mean = denoiser.process, ensemble().mean(axis=0)
    anomalies = ensemble() - mean
    whiten = 1 / np.sqrt(p.Sigma(t))
    y = p.apply(whiten, p.apply(p.A(t), anomalies))
    z = p.apply(whiten, x - p.apply(p.A(t), mean))
    covariance = H**2 * y.T @ y / (MEMBERS - 1)  # of A times a kernel, whitened
    posterior = denoiser(x, t)
    found, variance = posterior.mean, posterior.variance
    for i in (0, 19, POINTS + 19, D - 1):
        kernel_rho, weight_rho = (
            np.tile(grid_taper((SIZE, SIZE), r), (2, 2))[i] for r in (RADIUS, near)
        )
        seen = np.sqrt(weight_rho)[:, None] * covariance * np.sqrt(weight_rho) + np.eye(D)
        departures = np.sqrt(weight_rho) * (z[:, None] - math.sqrt(1 - H**2) * y)
        logits = -np.einsum("nji,ik,njk->nj", departures, np.linalg.inv(seen), departures) / 2
        weights = scipy.special.softmax(logits, axis=-1)
        cross = np.sqrt(kernel_rho) * (H**2 * anomalies[:, i] @ y / (MEMBERS - 1))
        gain = cross @ np.linalg.inv(
            np.sqrt(kernel_rho)[:, None] * covariance * np.sqrt(kernel_rho) + np.eye(D)
        )
        centres = math.sqrt(1 - H**2) * anomalies[:, i]
        departures = np.sqrt(kernel_rho) * (z[:, None] - math.sqrt(1 - H**2) * y)
        answers = mean[i] + centres + departures @ gain
        expected = np.sum(weights * answers, axis=-1)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-7, atol=1e-9)
        within = H**2 * np.var(anomalies[:, i], ddof=1) - gain @ cross
        between = np.sum(weights * (answers - expected[:, None]) ** 2, axis=-1)
        np.testing.assert_allclose(variance[:, i], within + between, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", OPERATORS)
def test_tapers_wider_than_the_grid_leave_the_global_mixture(kind):
    local, x, members = mixture(kind, EVERYWHERE, EVERYWHERE), states(), ensemble()
    centres = local.mean + math.sqrt(1 - H**2) * (members - local.mean)
    plain = MixtureDenoiser(local.process, centres, H**2 * np.cov(members.T))
    for t in TIMES:
        found, expected = local(x, t), plain(x, t)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=2e-3, atol=1e-4)
        assert local.effective_size == pytest.approx(plain.effective_size, rel=1e-2)


@pytest.mark.parametrize("t", TIMES)
def test_one_wide_kernel_is_the_gaussian_denoiser(t):
    denoiser, x, members = mixture("mask", h=1.0), states(), ensemble()
    gaussian = LocalDenoiser(
        denoiser.process,
        denoiser.mean,
        members - denoiser.mean,
        GridTaper((SIZE, SIZE), RADIUS, members),
    )
    posterior = denoiser(x, t)
    np.testing.assert_allclose(posterior.mean, gaussian(x, t).mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(posterior.variance[0], gaussian.posterior_variance(t), rtol=1e-10)
    assert denoiser.effective_size == pytest.approx(MEMBERS)


def test_chunks_of_states_change_nothing(monkeypatch):
    x = states()
    expected = mixture("mask")(x, 0.5)
    draws = expected.residual(Stream(0, "test"))
    monkeypatch.setattr("masf.diffusion.denoisers.local.NUMBERS_AT_ONCE", MEMBERS * POINTS)
    found = mixture("mask")(x, 0.5)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.residual(Stream(0, "test")), draws, rtol=1e-10, atol=1e-12)


def test_draws_have_the_moments_of_the_global_mixture(bonferroni):
    denoiser, t, n = mixture("mask", EVERYWHERE, EVERYWHERE), 0.5, 4000
    x = np.tile(states()[:1], (n, 1))
    posterior = denoiser(x, t)
    draws, variance = posterior.residual(Stream(0, "test")), posterior.variance[0]
    errors = [
        draws.mean(axis=0) / np.sqrt(variance / n),
        (np.mean(draws**2, axis=0) - variance) / ((draws**2).std(axis=0) / math.sqrt(n)),
    ]
    assert np.max(np.abs(errors)) < bonferroni(2 * D)


def test_float32_tensors_give_the_same_answer():
    denoiser, x = mixture("mask"), states()
    single = torch.as_tensor(ensemble(), dtype=torch.float32)
    tapers = [GridTaper((SIZE, SIZE), r, single) for r in (RADIUS, NEAR)]
    in_torch = LocalMixtureDenoiser(denoiser.process, single, H, *tapers)
    for t in TIMES:
        np.testing.assert_allclose(
            in_torch(torch.as_tensor(x, dtype=torch.float32), t).mean,
            denoiser(x, t).mean,
            atol=2e-3,
        )
    assert in_torch(single, 0.5).residual(Stream(0, "test")).dtype == torch.float32
