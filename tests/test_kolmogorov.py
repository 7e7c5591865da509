"""Kolmogorov flow: closed forms, order of convergence, budgets, and members that know nothing of
their batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from masf.arrays import Stream
from masf.systems import flow
from masf.systems.base import System
from masf.systems.kolmogorov import random_velocity
from masf.systems.registry import make_system

N = 32


def make(**parameters: float) -> System:
    return make_system("kolmogorov", {"size": N} | parameters)


def stream() -> Stream:
    return Stream(5, "test kolmogorov")


def step(system: System, velocity: np.ndarray, steps: int = 1) -> np.ndarray:
    x = velocity.reshape(*velocity.shape[:-3], -1)
    for _ in range(steps):
        x = system.step(x, stream())
    return x.reshape(velocity.shape)


def fixed(count: int) -> Callable[[np.ndarray], np.ndarray]:
    """A system's ``inner_steps`` that does not look at the speed."""
    return lambda speeds: np.full(speeds.shape, count)


def turbulent(*shape: int) -> np.ndarray:
    """Divergence-free noise with energy at all wavenumbers that are kept, and a mean flow."""
    noise = np.random.default_rng(1).standard_normal((*shape, 2, N, N))
    return step(make(dt=1e-9), noise)


def mesh() -> tuple[np.ndarray, np.ndarray]:
    points = 2 * np.pi * np.arange(N) / N
    return points[None, :] + np.zeros((N, 1)), points[:, None] + np.zeros((1, N))


def test_taylor_green_vortex_is_carried_by_the_mean_flow_and_decays():
    u, v, k, re, drag, time = 1.5, -0.8, 2, 50.0, 0.2, 1.0
    x, y = mesh()

    def exact(t: float) -> np.ndarray:
        path, decay = (1 - np.exp(-drag * t)) / drag, np.exp(-(2 * k**2 / re + drag) * t)
        kx, ky = k * (x - u * path), k * (y - v * path)
        vortex = decay * np.stack([np.sin(kx) * np.cos(ky), -np.cos(kx) * np.sin(ky)])
        return vortex + np.exp(-drag * t) * np.array([u, v])[:, None, None]

    system = make(reynolds=re, drag=drag, amplitude=0.0)
    system.inner_steps = fixed(16)
    np.testing.assert_allclose(
        step(system, exact(0.0), round(time / system.dt)), exact(time), atol=2e-7
    )
    # Without mean flow nothing is left to approximate: the linear part is exact.
    u = v = 0.0
    np.testing.assert_allclose(
        step(system, exact(0.0), round(time / system.dt)), exact(time), atol=1e-13
    )


@pytest.mark.parametrize("k", [1, 4])
def test_laminar_solution_is_a_fixed_point(k):
    system = make(forcing_wavenumber=k)
    p = system.parameters
    profile = p.amplitude / (k**2 / p.reynolds + p.drag) * np.sin(k * mesh()[1])
    laminar = np.stack([profile, np.zeros_like(profile)])
    np.testing.assert_allclose(step(system, laminar), laminar, atol=1e-12)


def test_force_pushes_a_fluid_at_rest():
    system = make(dt=1e-4)
    expected = np.stack([system.dt * np.sin(4 * mesh()[1]), np.zeros((N, N))])
    np.testing.assert_allclose(step(system, np.zeros((2, N, N))), expected, atol=1e-4 * system.dt)


def test_scheme_converges_at_fourth_order():
    system, velocity, results = make(), turbulent(), []
    for count in (16, 32, 64):
        system.inner_steps = fixed(count)
        results.append(step(system, velocity))
    coarse, middle, fine = results
    # Richardson: successive differences shrink by 2^4 where halving the step leaves the leading
    # error term alone.
    assert np.log2(
        np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine)
    ) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"reynolds": 100.0, "drag": 0.3}, {"reynolds": 1e12, "drag": 0.0, "amplitude": 0.0}],
    ids=str,
)
def test_budgets_of_energy_and_enstrophy_close(parameters):
    system = make(dt=1e-3, **parameters)
    p = system.parameters
    force = np.stack([p.amplitude * np.sin(p.forcing_wavenumber * mesh()[1]), np.zeros((N, N))])

    def budget(velocity: np.ndarray) -> np.ndarray:
        """Energy and enstrophy, and the rates that should change them: work of the force, drag,
        dissipation.
        """
        w, z = flow.vorticity(velocity), flow.enstrophy(velocity)
        # Palinstrophy, the mean of |grad w|^2/2: (dw/dy)^2 is in the enstrophy of (w, 0), (dw/dx)^2
        # in that of (0, w).
        palinstrophy = sum(flow.enstrophy(np.stack(pair)) for pair in ((w, 0 * w), (0 * w, w)))
        energy = flow.energy(velocity)
        work = (force * velocity).sum(0).mean(), (flow.vorticity(force) * w).mean()
        return np.array(
            [
                [energy, z],
                [
                    work[0] - 2 * p.drag * energy - 2 * z / p.reynolds,
                    work[1] - 2 * p.drag * z - 2 * palinstrophy / p.reynolds,
                ],
            ]
        )

    states = [turbulent()]
    for _ in range(2):
        states.append(step(system, states[-1]))
    (before, r0), (_, r1), (after, r2) = map(budget, states)
    # Simpson's rule over two steps.
    np.testing.assert_allclose(
        after - before, system.dt / 3 * (r0 + 4 * r1 + r2), rtol=1e-8, atol=1e-11
    )


