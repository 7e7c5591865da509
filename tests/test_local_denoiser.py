"""The Gaussian denoiser with local weights: against its formula at single points, the untapered
form, and the LETKF.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masf.arrays import Stream
from masf.diffusion.denoisers.gaussian import EnsembleDenoiser
from masf.diffusion.denoisers.local import LocalDenoiser
from masf.diffusion.denoisers.select import ensemble_denoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper, grid_taper
from masf.filters.base import Setup
from masf.filters.registry import filter_class
from masf.observations.base import Observation
from masf.observations.settings import observation_settings
from masf.systems.registry import make_system

SIZE, MEMBERS, RADIUS = 8, 6, 2.0
D, POINTS = 2 * SIZE**2, SIZE**2
OPERATORS = {
    "mask": {"operator": "grid", "stride": 3},
    "pooling": {"operator": "average_pooling", "size": 2},
}
TIMES = [0.05, 0.5, 1.0]


def observed(kind: str) -> Observation:
    return observation_settings({**OPERATORS[kind], "noise": 0.3}).build(D, (SIZE, SIZE))


def ensemble(n: int = MEMBERS) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, D)) + np.linspace(-1, 1, D)


def local(kind: str, radius: float = RADIUS) -> LocalDenoiser:
    members = ensemble()
    process = ForwardProcess.for_ensemble(observed(kind).basis(), members)
    denoiser = ensemble_denoiser(
        process, members, "localized", GridTaper((SIZE, SIZE), radius, members)
    )
    assert isinstance(denoiser, LocalDenoiser)
    return denoiser


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("t", TIMES)
def test_gain_and_variance_at_each_point_are_those_of_the_points_own_ensemble_and_weights(kind, t):
    denoiser, taper = local(kind), np.tile(grid_taper((SIZE, SIZE), RADIUS), (2, 2))
    process, x = denoiser.process, np.random.default_rng(2).standard_normal((3, D))
    noised = process.apply(process.A(t), denoiser.anomalies)
    whitened, y = (process.apply(1 / np.sqrt(process.Sigma(t)), v) for v in (x, noised))
    gain, variance = denoiser.gain(x, t), denoiser.posterior_variance(t)
    for i in (0, 19, POINTS + 19, D - 1):
        weighted = y * taper[i]
        regression = np.linalg.solve(
            (MEMBERS - 1) * np.eye(MEMBERS) + weighted @ y.T, denoiser.anomalies[:, i]
        )
        np.testing.assert_allclose(
            gain[:, i], whitened @ weighted.T @ regression, rtol=1e-8, atol=1e-10
        )
        np.testing.assert_allclose(variance[i], denoiser.anomalies[:, i] @ regression, rtol=1e-8)


@pytest.mark.parametrize("kind", OPERATORS)
def test_a_taper_wider_than_the_grid_leaves_the_ensembles_own_covariance(kind):
    denoiser, x = local(kind, radius=100.0), ensemble(3)
    plain = EnsembleDenoiser(denoiser.process, denoiser.mean, denoiser.anomalies)
    for t in TIMES:
        np.testing.assert_allclose(denoiser(x, t).mean, plain(x, t).mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            denoiser.posterior_variance(t), plain.posterior_variance(t), rtol=1e-4
        )


def test_at_the_end_the_answer_to_the_measurement_is_the_mean_of_the_letkf(monkeypatch):
    monkeypatch.setattr("masf.ensembles.localization.SMALLEST_WEIGHT", 0.0)
    members, observation = ensemble(), observed("mask")
    system = make_system("kolmogorov", {"size": SIZE, "forcing_wavenumber": 2})
    y = np.random.default_rng(3).standard_normal(observation.size)
    denoiser = local("mask")
    answer = denoiser(denoiser.process.end_state(members[:1], y), 1.0).mean[0]
    letkf = filter_class("letkf")
    setup = Setup(system, observation, members[0], 1.0, Stream(0, "test"))
    parameters = letkf.Parameters(localization_radius=RADIUS * system.spacing)
    mean = letkf(parameters, setup).analyse(members, y).mean(axis=0)
    np.testing.assert_allclose(answer, mean, rtol=1e-8, atol=1e-10)


def test_float32_tensors_give_the_same_answer():
    denoiser, x = local("mask"), ensemble(5)
    single = torch.as_tensor(ensemble(), dtype=torch.float32)
    process, taper = denoiser.process, GridTaper((SIZE, SIZE), RADIUS, single)
    in_torch = ensemble_denoiser(process, single, "localized", taper)
    for t in TIMES:
        np.testing.assert_allclose(
            in_torch(torch.as_tensor(x, dtype=torch.float32), t).mean,
            denoiser(x, t).mean,
            atol=5e-4,
        )
    assert in_torch(single, 0.5).residual(Stream(0, "test")).dtype == torch.float32


def test_draws_have_the_covariance_of_the_ensemble():
    denoiser = local("mask")
    draws = denoiser.prior_draws(40_000, denoiser.mean, Stream(0, "test"))[:, :4]
    np.testing.assert_allclose(np.cov(draws.T), np.cov(denoiser.anomalies[:, :4].T), atol=0.05)
