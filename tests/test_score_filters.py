"""Score-based rivals and the mixture MASF: each against what theory says it gives, which for most
is not the posterior.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from problems import make_problem
from scipy.integrate import solve_ivp

from masf.arrays import Stream, softmax
from masf.diffusion.damped import Schedule
from masf.diffusion.denoisers.mixture import MixtureDenoiser, ring_windows
from masf.ensembles.inflation import relax_spread
from masf.filters.base import Filter, Setup
from masf.filters.ensf import mixture_score
from masf.filters.registry import filter_class
from masf.filters.ssls import LARGEST_GRADIENT, clipped
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.stages.cycle import run_cycles
from masf.systems.registry import make_system

CHEAP = {"training_steps": 20, "training_steps_per_cycle": 5}
LEARNED = ("sf", "ssls")
UNTRAINED = {"learning_rate": 1e-30, "training_steps": 1, "training_steps_per_cycle": 1}
"""Leaves the network at zeros: the score of N(0, v I), exact for a prior of standard normals."""


def make(
    name: str,
    observation: Observation,
    *,
    system: str = "linear_gaussian",
    seed: int = 0,
    purpose: str = "",
    **parameters: object,
) -> Filter:
    """A filter on a linear system or Lorenz-63, in float64; learned ones on torch."""
    settings = {"dt": 0.01} if system == "lorenz63" else {"dimension": observation.dimension}
    mean = np.zeros(observation.dimension)
    cls = filter_class(name)
    stream = Stream(seed, f"test {purpose or name}")
    torch_mean = torch.as_tensor(mean) if name in LEARNED else mean
    filter_ = cls(
        cls.Parameters(**parameters),
        Setup(make_system(system, settings), observation, torch_mean, 1.0, stream),
    )
    if name in LEARNED:
        filter_.network.network.double()
    return filter_


def analyse(filter_: Filter, ensemble: np.ndarray, y: np.ndarray) -> np.ndarray:
    if isinstance(filter_.setup.initial_mean, torch.Tensor):
        return filter_.analyse(torch.as_tensor(ensemble), torch.as_tensor(y)).numpy()
    return filter_.analyse(ensemble, y)


def standard(n: int, seed: int = 1) -> np.ndarray:
    """n normal numbers (n, 1) with mean 0 and variance 1 to the last digit."""
    z = np.random.default_rng(seed).standard_normal((n, 1))
    return (z - z.mean()) / z.std(ddof=1)


# --- what they share


def test_schedule_is_the_marginal_of_its_sde():
    schedule, h = Schedule(0.3, 0.05), 1e-6
    assert (schedule.alpha(0), schedule.alpha(1), schedule.beta_squared(0)) == pytest.approx(
        (1, 0.3, 0.05)
    )
    assert schedule.beta_squared(1) == 1
    for t in (0.1, 0.5, 0.9):
        d_alpha = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2 * h)
        d_beta2 = (schedule.beta_squared(t + h) - schedule.beta_squared(t - h)) / (2 * h)
        assert d_alpha == pytest.approx(schedule.b(t) * schedule.alpha(t), rel=1e-6)
        assert d_beta2 == pytest.approx(
            2 * schedule.b(t) * schedule.beta_squared(t) + schedule.g_squared(t), rel=1e-6
        )


def test_relaxation_gives_spread_back_and_keeps_the_mean():
    rng = np.random.default_rng(0)
    forecast, analysis = rng.standard_normal((9, 3)), 0.2 * rng.standard_normal((9, 3)) + 1
    assert relax_spread(analysis, forecast, 0.0) is analysis
    for factor in (0.4, 1.0):
        relaxed = relax_spread(analysis, forecast, factor)
        expected = (1 - factor) * analysis.std(axis=0, ddof=1) + factor * forecast.std(
            axis=0, ddof=1
        )
        np.testing.assert_allclose(relaxed.std(axis=0, ddof=1), expected, rtol=1e-12)
        np.testing.assert_allclose(relaxed.mean(axis=0), analysis.mean(axis=0), atol=1e-14)


def test_softmax_does_not_overflow():
    x = np.random.default_rng(0).standard_normal((3, 5)) * 1e4
    np.testing.assert_allclose(softmax(x), scipy.special.softmax(x, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(softmax(torch.as_tensor(x)), softmax(x), rtol=1e-12)


def test_mixture_score_is_the_gradient_of_the_log_density():
    rng = np.random.default_rng(0)
    z, centres = (torch.as_tensor(rng.standard_normal((n, 3))) for n in (4, 6))
    z.requires_grad_()
    log_density = torch.logsumexp(-torch.cdist(z, centres).square() / (2 * 0.3), dim=1)
    log_density.sum().backward()
    np.testing.assert_allclose(
        mixture_score(z.detach().numpy(), centres.numpy(), 0.3), z.grad, rtol=1e-9, atol=1e-12
    )


# --- EnSF and SF: a scalar prior, H = 1: the reverse SDE is linear, and its moments obey ordinary
# differential equations


def damped_end(
    schedule: Schedule, slope, offset, q: float, target: float
) -> tuple[float, float, float]:
    """(A, B, v): a sample that starts from N(0, 1) ends as N(A z + B, v), where z is the member
    that it is tied to.

    The prior's score is offset(t) z - slope(t) x, and the damped likelihood's gradient (1 - t) q
    (target - x).
    """

    def backward(s, state):
        t = 1 - s
        gain, mean, variance = state
        g2, rate = (
            schedule.g_squared(t),
            schedule.b(t) + schedule.g_squared(t) * (slope(t) + (1 - t) * q),
        )
        return [
            -rate * gain + g2 * offset(t),
            -rate * mean + g2 * (1 - t) * q * target,
            -2 * rate * variance + g2,
        ]

    return tuple(solve_ivp(backward, (0, 1), [0.0, 0.0, 1.0], rtol=1e-10, atol=1e-12).y[:, -1])


CASES = [(0.5, 0.3, 0.7, 1.5), (0.1, 0.6, 2.0, -1.0)]
"""eps_a, eps_b, standard deviation of the measurement's noise, measurement; the prior is N(0,
1).
"""


@pytest.mark.parametrize(("eps_a", "eps_b", "noise", "y"), CASES)
def test_ensf_of_own_members_ends_where_its_sde_does(eps_a, eps_b, noise, y):
    schedule = Schedule(eps_a, eps_b)
    gain, mean, variance = damped_end(
        schedule,
        lambda t: 1 / schedule.beta_squared(t),
        lambda t: schedule.alpha(t) / schedule.beta_squared(t),
        1 / noise**2,
        y,
    )
    n, observation = 20_000, Mask(1, [0], noise=noise)

    def found(steps: int) -> np.ndarray:
        return analyse(
            make("ensf", observation, steps=steps, eps_a=eps_a, eps_b=eps_b),
            standard(n),
            np.array([y]),
        )

    # All noise is centred, so that the mean has no Monte-Carlo error, and that of Euler's scheme
    # halves with its step.
    coarse, fine = (found(steps).mean() for steps in (100, 200))
    assert abs(fine - mean) == pytest.approx(abs(coarse - mean) / 2, rel=0.1)
    assert 2 * fine - coarse == pytest.approx(mean, abs=1e-3)
    # The step error of the variance is below 1 %; the other term is its sampling error.
    expected = gain**2 + variance
    assert found(400).var(ddof=1) == pytest.approx(expected, rel=0.01 + 4 * math.sqrt(2 / n))


@pytest.mark.parametrize(("name", "parameters"), [("ensf", {"batch": None}), ("sf", UNTRAINED)])
@pytest.mark.parametrize(("eps_a", "eps_b", "noise", "y"), CASES)
def test_score_of_a_gaussian_ends_where_its_sde_does_and_not_at_the_posterior(
    name, parameters, eps_a, eps_b, noise, y
):
    schedule = Schedule(eps_a, eps_b)
    _, mean, variance = damped_end(
        schedule,
        lambda t: 1 / (schedule.alpha(t) ** 2 + schedule.beta_squared(t)),
        lambda _: 0.0,
        1 / noise**2,
        y,
    )
    n = 800
    filter_ = make(
        name, Mask(1, [0], noise=noise), steps=150, eps_a=eps_a, eps_b=eps_b, **parameters
    )
    found = analyse(filter_, standard(n), np.array([y]))
    # Step error, and the error of a density estimated from n members, of order n^(-1/2).
    assert found.mean() == pytest.approx(mean, abs=0.02 + 4 / math.sqrt(n))
    assert found.var() == pytest.approx(variance, rel=0.05 + 4 * math.sqrt(2 / n))
    assert abs(variance - noise**2 / (1 + noise**2)) > 0.04


@pytest.mark.parametrize("batch", [1, 20, None])
def test_ensf_far_from_informative_measurements_keeps_the_prior(batch):
    """With useless measurements the reverse SDE gives the prior, widened by its kernels of variance
    eps_b.
    """
    n, filter_ = (
        400,
        make("ensf", Mask(1, [0], noise=1e4), steps=200, eps_a=0.05, eps_b=0.1, batch=batch),
    )
    found = analyse(filter_, 3 + 2 * standard(n), np.zeros(1))
    assert found.mean() == pytest.approx(3, abs=0.05 + 4 * 2 / math.sqrt(n))
    assert found.var() == pytest.approx(4 * 1.1, rel=0.05 + 4 * math.sqrt(2 / n))


# --- the learned score


def test_network_learns_the_score_of_a_correlated_gaussian():
    rng, d = np.random.default_rng(0), 3
    correlation = np.full((d, d), 0.8) + 0.2 * np.eye(d)
    ensemble = rng.multivariate_normal(np.zeros(d), correlation, 4000)
    observation = Mask(d, [0], noise=1.0)
    filter_ = make("sf", observation, system="lorenz63", training_steps=800, network_width=32)
    members = torch.as_tensor(ensemble / ensemble.std(axis=0))
    analyse(filter_, members.numpy(), np.zeros(1))
    t = 0.3
    alpha, beta = filter_.schedule.alpha(t), filter_.schedule.beta_squared(t) ** 0.5
    x = alpha * members[:500] + beta * torch.as_tensor(rng.standard_normal((500, d)))
    marginal = alpha**2 * np.cov(members.numpy().T) + beta**2 * np.eye(d)
    expected = -x @ torch.as_tensor(np.linalg.inv(marginal))
    untrained = -x / (alpha**2 + beta**2)
    error = (filter_.network.score(x, alpha, beta) - expected).square().mean()
    assert error < 0.05 * (untrained - expected).square().mean()


@pytest.mark.parametrize("name", LEARNED)
def test_training_goes_on_from_cycle_to_cycle_and_is_reported(name):
    observation = Mask(6, np.arange(6), noise=1.0)
    quick = {"sf": {"steps": 5}, "ssls": {"langevin_steps": 2, "sigma": 1.0}}[name]
    ensemble = np.random.default_rng(0).multivariate_normal(
        np.zeros(6), np.full((6, 6), 0.9) + 0.1 * np.eye(6), 200
    )

    def losses(first: int, cycles: int) -> list[float]:
        filter_ = make(name, observation, training_steps=first, training_steps_per_cycle=3, **quick)
        found = []
        for _ in range(cycles):
            analyse(filter_, ensemble, np.zeros(6))
            found.append(filter_.diagnostics()["loss"])
        return found

    # The loss is a mean over noise, with a standard deviation of about 0.04.
    assert max(losses(80, 4)) < losses(3, 1)[0] - 0.1


@pytest.mark.parametrize("name", LEARNED)
def test_learned_scores_need_torch(name):
    cls = filter_class(name)
    setup = Setup(
        make_system("lorenz63", {"dt": 0.01}),
        Mask(3, [0], noise=1.0),
        np.zeros(3),
        1.0,
        Stream(0, "test"),
    )
    with pytest.raises(ValueError, match="torch"):
        cls(cls.Parameters(), setup)


# --- SSLS: with the score of a Gaussian, Langevin steps are an autoregression whose moments are
# known


@pytest.mark.parametrize(("levels", "pull"), [(1, 0.0), (3, 0.8)])
def test_ssls_members_follow_the_autoregression(levels, pull):
    sigma, h, steps, decay, noise, y, n = 0.5, 0.05, 40, 0.5, 0.8, 1.0, 20_000
    q, v = 1 / noise**2, 1 + sigma**2
    mean, variance = 0.0, 1.0
    for k in range(levels):
        strength = pull * decay**k
        phi, phi2 = ((1 - math.exp(-s * h)) / s if s else h for s in (strength, 2 * strength))
        factor = math.exp(-strength * h) - phi * (1 / v + q)
        for _ in range(steps):
            mean, variance = factor * mean + phi * q * y, factor**2 * variance + 2 * phi2
    # A prior of mean 2 and spread 3, with everything in units of that.
    filter_ = make(
        "ssls", Mask(1, [0], noise=3 * noise), sigma=sigma, step_size=h, langevin_steps=steps,
        anneal_levels=levels, anneal_start=pull, anneal_decay=decay, **UNTRAINED,
    )  # fmt: skip
    found = (analyse(filter_, 2 + 3 * standard(n), np.array([2 + 3 * y])) - 2) / 3
    assert found.mean() == pytest.approx(mean, abs=1e-6)
    assert found.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / n))
    if not pull:
        # Long enough for the posterior of the smoothed prior, up to the step error h / (2 C) of its
        # variance C.
        kalman = v * q * y / (1 + v * q)
        posterior = 1 / (1 / v + q)
        assert mean == pytest.approx(kalman, abs=0.02)
        assert variance == pytest.approx(posterior, rel=h / posterior)


def test_gradients_are_clipped_member_by_member():
    gradient = np.array([[3.0, -4.0], [300.0, -400.0], [0.0, 0.0]])
    found = clipped(gradient)
    np.testing.assert_array_equal(found[[0, 2]], gradient[[0, 2]])
    np.testing.assert_allclose(found[1] / gradient[1], found[1, 0] / 300)
    assert np.sqrt(np.mean(found[1] ** 2)) == pytest.approx(LARGEST_GRADIENT)


# --- the mixture: denoiser and filter

D = 6


def brute_force(process, centres, covariance, x, t):
    """Weights (n, N), D (n, d) and the diagonal of C (n, d) by scipy, one component of the mixture
    at a time.
    """
    a, sigma = (process.apply(c, np.eye(D)).T for c in (process.A(t), process.Sigma(t)))
    marginal = a @ covariance @ a.T + sigma
    gain = covariance @ a.T @ np.linalg.inv(marginal)
    log_weights = np.stack(
        [scipy.stats.multivariate_normal(a @ c, marginal).logpdf(x) for c in centres], axis=-1
    )
    weights = scipy.special.softmax(log_weights, axis=-1)
    means = np.stack([c + (x - a @ c) @ gain.T for c in centres], axis=1)
    mean = np.einsum("nj,njd->nd", weights, means)
    between = np.einsum("nj,njd->nd", weights, (means - mean[:, None]) ** 2)
    return weights, means, np.diag(covariance - gain @ a @ covariance) + between


@pytest.mark.parametrize("kind", ["identity", "mask", "mask, correlated noise", "dense"])
@pytest.mark.parametrize("t", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("windows", [None, ring_windows(D, 3)], ids=["global", "windows of all"])
def test_mixture_denoiser_is_the_mean_and_variance_of_the_mixture(kind, t, windows):
    problem = make_problem(kind, D)
    centres, x = problem.prior_draws(7, seed=1), problem.prior_draws(5, seed=2)
    weights, means, variance = brute_force(problem.process, centres, 0.3 * problem.covariance, x, t)
    denoiser = MixtureDenoiser(problem.process, centres, 0.3 * problem.covariance, windows)
    posterior = denoiser(x, t)
    np.testing.assert_allclose(
        posterior.mean, np.einsum("nj,njd->nd", weights, means), rtol=1e-7, atol=1e-9
    )
    np.testing.assert_allclose(posterior.variance, variance, rtol=1e-6, atol=1e-9)
    assert denoiser.effective_size == pytest.approx(
        np.mean(1 / np.sum(weights**2, axis=-1)), rel=1e-6
    )
    in_torch = MixtureDenoiser(
        problem.process,
        torch.as_tensor(centres),
        torch.as_tensor(0.3 * problem.covariance),
        windows,
    )
    found = in_torch(torch.as_tensor(x), t)
    np.testing.assert_allclose(found.mean, posterior.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.variance, posterior.variance, rtol=1e-7, atol=1e-9)


def test_local_weights_are_those_of_the_windows_marginal_densities():
    problem, t, radius = make_problem("mask", D), 0.4, 1
    centres, x = problem.prior_draws(7, seed=1), problem.prior_draws(5, seed=2)
    covariance, process = 0.3 * problem.covariance, problem.process
    _, means, _ = brute_force(process, centres, covariance, x, t)
    a, marginal = (
        process.A(t),
        process.A(t)[:, None] * covariance * process.A(t) + np.diag(process.Sigma(t)),
    )
    found = MixtureDenoiser(process, centres, covariance, ring_windows(D, radius))(x, t).mean
    for i in range(D):
        w = np.arange(i - radius, i + radius + 1) % D
        densities = [
            scipy.stats.multivariate_normal((a * c)[w], marginal[np.ix_(w, w)]).pdf(x[:, w])
            for c in centres
        ]
        weights = np.stack(densities, axis=-1) / np.sum(densities, axis=0)[:, None]
        np.testing.assert_allclose(
            found[:, i], np.sum(weights * means[:, :, i], axis=-1), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("kind", ["mask", "dense"])
def test_mixture_draws_have_the_mixture_s_moments(kind, bonferroni):
    problem, t, n = make_problem(kind, D), 0.5, 20_000
    centres = problem.prior_draws(7, seed=1)
    x = np.tile(problem.prior_draws(1, seed=2), (n, 1))
    denoiser = MixtureDenoiser(problem.process, centres, 0.1 * problem.covariance)
    posterior = denoiser(x, t)
    draws, variance = posterior.residual(Stream(0, "test")), posterior.variance[0]
    errors = [
        draws.mean(axis=0) / np.sqrt(variance / n),
        (np.mean(draws**2, axis=0) - variance) / ((draws**2).std(axis=0) / math.sqrt(n)),
    ]
    assert np.max(np.abs(errors)) < bonferroni(2 * D)


def test_one_wide_kernel_is_the_gaussian_filter():
    problem = make_problem("mask", 6)
    ensemble, kw = (
        problem.prior_draws(9, seed=1),
        {"steps": 4, "localization_radius": 2.0, "purpose": "same numbers"},
    )
    gaussian = make("masf_gaussian", problem.observation, **kw)
    mixture = make("masf_mc", problem.observation, bandwidth=1.0, weight_radius=1, **kw)
    expected = analyse(gaussian, ensemble, problem.y)
    np.testing.assert_allclose(
        analyse(mixture, ensemble, problem.y), expected, rtol=1e-9, atol=1e-9
    )
    assert mixture.diagnostics()["effective_size"] == pytest.approx(9)


BIMODAL = (0.4, [-1.5, 1.2], [0.45, 0.3])
"""Weight of the first mode, means, standard deviations."""


def bimodal_case(
    sampler: str, steps: int, n: int, bandwidth: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of filter masf_mc (n,), its mixture's centres (n,) and h^2 P, for y = 0.3 with
    noise 1.
    """
    rng = np.random.default_rng(3)
    which = (rng.random(n) > BIMODAL[0]).astype(int)
    ensemble = np.take(BIMODAL[1], which) + np.take(BIMODAL[2], which) * rng.standard_normal(n)
    filter_ = make(
        "masf_mc",
        Mask(1, [0], noise=1.0),
        seed=seed,
        sampler=sampler,
        steps=steps,
        bandwidth=bandwidth,
        weight_radius=None,
        covariance="ensemble",
    )
    draws = analyse(filter_, ensemble[:, None], np.array([0.3]))[:, 0]
    centres = ensemble.mean() + math.sqrt(1 - bandwidth**2) * (ensemble - ensemble.mean())
    return draws, centres, bandwidth**2 * ensemble.var(ddof=1)


