"""Samplers: exact on linear Gaussian problems at any number of steps, and near the posterior on a
bimodal one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from problems import KINDS, make_problem

from masf.arrays import Stream, centred_normal
from masf.diffusion.denoisers.gaussian import DenseDenoiser, DiagonalDenoiser, EnsembleDenoiser
from masf.diffusion.posterior import Posterior
from masf.diffusion.process import ForwardProcess, time_grid
from masf.diffusion.samplers import coupled, exact, guided, measured_ends, retraced
from masf.observations.mask import Mask, MaskBasis
from masf.observations.matrix import Matrix

N = 20_000


def stream() -> Stream:
    return Stream(11, "test samplers")


def forward_end(process: ForwardProcess, members: np.ndarray, times: list[float]) -> np.ndarray:
    """The x_1 that ``coupled`` noises ``members`` to, from a stream of the same seed."""
    numbers, x = stream(), members
    for t, u in itertools.pairwise(times):
        x = process.transition(x, t, u, centred_normal(x.shape, x, numbers))
    return x


def test_time_grid_runs_from_the_state_to_the_measurement():
    np.testing.assert_allclose(time_grid(4), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 4, 8])
@pytest.mark.parametrize("sampler", [exact, coupled])
def test_gaussian_posterior_is_exact_at_any_number_of_steps(sampler, kind, steps, assert_moments):
    problem = make_problem(kind, 10)
    members = problem.prior_draws(N, seed=1)
    denoiser = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    draws = sampler(problem.process, denoiser, problem.y, members, time_grid(steps), stream())
    assert_moments(draws, *problem.posterior)


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize("sampler", [exact, coupled])
def test_gaussian_posterior_is_exact_in_fifty_components(sampler, kind, assert_moments):
    problem = make_problem(kind, 50)
    members = problem.prior_draws(N, seed=2)
    denoiser = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    assert_moments(
        sampler(problem.process, denoiser, problem.y, members, time_grid(2), stream()),
        *problem.posterior,
    )


@pytest.mark.parametrize("sampler", [exact, coupled])
def test_gaussian_posterior_on_an_uneven_time_grid(sampler, assert_moments):
    problem = make_problem("dense", 4)
    members = problem.prior_draws(N, seed=3)
    denoiser = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    draws = sampler(problem.process, denoiser, problem.y, members, [0.0, 0.01, 0.7, 1.0], stream())
    assert_moments(draws, *problem.posterior)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 3, 16])
def test_coupled_is_the_stochastic_enkf_member_by_member(kind, steps):
    problem = make_problem(kind, 6)
    process, observation = problem.process, problem.observation
    members = problem.prior_draws(7, seed=4)
    denoiser = DenseDenoiser(process, problem.mean, problem.covariance)
    found = coupled(process, denoiser, problem.y, members, time_grid(steps), stream())
    # y_i is the measurement that the member's own x_1 stands for; outside the range of H nothing is
    # learned from y.
    lift = process.basis.lift(np.eye(observation.size)).T
    own = forward_end(process, members, time_grid(steps)) @ np.linalg.pinv(lift).T
    np.testing.assert_allclose(
        found, members + (problem.y - own) @ problem.gain.T, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("perturbation", [0.0, 0.5])
def test_less_perturbation_is_exact_for_independent_components(perturbation, assert_moments):
    variance, noise = np.array([0.01, 1.0, 30.0]), np.array([1.0, 0.5])
    observation = Mask(3, [1, 2], noise=noise)
    members = np.random.default_rng(1).standard_normal((N, 3)) * np.sqrt(variance)
    process = ForwardProcess.for_ensemble(observation.basis(), members)
    denoiser, y = DenseDenoiser(process, np.zeros(3), np.diag(variance)), np.array([1.0, -2.0])
    found = coupled(
        process, denoiser, y, members, time_grid(3), stream(), perturbation=perturbation
    )
    gain = variance[1:] / (variance[1:] + noise**2)
    assert_moments(
        found, np.append(0, gain * y), np.diag(np.append(variance[0], (1 - gain) * variance[1:]))
    )


def correlated(rho: float) -> np.ndarray:
    """Of 8 components, all of correlation ``rho`` and of variances 0.1 to 10."""
    scale = np.logspace(-0.5, 0.5, 8)
    return (rho + (1 - rho) * np.eye(8)) * np.outer(scale, scale)


MEASURED = {
    "all": Mask(8, np.arange(8), noise=1.0),
    "some": Mask(8, [1, 2, 6], noise=[1.0, 0.01, 30.0]),
    "dense": Matrix(np.random.default_rng(5).standard_normal((5, 8)), noise=0.3 + np.eye(5)),
}


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("denoiser", [DenseDenoiser, EnsembleDenoiser])
@pytest.mark.parametrize("kind", MEASURED)
@pytest.mark.parametrize("perturbation", [0.0, 0.5])
def test_less_perturbation_is_exact_for_correlated_components(
    perturbation, kind, denoiser, backend
):
    """Of members that have the prior's covariance to the last digit, without noise; what the noise
    would add is added in closed form, since draws of it correlate with members.
    """
    observation, covariance, n = MEASURED[kind], correlated(0.95), 400
    draws = np.random.default_rng(1).standard_normal((n, 8))
    draws = draws - draws.mean(axis=0)
    white = draws @ np.linalg.inv(np.linalg.cholesky(draws.T @ draws / (n - 1))).T
    members = white @ np.linalg.cholesky(covariance).T
    y = np.arange(float(observation.size))
    if backend == "torch":
        members, y = torch.as_tensor(members), torch.as_tensor(y)
    process = ForwardProcess.for_ensemble(observation.basis(), members)
    prior = members if denoiser is EnsembleDenoiser else members.T @ members / (n - 1)
    made = denoiser(process, members.mean(0), prior)
    end = process.apply(process.s, members)  # as if no noise were drawn
    ends = measured_ends(process, made, y, members, end, perturbation)
    found = np.asarray(retraced(process, made, [members, end], ends, [0.0, 1.0]))
    h, r = observation.matrix, observation.noise.covariance
    gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + r)
    noise = perturbation**2 * gain @ r @ gain.T
    np.testing.assert_allclose(
        np.cov(found.T) + noise, covariance - gain @ h @ covariance, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
def test_without_perturbation_members_move_by_their_departure_alone(kind):
    problem = make_problem(kind, 6)
    process, members = problem.process, problem.prior_draws(20, seed=4)
    denoiser = DenseDenoiser(process, problem.mean, problem.covariance)
    found = coupled(process, denoiser, problem.y, members, time_grid(3), stream(), perturbation=0.0)
    mean, anomalies = members.mean(axis=0), members - members.mean(axis=0)
    np.testing.assert_allclose(
        found.mean(axis=0),
        mean + problem.gain @ (problem.y - problem.observation.matrix @ mean),
        rtol=1e-9,
        atol=1e-9,
    )
    # Linear in the anomalies of 6 components, with no noise: no such product would give 20 members
    # that have some.
    moved = found - found.mean(axis=0)
    np.testing.assert_allclose(
        moved, anomalies @ np.linalg.pinv(anomalies) @ moved, rtol=1e-8, atol=1e-8
    )


class Wavy:
    """A nonlinear made-up denoiser, and far from any posterior mean; with or without a C that
    depends on x.
    """

    def __init__(self, spread: float | None) -> None:
        self.spread = spread

    def __call__(self, x, t):
        variance = None if self.spread is None else self.spread * (1 + np.cos(x) ** 2)
        return Posterior(np.sin(3 * x) + t * x[..., ::-1] ** 2, variance, residual=None)


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("spread", [None, 0.3])
def test_coupled_returns_a_member_unchanged_at_its_own_measurement(kind, steps, spread):
    process = make_problem(kind, 6).process
    member = make_problem(kind, 6).prior_draws(1, seed=5)
    end = forward_end(process, member, time_grid(steps))
    y = (end @ np.linalg.pinv(process.basis.lift(np.eye(3)).T).T)[0]
    np.testing.assert_allclose(process.end_state(end, y), end, atol=1e-12)
    found = coupled(process, Wavy(spread), y, member, time_grid(steps), stream())
    np.testing.assert_allclose(found, member, rtol=1e-9, atol=1e-9)
    # At another measurement it moves.
    moved = coupled(process, Wavy(spread), y + 1, member, time_grid(steps), stream())
    assert np.all(np.isfinite(moved))
    assert np.max(np.abs(moved - member)) > 0.01


def test_coupled_scales_what_is_left_by_a_c_that_depends_on_x():
    problem = make_problem("mask", 6)
    members, denoiser = problem.prior_draws(7, seed=4), Wavy(0.3)
    found = coupled(problem.process, denoiser, problem.y, members, time_grid(1), stream())
    # One step from x_1 to x_0, whose covariance is C: x = D(x_1') + sqrt(C(x_1') / C(x_1)) (x_0 -
    # D(x_1)).
    own = forward_end(problem.process, members, time_grid(1))
    end = problem.process.end_state(own, problem.y)
    at_end, at_own = denoiser(end, 1.0), denoiser(own, 1.0)
    ratio = np.sqrt(at_end.variance / at_own.variance)
    np.testing.assert_allclose(found, at_end.mean + ratio * (members - at_own.mean), rtol=1e-10)


@pytest.mark.parametrize(
    "h", [[[1.0, 0.0]], [[1.0, -1.0]], [[1.0, 1.0]]], ids=["mask", "difference", "sum"]
)
def test_coupled_takes_a_constant_variance_for_what_it_is(h):
    """Where C does not depend on x, saying so and giving its diagonal, however uneven, are the
    same.
    """
    process = ForwardProcess(Matrix(h, noise=0.5).basis())
    members = np.random.default_rng(4).standard_normal((7, 2))

    class Stating(Wavy):
        def variance(self, x, t):
            return np.broadcast_to([9.0, 0.01], x.shape)

    silent, stating = (
        coupled(process, denoiser, np.ones(1), members, time_grid(5), stream())
        for denoiser in (Wavy(None), Stating(None))
    )
    np.testing.assert_allclose(stating, silent, rtol=1e-12)


def test_coupled_noise_does_not_move_the_mean_of_the_ensemble():
    problem = make_problem("dense", 6)
    members = problem.prior_draws(7, seed=4)
    denoiser = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    analysis = coupled(problem.process, denoiser, problem.y, members, time_grid(3), stream())
    mean = members.mean(axis=0)
    expected = mean + problem.gain @ (problem.y - problem.observation.apply(mean))
    np.testing.assert_allclose(analysis.mean(axis=0), expected, rtol=1e-9)


@pytest.mark.parametrize("sampler", [exact, coupled, guided])
def test_samplers_repeat_themselves_with_the_same_stream(sampler):
    problem = make_problem("mask", 4)
    members = problem.prior_draws(5, seed=1)
    denoiser = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    first, again = (
        sampler(problem.process, denoiser, problem.y, members, time_grid(6), stream())
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("sampler", [exact, coupled, guided])
@pytest.mark.parametrize("kind", ["mask", "dense"])
def test_numpy_and_torch_agree(sampler, kind):
    problem = make_problem(kind, 4)
    members = problem.prior_draws(5, seed=1)
    in_numpy = DenseDenoiser(problem.process, problem.mean, problem.covariance)
    in_torch = DenseDenoiser(
        problem.process, torch.as_tensor(problem.mean), torch.as_tensor(problem.covariance)
    )

    class SameNumbers(Stream):
        def normal(self, shape, x):
            return torch.as_tensor(super().normal(shape, np.empty(0)))

    expected = sampler(problem.process, in_numpy, problem.y, members, time_grid(6), stream())
    numbers = SameNumbers(11, "test samplers")
    # No prior draws through eigenvectors, whose signs are free: they are the one part of a draw
    # that may differ.
    in_torch._factor = torch.as_tensor(in_numpy._factor) if in_numpy._factor is not None else None
    found = sampler(
        problem.process,
        in_torch,
        torch.as_tensor(problem.y),
        torch.as_tensor(members),
        time_grid(6),
        numbers,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


# --- guided: not exact, and known how


def scalar_guided(p: float, y: float, steps: int, n: int = 1, mean: float = 0.0) -> np.ndarray:
    """Members of the guided sampler for the prior N(mean, p), H = 1, R = 1."""
    process = ForwardProcess(Mask(1, np.array([0]), noise=1.0).basis())
    denoiser = DiagonalDenoiser(process, np.array([mean]), np.array([p]))
    members = mean + np.sqrt(p) * np.random.default_rng(6).standard_normal((n, 1))
    return guided(process, denoiser, np.array([y]), members, time_grid(steps), stream())


@pytest.mark.parametrize("p", [1.0, 3.0])
def test_guided_has_the_wrong_gain_that_theory_gives_it(p):
    # The sampler is affine in y with additive noise: with the same noise, the difference over y is
    # the gain, without Monte-Carlo error. The Euler scheme is of first order: its error halves with
    # the step, and extrapolation removes it.
    def gain(steps: int) -> float:
        return float((scalar_guided(p, 1.0, steps) - scalar_guided(p, 0.0, steps))[0, 0])

    expected = p * math.log(1 + 1 / p)
    coarse, fine = gain(500), gain(1000)
    assert abs(fine - expected) == pytest.approx(abs(coarse - expected) / 2, rel=0.1)
    assert 2 * fine - coarse == pytest.approx(expected, abs=1e-4)
    assert abs(fine - p / (p + 1)) > 0.05


def test_guided_draws_have_the_mean_and_variance_that_theory_gives_them(bonferroni):
    # At P = R = 1: mean gain log 2, variance 3 - 4 log 2. The step error at 400 steps is below
    # 0.005.
    draws = scalar_guided(1.0, 2.0, 400, n=N)
    variance = 3 - 4 * math.log(2)
    bound = bonferroni(2)
    assert draws.mean() == pytest.approx(
        2 * math.log(2), abs=0.005 + bound * math.sqrt(variance / N)
    )
    assert draws.var() == pytest.approx(variance, abs=0.005 + bound * variance * math.sqrt(2 / N))


def test_guided_without_scores_only_undoes_the_drift():
    process = ForwardProcess(Mask(2, np.array([0]), noise=1.0).basis())
    denoiser = DiagonalDenoiser(process, np.zeros(2), np.ones(2))
    members = np.ones((N, 2))
    times = time_grid(20)
    draws = guided(
        process, denoiser, np.zeros(1), members, times, stream(), prior_scale=0, likelihood_scale=0
    )
    variance = process.Sigma(times[-2])[0] + sum(process.GG(u)[0] for u in times[1:-1]) / 20
    # Component 0 is observed: F = 0, so the mean stays and the variances of both halves add up.
    assert scipy.stats.kstest(draws[:, 0], scipy.stats.norm(1, np.sqrt(variance)).cdf).pvalue > 1e-3


# --- a bimodal prior in one dimension, for which the denoiser is known


class MixtureDenoiser:
    """E and Var of X_0 given X_t for a prior that is a mixture of normals, in one dimension."""

    def __init__(self, process: ForwardProcess, weights, means, variances) -> None:
        self.process = process
        self.weights, self.means, self.variances = map(np.asarray, (weights, means, variances))

    def conditional(self, x, t):
        """Weights (N, k), means (N, k) and variances (k,) of X_0 given X_t = x (N, 1)."""
        a, sigma = self.process.A(t)[0], self.process.Sigma(t)[0]
        marginal = a**2 * self.variances + sigma
        distance = (x - a * self.means) ** 2 / marginal
        weights = scipy.special.softmax(
            np.log(self.weights / np.sqrt(marginal)) - distance / 2, axis=-1
        )
        gain = self.variances * a / marginal
        return weights, self.means + gain * (x - a * self.means), self.variances * sigma / marginal

    def __call__(self, x, t):
        weights, means, variances = self.conditional(x, t)
        mean = np.sum(weights * means, axis=-1, keepdims=True)
        variance = np.sum(weights * (variances + (means - mean) ** 2), axis=-1, keepdims=True)
        return Posterior(
            mean, variance, lambda stream: np.sqrt(variance) * stream.normal(x.shape, x)
        )


class WithGaussianC(MixtureDenoiser):
    """The same mean, with the C of the normal prior that has the mixture's mean and variance, as
    for a trained network.
    """

    def __init__(self, process: ForwardProcess, weights, means, variances) -> None:
        super().__init__(process, weights, means, variances)
        mean = np.sum(self.weights * self.means)
        variance = np.sum(self.weights * (self.variances + (self.means - mean) ** 2))
        self.gaussian = DiagonalDenoiser(process, np.array([mean]), np.array([variance]))

    def __call__(self, x, t):
        return replace(self.gaussian(x, t), mean=super().__call__(x, t).mean)


MIXTURE = ([0.4, 0.6], [-1.5, 1.2], [0.2, 0.1])
Y, NOISE = 0.3, 1.0


def posterior_cdf(x: np.ndarray) -> np.ndarray:
    """By quadrature, on a grid so fine that its error does not count."""
    grid = np.linspace(-8, 8, 20_001)
    prior = sum(
        w * scipy.stats.norm.pdf(grid, m, np.sqrt(v)) for w, m, v in zip(*MIXTURE, strict=True)
    )
    cdf = np.cumsum(prior * scipy.stats.norm.pdf(Y, grid, NOISE))
    return np.interp(x, grid, cdf / cdf[-1])


def bimodal_distance(sampler, denoiser_class, steps: int, n: int = N) -> float:
    """Kolmogorov-Smirnov distance of n draws from the posterior."""
    process = ForwardProcess(MaskBasis(Mask(1, np.array([0]), noise=NOISE)))
    rng = np.random.default_rng(7)
    which = rng.choice(2, size=n, p=MIXTURE[0])
    members = (
        np.take(MIXTURE[1], which) + np.sqrt(np.take(MIXTURE[2], which)) * rng.standard_normal(n)
    )[:, None]
    draws = sampler(
        process,
        denoiser_class(process, *MIXTURE),
        np.array([Y]),
        members,
        time_grid(steps),
        stream(),
    )
    return scipy.stats.kstest(draws[:, 0], posterior_cdf).statistic


@pytest.mark.parametrize("sampler", [exact, coupled])
@pytest.mark.parametrize(("denoiser", "steps"), [(MixtureDenoiser, 30), (WithGaussianC, 100)])
def test_bimodal_posterior_is_met(sampler, denoiser, steps):
    assert bimodal_distance(sampler, denoiser, steps) < scipy.stats.kstwo.isf(1e-3, N)


@pytest.mark.parametrize("sampler", [exact, coupled])
@pytest.mark.parametrize(
    ("denoiser", "steps"), [(MixtureDenoiser, (2, 4, 16)), (WithGaussianC, (2, 8, 64))]
)
def test_bimodal_error_falls_with_the_number_of_steps(sampler, denoiser, steps):
    coarse, middle, fine = (bimodal_distance(sampler, denoiser, n) for n in steps)
    # Distances fluctuate by less than this quantile of the distance of draws from the posterior
    # itself.
    fluctuation = scipy.stats.kstwo.isf(1e-3, N)
    assert coarse > middle + fluctuation
    assert middle > fine + fluctuation
