"""Innovation statistics: the right values in closed form, for measurements of every kind and every
filter, and what they say of noise that is wrong.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import xarray as xr
from click.testing import CliRunner
from problems import covariance_matrix

import masf
from masf.cli import commands
from masf.files.truth import truth_of
from masf.filters.registry import filter_names
from masf.observations.mask import Mask
from masf.scores.innovations import INNOVATIONS, pooled_mean
from masf.stages.assimilate import assimilate_in_memory

LINEAR = {"dimension": 8, "model_noise": 0.5}
SPIN_UP = 20
SMALL: dict[str, dict[str, Any]] = {
    "masf": {"network": False},
    "masf_fresh": {"network": False},
    "masf_guided": {"network": False},
    "particle": {"particles": 200},
    "sf": {"training_steps": 2, "steps": 3, "network_width": 4, "network_blocks": 1},
    "ssls": {"training_steps": 2, "langevin_steps": 3, "network_width": 4, "network_blocks": 1},
}
OWN_START = {"kalman", "particle"}
"""Filters that do not start from the initial ensemble itself."""


def linear_problem(noise: object, cycles: int, missing: float = 0.0) -> xr.Dataset:
    system = masf.make_system("linear_gaussian", **LINEAR)
    observation = Mask(8, [0, 2, 4, 6], noise)
    problem = masf.simulate(system, observation, gap=2, cycles=cycles, members=150, seed=3)
    there = np.random.default_rng(0).random(problem["observation"].shape) >= missing
    problem["observation"] = problem["observation"].where(there)
    return problem


@pytest.fixture(scope="module")
def long() -> xr.Dataset:
    return linear_problem(0.8, 1500)


class Recorder(masf.Filter):
    """No assimilation; keeps the forecasts that it is given."""

    forecasts: list[np.ndarray] = []  # noqa: RUF012

    def start(self, ensemble):
        self.forecasts.clear()
        return ensemble

    def analyse(self, state, y):
        self.forecasts.append(state)
        return state


# --- closed forms


@pytest.mark.parametrize("correlated", [False, True])
def test_a_kalman_filter_s_are_the_textbook_s(correlated: bool) -> None:
    noise = 0.5 * covariance_matrix(4, np.random.default_rng(1)) if correlated else 0.8
    problem = linear_problem(noise, 30, missing=0.4)
    problem["observation"][7] = np.nan
    estimate = masf.assimilate(problem, "kalman")
    system = masf.make_system("linear_gaussian", **LINEAR)
    observation = Mask(8, [0, 2, 4, 6], noise)
    m, q = system.matrix, system.parameters.model_noise**2 * np.eye(8)
    mean, p = problem["initial_mean"].values.astype(float), np.eye(8)
    for k, y in enumerate(problem["observation"].values):
        for _ in range(2):
            mean, p = m @ mean, m @ p @ m.T + q
        rows = np.flatnonzero(~np.isnan(y))
        h, r = observation.matrix[rows], observation.noise.covariance[np.ix_(rows, rows)]
        d, s = y[rows] - h @ mean, h @ p @ h.T + r
        root = np.linalg.inv(scipy.linalg.sqrtm(r)) if len(rows) else r
        whitened = root @ d / np.sqrt(np.diag(root @ s @ root))
        for name, expected in (
            ("innovation", d),
            ("innovation_spread", np.sqrt(np.diag(s))),
            ("innovation_normalised", whitened),
        ):
            found = estimate[name].values[k]
            np.testing.assert_array_equal(np.isnan(found), np.isnan(y))
            np.testing.assert_allclose(found[rows], expected, rtol=2e-4, atol=2e-4)
        gain = p @ h.T @ np.linalg.inv(s)
        mean, p = mean + gain @ d, p - gain @ h @ p


@pytest.mark.parametrize("name", ["kalman", "etkf"])
def test_of_a_right_filter_they_have_mean_0_and_variance_1(long: xr.Dataset, name: str) -> None:
    estimate = masf.assimilate(long, name)
    found = masf.innovation_statistics(estimate, spin_up_cycles=SPIN_UP).loc[name]
    n = found["count"]
    assert n == 4 * (1500 - SPIN_UP)
    # Four measurements of a cycle are correlated; at worst they are one. The variance of an
    # ensemble of 150 is that of (N + 1) (N - 1) / (N (N - 3)), 2% at most.
    assert abs(found["mean"]) < 4 / np.sqrt(n / 4)
    assert abs(found["variance"] - 1.01) < 0.01 + 4 * np.sqrt(2 / (n / 4))
    assert abs(found["outside"] - 0.1) < 4 * np.sqrt(0.09 / (n / 4))
    assert found["outside_expected"] == pytest.approx(0.1)
    ranks = estimate["innovation_rank"].values[SPIN_UP:, 0].astype(int)
    # Of one measurement: those of a cycle are not independent.
    assert scipy.stats.chisquare(np.bincount(ranks, minlength=20)).pvalue > 1e-4


@pytest.mark.parametrize(("assumed", "sign"), [(0.4, 1), (1.6, -1)])
def test_wrong_noise_shows_as_variance_and_in_the_ranks(
    long: xr.Dataset, assumed: float, sign: int
) -> None:
    wrong = Mask(8, [0, 2, 4, 6], assumed)
    found = masf.innovation_statistics(
        masf.assimilate(long, "kalman", observation=wrong), spin_up_cycles=SPIN_UP
    ).loc["kalman"]
    assert sign * (found["variance"] - 1) > 5 * found["variance_error"]
    assert sign * (found["variance"] - 1) > 0.3
    assert sign * (found["outside"] - found["outside_expected"]) > 0.02


def test_wrong_correlations_of_noise_show_where_each_variance_is_right() -> None:
    """Where all is noise: a free run of next to no spread, so that R alone is judged."""
    system = masf.make_system("linear_gaussian", dimension=3, model_noise=0.0)
    right, rho = Mask(3, range(3), 1.0), 0.8
    wrong = Mask(3, range(3), (1 - rho) * np.eye(3) + rho)
    problem = masf.simulate(
        system, right, gap=1, cycles=800, members=10, initial_spread=1e-3, seed=1
    )
    found = {
        name: masf.innovation_statistics(
            masf.assimilate(problem, "free_run", observation=assumed)
        ).loc["free_run"]
        for name, assumed in (("right", right), ("wrong", wrong))
    }
    assert found["right"]["variance"] == pytest.approx(1, abs=5 * np.sqrt(2 / 2400))
    # The trace of R^(-1), over its 3 rows.
    expected = np.trace(np.linalg.inv(wrong.noise.covariance)) / 3
    assert expected > 3
    assert found["wrong"]["variance"] == pytest.approx(expected, rel=0.15)


def test_a_bias_is_said_in_units_of_the_measurement(long: xr.Dataset) -> None:
    shifted = long.copy(deep=True)
    shifted["observation"][:, 2] += 2.0
    estimate = masf.assimilate(shifted, "free_run")
    found = masf.innovation_statistics(estimate, spin_up_cycles=SPIN_UP, by_component=True)
    assert list(found.index) == [("free_run", j) for j in (1, 2, 3, 4)]
    bias = found["bias"].to_numpy()
    assert abs(bias[2] - 2) < 0.3
    assert np.all(np.abs(bias[[0, 1, 3]]) < 0.3)
    assert found.loc[("free_run", 3), "mean"] > 10 * found.loc[("free_run", 3), "mean_error"]
    assert found["count"].tolist() == [1500 - SPIN_UP] * 4


# --- measurements of every kind


class Products(masf.NonlinearObservation):
    """Products of neighbours."""

    def apply(self, x):
        return x[..., 1:] * x[..., :-1]


def kinds(system: masf.System) -> dict[str, masf.Observation]:
    r = 0.5 * covariance_matrix(6, np.random.default_rng(2))
    products = Mask(6, range(5), 0.7).noise
    return {
        "one standard deviation each": Mask(6, [0, 2, 3], [0.5, 1.0, 2.0]),
        "correlated": Mask(6, range(6), r),
        "transformed": masf.make_observation(system, "identity", noise=0.5, transform="square"),
        "of one's own": Products(6, products, {}),
        "pooled": masf.make_observation(system, "average_pooling", size=2, noise=0.5),
    }


@pytest.mark.parametrize(
    "kind", ["one standard deviation each", "correlated", "transformed", "of one's own", "pooled"]
)
def test_they_are_those_of_the_forecast_ensemble(kind: str) -> None:
    system = masf.make_system("lorenz96", dimension=6)
    observation = kinds(system)[kind]
    y = 3 * np.random.default_rng(0).standard_normal((6, observation.size))
    y[1, 0] = y[3, 1:] = y[4] = np.nan
    ensemble = np.random.default_rng(1).normal(2, 1, (30, 6))
    problem = masf.make_problem(system, observation, y, ensemble, gap=3)
    estimate = masf.assimilate(problem, Recorder, observation=observation)
    forecasts = iter(Recorder.forecasts)
    for k, row in enumerate(y):
        rows = np.flatnonzero(~np.isnan(row))
        found = {name: estimate[name].values[k] for name in INNOVATIONS}
        for values in found.values():
            np.testing.assert_array_equal(np.isnan(values), np.isnan(row))
        if len(rows) == 0:
            continue
        h = observation.apply(next(forecasts).astype(float))[:, rows]
        d, p = row[rows] - h.mean(axis=0), np.cov(h.T).reshape(len(rows), len(rows))
        r = observation.noise.covariance[np.ix_(rows, rows)]
        root = np.linalg.inv(scipy.linalg.sqrtm(r))
        np.testing.assert_allclose(found["innovation"][rows], d, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            found["innovation_spread"][rows], np.sqrt(np.diag(p + r)), rtol=1e-4
        )
        expected = root @ d / np.sqrt(np.diag(root @ (p + r) @ root))
        np.testing.assert_allclose(
            found["innovation_normalised"][rows], expected, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("kind", ["one standard deviation each", "correlated", "transformed"])
def test_a_measurement_of_one_more_member_has_each_rank_as_often(kind: str) -> None:
    """The truth is a draw from the ensemble's distribution, whatever that is."""
    system = masf.make_system("lorenz96", dimension=6)
    observation = kinds(system)[kind]
    draws = np.random.default_rng(5).gamma(2.0, 1.0, (60, 30, 6)).astype(np.float32)
    ranks = []
    for i, ensemble in enumerate(draws):
        # Each truth is measured once; the model stands still.
        truths, members = ensemble[:10], ensemble[10:]
        y = observation.apply(truths)
        y = y + observation.noise.draw((10,), truths, masf.Stream(i, "test"))
        problem = masf.make_problem(STILL, observation, y, members, gap=1, seed=i)
        estimate = masf.assimilate(problem, Recorder, observation=observation, system=STILL)
        ranks.extend(estimate["innovation_rank"].values[:, 0].astype(int))
    assert estimate["innovation_rank"].attrs["valid_max"] == 19
    # Ten truths share an ensemble, and so their ranks are a little alike: fewer bins than ranks.
    counts = np.bincount(ranks, minlength=20).reshape(5, 4).sum(axis=1)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