def posterior_of_mixture(means, variances, weights, y=0.3, r=1.0):
    """The cdf of the posterior: a mixture whose weights are multiplied by each component's
    evidence.
    """
    weights = weights * scipy.stats.norm.pdf(y, means, np.sqrt(variances + r))
    weights = weights / weights.sum()
    gain = variances / (variances + r)
    means, spreads = means + gain * (y - means), np.sqrt(variances * (1 - gain))
    return lambda x: np.sum(
        weights * scipy.stats.norm.cdf(x[:, None], means, spreads), axis=-1
    ), weights


@pytest.mark.parametrize("steps", [1, 5])
def test_exact_sampler_draws_from_the_posterior_of_the_mixture_at_any_number_of_steps(steps):
    n = 500
    cases = [bimodal_case("exact", steps, n, 0.15, seed) for seed in range(8)]
    _, centres, variance = cases[0]
    cdf, _ = posterior_of_mixture(centres, np.full(n, variance), np.ones(n))
    assert scipy.stats.kstest(np.concatenate([draws for draws, _, _ in cases]), cdf).pvalue > 1e-3


@pytest.mark.parametrize(("sampler", "steps"), [("exact", 2), ("coupled", 20)])
def test_mixture_filter_meets_a_bimodal_posterior(sampler, steps):
    n = 1000
    draws, centres, variance = bimodal_case(sampler, steps, n, 0.15)
    share = np.array([BIMODAL[0], 1 - BIMODAL[0]])
    cdf, _ = posterior_of_mixture(np.array(BIMODAL[1]), np.square(BIMODAL[2]), share)
    _, weights = posterior_of_mixture(centres, np.full(n, variance), np.ones(n))
    # Two samples stand between draws and posterior: the weighted members that make the mixture, and
    # the draws themselves.
    bound = scipy.stats.kstwo.isf(1e-3, int(1 / np.sum(weights**2))) + scipy.stats.kstwo.isf(
        1e-3, n
    )
    assert scipy.stats.kstest(draws, cdf).statistic < bound
    # An EnKF is far off.
    enkf, _, _ = bimodal_case(sampler, steps, n, 1.0)
    assert scipy.stats.kstest(enkf, cdf).statistic > 1.5 * bound