def test_float32_stays_float32_and_free_of_divergence():
    velocity = step(
        make(), np.random.default_rng(1).standard_normal((4, 2, N, N)).astype(np.float32), 5
    )
    assert velocity.dtype == np.float32
    relative = np.sqrt(
        (flow.divergence(velocity) ** 2).mean() / (flow.vorticity(velocity) ** 2).mean()
    )
    assert relative < 1e-5


def test_aliases_do_not_reach_the_wavenumbers_kept():
    # The same flow on a finer grid with the same wavenumbers kept gives the same result: there are
    # no aliases to differ in.
    velocity = turbulent()
    kx, ky = flow.wavenumbers(N)
    kept = kx**2 + ky**2 < (N / 3) ** 2
    hat = flow.fft2(step(make(), velocity))
    np.testing.assert_allclose(hat * ~kept, 0, atol=1e-10)

    def advection(n: int) -> np.ndarray:
        """-(u . grad) w on an n x n grid, at the wavenumbers that the grid of N keeps."""
        rows = np.r_[: N // 2, n - N // 2 : n]
        fine = np.zeros((2, n, n // 2 + 1), dtype=complex)
        fine[:, rows, : N // 2 + 1] = flow.fft2(velocity) * (n / N) ** 2
        u, v = flow.ifft2(fine)
        ikx, iky = (1j * k for k in flow.wavenumbers(n))
        w = flow.fft2(flow.vorticity(np.stack([u, v])))
        product = flow.fft2(-u * flow.ifft2(ikx * w) - v * flow.ifft2(iky * w))
        return product[rows, : N // 2 + 1] * (N / n) ** 2 * kept

    # A short step of the inviscid flow without force is a difference quotient of its advection.
    h = 1e-6
    system = make(dt=h, reynolds=1e12, drag=0.0, amplitude=0.0)
    rate = (
        flow.fft2(flow.vorticity(step(system, velocity))) - flow.fft2(flow.vorticity(velocity))
    ) / h
    expected = advection(2 * N)
    np.testing.assert_allclose(rate, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_member_does_not_depend_on_its_batch(convert):
    # Speeds that ask for different inner steps.
    system, x = (
        make(),
        convert(
            (np.linspace(0.5, 3, 6).reshape(2, 3, 1, 1, 1) * turbulent(2, 3)).reshape(2, 3, -1)
        ),
    )
    together = system.step(x, stream())
    assert together.shape == x.shape
    np.testing.assert_array_equal(together, system.step(x, stream()))
    np.testing.assert_allclose(system.step(x[1, 2], stream()), together[1, 2], rtol=0, atol=1e-13)


def test_numpy_and_torch_agree():
    system, x = make(), turbulent(3).reshape(3, -1)
    np.testing.assert_allclose(
        system.step(torch.as_tensor(x), stream()), system.step(x, stream()), atol=1e-12
    )


def test_inner_steps_keep_the_courant_number_below_the_limit_of_stability():
    system = make(size=64)
    speeds = np.geomspace(0.01, 30, 200)
    counts = system.inner_steps(speeds)
    # The fastest wave kept on this grid has k^2 = 16^2 + 14^2 = 452 < (64/3)^2.
    courant = system.dt / counts * np.sqrt(452) * speeds
    assert np.all(courant <= 2.2)
    # Not wasteful either: a rung of the ladder and the rounding to a whole number of steps below
    # it.
    assert np.all((courant * np.sqrt(2) * counts / (counts - 1) >= 2.2)[speeds > 2])
    assert len(np.unique(counts)) < 10


def test_a_member_beyond_the_highest_speed_is_lost_and_only_it():
    system, x = make(), turbulent(3)
    alone = step(system, x[[0, 2]])
    x[1] *= 1.01 * system.parameters.max_speed / np.sqrt((x[1] ** 2).sum(0).max())
    result = step(system, x)
    assert np.all(np.isnan(result[1]))
    np.testing.assert_allclose(result[[0, 2]], alone, rtol=0, atol=1e-13)
    x[1] = np.nan
    assert np.all(np.isnan(step(system, x)[1]))


def test_geometry():
    system = make()
    assert (system.shape, system.grid, system.dimension) == ((2, N, N), (N, N), 2 * N**2)


def test_random_velocity_has_the_speed_and_the_scale_that_it_states():
    velocity = np.stack([random_velocity(N, Stream(seed, "test kolmogorov")) for seed in range(40)])
    np.testing.assert_allclose(np.sqrt((velocity**2).sum(1)).max(axis=(1, 2)), 3, rtol=1e-12)
    np.testing.assert_allclose(flow.divergence(velocity), 0, atol=1e-12)
    assert np.argmax(flow.energy_spectrum(velocity).mean(0)) == 4


def test_a_typical_state_is_reproducible_and_turbulent():
    system = make(size=24)
    x = system.typical_state(stream())
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, system.typical_state(stream()))
    velocity = x.reshape(system.shape)
    # Drag holds the energy far below the laminar solution's.
    laminar = (1 / (16 / 1000 + 0.1)) ** 2 / 4
    assert 0.2 < flow.energy(velocity) < laminar / 3


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"size": 33}, "multiple of 2"),
        ({"size": 6}, "greater than or equal to 8"),
        ({"size": 12}, "needs a size above 12"),
        ({"forcing_wavenumber": 11}, "needs a size above 33"),
        ({"drag": -0.1}, "drag"),
        ({"max_speed": 0.0}, "max_speed"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, fault):
    with pytest.raises(ValidationError, match=fault):
        make(**parameters)