class Still(masf.System):
    """Nothing moves."""

    Parameters = masf.SystemParameters
    shape = (6,)

    def step(self, x, stream):
        return x

    def typical_state(self, stream):
        return np.zeros(6)


STILL = Still(masf.SystemParameters(dt=1.0))


# --- every filter


@pytest.fixture(scope="module")
def holes() -> xr.Dataset:
    system = masf.make_system("lorenz96", dimension=8)
    observation = masf.make_observation(system, "identity", noise=1.0, missing=0.3)
    return masf.simulate(system, observation, gap=5, cycles=3, members=20, seed=1)


@pytest.mark.parametrize("name", [*filter_names(), "command"])
def test_every_filter_has_them(holes: xr.Dataset, name: str) -> None:
    """The first forecast is that of a free run for all that start from the same ensemble."""
    if name == "command":
        script = str(Path(__file__).parent / "external_filter.py")
        estimate, _ = assimilate_in_memory(
            truth_of(holes), "theirs", {}, masf.api.in_force({})[1],
            command=shlex.join([sys.executable, script]),
        )  # fmt: skip
    elif name == "kalman":
        return  # of a linear system: the tests above
    else:
        estimate = masf.assimilate(holes, name, SMALL.get(name, {}), device="cpu")
    missing = np.isnan(holes["observation"].values)
    assert missing.any(axis=1).all()
    free = masf.assimilate(holes, "free_run")
    for variable in INNOVATIONS:
        values = estimate[variable].values
        np.testing.assert_array_equal(np.isnan(values), missing)
        if name not in OWN_START:
            np.testing.assert_allclose(values[0], free[variable].values[0], rtol=1e-3, atol=1e-3)
    assert estimate["innovation_rank"].max() <= 19