def test_weights_of_many_components_degenerate_unless_they_are_local():
    d = 40
    ensemble = np.random.default_rng(0).standard_normal((100, d))
    sizes = {}
    for radius in (None, 1):
        filter_ = make(
            "masf_mc", Mask(d, np.arange(d), noise=1.0), bandwidth=0.4, weight_radius=radius
        )
        analyse(filter_, ensemble, np.zeros(d))
        sizes[radius] = filter_.diagnostics()["effective_size"]
    assert sizes[None] < 3
    assert sizes[1] > 6


def test_weights_of_a_window_need_a_ring():
    with pytest.raises(
        ValueError,
        match="weight_radius = 2: the components of this system have no distances; set it to null",
    ):
        make("masf_mc", Mask(3, [0], noise=1.0), system="lorenz63", localization_radius=None)


@pytest.mark.parametrize(
    ("points", "radius", "expected"),
    [(5, 1, [4, 0, 1]), (5, 2, range(5)), (4, 9, range(4)), (3, 0, [0])],
)
def test_windows_wrap_around_the_ring(points, radius, expected):
    windows = ring_windows(points, radius)
    assert len(windows) == points
    assert sorted(windows[0]) == sorted(expected)


# --- in the cycle

RUNS = {
    "masf_gaussian": {"localization_radius": None},
    "masf_mc": {"localization_radius": None, "weight_radius": None, "steps": 4},
    "ensf": {"steps": 150, "eps_b": 0.4},
    "sf": {"steps": 60, **CHEAP},
    "ssls": {"langevin_steps": 60, "step_size": 0.02, **CHEAP},
}
MEASURED = {
    "all": Mask(3, np.arange(3), noise=0.5),
    "mask": Mask(3, np.array([0, 2]), noise=[0.4, 0.6]),
    "dense": Matrix([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5]], noise=[[0.3, 0.1], [0.1, 0.3]]),
}


