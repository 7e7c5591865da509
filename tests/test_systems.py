"""Systems: convergence of the integrator, invariants, published statistics, and one code for numpy
and torch.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.integrate import solve_ivp

from masf.arrays import Stream
from masf.ensembles.localization import taper_matrix
from masf.systems.base import System
from masf.systems.integrators import rk4
from masf.systems.registry import make_system

CHAOTIC = {"lorenz63": {"dt": 0.01}, "lorenz96": {"dt": 0.01, "dimension": 12, "forcing": 8.0}}
KS = {"dt": 0.25, "dimension": 64, "spacing": 0.8}
SYSTEMS = CHAOTIC | {
    "linear_gaussian": {"dimension": 7, "model_noise": 0.0},
    "kuramoto_sivashinsky": KS,
}


def stream() -> Stream:
    return Stream(3, "test systems")


def typical(system: System) -> np.ndarray:
    return system.typical_state(stream())


def integrate(system: System, x: np.ndarray, dt: float, time: float) -> np.ndarray:
    for _ in range(round(time / dt)):
        x = rk4(system.tendency, x, dt)
    return x


@pytest.mark.parametrize("name", CHAOTIC)
def test_rk4_converges_at_fourth_order(name):
    system = make_system(name, CHAOTIC[name])
    x = typical(system)
    # Richardson: successive differences shrink by 2^4 where halving the step leaves the leading
    # error term alone.
    coarse, middle, fine = (integrate(system, x, dt, 0.4) for dt in (0.01, 0.005, 0.0025))
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert order == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("name", CHAOTIC)
def test_step_agrees_with_an_independent_integrator(name):
    system = make_system(name, CHAOTIC[name] | {"dt": 0.001})
    x = typical(system)
    expected = solve_ivp(
        lambda _, s: system.tendency(s), (0, 0.2), x, method="DOP853", rtol=1e-12, atol=1e-12
    ).y[:, -1]
    for _ in range(200):
        x = system.step(x, stream())
    np.testing.assert_allclose(x, expected, atol=1e-8)


def test_rk4_of_a_linear_equation_is_the_taylor_polynomial():
    h = 0.3
    assert rk4(lambda x: -x, np.array([1.0]), h)[0] == pytest.approx(
        1 - h + h**2 / 2 - h**3 / 6 + h**4 / 24, abs=1e-15
    )


def test_lorenz63_equations():
    tendency = make_system("lorenz63", {"dt": 0.01, "sigma": 2.0, "rho": 3.0, "beta": 5.0}).tendency
    np.testing.assert_allclose(tendency(np.array([1.0, 4.0, 6.0])), [6.0, -7.0, -26.0])


@pytest.mark.parametrize("sign", [1, -1])
def test_lorenz63_fixed_points(sign):
    system = make_system("lorenz63", CHAOTIC["lorenz63"])
    p = system.parameters
    x = sign * np.sqrt(p.beta * (p.rho - 1))
    fixed = np.array([x, x, p.rho - 1])
    np.testing.assert_allclose(system.tendency(fixed), 0, atol=1e-13)
    np.testing.assert_allclose(system.step(fixed, stream()), fixed, atol=1e-13)
    np.testing.assert_array_equal(system.step(np.zeros(3), stream()), 0)


def divergence(system: System, x: np.ndarray) -> float:
    h = 1e-4
    moves = h * np.eye(len(x))
    return float(np.trace(system.tendency(x + moves) - system.tendency(x - moves))) / (2 * h)


def test_volume_contracts_at_the_known_rate():
    lorenz63 = make_system("lorenz63", CHAOTIC["lorenz63"])
    p = lorenz63.parameters
    assert divergence(lorenz63, typical(lorenz63)) == pytest.approx(
        -(p.sigma + 1 + p.beta), rel=1e-8
    )
    lorenz96 = make_system("lorenz96", CHAOTIC["lorenz96"])
    assert divergence(lorenz96, typical(lorenz96)) == pytest.approx(-lorenz96.dimension, rel=1e-8)


@pytest.mark.parametrize("dimension", [4, 5, 40])
def test_lorenz96_tendency_by_its_formula(dimension):
    system = make_system("lorenz96", {"dt": 0.01, "dimension": dimension, "forcing": 6.0})
    x = np.random.default_rng(0).standard_normal(dimension)
    expected = [
        (x[(i + 1) % dimension] - x[i - 2]) * x[i - 1] - x[i] + 6.0 for i in range(dimension)
    ]
    np.testing.assert_allclose(system.tendency(x), expected, atol=1e-14)


def test_lorenz96_advection_conserves_energy():
    system = make_system("lorenz96", CHAOTIC["lorenz96"])
    x = 5 * np.random.default_rng(0).standard_normal((20, 12))
    advection = system.tendency(x) + x - system.parameters.forcing
    scale = np.sum(np.abs(x * advection), axis=-1)
    np.testing.assert_allclose(np.sum(x * advection, axis=-1) / scale, 0, atol=1e-15)


@pytest.mark.parametrize("name", ["lorenz96", "linear_gaussian", "kuramoto_sivashinsky"])
def test_step_commutes_with_translations_of_the_ring(name):
    system = make_system(name, SYSTEMS[name])
    assert system.translation_invariant
    x = typical(system)
    moved = system.step(np.roll(x, 3), stream())
    np.testing.assert_allclose(moved, np.roll(system.step(x, stream()), 3), rtol=1e-12, atol=1e-13)


# Published to these digits: so a value counts as agreeing up to half of the last digit, plus the
# sampling error of the estimate, taken from the scatter over independent trajectories.
@pytest.mark.parametrize(
    ("name", "parameters", "statistic", "published", "half_digit"),
    [
        # Lorenz and Emanuel (1998), section 3: mean 2.3, standard deviation 3.6 of each component
        # at F = 8.
        (
            "lorenz96",
            {"dt": 0.02, "dimension": 40, "forcing": 8.0},
            lambda x: x.mean(axis=(0, 2)),
            2.3,
            0.05,
        ),
        (
            "lorenz96",
            {"dt": 0.02, "dimension": 40, "forcing": 8.0},
            lambda x: x.std(axis=(0, 2)),
            3.6,
            0.05,
        ),
        # The classical attractor: mean z 23.55, standard deviation of x 7.92 (its mean is 0 by
        # symmetry).
        ("lorenz63", {"dt": 0.01}, lambda x: x[..., 2].mean(axis=0), 23.55, 0.005),
        (
            "lorenz63",
            {"dt": 0.01},
            lambda x: np.sqrt(np.square(x[..., 0]).mean(axis=0)),
            7.92,
            0.005,
        ),
    ],
    ids=["lorenz96 mean", "lorenz96 std", "lorenz63 mean z", "lorenz63 std x"],
)
def test_long_run_statistics(name, parameters, statistic, published, half_digit, bonferroni):
    system = make_system(name, parameters)
    x = typical(system) + np.random.default_rng(1).standard_normal((60, system.dimension))
    states = []
    for i in range(2500):
        x = system.step(x, stream())
        if i >= 500 and i % 10 == 0:
            states.append(x)
    values = statistic(np.stack(states))
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    assert standard_error < 0.05
    assert values.mean() == pytest.approx(
        published, abs=half_digit + bonferroni(1) * standard_error
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_batch_steps_as_its_states_do_one_by_one(name):
    system = make_system(name, SYSTEMS[name])
    x = typical(system) + np.random.default_rng(1).standard_normal((2, 3, system.dimension))
    together = system.step(x, stream())
    assert together.shape == x.shape
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i], system.step(x[i], stream()), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", SYSTEMS)
def test_numpy_and_torch_step_alike(name):
    system = make_system(name, SYSTEMS[name])
    x = typical(system) + np.random.default_rng(1).standard_normal((4, system.dimension))
    tensor = system.step(torch.as_tensor(x), stream())
    assert tensor.dtype == torch.float64
    np.testing.assert_allclose(tensor.numpy(), system.step(x, stream()), rtol=1e-13, atol=1e-13)
    assert system.step(x.astype(np.float32), stream()).dtype == np.float32


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_typical_state_is_reproducible_and_on_the_attractor(name):
    system = make_system(name, SYSTEMS[name])
    x = typical(system)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, typical(system))
    assert np.any(x != system.typical_state(Stream(4, "test systems")))
    bound = {"lorenz63": 50, "lorenz96": 20, "linear_gaussian": 20, "kuramoto_sivashinsky": 5}[name]
    assert np.max(np.abs(x)) < bound


@pytest.mark.parametrize("dimension", [7, 8])
def test_linear_gaussian_matrix_is_circulant_and_damps(dimension):
    system = make_system(
        "linear_gaussian", {"dimension": dimension, "persistence": 0.97, "speed": 1.4}
    )
    matrix = system.matrix
    rolled = np.roll(matrix, (1, 1), axis=(0, 1))
    np.testing.assert_allclose(matrix, rolled, atol=1e-14)
    eigenvalues = np.linalg.eigvals(matrix)
    assert np.max(np.abs(eigenvalues)) <= 0.97 + 1e-12
    # The mean of the field is damped by the persistence and nothing else.
    np.testing.assert_allclose(matrix.sum(axis=0), 0.97, atol=1e-13)


def test_linear_gaussian_moves_by_whole_grid_points_without_diffusion():
    parameters = {
        "dimension": 9,
        "persistence": 1.0,
        "speed": 2.0,
        "diffusion": 0.0,
        "model_noise": 0.0,
    }
    x = np.random.default_rng(0).standard_normal(9)
    np.testing.assert_allclose(
        make_system("linear_gaussian", parameters).step(x, stream()),
        np.roll(x, 2),
        rtol=1e-12,
        atol=1e-12,
    )


def test_linear_gaussian_step_has_the_mean_and_covariance_it_states(assert_moments):
    system = make_system("linear_gaussian", {"dimension": 6, "model_noise": 0.4})
    x = typical(system)
    draws = system.step(np.tile(x, (20_000, 1)), stream())
    assert_moments(draws, system.matrix @ x, 0.4**2 * np.eye(6))


def test_noise_of_lorenz63_is_added_to_each_step(assert_moments):
    quiet, noisy = (
        make_system("lorenz63", {"dt": 0.01, "model_noise": noise}) for noise in (0.0, 0.05)
    )
    assert (quiet.stochastic, noisy.stochastic) == (False, True)
    x = typical(quiet)
    draws = noisy.step(np.tile(x, (20_000, 1)), stream())
    assert_moments(draws, quiet.step(x, stream()), 0.05**2 * np.eye(3))


def spectral_tendency(system: System, x: np.ndarray) -> np.ndarray:
    """The Kuramoto-Sivashinsky equation, term by term, its advection as -(u^2)_x / 2."""
    k = system.wavenumbers
    square = -0.5j * k * np.fft.rfft(x**2)
    square[-1] = 0
    return np.fft.irfft(square + (k**2 - k**4) * np.fft.rfft(x))


def test_kuramoto_sivashinsky_agrees_with_an_implicit_integrator():
    system = make_system("kuramoto_sivashinsky", KS | {"dt": 0.01})
    x = typical(system)
    expected = solve_ivp(
        lambda _, s: spectral_tendency(system, s), (0, 1), x, method="Radau", rtol=1e-9, atol=1e-10
    ).y[:, -1]
    np.testing.assert_allclose(system.advance(x, 100, stream()), expected, atol=1e-7)


def test_kuramoto_sivashinsky_converges_at_fourth_order():
    # Few waves that are strongly damped: such ones come to their order at tiny steps alone.
    coarsest = KS | {"spacing": 1.5}
    x = typical(make_system("kuramoto_sivashinsky", coarsest))
    coarse, middle, fine = (
        make_system("kuramoto_sivashinsky", coarsest | {"dt": dt}).advance(
            x, round(1 / dt), stream()
        )
        for dt in (0.05, 0.025, 0.0125)
    )
    order = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert order == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("wave", [1, 4, 7, 12])
def test_small_waves_of_kuramoto_sivashinsky_grow_as_linear_theory_says(wave):
    system = make_system("kuramoto_sivashinsky", KS)
    k = system.wavenumbers[wave]
    x = 1e-8 * np.cos(2 * np.pi * wave * np.arange(64) / 64)
    grown = system.advance(x, 8, stream())
    np.testing.assert_allclose(grown, np.exp(2 * (k**2 - k**4)) * x, rtol=1e-6, atol=1e-15)


def test_kuramoto_sivashinsky_keeps_the_mean_and_moves_with_it():
    system = make_system("kuramoto_sivashinsky", KS | {"dt": 0.02})
    x = typical(system)
    assert abs(x.mean()) < 1e-12
    # In a frame that moves by one point in 40 steps the equation is the same: u + c solves it.
    c = 0.8 / (40 * 0.02)
    np.testing.assert_allclose(
        system.advance(x + c, 40, stream()),
        np.roll(system.advance(x, 40, stream()), 1) + c,
        atol=5e-5,  # waves that the grid cannot hold fold back otherwise when it moves
    )


def test_a_radius_on_kuramoto_sivashinsky_is_a_length_on_any_grid():
    coarse, fine = (
        make_system("kuramoto_sivashinsky", {"dimension": d, "spacing": 51.2 / d})
        for d in (64, 128)
    )
    np.testing.assert_allclose(
        taper_matrix(fine, 8.0)[::2, ::2], taper_matrix(coarse, 8.0), atol=1e-12
    )


def test_perturbations_of_kuramoto_sivashinsky_are_smooth_and_of_variance_one(assert_moments):
    system = make_system("kuramoto_sivashinsky", KS)
    draws = system.perturbations(20_000, np.empty(0), stream())
    np.testing.assert_allclose(draws.mean(-1), 0, atol=1e-12)
    power = np.exp(-(np.fft.fftfreq(64, 0.8 / (2 * np.pi)) ** 2))
    power[0] = 0
    covariance = np.fft.ifft(power / power.mean()).real
    lags = np.arange(64)
    assert_moments(draws, np.zeros(64), covariance[np.abs(lags[:, None] - lags)])


def test_only_components_of_a_grid_have_a_place_in_space():
    assert make_system("linear_gaussian", {"dimension": 6}).grid == (6,)
    assert make_system("lorenz63", CHAOTIC["lorenz63"]).grid is None


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lorenz96", {"dt": 0.0, "dimension": 8, "forcing": 8.0}),
        ("lorenz96", {"dt": 0.01, "dimension": 3, "forcing": 8.0}),
        ("lorenz96", {"dt": 0.01, "dimension": 8}),
        ("lorenz63", {"dt": 0.01, "dimension": 3}),
        ("linear_gaussian", {"dimension": 4, "persistence": 1.1}),
        ("kuramoto_sivashinsky", {"dimension": 65}),
        ("kuramoto_sivashinsky", {"dimension": 64, "spacing": 2.0}),
    ],
)
def test_parameters_out_of_range_are_refused(name, parameters):
    with pytest.raises(ValidationError):
        make_system(name, parameters)