def test_a_run_that_diverges_has_none() -> None:
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    problem = masf.simulate(system, observation, gap=5, cycles=6, members=10)

    class Breaks(masf.Filter):
        count = 0

        def analyse(self, state, y):
            self.count += 1
            return state * (np.nan if self.count == 3 else 1)

    estimate = masf.assimilate(problem, Breaks)
    assert np.isfinite(estimate["innovation"].values[:2]).all()
    assert np.isnan(estimate["innovation"].values[2:]).all()
    found = masf.innovation_statistics(estimate).loc["Breaks"]
    assert found["count"] == 0
    assert found["diverged"]
    assert found.drop(["count", "outside_expected", "diverged"]).isna().all()
    estimates = {"mine": estimate, "etkf": masf.assimilate(problem, "etkf")}
    figure = masf.innovation_figure(estimates)
    titles = [ax.get_title(loc="left") for ax in figure.axes[::2]]
    assert titles == ["(a) mine: diverged", "(c) etkf"]
    plt.close(figure)


def test_a_run_that_diverged_is_never_the_nearest() -> None:
    """Though its innovations until then are the smallest: it starts from the truth."""
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    problem = masf.simulate(system, observation, gap=5, cycles=30, members=10)
    close = problem.copy(deep=True)
    close["initial_ensemble"][:] = problem["truth"][0] + 1e-3 * problem["initial_ensemble"]

    class Breaks(masf.Filter):
        count = 0

        def analyse(self, state, y):
            self.count += 1
            return state * (np.nan if self.count == 8 else 1)

    estimates = {"breaks": masf.assimilate(close, Breaks)}
    estimates |= {name: masf.assimilate(problem, name) for name in ("etkf", "free_run")}
    squares = {name: (of["innovation"] ** 2).mean().item() for name, of in estimates.items()}
    assert min(squares, key=squares.get) == "breaks"
    found = masf.innovation_statistics(estimates)
    assert found["diverged"].tolist() == [True, False, False]
    assert np.isnan(found.loc["breaks", "rms"])
    assert found["rms"].idxmin() == "etkf"


