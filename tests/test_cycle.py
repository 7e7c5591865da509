"""The forecast/analysis cycle: what it records, and what it makes of filters that fail."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.stats
import torch

import masf
from masf.arrays import Stream
from masf.files.trajectory import Trajectory
from masf.filters.base import Filter, Setup
from masf.filters.registry import filter_class
from masf.observations.mask import Mask
from masf.stages.cycle import run_cycles
from masf.systems.registry import make_system

D, GAP, CYCLES, MEMBERS = 4, 3, 5, 6
FATAL = 2


class Scripted(Filter):
    """Counts its analyses; in cycle FATAL it does what a test asks for, otherwise it shifts the
    ensemble by 1.
    """

    def __init__(self, at_fatal=lambda state: state + 1) -> None:
        system = make_system("linear_gaussian", {"dimension": D})
        observation = Mask(D, np.arange(D), noise=1.0)
        super().__init__(
            None, Setup(system, observation, np.zeros(D), 1.0, Stream(0, "test cycle"))
        )
        self.at_fatal = at_fatal
        self.cycle = 0
        self.seen = []

    def forecast(self, state):
        return 2 * state

    def analyse(self, state, y):
        self.seen.append((state, y))
        self.cycle += 1
        return self.at_fatal(state) if self.cycle == FATAL + 1 else state + 1

    def diagnostics(self):
        return {"cycle": float(self.cycle)}


def initial() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((MEMBERS, D))


def run(filter_: Filter, **settings: object) -> Trajectory:
    truth = np.arange(CYCLES * D, dtype=np.float32).reshape(CYCLES, D)
    return run_cycles(
        filter_, initial(), truth + 0.5, gap=GAP, truth_at_cycles=truth, covariance=True, **settings
    )


SERIES = (
    "forecast_mean",
    "forecast_spread",
    "crps",
    "crps_forecast",
    "ranks",
    "ranks_forecast",
    "covariance",
    "wall_seconds",
    "cpu_seconds",
    "model_runs",
)


def assert_diverged_at(result: Trajectory, k: int) -> None:
    assert result.diverged_at == k
    for series in (result.mean, result.spread):
        assert np.all(np.isfinite(series[: k * GAP + 1]))
        assert np.all(np.isnan(series[k * GAP + 1 :]))
    for name in SERIES:
        assert np.all(np.isfinite(getattr(result, name)[:k])), name
        assert np.all(np.isnan(getattr(result, name)[k:])), name
    assert np.all(np.isfinite(result.members[:, :k]))
    assert np.all(np.isnan(result.members[:, k:]))
    if k:
        assert np.all(np.isfinite(result.diagnostics["cycle"][:k]))
        assert np.all(np.isnan(result.diagnostics["cycle"][k:]))


def test_cycle_alternates_forecasts_and_analyses():
    filter_ = Scripted()
    result = run(filter_, saved_members=2)
    assert result.diverged_at is None
    x = initial().astype(np.float32)
    np.testing.assert_allclose(result.mean[0], x.mean(axis=0), rtol=1e-5)
    step = 0
    for k in range(CYCLES):
        for i in range(GAP):
            x = 2 * x
            step += 1
            if i < GAP - 1:
                np.testing.assert_allclose(result.mean[step], x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(result.forecast_mean[k], x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(result.forecast_spread[k], x.std(axis=0, ddof=1), rtol=1e-5)
        truth = np.arange(k * D, (k + 1) * D)
        np.testing.assert_array_equal(
            result.ranks_forecast[k], np.bincount((x < truth).sum(axis=0), minlength=MEMBERS + 1)
        )
        np.testing.assert_array_equal(filter_.seen[k][0], x)
        np.testing.assert_array_equal(filter_.seen[k][1], np.arange(k * D, (k + 1) * D) + 0.5)
        x = x + 1
        # At a measurement time the analysis stands.
        np.testing.assert_allclose(result.mean[step], x.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(result.spread[step], x.std(axis=0, ddof=1), rtol=1e-5)
        np.testing.assert_allclose(result.members[:, k], x[:2])
        np.testing.assert_allclose(result.covariance[k], np.cov(x.T), rtol=1e-4)
        np.testing.assert_array_equal(
            result.ranks[k], np.bincount((x < truth).sum(axis=0), minlength=MEMBERS + 1)
        )
    assert step == len(result.mean) - 1
    np.testing.assert_array_equal(result.diagnostics["cycle"], np.arange(1, CYCLES + 1))


@pytest.mark.parametrize("torch_device", [None, "cpu"])
def test_filters_see_single_precision_of_the_right_library(torch_device):
    filter_ = Scripted()
    run(filter_, torch_device=torch_device)
    kind, dtype = (
        (np.ndarray, np.float32) if torch_device is None else (torch.Tensor, torch.float32)
    )
    for array in filter_.seen[0]:
        assert isinstance(array, kind)
        assert array.dtype == dtype


def one_nan(state):
    state = state + 1
    state[0, 0] = float("nan")
    return state


def all_infinite(state):
    state = state + 1
    state[:, 1] = float("inf")
    return state


def collapsed(state):
    return 0 * state + 1


def numpy_linalg_error(_):
    return np.linalg.cholesky(-np.eye(2))


def torch_linalg_error(_):
    return torch.linalg.cholesky(-torch.eye(2))


def floating_point_error(_):
    with np.errstate(all="raise"):
        return np.float64(1) / np.float64(0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "failure",
    [
        one_nan,
        all_infinite,
        collapsed,
        numpy_linalg_error,
        torch_linalg_error,
        floating_point_error,
    ],
)
@pytest.mark.parametrize("torch_device", [None, "cpu"])
def test_divergence_is_a_result(failure, torch_device):
    assert_diverged_at(run(Scripted(failure), torch_device=torch_device), FATAL)


def test_divergence_in_the_forecast_is_a_result():
    class Exploding(Scripted):
        def forecast(self, state):
            return state * (np.float32("nan") if self.cycle == FATAL else 1)

    assert_diverged_at(run(Exploding()), FATAL)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("far", "doubted"), [(0, False), (1e6, True)], ids=["as expected", "in other units"]
)
@pytest.mark.parametrize("in_forecast", [True, False])
def test_divergence_names_the_filter_and_how_far_off_the_measurements_were(
    far: float, doubted: bool, in_forecast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Named(Scripted):
        def forecast(self, state):
            return state * (np.float32("nan") if in_forecast and self.cycle == 1 else 1)

        def analyse(self, state, y):
            super().analyse(state, y)
            return state * (np.float32("nan") if not in_forecast and self.cycle == 2 else 1)

    y = np.full((CYCLES, D), far, dtype=np.float32)
    truth = np.zeros((CYCLES, D), dtype=np.float32)
    result = run_cycles(Named(), initial(), y, gap=GAP, truth_at_cycles=truth)
    assert result.diverged_at == 1
    said = caplog.records[-1].getMessage()
    assert said.startswith("filter Named diverged in cycle 2: the ensemble is not finite")
    cycle = 1 if in_forecast else 2
    ratio = float(re.search(rf"in cycle {cycle} measurements were (\S+) times as far", said)[1])
    assert (ratio > 1e5, "the model's units" in said) == (doubted, doubted)


def test_an_ensemble_that_starts_without_a_number_diverges_at_once():
    class Lost(Scripted):
        def start(self, ensemble):
            return ensemble * np.float32("nan")

    result = run(Lost())
    assert result.diverged_at == 0
    assert np.all(np.isnan(result.mean))


def test_a_narrow_ensemble_has_not_collapsed():
    assert run(Scripted(lambda state: 1e-3 * state)).diverged_at is None


def test_twenty_identical_members_have_no_spread():
    """Nor have members that differ by the rounding of their numbers."""
    ensemble = np.full((20, D), 3.7, dtype=np.float32)
    ensemble[::2] = np.nextafter(ensemble[::2], np.float32(4))
    for members in (ensemble[1::2], ensemble):
        result = run(Scripted(lambda state, x=members: 0 * state[:1] + x[: len(state)]))
        assert result.diverged_at is not None


def test_the_kalman_filter_may_be_as_sure_as_it_finds_right():
    system = masf.make_system("linear_gaussian", dimension=4)
    observation = masf.make_observation(system, "identity", noise=1e-6)
    truth = masf.simulate(system, observation, gap=2, cycles=5, members=10)
    found = masf.assimilate(truth, "kalman")
    assert found.attrs["diverged"] == 0
    assert float(found["spread"][-1].mean()) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of memory"), TypeError("no"), KeyError("no"), ValueError("wrong shape")],
)
def test_faults_of_the_code_are_not_taken_for_divergence(error):
    def broken(_):
        raise error

    with pytest.raises(type(error)):
        run(Scripted(broken))


def test_more_members_asked_for_than_there_are():
    result = run(Scripted(), saved_members=MEMBERS + 4)
    assert result.members.shape == (MEMBERS, CYCLES, D)
    assert np.all(np.isfinite(result.members))


def test_filter_with_members_of_its_own_is_ranked_and_saved_by_those():
    filter_ = Scripted()
    filter_.members = lambda state: np.concatenate([state] * 10)
    result = run(filter_, saved_members=MEMBERS + 4)
    assert result.members.shape == (MEMBERS + 4, CYCLES, D)
    assert np.all(np.isfinite(result.members))
    assert result.ranks.shape == result.ranks_forecast.shape == (CYCLES, 20)
    assert np.all(result.ranks.sum(axis=1) == D)


def test_streams_repeat_themselves_and_differ_by_purpose():
    def numbers(seed: int, purpose: str, like) -> np.ndarray:
        return np.asarray(Stream(seed, purpose).normal((50,), like))

    for like in (np.empty(0), torch.empty(0)):
        first = numbers(1, "truth", like)
        np.testing.assert_array_equal(first, numbers(1, "truth", like))
        assert np.all(first != numbers(2, "truth", like))
        assert np.all(first != numbers(1, "filter", like))


@pytest.mark.parametrize("name", ["enkf", "kalman"])
def test_a_filter_in_the_cycle_follows_the_truth(name):
    """A linear system with accurate measurements: errors stay near the measurement's, far below a
    free run's.
    """
    system = make_system("linear_gaussian", {"dimension": D})
    stream = Stream(0, "truth")
    truth = [np.zeros(D)]
    for _ in range(30):
        truth.append(system.step(truth[-1], stream))
    at_cycles = np.array(truth[3::3])
    observation = Mask(D, np.arange(D), noise=0.1)
    measured = observation.apply(at_cycles) + observation.noise.draw((10,), at_cycles, stream)
    cls = filter_class(name)
    setup = Setup(system, observation, np.zeros(D, dtype=np.float32), 1.0, Stream(0, "filter"))
    ensemble = np.random.default_rng(0).standard_normal((50, D))
    result = run_cycles(
        cls(cls.Parameters(), setup), ensemble, measured, gap=3, truth_at_cycles=at_cycles
    )
    errors = result.mean[3::3] - at_cycles
    # Each of the analysis errors has a standard deviation below that of the measurement: a
    # chi-square quantile.
    assert np.sum(errors**2) / 0.1**2 < scipy.stats.chi2.isf(1e-3, errors.size)
    # And the forecasts, with three steps of model noise of 0.3, are far worse.
    assert np.sum(errors**2) < np.sum((result.forecast_mean - at_cycles) ** 2) / 5