@pytest.mark.parametrize("measured", MEASURED)
@pytest.mark.parametrize("system", ["linear_gaussian", "lorenz63"])
@pytest.mark.parametrize("name", RUNS)
def test_five_cycles_stay_finite_repeat_themselves_and_beat_no_assimilation(name, system, measured):
    d, n, gap, cycles = 3, 40, 5, 5
    observation = MEASURED[measured]
    model = make_system(system, {"dt": 0.02} if system == "lorenz63" else {"dimension": d})
    numbers = Stream(4, "truth")
    truth = [model.typical_state(numbers)]
    for _ in range(gap * cycles):
        truth.append(model.step(truth[-1], numbers))
    at_cycles = np.array(truth[gap::gap])
    ys = observation.apply(at_cycles) + observation.noise.draw((cycles,), at_cycles, numbers)
    start = truth[0] + 2 * numbers.normal((1, d), at_cycles)  # the initial mean is off
    ensemble = start + 2 * numbers.normal((n, d), at_cycles)

    def run(name: str, parameters: dict):
        cls = filter_class(name)
        mean = (
            torch.as_tensor(start[0], dtype=torch.float32)
            if name in LEARNED
            else start[0].astype(np.float32)
        )
        filter_ = cls(
            cls.Parameters(**parameters), Setup(model, observation, mean, 2.0, Stream(0, "test"))
        )
        device = "cpu" if name in LEARNED else None
        return run_cycles(
            filter_, ensemble, ys, gap=gap, truth_at_cycles=at_cycles, torch_device=device
        )

    result, again, free = run(name, RUNS[name]), run(name, RUNS[name]), run("free_run", {})
    assert result.diverged_at is None
    np.testing.assert_array_equal(result.mean, again.mean)
    errors = [np.sqrt(np.mean((r.mean[gap::gap] - at_cycles) ** 2)) for r in (result, free)]
    assert errors[0] < errors[1]