def test_rms_is_the_root_of_the_mean_square_of_what_is_measured() -> None:
    estimate = masf.assimilate(linear_problem(0.8, 12, missing=0.4), "etkf")
    d = estimate["innovation"].values[1:].astype(np.float64)
    found = masf.innovation_statistics(estimate, spin_up_cycles=1)
    assert found.loc["etkf", "rms"] == pytest.approx(np.sqrt(np.nanmean(d**2)))
    by_component = masf.innovation_statistics(estimate, spin_up_cycles=1, by_component=True)
    np.testing.assert_allclose(by_component["rms"], np.sqrt(np.nanmean(d**2, axis=0)))


def test_a_forecast_that_overflows_where_it_is_measured_is_a_result() -> None:
    system = masf.make_system("lorenz96", dimension=6)
    observation = masf.make_observation(system, "identity", noise=1.0, transform="exp")
    problem = masf.make_problem(system, observation, np.ones((2, 6)), np.full((9, 6), 99.0)
                                + np.random.default_rng(0).normal(size=(9, 6)), gap=1)  # fmt: skip
    found = masf.innovation_statistics(masf.assimilate(problem, "free_run"))
    assert not np.isfinite(found.loc["free_run", "variance"])


# --- pooling, files and what is shown


def test_the_standard_error_takes_no_measurements_of_a_cycle_for_independent() -> None:
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(400):
        values = rng.standard_normal((40, 1)) + 0.3 * rng.standard_normal((40, 5))
        values[rng.random((40, 5)) < 0.3] = np.nan
        mean, error = pooled_mean(values)
        assert mean == pytest.approx(np.nanmean(values))
        means.append(mean)
        errors.append(error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.15)
    assert np.isnan(pooled_mean(np.full((3, 2), np.nan))).all()
    assert np.isnan(pooled_mean(np.array([[1.0, 2.0]]))[1])


