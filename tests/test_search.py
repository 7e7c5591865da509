"""Each member's own search: the stochastic EnKF where the model is linear, the least cost where it
is not, and the filters that search.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_passes import analysed, make_filter

from masf.arrays import Stream
from masf.ensembles.search import quarter_cost, search, second_order_exact, selection
from masf.filters.passes import model_runs
from masf.filters.registry import filter_class
from masf.observations.mask import Mask
from masf.stages.cycle import run_cycles
from masf.systems.registry import make_system

N, D, M = 40, 5, 3
SEARCHING = {"passes": 2, "passes_radius": None, "localization_radius": None, "search": 8}


def linear_problem(n: int, d: int = D, m: int = M) -> tuple[np.ndarray, ...]:
    """Members (n, d), a matrix (m, d), measurements (m,) and noise (n, m)."""
    rng = np.random.default_rng(5)
    members = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)
    noise = rng.standard_normal((n, m))
    return members, rng.standard_normal((m, d)), rng.standard_normal(m), noise


@pytest.mark.parametrize("n", [N, 4])  # 4 members do not span the state
@pytest.mark.parametrize("steps", [1, 3])
def test_a_linear_model_has_the_stochastic_enkf_s_analysis_after_one_step(n, steps):
    members, h, y, noise = linear_problem(n)
    p = np.cov(members.T)
    gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + np.eye(M))
    expected = members + (y + noise - members @ h.T) @ gain.T
    far = members + np.random.default_rng(1).standard_normal((n, n)) @ (members - members.mean(0))
    for start in (members, far):
        found = search(members, start, noise, lambda x: (y - x @ h.T, (2 * x,)), steps)
        np.testing.assert_allclose(found.states, expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.run[0], 2 * found.states)
        innovation = y + noise - members @ h.T
        least = np.einsum(
            "nm,nm->n", innovation, np.linalg.solve(h @ p @ h.T + np.eye(M), innovation.T).T
        )
        np.testing.assert_allclose(found.cost, least / 2, rtol=1e-6)


def test_second_order_exact_noise_gives_the_kalman_filter_s_mean_and_covariance():
    members, h, y, noise = linear_problem(N)
    exact = second_order_exact(noise, members)
    np.testing.assert_allclose(np.cov(np.hstack([members, exact]).T)[:D, D:], 0, atol=1e-12)
    assert np.corrcoef(exact.ravel(), noise.ravel())[0, 1] > 0.9  # near what was drawn
    p, mean = np.cov(members.T), members.mean(0)
    gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + np.eye(M))
    found = search(members, members, exact, lambda x: (y - x @ h.T, ()), 1).states
    np.testing.assert_allclose(found.mean(0), mean + gain @ (y - h @ mean), rtol=1e-6)
    np.testing.assert_allclose(np.cov(found.T), p - gain @ h @ p, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n", [D + M + 1, D + M])
def test_noise_is_second_order_exact_as_long_as_members_are_enough(n):
    """D + M + 1 have as many differences from their mean as there are directions to keep apart."""
    members, _, _, noise = linear_problem(n)
    exact = second_order_exact(noise, members)
    np.testing.assert_allclose(exact.mean(0), 0, atol=1e-12)
    if n > D + M:
        np.testing.assert_allclose(np.cov(exact.T), np.eye(M), atol=1e-12)
    else:
        np.testing.assert_allclose(exact, noise - noise.mean(0))


def test_choosing_members_by_cost_changes_no_law_where_the_model_is_linear():
    """The members of less than the median cost, and the others, have the posterior's mean and
    variances, as all do.
    """
    members, h, y, noise = linear_problem(6000)
    found = search(members, members, noise, lambda x: (y - x @ h.T, ()), 1)
    p = np.cov(members.T)
    gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + np.eye(M))
    mean, covariance = members.mean(0) + gain @ (y - h @ members.mean(0)), p - gain @ h @ p
    cheap = found.cost < np.median(found.cost)
    for half in (found.states[cheap], found.states[~cheap]):
        errors = (half.mean(0) - mean) / np.sqrt(np.diag(covariance) / len(half))
        assert np.abs(errors).max() < 4
        np.testing.assert_allclose(half.var(0), np.diag(covariance), rtol=0.15)


def test_what_is_measured_finely_is_kept():
    """Noise of 1/100,000 of the prior's spread: after some steps members differ by so little in
    what is measured, and the regression must still know of it.
    """
    members, h, y, noise = linear_problem(N)
    fine, exact = 1e5 * h, 1e5 * y
    p = np.cov(members.T)
    gain = p @ fine.T @ np.linalg.inv(fine @ p @ fine.T + np.eye(M))
    expected = members + (exact + noise - members @ fine.T) @ gain.T
    for start in (members, expected):
        found = search(members, start, noise, lambda x: (exact - x @ fine.T, ()), 3)
        np.testing.assert_allclose(found.states @ h.T, expected @ h.T, rtol=0, atol=5e-7)
        np.testing.assert_allclose(found.states, expected, rtol=1e-5, atol=1e-5)


def test_a_member_that_takes_another_s_place_is_there_outside_of_the_span_too():
    """Two members span one of two components; the second, measured too, is only as the start has
    it.
    """
    members = np.array([[-1.0, 0.0], [1.0, 0.0]])
    start = np.array([[-1.0, 5.0], [1.0, 0.0]])
    y, noise = np.array([0.0]), np.zeros((2, 1))
    found = search(members, start, noise, lambda x: (y - 10 * x[:, 1:], (x,)), 3)
    assert np.all(found.states[:, 1] == 0)
    np.testing.assert_array_equal(found.states, found.run[0])


def test_no_step_leads_up_and_a_member_leaves_a_shallow_valley_for_another_s():
    """y = x^3 - 3 x, which has two valleys for members of the prior; each ends near the least cost
    that a scan of all places finds for it.
    """
    rng = np.random.default_rng(2)
    members, y = 0.3 + rng.standard_normal((60, 1)), np.array([6.0])
    noise = rng.standard_normal((60, 1))
    places = np.linspace(-5, 5, 20_001)

    def model(x: np.ndarray) -> np.ndarray:
        return x**3 - 3 * x

    variance = members.var(ddof=1)
    costs = (places - members) ** 2 / variance + (y + noise - model(places)) ** 2
    least = costs.min(axis=1) / 2
    before = np.full(60, math.inf)
    for steps in (0, 2, 5, 20):
        found = search(members, members, noise, lambda x: (y - model(x), ()), steps)
        assert np.all(found.cost <= before + 1e-12)
        assert np.all(found.cost >= least - 1e-4)
        before = found.cost
    np.testing.assert_allclose(found.cost, least, atol=0.05)


def test_where_the_model_overflows_there_is_no_way():
    members, noise = np.linspace(-1, 1, 20)[:, None], np.zeros((20, 1))

    def run(x: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return np.where(x < 1.5, 3 - x, np.nan), ()

    found = search(members, members, noise, run, 6)
    assert np.all(np.isfinite(found.cost))
    assert found.states.max() < 1.5
    assert found.states.mean() > 0.6
    lost = search(members, members + 9, noise, run, 2)
    assert np.all(np.isinf(lost.cost))


def test_selection_takes_others_evenly_for_members_that_cost_too_much():
    cost = np.array([1.0, 9.0, 2.0, math.inf, 3.0, 8.0, 7.0])
    assert selection(cost, 5.0).tolist() == [0, 0, 2, 0, 4, 2, 4]
    assert selection(cost, 10.0)[[0, 1, 2, 4, 5, 6]].tolist() == [0, 1, 2, 4, 5, 6]
    assert selection(cost, 0.5).tolist() == list(range(7))
    assert quarter_cost(np.arange(8.0)[::-1]) == 2.0


@pytest.mark.parametrize("device", ["numpy", "torch"])
def test_a_filter_that_searches_has_the_kalman_posterior_of_a_linear_model(device):
    system = make_system("linear_gaussian", {"dimension": 4, "model_noise": 0.0})
    observation = Mask(4, np.array([0, 2]), noise=0.8)
    ensemble, y = np.random.default_rng(3).standard_normal((4000, 4)), np.array([1.0, -1.5])
    if device == "torch":
        ensemble, y = torch.as_tensor(ensemble), torch.as_tensor(y)
    options = SEARCHING | {"selected_below": 2.0, "widened_above": None}
    filter_ = make_filter("masf_gaussian", system, observation, ensemble[0], **options)
    found = np.asarray(analysed(filter_, ensemble, 2, y))
    forecast = np.asarray(system.advance(ensemble, 2, Stream(0, "unused")))
    h, r = np.eye(4)[[0, 2]], 0.64 * np.eye(2)
    p = np.cov(forecast.T)
    gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + r)
    mean = forecast.mean(0) + gain @ (np.asarray(y) - h @ forecast.mean(0))
    np.testing.assert_allclose(found.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(found.T), p - gain @ h @ p, atol=0.06)
    assert 0.5 < filter_.diagnostics()["selected"] < 1


def test_a_prior_that_is_too_narrow_is_widened():
    """One component, whose measurement is ten standard deviations away: the analysis is that of a
    prior as wide as its cost says.
    """
    system = make_system("linear_gaussian", {"dimension": 4, "model_noise": 0.0})
    observation = Mask(4, np.arange(4), noise=0.1)
    ensemble = 0.1 * np.random.default_rng(3).standard_normal((50, 4))
    narrow, wide = (
        make_filter("masf_gaussian", system, observation, **SEARCHING, widened_above=above)
        for above in (None, 3.0)
    )
    far = np.full(4, 3.0)
    misses = [np.abs(analysed(f, ensemble, 1, far).mean(0) - far).mean() for f in (narrow, wide)]
    assert misses[1] < 0.3 * misses[0]
    assert narrow.diagnostics()["prior_widened"] == 1.0
    assert wide.diagnostics()["prior_widened"] > 3.0
    near = ensemble.mean(0)
    analysed(wide, ensemble, 1, near)
    assert wide.diagnostics()["prior_widened"] == 1.0


@pytest.mark.parametrize("m", [3, 8, 40])
def test_a_right_prior_is_seldom_widened(m):
    """Truth and many members of one law, and all components measured, finely and coarsely."""
    system = make_system("linear_gaussian", {"dimension": m, "model_noise": 0.0})
    rng = np.random.default_rng(4)
    for sigma in (0.05, 1.0):
        observation = Mask(m, np.arange(m), noise=sigma)
        filter_ = make_filter("masf_gaussian", system, observation, **SEARCHING | {"search": 1})
        widened = []
        for _ in range(60):
            truth, ensemble = rng.standard_normal(m), rng.standard_normal((400, m))
            y = np.asarray(system.advance(truth, 1, Stream(0, "unused")))
            analysed(filter_, ensemble, 1, y + sigma * rng.standard_normal(m))
            widened.append(filter_.diagnostics()["prior_widened"] > 1)
        assert np.mean(widened) < 0.1


@pytest.mark.parametrize("wide", [2.0, 4.0])
def test_a_prior_is_widened_to_what_it_should_have_been(wide):
    """Members whose spread is 1 over ``wide`` of the truth's: over many measurements the factor is
    near ``wide``.
    """
    m = 40
    system = make_system("linear_gaussian", {"dimension": m, "model_noise": 0.0})
    observation, rng = Mask(m, np.arange(m), noise=0.02), np.random.default_rng(4)
    filter_ = make_filter("masf_gaussian", system, observation, **SEARCHING)
    found = []
    for _ in range(10):
        ensemble, truth = rng.standard_normal((400, m)), wide * rng.standard_normal(m)
        analysed(filter_, ensemble, 1, np.asarray(system.advance(truth, 1, Stream(0, "unused"))))
        found.append(filter_.diagnostics()["prior_widened"])
    assert 0.8 * wide < np.mean(found) < 1.1 * wide


@pytest.mark.parametrize("lag", [1, 2])
def test_members_are_what_the_model_makes_of_those_at_the_beginning_of_the_window(lag):
    system = make_system("lorenz63", {"dt": 0.01})
    observation = Mask(3, np.arange(3), noise=1.0)
    filter_ = make_filter("masf_gaussian", system, observation, **SEARCHING, lag=lag)
    truth = np.array([1.5, -1.5, 25.0])
    state = filter_.start(truth + np.random.default_rng(0).standard_normal((30, 3)))
    for _ in range(4):
        for _ in range(50):
            state = filter_.forecast(state)
        truth = system.advance(truth, 50, Stream(0, "unused"))
        state = filter_.project(filter_.analyse(state, truth))
        again = system.advance(filter_._past, sum(filter_._gaps), Stream(0, "unused"))
        np.testing.assert_allclose(again, state, rtol=1e-6, atol=1e-8)
        assert np.abs(state.mean(0) - truth).max() < 1


def test_each_step_of_a_search_is_a_model_run_and_counted():
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 8.0})
    observation = Mask(8, np.arange(8), noise=1.0)
    options = SEARCHING | {"search": 3, "lag": 2, "widened_above": None}
    filter_ = make_filter("masf_gaussian", system, observation, **options)
    ensemble = 3 + np.random.default_rng(0).standard_normal((10, 8))
    values = np.full((4, 8), 2.0)
    found = run_cycles(filter_, ensemble, values, gap=5, truth_at_cycles=values)
    # The forecast, the run after the first pass, that of the second, and three steps; but for the
    # forecast all through two cycles.
    assert found.model_runs[1:].tolist() == [10 * (1 + 5 * 2)] * 3
    assert model_runs(filter_.parameters, 4) == found.model_runs.mean() / 10


def test_what_a_search_makes_idle_is_said():
    parameters = filter_class("masf_gaussian").Parameters
    assert "finish" in parameters(passes=2, search=1).without_effect()
    assert "selected_below" in parameters(passes=2).without_effect()
    assert parameters(passes=1, search=1).without_effect()["search"] == "passes above 1"


@pytest.mark.parametrize("in_past", [{"search": 2}, {"finish": "past"}])
def test_what_only_a_pass_in_the_present_asks_for_is_idle_where_there_is_none(in_past):
    gaussian = filter_class("masf_gaussian").Parameters
    only_past = gaussian(passes=2, greatest_misfit=None, **in_past)
    assert {"steps", "covariance", "localization_radius", "static_share"} <= set(
        only_past.without_effect()
    )
    assert "localization_radius" not in only_past.radii()
    network = filter_class("masf").Parameters(passes=2, greatest_misfit=None, **in_past)
    assert "network" in network.without_effect()
    for acting in (gaussian(passes=2, **in_past, greatest_misfit=4.0), gaussian(passes=2)):
        assert "localization_radius" not in acting.without_effect()
        assert "localization_radius" in acting.radii()


def test_members_that_all_overflow_are_not_counted_as_selected():
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 8.0})
    observation = Mask(8, np.arange(8), noise=1.0)
    filter_ = make_filter("masf_gaussian", system, observation, **SEARCHING)
    ensemble = 1e200 * np.random.default_rng(0).standard_normal((10, 8))
    with np.errstate(all="ignore"):
        analysed(filter_, ensemble, 5, np.zeros(8))
    assert filter_.diagnostics()["selected"] == 0


def test_a_search_finds_the_wings_of_lorenz63():
    """Less than two thirds of the error of one pass at the analyses, over 25 cycles: after a time
    unit the posterior is far from normal.
    """
    system = make_system("lorenz63", {"dt": 0.01})
    observation, stream = Mask(3, np.arange(3), noise=1.0), Stream(1, "truth")
    errors, gap = {}, 100
    for steps in (0, 6):
        truth = system.typical_state(stream if not errors else Stream(1, "truth"))
        noise = Stream(4, "noise")
        ensemble = truth + np.random.default_rng(2).standard_normal((200, 3))
        options = SEARCHING | {"search": steps} if steps else {"localization_radius": None}
        filter_ = make_filter("masf_gaussian", system, observation, truth, **options)
        squares = []
        for _ in range(25):
            truth = system.advance(truth, gap, stream)
            y = truth + observation.noise.draw((), truth, noise)
            ensemble = analysed(filter_, ensemble, gap, y)
            squares.append(float(((ensemble.mean(0) - truth) ** 2).mean()))
        errors[steps] = math.sqrt(np.mean(squares[5:]))
    assert errors[6] < 0.65 * errors[0]
