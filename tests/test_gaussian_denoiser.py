"""Gaussian denoisers: three forms of P, one answer, which is the conditional mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import KINDS, make_problem

from masf.arrays import Stream
from masf.diffusion.denoisers.gaussian import (
    DenseDenoiser,
    DiagonalDenoiser,
    EnsembleDenoiser,
    GaussianDenoiser,
)
from masf.diffusion.denoisers.select import ensemble_denoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import MAX_DENSE_DIMENSION
from masf.observations.mask import Mask

D = 6
TIMES = [0.02, 0.5, 1.0]


def ensemble(n: int = 9) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) + rng.standard_normal(D)


def states() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((5, D))


def conditional(process: ForwardProcess, mean, covariance, x, t):
    """E[X_0 | X_t = x] and Cov(X_0 | X_t), by inverting the covariance of (X_0, X_t) as a whole."""
    a = process.apply(process.A(t), np.eye(D)).T
    sigma = process.apply(process.Sigma(t), np.eye(D)).T
    joint = np.block(
        [[covariance, covariance @ a.T], [a @ covariance, a @ covariance @ a.T + sigma]]
    )
    precision = np.linalg.inv(joint)
    c = np.linalg.inv(precision[:D, :D])
    return mean - (x - a @ mean) @ precision[D:, :D] @ c, c


def forms(process: ForwardProcess, members: np.ndarray) -> dict[str, GaussianDenoiser]:
    """The forms that take the ensemble's covariance as it is."""
    mean = members.mean(axis=0)
    return {
        "ensemble": EnsembleDenoiser(process, mean, members - mean),
        "dense": DenseDenoiser(process, mean, np.cov(members.T)),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["ensemble", "dense"])
