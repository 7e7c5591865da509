"""The denoiser on a long ring is the dense one, in another order of operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masf.arrays import Stream
from masf.diffusion.denoisers.gaussian import DenseDenoiser
from masf.diffusion.denoisers.ring import SHORTEST_RING, RingDenoiser, RingTaper
from masf.diffusion.denoisers.select import denoiser_taper, ensemble_denoiser
from masf.diffusion.linear_state import PlainState
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import taper_matrix
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.systems.registry import make_system

D = 301  # in blocks of two lengths


def process_of(stride: int, ensemble: np.ndarray) -> ForwardProcess:
    d = ensemble.shape[-1]
    noise = np.linspace(0.5, 2.0, len(range(0, d, stride)))
    return ForwardProcess.for_ensemble(
        Mask(d, np.arange(0, d, stride), noise=list(noise)).basis(), ensemble
    )


def ensemble_on_ring(d: int = D, n: int = 12) -> np.ndarray:
    """Members that vary over a few components, more in some places than in others."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n, d))
    return 3 + sum(np.roll(noise, k, axis=-1) for k in range(4)) * (1.2 + np.sin(np.arange(d)))


def both(radius: float, stride: int, ensemble: np.ndarray) -> tuple[RingDenoiser, DenseDenoiser]:
    system = make_system("lorenz96", {"dt": 0.01, "dimension": ensemble.shape[-1], "forcing": 8.0})
    process = process_of(stride, ensemble)
    ring = ensemble_denoiser(
        process, ensemble, "localized", denoiser_taper(system, radius, process.basis, ensemble)
    )
    dense = ensemble_denoiser(process, ensemble, "localized", taper_matrix(system, radius))
    assert isinstance(ring, RingDenoiser)
    assert isinstance(dense, DenseDenoiser)
    return ring, dense


@pytest.mark.parametrize("radius", [3.0, 16.0])
def test_pairs_of_states_on_a_ring_are_denoised_as_by_the_dense_matrix(radius):
    """States in the past, and now: two components at each point of the ring."""
    past = ensemble_on_ring()
    pairs = np.concatenate([past, 1.5 * past[:, ::-1] + ensemble_on_ring(n=12) ** 2 / 9], axis=-1)
    system = make_system("lorenz96", {"dt": 0.01, "dimension": D, "forcing": 8.0})
    state = PlainState(system, Mask(D, np.arange(0, D, 2), noise=0.7))
    process = ForwardProcess.for_ensemble(state.pair_basis(), pairs, temperature=3.0)
    taper = state.pair_taper(radius, pairs)
    assert isinstance(taper, RingTaper)
    ring = ensemble_denoiser(process, pairs, "localized", taper)
    matrix = np.tile(taper_matrix(system, radius), (2, 2))
    dense = ensemble_denoiser(process, pairs, "localized", matrix)
    assert isinstance(ring, RingDenoiser)
    assert isinstance(dense, DenseDenoiser)
    x = np.random.default_rng(1).standard_normal((3, 2 * D))
    for t in (0.3, 1.0):
        np.testing.assert_allclose(ring(x, t).mean, dense(x, t).mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            ring.posterior_variance(t), dense.posterior_variance(t), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("radius", [0.6, 3.0, 6.5, 16.0])
@pytest.mark.parametrize("stride", [1, 2, 7])
def test_it_is_the_dense_denoiser(radius, stride):
    ring, dense = both(radius, stride, ensemble_on_ring())
    x = np.random.default_rng(1).standard_normal((2, 3, D))
    for t in (0.02, 0.5, 1.0):
        np.testing.assert_allclose(ring(x, t).mean, dense(x, t).mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            ring.posterior_variance(t), dense.posterior_variance(t), rtol=1e-9, atol=1e-9
        )


def test_single_precision_keeps_four_digits():
    members, x = ensemble_on_ring(), np.random.default_rng(1).standard_normal((5, D))
    ring, _ = both(6.0, 2, members.astype(np.float32))
    _, exact = both(6.0, 2, members)
    for t in (0.02, 0.25, 1.0):
        expected = exact(x, t).mean
        np.testing.assert_allclose(
            ring(x.astype(np.float32), t).mean, expected, rtol=0, atol=1e-4 * np.abs(members).max()
        )
    for t in (0.25, 1.0):
        np.testing.assert_allclose(
            ring.posterior_variance(t), exact.posterior_variance(t), rtol=2e-3
        )


def test_numpy_and_torch_agree():
    members, x = ensemble_on_ring(), np.random.default_rng(1).standard_normal((5, D))
    in_numpy, _ = both(6.0, 2, members)
    taper = RingTaper(D, 6.0, in_numpy.taper.blocks, torch.as_tensor(members))
    in_torch = ensemble_denoiser(in_numpy.process, torch.as_tensor(members), "localized", taper)
    np.testing.assert_allclose(
        in_torch(torch.as_tensor(x), 0.5).mean, in_numpy(x, 0.5).mean, rtol=1e-9
    )
    np.testing.assert_allclose(
        in_torch.posterior_variance(0.5), in_numpy.posterior_variance(0.5), rtol=1e-9
    )


def test_prior_draws_have_the_tapered_covariance():
    ring, dense = both(6.0, 1, ensemble_on_ring())
    columns = np.eye(D)
    identity = Identity(columns)
    root = ring.prior_draws(D, columns, identity)
    # With the identity for noise the draws are the rows of L^T.
    np.testing.assert_allclose(root.T @ root, dense.covariance, atol=1e-6 * dense.covariance.max())


class Identity(Stream):
    """A stream whose normal numbers are the given ones."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def normal(self, shape, x):
        return self.numbers


def test_short_rings_wide_tapers_and_other_observations_stay_dense():
    system = make_system("lorenz96", {"dt": 0.01, "dimension": D, "forcing": 8.0})
    short = make_system("lorenz96", {"dt": 0.01, "dimension": SHORTEST_RING - 1, "forcing": 8.0})
    mask = process_of(1, ensemble_on_ring()).basis
    pairs = Matrix(np.eye(D) + np.roll(np.eye(D), 1, axis=1), noise=1.0).basis()
    x = np.zeros(D)
    assert isinstance(denoiser_taper(system, 6.0, mask, x), RingTaper)
    for case in ((system, 30.0, mask), (short, 6.0, mask), (system, 6.0, pairs)):
        assert isinstance(denoiser_taper(*case, x), np.ndarray)
    assert denoiser_taper(system, None, mask, x) is None


def test_a_ring_too_long_for_a_matrix_is_served():
    d = 6000
    members = ensemble_on_ring(d, 8).astype(np.float32)
    system = make_system("lorenz96", {"dt": 0.01, "dimension": d, "forcing": 8.0})
    process = process_of(1, members)
    denoiser = ensemble_denoiser(
        process, members, "localized", denoiser_taper(system, 6.0, process.basis, members)
    )
    assert np.all(np.isfinite(denoiser(members, 0.5).mean))
    variance = denoiser.posterior_variance(0.5)
    assert np.all(variance > 0)
    assert np.all(variance < members.var(axis=0, ddof=1))
