"""With a denoiser by quadrature the process of (x, h(x)) samples p(x | y) exactly."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from masf.arrays import Stream
from masf.diffusion.endpoint import Answers, GaussianEndpoint, guided_endpoint
from masf.diffusion.linear_state import linear_state
from masf.diffusion.posterior import Posterior
from masf.diffusion.process import ForwardProcess, a, time_grid
from masf.diffusion.samplers import coupled, exact, noised_path
from masf.filters.base import Setup
from masf.filters.registry import filter_class
from masf.observations.base import Observation, Transformed
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.transforms import named_transform
from masf.systems.registry import make_system

MEMBERS = 4000
FLOOR = 1.95 / np.sqrt(MEMBERS)
"""A Kolmogorov-Smirnov distance that one of 1000 samples of the law itself exceeds."""


class QuadratureDenoiser:
    """The posterior of X_0 under a prior that is given by its nodes (K, D) and their weights."""

    def __init__(self, process: ForwardProcess, nodes: np.ndarray, weights: np.ndarray) -> None:
        self.process, self.nodes, self.weights = process, nodes, weights

    def __call__(self, x: np.ndarray, t: float) -> Posterior:
        a, whitening = self.process.A(t), 1 / np.sqrt(self.process.Sigma(t))
        whitened = self.process.apply(whitening, x)
        nodes = self.process.apply(a * whitening, self.nodes)
        logits = whitened @ nodes.T - 0.5 * (nodes**2).sum(axis=1) + np.log(self.weights)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        mean = weights @ self.nodes
        variance = np.maximum(weights @ self.nodes**2 - mean**2, 0)
        return Posterior(mean, variance, partial(self._residual, weights, mean))

    def _residual(self, weights: np.ndarray, mean: np.ndarray, stream: Stream) -> np.ndarray:
        below = weights.cumsum(axis=1) < stream.numpy.random((len(weights), 1))
        return self.nodes[below.sum(axis=1).clip(max=len(self.nodes) - 1)] - mean


def transformed(linear: Observation, name: str) -> Observation:
    return Transformed(linear, named_transform(name, 2.0))


def kolmogorov_smirnov(sample: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> float:
    """The greatest distance between the distribution functions of a sample (N,) and of nodes."""
    order = np.argsort(nodes)
    found = np.searchsorted(np.sort(sample), nodes[order], side="right") / len(sample)
    return float(np.abs(found - weights[order].cumsum()).max())


class Scalar:
    """A prior N(0, 1) of one component, a measurement of it, and the posterior by quadrature."""

    def __init__(self, name: str, noise: float, y: float) -> None:
        system = make_system("linear_gaussian", {"dimension": 1, "persistence": 0.95})
        self.observation = transformed(Mask(1, [0], noise), name)
        self.state, self.y = linear_state(system, self.observation), np.array([y])
        self.setup = Setup(system, self.observation, np.zeros(1), 1.0, Stream(0, "test"))
        self.nodes = np.linspace(-5, 5, 1001)[:, None]
        self.prior = np.exp(-(self.nodes[:, 0] ** 2) / 2)
        self.prior /= self.prior.sum()
        self.posterior = self.prior * np.exp(self.observation.log_likelihood(self.nodes, self.y))
        self.posterior /= self.posterior.sum()
        self.members = np.random.default_rng(3).standard_normal((MEMBERS, 1))

    def distance(self, sample: np.ndarray) -> float:
        return kolmogorov_smirnov(sample[:, 0], self.nodes[:, 0], self.posterior)

    def sampled(self, sampler, steps: int) -> float:
        joint = self.state.of(self.members)
        process = ForwardProcess.for_ensemble(self.state.basis, joint)
        denoiser = QuadratureDenoiser(process, self.state.of(self.nodes), self.prior)
        found = sampler(process, denoiser, self.y, joint, time_grid(steps), Stream(1, "test"))
        return self.distance(self.state.plain(found))

    def filtered(self, name: str, **keys) -> float:
        cls = filter_class(name)
        filter_ = cls(cls.Parameters(**keys, localization_radius=None), self.setup)
        return self.distance(filter_.analyse(filter_.start(self.members), self.y))


PROBLEMS = {
    "square": (0.2, 1.0),
    "abs": (0.2, 1.0),
    "arctan": (0.1, 1.2),
    "cube": (0.5, 1.0),
    "sigmoid": (0.1, 0.9),
}


@pytest.mark.parametrize("sampler", [exact, coupled])
@pytest.mark.parametrize("name", PROBLEMS)
def test_samplers_reach_the_posterior_of_a_nonlinear_measurement(name, sampler):
    """The distances at 4 and 32 steps; with `coupled` the error of few steps is seen."""
    problem = Scalar(name, *PROBLEMS[name])
    few, many = (problem.sampled(sampler, steps) for steps in (4, 32))
    assert many < FLOOR
    assert many < max(few, FLOOR)
    assert few < 3 * FLOOR
    if name in {"square", "abs", "arctan"}:  # what a Gaussian makes of it is far off
        assert problem.filtered("masf_gaussian") > 5 * many


@pytest.mark.parametrize("sampler", ["coupled", "exact"])
@pytest.mark.parametrize("name", ["square", "abs", "cube", "sigmoid"])
def test_masf_mc_takes_the_mixture_of_members_with_what_they_measure(name, sampler):
    problem = Scalar(name, *PROBLEMS[name])
    problem.members = problem.members[:1000]
    keys = {"steps": 16, "sampler": sampler, "weight_radius": None}
    # Narrow kernels smear h by less than its noise.
    narrow, one = (problem.filtered("masf_mc", bandwidth=h, **keys) for h in (0.05, 1.0))
    assert narrow < 1.95 * np.sqrt(2 / 1000)  # the members are a sample, too
    enkf = problem.filtered("masf_gaussian")
    if sampler == "coupled":  # which moves members by one kernel as the EnKF does
        assert abs(one - enkf) < 0.03
    if name != "sigmoid":
        assert narrow < enkf / 3


@pytest.mark.parametrize("sampler", [exact, coupled])
def test_what_is_not_measured_follows_by_its_correlation(sampler):
    """Two components with correlation 0.8, of which the square of the first is measured, with
    noise of 0.3: the second has two modes, too.
    """
    system = make_system("linear_gaussian", {"dimension": 2, "persistence": 0.95})
    observation = transformed(Mask(2, [0], 0.3), "square")
    state, y = linear_state(system, observation), np.array([1.5])
    axis = np.linspace(-4.5, 4.5, 73)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    prior = np.exp(-0.5 * np.sum(nodes @ np.linalg.inv(covariance) * nodes, axis=1))
    prior /= prior.sum()
    posterior = prior * np.exp(observation.log_likelihood(nodes, y))
    posterior /= posterior.sum()
    n = 1500
    members = nodes[np.random.default_rng(5).choice(len(nodes), n, p=prior)]
    joint = state.of(members)
    process = ForwardProcess.for_ensemble(state.basis, joint)
    denoiser = QuadratureDenoiser(process, state.of(nodes), prior)
    found = sampler(process, denoiser, y, joint, time_grid(16), Stream(1, "test"))
    drawn = np.rint((state.plain(found) - axis[0]) / (axis[1] - axis[0])).astype(int)
    for component, other in ((0, 1), (1, 0)):
        expected = posterior.reshape(73, 73).sum(axis=other)
        counts = np.bincount(drawn[:, component].clip(0, 72), minlength=73)
        distance = np.abs(counts.cumsum() / n - expected.cumsum()).max()
        assert distance < 1.95 / np.sqrt(n)
    assert abs(np.mean(found[:, 0] * found[:, 1]) - posterior @ nodes.prod(axis=1)) < 0.08


@pytest.mark.parametrize("rows", [[0, 1], [1]], ids=["all", "one is missing"])
@pytest.mark.parametrize("sampler", [exact, coupled])
def test_measurements_with_correlated_noise_and_missing_ones_are_sampled_exactly(sampler, rows):
    """Squares of two components with correlation 0.6, whose noises have correlation 0.7."""
    system = make_system("linear_gaussian", {"dimension": 2, "persistence": 0.95})
    noise = 0.25 * np.array([[1.0, 0.7], [0.7, 1.0]])
    whole = transformed(Matrix(np.eye(2), noise), "square")
    state = linear_state(system, whole)
    observation, y = whole.only(np.array(rows)), np.array([1.5, 0.4])[rows]
    state = state.only(observation)
    axis = np.linspace(-4.5, 4.5, 73)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    prior = np.exp(-0.5 * np.sum(nodes @ np.linalg.inv(covariance) * nodes, axis=1))
    prior /= prior.sum()
    posterior = prior * np.exp(observation.log_likelihood(nodes, y))
    posterior /= posterior.sum()
    n = 1000
    members = nodes[np.random.default_rng(5).choice(len(nodes), n, p=prior)]
    joint = state.of(members)
    process = ForwardProcess.for_ensemble(state.basis, joint)
    denoiser = QuadratureDenoiser(process, state.of(nodes), prior)
    found = state.plain(sampler(process, denoiser, y, joint, time_grid(16), Stream(1, "test")))
    drawn = np.rint((found - axis[0]) / (axis[1] - axis[0])).astype(int).clip(0, 72)
    for component, other in ((0, 1), (1, 0)):
        expected = posterior.reshape(73, 73).sum(axis=other)
        counts = np.bincount(drawn[:, component], minlength=73)
        assert np.abs(counts.cumsum() / n - expected.cumsum()).max() < 1.95 / np.sqrt(n)
    products = posterior @ nodes.prod(axis=1), np.mean(found.prod(axis=1))
    spread = np.sqrt(posterior @ nodes.prod(axis=1) ** 2 / n)
    assert abs(products[0] - products[1]) < 3.3 * spread


def test_a_member_whose_own_measurement_is_the_measurement_comes_back_with_any_denoiser():
    problem = Scalar("square", *PROBLEMS["square"])
    joint = problem.state.of(problem.members[:50])
    process = ForwardProcess.for_ensemble(problem.state.basis, joint)
    denoiser = QuadratureDenoiser(process, problem.state.of(problem.nodes), problem.prior)
    end = noised_path(process, joint, time_grid(8), Stream(1, "test"))[-1]
    y = end[3, 1:]
    found = coupled(process, denoiser, y, joint, time_grid(8), Stream(1, "test"))
    np.testing.assert_allclose(found[3], joint[3], rtol=1e-9, atol=1e-9)
    assert np.abs(found - joint).max() > 0.5


# --- the endpoint Gaussian approximation


class QuadratureEndpoint:
    """The two answers for one component, by nodes (K, 1), what is measured of them, and weights."""

    def __init__(self, process, nodes, measured, weights) -> None:
        self.process, self.x, self.h, self.weights = process, nodes, measured, weights

    def __call__(self, x: np.ndarray, t: float) -> Answers:
        at, sigma = a(t), self.process.Sigma(t)[0]
        z = at * self.x + (1 - at) * self.h
        logits = (x @ z.T - 0.5 * z[:, 0] ** 2) / sigma + np.log(self.weights)
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        d_x, d_h, d_z = w @ self.x, w @ self.h, w @ z
        # The derivative of a posterior mean is a posterior covariance over Sigma.
        slope = (w @ ((self.x - self.h) * z) - (d_x - d_h) * d_z) / sigma
        return Answers(d_x, d_h, lambda v: v * slope)


@pytest.mark.parametrize(
    ("name", "noise", "y", "reported"),
    [
        ("square", 0.2, 1.0, 0.50),
        ("sigmoid", 0.1, 0.9, 0.27),
        ("arctan", 0.05, 1.2, 0.48),
        (None, 1.0, 1.0, 0.175),
    ],
)
def test_the_endpoint_approximation_is_far_from_the_posterior(name, noise, y, reported):
    """With exact answers and scales of 1, at 150 steps: what docs/mathematics.md reports."""
    n, mask = 1000, Mask(1, [0], noise)
    observation = mask if name is None else transformed(mask, name)
    nodes = np.linspace(-5, 5, 501)[:, None]
    prior = np.exp(-(nodes[:, 0] ** 2) / 2)
    prior /= prior.sum()
    posterior = prior * np.exp(observation.log_likelihood(nodes, np.array([y])))
    posterior /= posterior.sum()
    members = np.random.default_rng(3).standard_normal((n, 1))
    process = ForwardProcess(mask.basis())
    denoiser = QuadratureEndpoint(process, nodes, observation.apply(nodes), prior)
    found = guided_endpoint(
        process, denoiser, np.array([y]), members, observation.apply(members), time_grid(150),
        Stream(1, "test"),
    )  # fmt: skip
    distance = kolmogorov_smirnov(found[:, 0], nodes[:, 0], posterior)
    assert abs(distance - reported) < 1.95 / np.sqrt(n)
    if name is not None:
        assert distance > 10 * Scalar(name, noise, y).sampled(coupled, 16)


def test_gaussian_answers_are_conditional_means_with_their_derivatives():
    process = ForwardProcess(Mask(3, [0, 2], [0.3, 0.6]).basis(), np.full(3, 0.7))
    x = np.random.default_rng(0).standard_normal((40, 3))
    h = np.stack([x[:, 0] ** 2, 0 * x[:, 1], np.abs(x[:, 2])], axis=1)
    denoiser, t = GaussianEndpoint(process, x, h, None), 0.4
    states = np.random.default_rng(1).standard_normal((2, 3))
    z = a(t) * x + (1 - a(t)) * h
    joint = np.cov(np.concatenate([z, x, h], axis=1).T)
    gain = joint[3:, :3] @ np.linalg.inv(joint[:3, :3] + np.diag(process.Sigma(t)))
    expected = np.concatenate([x, h], axis=1).mean(axis=0) + (states - z.mean(axis=0)) @ gain.T
    answers = denoiser(states, t)
    np.testing.assert_allclose(np.concatenate([answers.state, answers.measured], 1), expected)
    v = np.random.default_rng(2).standard_normal((2, 3))
    differences = [
        (
            (moved := denoiser(states + e, t)).state - moved.measured
            - answers.state + answers.measured
        ) / 1e-6 @ v.T
        for e in 1e-6 * np.eye(3)
    ]  # fmt: skip
    found = np.stack([np.diag(d) for d in differences], axis=1)
    np.testing.assert_allclose(answers.pullback(v), found, rtol=1e-6)


def test_masf_guided_takes_transforms_of_single_components():
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 6, "forcing": 8.0})
    cls = filter_class("masf_guided")
    observation = transformed(Mask(6, [0, 2, 4], 0.5), "arctan")
    x = np.random.default_rng(0).standard_normal((30, 6))
    setup = Setup(system, observation, np.zeros(6), 1.0, Stream(0, "test"))
    filter_ = cls(cls.Parameters(network=False, localization_radius=2.0), setup)
    y = observation.apply(x[0] + 1)
    before, after = (
        np.abs(observation.apply(e).mean(axis=0) - y).mean() for e in (x, filter_.analyse(x, y))
    )
    assert after < before
    filter_.observe(observation.only(np.array([1])))
    assert np.isfinite(filter_.analyse(x, y[1:2])).all()
    pooled = Transformed(Matrix(np.ones((1, 6)), 0.5), named_transform("cube"))
    for parameters, observed, fault in (
        (cls.Parameters(), observation, "need two answers"),
        (cls.Parameters(network=False), pooled, "of single components only"),
    ):
        assert fault in " ".join(cls.misfits(parameters, system, observed))
    flow = make_system("kolmogorov", {"size": 8, "forcing_wavenumber": 2})
    squares = transformed(Mask(128, [0], 0.5), "square")
    faults = cls.misfits(cls.Parameters(network=False), flow, squares)
    assert "forms covariance matrices" in " ".join(faults)
