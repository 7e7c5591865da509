"""The forward process: schedule, transitions, SDE, and the exactness of its end and its scores."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from problems import KINDS, make_problem

from masf.blocks import Blocks
from masf.diffusion.denoisers.gaussian import DenseDenoiser
from masf.diffusion.process import ForwardProcess, a, da_dt, one_minus_a_squared
from masf.observations.bases import SVDBasis
from masf.observations.mask import Mask, MaskBasis
from masf.observations.matrix import Matrix
from masf.observations.pooling import Pooling, PoolingBasis

D = 6
TIMES = [(0.0, 0.3), (0.2, 0.7), (0.4, 1.0), (0.0, 1.0), (0.98, 0.99)]


def dense(process: ForwardProcess, coefficient: np.ndarray) -> np.ndarray:
    """The operator with these values in the basis, as a matrix (d, d)."""
    return process.apply(coefficient, np.eye(process.basis.dimension)).T


def observed_directions(process: ForwardProcess) -> np.ndarray:
    """Orthonormal columns (d, rank) that span the observed components."""
    if isinstance(process.basis, SVDBasis):
        return process.basis.v
    if isinstance(process.basis, PoolingBasis):
        blocks = process.basis.blocks
        return blocks.spread(np.eye(process.basis.size)).T / np.sqrt(blocks.count)
    return np.eye(process.basis.dimension)[:, process.observed]


def cosine_schedule(t: float) -> Decimal:
    """cos(theta) / cos(theta_0) as the paper defines it, to 50 digits."""

    def cos(x: Decimal) -> Decimal:
        term = total = Decimal(1)
        for n in range(2, 120, 2):
            term *= -x * x / (n * (n - 1))
            total += term
        return total

    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640629")
    k = Decimal("0.008")
    theta_0 = k * pi / (2 * (1 + k))
    return cos(theta_0 + Decimal(t) * pi / (2 * (1 + k))) / cos(theta_0)


@pytest.mark.parametrize(
    "t", [0.0, 1e-12, 1e-6, 0.01, 0.25, 0.5, 0.75, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0]
)
def test_schedule_keeps_all_digits_from_end_to_end(t):
    with localcontext() as context:
        context.prec = 60
        exact = cosine_schedule(t)
        exact_complement = 1 - exact**2
    # A few roundings of relative size 2^-53 each, and no cancellation.
    assert a(t) == pytest.approx(float(exact), rel=2e-15, abs=1e-50)
    assert one_minus_a_squared(t) == pytest.approx(float(exact_complement), rel=2e-15, abs=1e-50)


def test_schedule_ends_exactly():
    assert (a(0.0), a(1.0)) == (pytest.approx(1, abs=2e-16), 0.0)
    assert (one_minus_a_squared(0.0), one_minus_a_squared(1.0)) == (
        0.0,
        pytest.approx(1, abs=2e-16),
    )


@pytest.mark.parametrize("t", [0.01, 0.3, 0.6, 0.99])
def test_schedule_decreases_at_the_stated_rate(t):
    h = 1e-5
    assert da_dt(t) < 0
    assert da_dt(t) == pytest.approx((a(t + h) - a(t - h)) / (2 * h), rel=1e-8)


@pytest.mark.parametrize(
    ("kind", "basis"),
    list(zip(KINDS, [MaskBasis, MaskBasis, SVDBasis, PoolingBasis] + 3 * [SVDBasis], strict=True)),
)
def test_masks_with_independent_noise_need_no_svd(kind, basis):
    assert type(make_problem(kind, D).process.basis) is basis


def test_a_component_observed_twice_takes_the_svd():
    basis = Mask(3, np.array([0, 0, 2]), noise=1.0).basis()
    np.testing.assert_allclose(sorted(basis.s), [0, np.sqrt(0.5), 1], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_singular_values_are_scaled_to_at_most_one(kind):
    process = make_problem(kind, D).process
    assert np.all((process.s >= 0) & (process.s <= 1))
    assert process.s.max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_basis_operators_compose_and_have_the_stated_diagonal(kind):
    process = make_problem(kind, D).process
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, len(process.s)))
    np.testing.assert_allclose(
        dense(process, first) @ dense(process, second), dense(process, first * second), atol=1e-13
    )
    np.testing.assert_allclose(
        process.basis.diagonal(first), np.diag(dense(process, first)), atol=1e-13
    )
    np.testing.assert_allclose(dense(process, np.ones(len(process.s))), np.eye(D), atol=1e-13)
    variance = rng.random((2, D))
    expected = variance @ dense(process, first).T ** 2
    np.testing.assert_allclose(
        process.basis.variance_through(first, variance), expected, atol=1e-13
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_distributed_exactly_as_the_measurement(kind):
    problem = make_problem(kind, D)
    process, observation = problem.process, problem.observation
    v = observed_directions(process)
    lift = process.basis.lift(np.eye(observation.size)).T
    # y = H x + eta, lifted, against X_1 = A(1) x + Sigma(1)^(1/2) eps, on observed components:
    # mean, then covariance.
    np.testing.assert_allclose(
        v.T @ lift @ observation.matrix, v.T @ dense(process, process.A(1.0)), atol=1e-12
    )
    np.testing.assert_allclose(
        v.T @ lift @ observation.noise.covariance @ lift.T @ v,
        v.T @ dense(process, process.Sigma(1.0)) @ v,
        atol=1e-12,
    )
    # Null components forget x, and the measurement says nothing of them.
    null = np.eye(D) - v @ v.T
    np.testing.assert_allclose(null @ dense(process, process.A(1.0)), 0, atol=1e-12)
    np.testing.assert_allclose(null @ lift, 0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_state_itself(kind):
    process = make_problem(kind, D).process
    x, noise = np.random.default_rng(0).standard_normal((2, 3, D))
    np.testing.assert_allclose(process.diffuse(x, 0.0, noise), x, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("t", "v"), TIMES)
def test_transitions_compose(kind, t, v):
    process = make_problem(kind, D).process
    u = 0.4 * t + 0.6 * v
    np.testing.assert_allclose(
        process.M(u, v) * process.M(t, u), process.M(t, v), rtol=1e-13, atol=1e-15
    )
    composed = process.M(u, v) ** 2 * process.Q(t, u) + process.Q(u, v)
    np.testing.assert_allclose(composed, process.Q(t, v), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("t", "u"), TIMES)
def test_transitions_carry_one_marginal_to_the_next(kind, t, u):
    process = make_problem(kind, D).process
    np.testing.assert_allclose(process.M(t, u) * process.A(t), process.A(u), atol=1e-14)
    np.testing.assert_allclose(
        process.M(t, u) ** 2 * process.Sigma(t) + process.Q(t, u), process.Sigma(u), atol=1e-14
    )
    assert np.all(process.Q(t, u) > 0)
    x, noise = np.random.default_rng(0).standard_normal((2, 3, D))
    expected = (
        x @ dense(process, process.M(t, u)).T + noise @ dense(process, np.sqrt(process.Q(t, u))).T
    )
    np.testing.assert_allclose(process.transition(x, t, u, noise), expected, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.01, 0.3, 0.6, 0.9, 0.99])
def test_sde_has_these_marginals(kind, t):
    process, h = make_problem(kind, D).process, 1e-6
    rate_a = (process.A(t + h) - process.A(t - h)) / (2 * h)
    rate_sigma = (process.Sigma(t + h) - process.Sigma(t - h)) / (2 * h)
    np.testing.assert_allclose(process.F(t), rate_a / process.A(t), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        process.GG(t), rate_sigma - 2 * process.F(t) * process.Sigma(t), rtol=1e-6, atol=1e-8
    )
    # Short transitions are the SDE's: M = 1 + h F, Q = h G G^T to first order.
    np.testing.assert_allclose((process.M(t, t + h) - 1) / h, process.F(t), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(process.Q(t, t + h) / h, process.GG(t), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_squared_diffusion_is_never_negative(kind):
    process = make_problem(kind, D).process
    assert min(np.min(process.GG(t)) for t in np.linspace(0, 1, 101)[:-1]) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_reverse_step_is_bayes_rule(kind):
    process, t, u = make_problem(kind, D).process, 0.3, 0.6
    on_denoised, on_state, variance = process.reverse_coefficients(t, u)
    # p(x_t | x_u, x_0) elementwise: the normal N(A_t x_0, Sigma_t) updated by x_u = M x_t + noise
    # of variance Q.
    precision = 1 / process.Sigma(t) + process.M(t, u) ** 2 / process.Q(t, u)
    np.testing.assert_allclose(variance, 1 / precision, rtol=1e-12)
    np.testing.assert_allclose(on_state, process.M(t, u) / process.Q(t, u) / precision, rtol=1e-12)
    np.testing.assert_allclose(on_denoised, process.A(t) / process.Sigma(t) / precision, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_likelihood_score_is_the_gradient_of_the_exact_density(kind, t):
    problem = make_problem(kind, D)
    process, v = problem.process, observed_directions(problem.process)
    m, q = dense(process, process.M(t, 1.0)), v.T @ dense(process, process.Q(t, 1.0)) @ v
    y = torch.as_tensor(v.T @ process.basis.lift(problem.y))
    x = torch.randn(
        4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    density = torch.distributions.MultivariateNormal(
        x @ torch.as_tensor((v.T @ m).T), torch.as_tensor(q)
    )
    (expected,) = torch.autograd.grad(density.log_prob(y).sum(), x)
    np.testing.assert_allclose(
        process.likelihood_score(x.detach().numpy(), t, problem.y), expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_prior_and_likelihood_scores_add_to_the_posterior_score(kind, t):
    problem = make_problem(kind, D)
    process, v, p = problem.process, observed_directions(problem.process), problem.covariance
    a_t, a_1 = dense(process, process.A(t)), v.T @ dense(process, process.A(1.0))
    sigma_t, sigma_1 = (
        dense(process, process.Sigma(t)),
        v.T @ dense(process, process.Sigma(1.0)) @ v,
    )
    # Joint normal of x_t and y~: they share x_0, and the noise that x_t hands on to x_1.
    marginal = a_t @ p @ a_t + sigma_t
    cross = a_t @ p @ a_1.T + sigma_t @ dense(process, process.M(t, 1.0)) @ v
    gain = cross @ np.linalg.inv(a_1 @ p @ a_1.T + sigma_1)
    mean = a_t @ problem.mean + gain @ (v.T @ process.basis.lift(problem.y) - a_1 @ problem.mean)
    x = np.random.default_rng(0).standard_normal((4, D))
    expected = -np.linalg.solve(marginal - gain @ cross.T, (x - mean).T).T
    denoised = DenseDenoiser(process, problem.mean, p)(x, t).mean
    score = process.prior_score(x, t, denoised) + process.likelihood_score(x, t, problem.y)
    np.testing.assert_allclose(score, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_end_state_takes_the_measurement_and_keeps_what_it_does_not_say(kind):
    problem = make_problem(kind, D)
    process, v = problem.process, observed_directions(problem.process)
    x = np.random.default_rng(0).standard_normal((4, D))
    end = process.end_state(x, problem.y)
    np.testing.assert_allclose(
        end @ v, np.tile(process.basis.lift(problem.y) @ v, (4, 1)), atol=1e-13
    )
    null = np.eye(D) - v @ v.T
    np.testing.assert_allclose(end @ null, x @ null, atol=1e-13)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_mask_and_svd_paths_are_the_same_process(t):
    mask = Mask(D, np.arange(0, D, 2), noise=0.6)
    problem = make_problem("mask", D)
    x, y = np.random.default_rng(0).standard_normal((4, D)), np.array([1.0, -2.0, 0.5])
    answers = []
    for basis in (MaskBasis(mask), Matrix(mask.matrix, noise=0.6).basis()):
        process = ForwardProcess(basis, np.full(len(basis.s), 0.7))
        denoised = DenseDenoiser(process, problem.mean, problem.covariance)(x, t).mean
        answers.append(
            [
                denoised,
                process.prior_score(x, t, denoised),
                process.likelihood_score(x, t, y),
                process.end_state(x, y),
                *(process.apply(c, x) for c in process.reverse_coefficients(0.5 * t, t)),
            ]
        )
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-11, atol=1e-12)


def test_null_components_end_with_the_variance_of_the_ensemble():
    ensemble = np.random.default_rng(0).standard_normal((9, D)) * np.arange(1, D + 1)
    mask = ForwardProcess.for_ensemble(make_problem("mask", D).process.basis, ensemble)
    np.testing.assert_allclose(mask.r[~mask.observed], ensemble.var(axis=0, ddof=1)[~mask.observed])
    np.testing.assert_array_equal(
        mask.r[mask.observed], make_problem("mask", D).observation.noise.variance
    )
    svd = ForwardProcess.for_ensemble(make_problem("dense", D).process.basis, ensemble)
    null = np.eye(D) - svd.basis.v @ svd.basis.v.T
    # One variance for the whole null space: the mean over its three dimensions.
    assert svd.r[-1] == pytest.approx(np.trace(null @ np.cov(ensemble.T)) / 3)
    np.testing.assert_allclose(svd.r[:-1], make_problem("dense", D).process.r[:-1])


@pytest.mark.parametrize("grid", [(12,), (4, 8), (4, 4, 2)])
@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_pooling_basis_is_that_of_the_svd(grid, array):
    d = 2 * int(np.prod(grid))
    pooled = Pooling(Blocks(grid, 2), 2, noise=0.6)
    ensemble, y = (
        array(np.random.default_rng(0).standard_normal((7, d))),
        array(np.arange(pooled.size) / 3.0),
    )
    bases = PoolingBasis(pooled), Matrix(pooled.matrix, noise=0.6).basis()
    blocks, svd = (ForwardProcess.for_ensemble(basis, ensemble) for basis in bases)
    for coefficient in (
        lambda p: p.A(0.3),
        lambda p: p.Sigma(0.3),
        lambda p: p.Q(0.3, 0.8),
        lambda p: p.F(0.5),
        lambda p: p.GG(0.5),
    ):
        np.testing.assert_allclose(
            blocks.apply(coefficient(blocks), ensemble),
            svd.apply(coefficient(svd), ensemble),
            atol=1e-12,
        )
        np.testing.assert_allclose(
            blocks.basis.diagonal(coefficient(blocks)),
            svd.basis.diagonal(coefficient(svd)),
            atol=1e-12,
        )
    np.testing.assert_allclose(
        blocks.end_state(ensemble, y), svd.end_state(ensemble, y), atol=1e-12
    )
    np.testing.assert_allclose(
        blocks.likelihood_score(ensemble, 0.4, y),
        svd.likelihood_score(ensemble, 0.4, y),
        atol=1e-11,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_collapsed_ensemble_leaves_the_process_finite(kind):
    process = ForwardProcess.for_ensemble(make_problem(kind, D).process.basis, np.ones((5, D)))
    assert np.all(process.r > 0)
    x = np.ones((2, D))
    assert np.all(np.isfinite(process.prior_score(x, 0.5, x)))
    assert all(np.all(np.isfinite(c)) for c in process.reverse_coefficients(0.0, 0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_torch_agree(kind):
    problem = make_problem(kind, D)
    process, t = problem.process, 0.6
    x, noise = np.random.default_rng(0).standard_normal((2, 4, D))

    def answers(x, noise, y):
        return [
            process.diffuse(x, t, noise),
            process.transition(x, t, 0.9, noise),
            process.prior_score(x, t, noise),
            process.likelihood_score(x, t, y),
            process.end_state(x, y),
        ]

    tensors = answers(torch.as_tensor(x), torch.as_tensor(noise), torch.as_tensor(problem.y))
    assert all(answer.dtype == torch.float64 for answer in tensors)
    np.testing.assert_allclose(
        [answer.numpy() for answer in tensors], answers(x, noise, problem.y), rtol=1e-11, atol=1e-12
    )
    ensemble = x + np.arange(4.0)[:, None]
    np.testing.assert_allclose(
        process.basis.variance(torch.as_tensor(ensemble)),
        process.basis.variance(ensemble),
        rtol=1e-12,
    )
