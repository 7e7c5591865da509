"""Two-dimensional flow: derivatives against closed forms, the projection, and where energy sits in
the spectrum.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masf.systems import flow

N = 16


def mesh(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n, n) of the grid points; y is the first axis."""
    points = 2 * np.pi * np.arange(n) / n
    return points[None, :] + np.zeros((n, 1)), points[:, None] + np.zeros((1, n))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((*shape, 2, N, N))


def test_derivatives_of_a_field_in_closed_form():
    x, y = mesh()
    velocity = np.stack([np.sin(2 * x) * np.cos(3 * y), np.cos(x) + np.sin(2 * y)])
    vorticity = -np.sin(x) + 3 * np.sin(2 * x) * np.sin(3 * y)
    divergence = 2 * np.cos(2 * x) * np.cos(3 * y) + 2 * np.cos(2 * y)
    np.testing.assert_allclose(flow.vorticity(velocity), vorticity, atol=1e-13)
    np.testing.assert_allclose(flow.divergence(velocity), divergence, atol=1e-13)
    assert flow.energy(velocity) == pytest.approx((1 / 4 + 1 / 2 + 1 / 2) / 2)
    assert flow.enstrophy(velocity) == pytest.approx((1 / 2 + 9 / 4) / 2)


def test_velocity_has_the_vorticity_that_it_came_from():
    projected = flow.project(noise(3))
    velocity = flow.velocity(flow.vorticity(projected))
    np.testing.assert_allclose(flow.vorticity(velocity), flow.vorticity(projected), atol=1e-12)
    np.testing.assert_allclose(velocity.mean(axis=(-2, -1)), 0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_projection_removes_the_divergence_and_nothing_else(dtype):
    velocity = noise(3).astype(dtype)
    projected = flow.project(velocity)
    assert projected.dtype == dtype
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(
        flow.divergence(projected), 0, atol=tolerance * np.abs(flow.divergence(velocity)).max()
    )
    np.testing.assert_allclose(
        flow.vorticity(projected), flow.vorticity(velocity), atol=tolerance * N
    )
    np.testing.assert_allclose(flow.project(projected), projected, atol=tolerance)
    # Orthogonal: what is removed is a gradient, at right angles to what stays.
    np.testing.assert_allclose(
        (projected * (velocity - projected)).mean(axis=(-3, -2, -1)), 0, atol=tolerance
    )


def test_energy_of_a_wave_is_in_its_shell():
    x, y = mesh()
    phase = 3 * x + 4 * y
    spectrum = flow.energy_spectrum(np.stack([4 * np.sin(phase), -3 * np.sin(phase)]))
    expected = np.zeros(len(spectrum))
    expected[5] = 25 / 4
    np.testing.assert_allclose(spectrum, expected, atol=1e-14)


def test_spectrum_adds_up_to_the_energy():
    velocity = noise(3, 2)
    assert flow.energy_spectrum(velocity).shape == (3, 2, round(N / np.sqrt(2)) + 1)
    np.testing.assert_allclose(
        flow.energy_spectrum(velocity).sum(-1), flow.energy(velocity), rtol=1e-13
    )


@pytest.mark.parametrize(
    "function", ["vorticity", "divergence", "project", "energy", "enstrophy", "energy_spectrum"]
)
def test_numpy_and_torch_agree(function):
    apply = getattr(flow, function)
    np.testing.assert_allclose(
        apply(torch.as_tensor(noise(2))), apply(noise(2)), rtol=1e-12, atol=1e-12
    )