def test_what_was_never_measured_has_no_statistics(holes: xr.Dataset) -> None:
    problem = holes.copy(deep=True)
    problem["observation"][:, 3] = np.nan
    estimates = {"a": masf.assimilate(problem, "etkf"), "b": masf.assimilate(problem, "letkf")}
    found = masf.innovation_statistics(estimates, by_component=True)
    assert list(found.index.get_level_values("filter").unique()) == ["a", "b"]
    assert found.loc[("a", 4), "count"] == 0
    assert np.isnan(found.loc[("a", 4), "variance"])
    assert found.loc["b", "count"].sum() == np.isfinite(problem["observation"].values).sum()


def test_estimates_without_them_and_runs_of_which_nothing_is_left_are_refused(
    holes: xr.Dataset,
) -> None:
    estimate = masf.assimilate(holes, "etkf")
    with pytest.raises(ValueError, match=r"'etkf' lacks innovation, .*run assimilate again"):
        masf.innovation_statistics(estimate.drop_vars(list(INNOVATIONS)))
    with pytest.raises(ValueError, match="spin_up_cycles 3 leaves none of 3 cycles"):
        masf.innovation_figure(estimate, spin_up_cycles=3)


def test_the_figure_shows_the_statistics() -> None:
    problem = linear_problem(0.8, 60)
    estimates = {name: masf.assimilate(problem, name) for name in ("etkf", "free_run")}
    figure = masf.innovation_figure(estimates, spin_up_cycles=SPIN_UP)
    table = masf.innovation_statistics(estimates, spin_up_cycles=SPIN_UP, by_component=True)
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == ["(a) etkf", "(c) free_run"]
    for row, name in enumerate(estimates):
        moments, histogram = figure.axes[2 * row : 2 * row + 2]
        for container, key in zip(moments.containers, ("mean", "variance"), strict=True):
            np.testing.assert_allclose(container.lines[0].get_ydata(), table.loc[name, key])
        ranks = estimates[name]["innovation_rank"].values[SPIN_UP:].astype(int)
        counts = np.bincount(ranks.ravel(), minlength=20)
        heights = [bar.get_height() for bar in histogram.patches]
        np.testing.assert_allclose(heights, counts / counts.mean())
    plt.close(figure)


def test_files_have_them_and_show_says_them_without_a_truth(tmp_path: Path) -> None:
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=10, cycles=30, members=20)
    y, start = truth["observation"].values, truth["initial_ensemble"].values
    problem = masf.make_problem(system, observation, y, start, gap=10)
    estimate = masf.assimilate(problem, "etkf")
    problem.to_netcdf(tmp_path / "problem.nc")
    estimate.to_netcdf(tmp_path / "etkf.nc")
    found = masf.innovation_statistics(estimate).loc["etkf"]
    again = masf.innovation_statistics(xr.load_dataset(tmp_path / "etkf.nc")).loc["etkf"]
    assert found.equals(again)
    shown = CliRunner().invoke(commands, ["show", str(tmp_path / "etkf.nc")])
    assert shown.exit_code == 0, shown.output
    assert f"variance {found['variance']:.3g} ± {2 * found['variance_error']:.2g}" in shown.stdout
    assert "its truth is not known" in shown.stdout
    shown = CliRunner().invoke(commands, ["show", str(tmp_path / "problem.nc")])
    assert shown.exit_code == 0, shown.output
    assert "not known" in shown.stdout
    output = str(tmp_path / "x.nc")
    refused = CliRunner().invoke(
        commands,
        ["assimilate", "--truth", str(tmp_path / "problem.nc"), "--filter", "etkf", "-o", output],
    )
    assert refused.exit_code
    assert "whose truth is not known" in str(refused.exception)