@pytest.mark.parametrize("t", TIMES)
def test_denoiser_is_the_conditional_mean_of_the_joint_normal(kind, form, t):
    process, members = make_problem(kind, D).process, ensemble()
    denoiser = forms(process, members)[form]
    mean, c = conditional(process, members.mean(axis=0), np.cov(members.T), states(), t)
    np.testing.assert_allclose(denoiser(states(), t).mean, mean, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(denoiser.posterior_variance(t), np.diag(c), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["identity", "mask"])
@pytest.mark.parametrize("t", TIMES)
def test_diagonal_form_is_the_conditional_mean(kind, t):
    process, members = make_problem(kind, D).process, ensemble()
    variance = members.var(axis=0, ddof=1)
    denoiser = DiagonalDenoiser(process, members.mean(axis=0), variance)
    mean, c = conditional(process, members.mean(axis=0), np.diag(variance), states(), t)
    np.testing.assert_allclose(denoiser(states(), t).mean, mean, rtol=1e-9)
    np.testing.assert_allclose(denoiser.posterior_variance(t), np.diag(c), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("n", [3, 40])
def test_woodbury_and_dense_forms_agree_for_few_and_many_members(kind, t, n):
    woodbury, dense = forms(make_problem(kind, D).process, ensemble(n)).values()
    np.testing.assert_allclose(
        woodbury(states(), t).mean, dense(states(), t).mean, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(
        woodbury.posterior_variance(t), dense.posterior_variance(t), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("form", ["ensemble", "dense"])
def test_denoiser_answers_any_batch_as_it_answers_each_state(form):
    denoiser = forms(make_problem("dense", D).process, ensemble())[form]
    x = np.random.default_rng(0).standard_normal((2, 3, D))
    together = denoiser(x, 0.4).mean
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(denoiser(x[i], 0.4).mean, together[i], rtol=1e-11)


@pytest.mark.parametrize("kind", ["mask", "dense"])
def test_denoiser_knows_nothing_at_the_end_of_what_is_not_observed(kind):
    process = make_problem(kind, D).process
    null = process.apply(
        (~process.observed).astype(float), np.random.default_rng(0).standard_normal((1, D))
    )
    for denoiser in forms(process, ensemble()).values():
        np.testing.assert_allclose(
            denoiser(states() + null, 1.0).mean, denoiser(states(), 1.0).mean, rtol=1e-9
        )


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize("form", ["ensemble", "dense"])
@pytest.mark.parametrize("t", [0.3, 1.0])
def test_residual_is_drawn_with_the_posterior_covariance(kind, form, t, assert_moments):
    process, members = make_problem(kind, D).process, ensemble()
    denoiser = forms(process, members)[form]
    _, c = conditional(process, members.mean(axis=0), np.cov(members.T), states(), t)
    draws = denoiser(np.zeros((20_000, D)), t).residual(Stream(1, "test"))
    assert_moments(draws, np.zeros(D), c)


def test_residual_of_the_diagonal_form(assert_moments):
    process, variance = make_problem("mask", D).process, np.linspace(0.5, 2, D)
    denoiser = DiagonalDenoiser(process, np.ones(D), variance)
    _, c = conditional(process, np.ones(D), np.diag(variance), states(), 0.6)
    assert_moments(denoiser(np.zeros((20_000, D)), 0.6).residual(Stream(1, "test")), np.zeros(D), c)


def test_a_tapered_covariance_enters_the_dense_form():
    process, members = make_problem("mask", D).process, ensemble()
    taper = np.exp(-0.5 * np.subtract.outer(np.arange(D), np.arange(D)) ** 2)
    denoiser = ensemble_denoiser(process, members, "localized", taper)
    mean, c = conditional(process, members.mean(axis=0), np.cov(members.T) * taper, states(), 0.5)
    np.testing.assert_allclose(denoiser(states(), 0.5).mean, mean, rtol=1e-9)
    np.testing.assert_allclose(denoiser.posterior_variance(0.5), np.diag(c), rtol=1e-9)


@pytest.mark.parametrize("name", ["diagonal", "ensemble", "localized"])
@pytest.mark.parametrize("n", [4, 40], ids=["fewer members than components", "more"])
def test_names_give_the_moments_of_the_ensemble(name, n):
    members, process = ensemble(n), make_problem("mask", D).process
    covariance = np.cov(members.T) * (np.eye(D) if name == "diagonal" else 1)
    expected = DenseDenoiser(process, members.mean(axis=0), covariance)
    denoiser = ensemble_denoiser(process, members, name)
    np.testing.assert_allclose(
        denoiser(states(), 0.5).mean, expected(states(), 0.5).mean, rtol=1e-9
    )
    np.testing.assert_allclose(
        denoiser.posterior_variance(0.5), expected.posterior_variance(0.5), rtol=1e-9
    )


@pytest.mark.parametrize("name", ["diagonal", "ensemble", "localized"])
def test_numpy_and_torch_agree(name):
    process, members, x = make_problem("mask", D).process, ensemble(), states()
    in_numpy = ensemble_denoiser(process, members, name)
    in_torch = ensemble_denoiser(process, torch.as_tensor(members), name)
    np.testing.assert_allclose(
        in_torch(torch.as_tensor(x), 0.5).mean, in_numpy(x, 0.5).mean, rtol=1e-9
    )
    np.testing.assert_allclose(
        in_torch.posterior_variance(0.5), in_numpy.posterior_variance(0.5), rtol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ensemble", "localized"])
@pytest.mark.parametrize("n", [5, 40])
@pytest.mark.parametrize("t", [0.05, 0.5, 1.0])
def test_single_precision_keeps_four_digits(kind, name, n, t):
    """Filters compute in float32: answers must not lose what float32 can hold."""
    basis, members = make_problem(kind, D).process.basis, ensemble(n)
    answers = [
        ensemble_denoiser(ForwardProcess.for_ensemble(basis, e), e, name)(
            states().astype(e.dtype), t
        ).mean
        for e in (members, members.astype(np.float32))
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=0, atol=1e-4 * np.abs(members).max())


def test_what_a_form_cannot_do_is_refused():
    with pytest.raises(ValueError, match="needs an observation that is a mask"):
        ensemble_denoiser(make_problem("dense", D).process, ensemble(), "diagonal")
    with pytest.raises(ValueError, match="choose one of diagonal, ensemble, localized"):
        ensemble_denoiser(make_problem("mask", D).process, ensemble(), "full")


def large_process() -> ForwardProcess:
    d = MAX_DENSE_DIMENSION + 1
    return ForwardProcess(Mask(d, np.arange(d), noise=1.0).basis())


@pytest.mark.parametrize("excess", [-1000, 1], ids=["fewer members than components", "more"])
@pytest.mark.parametrize("covariance", ["ensemble", "localized"])
def test_an_untapered_covariance_serves_any_dimension(excess, covariance):
    d = MAX_DENSE_DIMENSION + 1
    denoiser = ensemble_denoiser(
        large_process(), np.zeros((d + excess, d), dtype=np.float32), covariance
    )
    assert denoiser.mean.shape == (d,)
