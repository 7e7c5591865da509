"""Missing measurements: NaN is "not measured", component by component and cycle by cycle, for every
filter, in files, in Python and in a config.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from problems import KINDS, covariance_matrix, make_problem

import masf
from masf.arrays import Stream
from masf.blocks import Blocks
from masf.diffusion.denoisers.learned import LearnedDenoiser
from masf.diffusion.process import ForwardProcess
from masf.files.netcdf import write
from masf.files.trajectory import Trajectory
from masf.files.truth import read_truth, truth_of
from masf.filters.base import Filter, Setup
from masf.filters.registry import filter_class, filter_names
from masf.observations.base import Observation, Part
from masf.observations.consistency import consistency_faults
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.pooling import Pooling
from masf.observations.settings import observation_settings
from masf.report.figures.vorticity import _arrows
from masf.stages.aggregate import gather
from masf.stages.assimilate import assimilate_to_file
from masf.stages.cycle import run_cycles
from masf.stages.external import write_problem
from masf.stages.simulate import simulate_to_file
from masf.study.load import make_study, study_with
from masf.study.messages import ConfigFault
from masf.systems.base import System
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
D, GAP, CYCLES, MEMBERS = 8, 2, 5, 12
NAN = np.nan
LINEAR = {"dimension": D, "speed": 0.6, "diffusion": 0.3, "persistence": 0.95}
SMALL: dict[str, dict[str, Any]] = {
    "masf": {"network": False},
    "masf_fresh": {"network": False},
    "masf_guided": {"network": False},
    "particle": {"particles": 200},
    "sf": {"training_steps": 2, "steps": 3, "network_width": 4, "network_blocks": 1},
    "ssls": {"training_steps": 2, "langevin_steps": 3, "network_width": 4, "network_blocks": 1},
}
EVERY = [(name, SMALL.get(name, {})) for name in filter_names()] + [
    ("masf_gaussian", {"passes": 2, "passes_radius": None, "localization_radius": None}),
    ("masf_mc", {"covariance": "ensemble", "weight_radius": None}),
    ("ienks", {"localization_radius": 4.0, "block": 2}),
    ("ienks", {"lag": 2}),
    ("masf_gaussian", {"covariance": "ensemble", "localization_radius": None}),
]
"""Every filter, and more of those that do something else by their parameters."""
OF_THE_LAST = {"sf", "ssls"}
"""Filters that remember something of their last cycle, besides the state."""


def ring(model_noise: float) -> System:
    """Eight components on a ring."""
    return make_system("linear_gaussian", LINEAR | {"model_noise": model_noise})


def make_filter(
    name: str,
    observation: Observation,
    parameters: dict[str, Any],
    stream: Stream | None = None,
) -> Filter:
    cls = filter_class(name)
    chosen = cls.Parameters(**parameters)
    mean = np.linspace(-1, 1, D, dtype=np.float32)
    start = torch.as_tensor(mean) if cls.needs_torch(chosen) else mean
    stream = stream or Stream(0, f"test {name}")
    # Smoothers refuse a model with noise of its own.
    system = ring(0.5 if name == "kalman" else 0.0)
    return cls(chosen, Setup(system, observation, start, 1.0, stream))


def ensemble() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((MEMBERS, D)).astype(np.float32)


def measurements(observation: Observation, cycles: int = CYCLES) -> np.ndarray:
    draws = np.random.default_rng(4).standard_normal((cycles, observation.size))
    return draws.astype(np.float32)


def run(filter_: Filter, y: np.ndarray, gap: int = GAP) -> Trajectory:
    device = "cpu" if filter_.needs_torch(filter_.parameters) else None
    truth = np.zeros((len(y), D), dtype=np.float32)
    found = run_cycles(
        filter_, ensemble(), y, gap=gap, truth_at_cycles=truth, torch_device=device, covariance=True
    )
    assert found.diverged_at is None
    return found


def assert_same(found: Trajectory, expected: Trajectory, rtol: float = 1e-4) -> None:
    for key in ("mean", "spread", "forecast_mean", "covariance", "crps"):
        a, b = getattr(found, key), getattr(expected, key)
        assert np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=key)


def by_hand(kind: str, rows: list[int]) -> Observation:
    """The measurements ``rows`` of a problem of ``kind``, written down anew."""
    whole = make_problem(kind, D).observation
    noise = whole.noise.covariance[np.ix_(rows, rows)]
    if isinstance(whole, Mask):
        return Mask(D, whole.indices[rows], noise)
    return Matrix(whole.matrix[rows], noise)


# --- a part of an observation


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_part_is_the_rows_that_are_left(kind, convert):
    whole, rows = make_problem(kind, D).observation, [0, 2, 3]
    part, expected = whole.only(np.array(rows)), by_hand(kind, rows)
    rng = np.random.default_rng(0)
    x, y = (convert(rng.standard_normal((2, n))) for n in (D, 3))
    np.testing.assert_allclose(part.apply(x), whole.apply(x)[:, rows], atol=1e-14)
    np.testing.assert_allclose(part.matrix, whole.matrix[rows], atol=1e-14)
    np.testing.assert_allclose(part.noise.covariance, expected.noise.covariance, atol=1e-14)
    for method in ("log_likelihood", "likelihood_score"):
        found = getattr(part, method)(x, y)
        np.testing.assert_allclose(found, getattr(expected, method)(x, y), rtol=1e-12, err_msg=kind)
    if kind == "pooling":
        return  # the process is another one, in a basis of its own: see test_observations.py
    found, anew = (
        ForwardProcess(o.basis(), np.full(len(o.basis().s), 0.7)) for o in (part, expected)
    )
    for t in (0.0, 0.4, 1.0):
        for name in ("A", "Sigma"):
            values = [p.apply(getattr(p, name)(t), x) for p in (found, anew)]
            np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9, err_msg=f"{name}({t})")
    np.testing.assert_allclose(
        found.likelihood_score(x, 0.4, y), anew.likelihood_score(x, 0.4, y), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(found.end_state(x, y), anew.end_state(x, y), rtol=1e-9, atol=1e-9)


def test_nothing_is_made_anew_where_all_is_there():
    for kind in KINDS:
        whole = make_problem(kind, D).observation
        assert whole.only(np.arange(whole.size)) is whole


def test_masks_and_pooling_of_many_components_form_no_matrix_of_a_part():
    masked = Mask(4000, np.arange(0, 4000, 2), noise=0.8)
    for whole in (masked, Pooling(Blocks((4000,), 2), 1, noise=0.8)):
        part = whole.only(np.arange(0, whole.size, 3))
        basis = part.basis()
        basis.apply(basis.s, np.ones(4000))
        part.likelihood_score(np.ones(4000), np.ones(part.size))
        assert "matrix" not in vars(part)
        assert "matrix" not in vars(whole)


def test_rows_of_zeros_are_left_as_they_measure_nothing():
    whole = Matrix(np.concatenate([np.zeros((1, D)), np.eye(1, D)]), noise=1.0)
    part = whole.only(np.array([0]))
    x = ensemble()
    process = ForwardProcess.for_ensemble(part.basis(), x)
    np.testing.assert_array_equal(process.end_state(x, np.ones((MEMBERS, 1))), x)
    y = measurements(whole)
    y[:, 1] = NAN
    for name in ("etkf", "masf_gaussian"):
        free = run(make_filter("free_run", whole, {}), y)
        found = run(make_filter(name, whole, {"inflation": 1.0}), y)
        np.testing.assert_allclose(found.mean, free.mean, atol=1e-5)


def test_a_class_that_measures_otherwise_is_not_taken_for_a_mask():
    class Doubled(Mask):
        def apply(self, x):
            return 2 * super().apply(x)

        def adjoint(self, v):
            return 2 * super().adjoint(v)

    part = Doubled(D, [1, 3, 5], 1.0).only(np.array([0, 2]))
    assert isinstance(part, Part)
    np.testing.assert_array_equal(part.apply(np.arange(8.0)), [2, 10])
    np.testing.assert_array_equal(part.adjoint(np.ones(2)), 2 * np.eye(D)[[1, 5]].sum(axis=0))

    class Wrong(Mask):
        def only(self, rows):
            return Mask(self.dimension, rows, 1.0)

    (fault,) = consistency_faults(Wrong(D, [1, 3, 5], 1.0))
    assert fault == "Wrong.only differs from Wrong.apply: override it, too"


# --- filters


@pytest.mark.parametrize("kind", ["mask", "mask, correlated noise", "dense", "pooling"])
@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_a_measurement_that_is_always_missing_is_as_if_it_had_never_been(name, parameters, kind):
    if name in OF_THE_LAST and kind != "mask":
        pytest.skip("slow, and takes H and R from the likelihood alone")
    whole, rows = make_problem(kind, D).observation, [0, 2, 3]
    y = measurements(whole)
    y[:, 1] = NAN
    if kind == "dense" and parameters.get("localization_radius", 12.0) is not None:
        parameters = dict(parameters)
        if "localization_radius" in filter_class(name).Parameters.model_fields:
            parameters["localization_radius"] = None  # these measurements have no place
    found = run(make_filter(name, whole, parameters), y)
    expected = run(make_filter(name, by_hand(kind, rows), parameters), y[:, rows])
    if kind == "pooling" and name.startswith("masf") and name != "masf_gaussian":
        # Another basis of the same process: what is drawn there are other numbers.
        assert np.all(np.isfinite(found.mean))
        return
    assert_same(found, expected, 2e-3 if name.startswith("masf") else 1e-4)


PATTERNS = [[0, 1, 3], [2], [0, 1, 2, 3], [0, 3], [0, 1, 2, 3]]


@pytest.mark.parametrize("kind", ["mask", "mask, correlated noise", "dense"])
@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_each_cycle_takes_what_there_is(name, parameters, kind):
    """A filter that is made anew for each cycle, for what is measured in it, gives the same."""
    if name in OF_THE_LAST or parameters.get("lag", 1) > 1:
        pytest.skip("remembers more than its state")
    whole = make_problem(kind, D).observation
    if kind == "dense" and "localization_radius" in filter_class(name).Parameters.model_fields:
        parameters = parameters | {"localization_radius": None}
    y = measurements(whole)
    for row, there in zip(y, PATTERNS, strict=True):
        row[np.setdiff1d(np.arange(4), there)] = NAN
    found = run(make_filter(name, whole, parameters), y)

    stream = Stream(0, f"test {name}")
    state: Any = ensemble()
    for k, there in enumerate(PATTERNS):
        filter_ = make_filter(name, by_hand(kind, there), parameters, stream)
        if k == 0 or name not in {"kalman", "particle"}:
            state = filter_.start(state)
        for _ in range(GAP):
            state = filter_.forecast(state)
        if name == "kalman":
            filter_.members(state)  # draws, as the cycle does of a forecast
        state = filter_.project(filter_.analyse(state, y[k, there]))
        mean, spread = filter_.moments(state)
        np.testing.assert_allclose(found.mean[(k + 1) * GAP], mean, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(found.spread[(k + 1) * GAP], spread, rtol=2e-3, atol=2e-3)
        if name == "kalman":
            filter_.members(state)


@pytest.mark.parametrize("kind", KINDS)
def test_kalman_with_rows_removed_is_the_closed_form(kind):
    """All states and measurements at once are one normal distribution; what is there is conditioned
    on, in float64.
    """
    whole = make_problem(kind, D).observation
    y = measurements(whole)
    holes = np.random.default_rng(9).random(y.shape) < 0.4
    holes[2] = True
    y[holes] = NAN
    found = run(make_filter("kalman", whole, {}), y)

    mean = np.linspace(-1, 1, D, dtype=np.float32).astype(float)
    steps, model = GAP * CYCLES, ring(0.5).matrix
    # The states of all steps, x_k = M x_(k-1) + xi.
    powers = [np.linalg.matrix_power(model, k) for k in range(steps + 1)]
    means = np.concatenate([p @ mean for p in powers])
    covariance = np.zeros((len(means), len(means)))
    for source in range(steps + 1):
        response = np.zeros((len(means), D))
        for k in range(source, steps + 1):
            response[k * D : (k + 1) * D] = powers[k - source]
        covariance += (1.0 if source == 0 else 0.25) * response @ response.T
    seen, noises, values = [], [], []
    for k in range(CYCLES):
        there = np.flatnonzero(~holes[k])
        rows = np.zeros((len(there), len(means)))
        at = (k + 1) * GAP * D
        rows[:, at : at + D] = whole.matrix[there]
        seen.append(rows)
        noises.append(whole.noise.covariance[np.ix_(there, there)])
        values.append(y[k, there])
        h, r = np.concatenate(seen), np.zeros((sum(map(len, values)),) * 2)
        start = 0
        for block in noises:
            r[start : start + len(block), start : start + len(block)] = block
            start += len(block)
        gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + r)
        now = slice(at, at + D)
        posterior = (means + gain @ (np.concatenate(values) - h @ means))[now]
        np.testing.assert_allclose(found.mean[(k + 1) * GAP], posterior, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            found.covariance[k],
            (covariance - gain @ h @ covariance)[now, now],
            rtol=1e-4,
            atol=1e-5,
        )
    np.testing.assert_array_equal(found.mean[3 * GAP], found.forecast_mean[2])


@pytest.mark.parametrize(("name", "parameters"), EVERY)
def test_a_cycle_without_any_measurement_is_a_forecast(name, parameters):
    """Two cycles of which the first measures nothing are one with twice the gap, for filters that
    look back over it, too.
    """
    whole = make_problem("mask", D).observation
    y = measurements(whole, 4)
    y[[0, 2]] = NAN
    found = run(make_filter(name, whole, parameters), y)
    expected = run(make_filter(name, whole, parameters), y[1::2], gap=2 * GAP)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.spread, expected.spread)
    for k in (0, 2):
        np.testing.assert_array_equal(found.mean[(k + 1) * GAP], found.forecast_mean[k])
        np.testing.assert_array_equal(found.spread[(k + 1) * GAP], found.forecast_spread[k])
    for key, values in found.diagnostics.items():
        np.testing.assert_array_equal(np.isnan(values), [True, False, True, False], err_msg=key)
        np.testing.assert_array_equal(values[1::2], expected.diagnostics[key])


def test_large_grids_and_long_rings_take_holes():
    """The other kinds of localisation: on a grid of two axes, and on a ring too long for a
    matrix.
    """
    flow, long = (
        masf.make_system("kolmogorov", size=16),
        masf.make_system("lorenz96", dimension=300),
    )
    every_second = {"stride": 2, "noise": 0.5, "missing": 0.4}
    for system, operator, names in (
        (flow, "grid", ["letkf", "enkf_localized", "masf_gaussian", "masf_mc", "ienks"]),
        (long, "stride", ["letkf", "masf_gaussian"]),
    ):
        observation = masf.make_observation(system, operator, **every_second)
        problem = masf.simulate(system, observation, gap=1, cycles=2, members=8, seed=1)
        assert 0.3 < np.isnan(problem["observation"].values).mean() < 0.5
        for name in names:
            radius = 4 * system.spacing
            found = masf.assimilate(problem, name, {"localization_radius": radius})
            assert found.attrs["diverged"] == 0
            assert float(found["rmse"][-1]) < float(found["rmse_forecast"][-1]), name


# --- filters of one's own


class Kept(Filter):
    """Keeps H in its constructor, which is wrong where measurements are missing."""

    def __init__(self, parameters, setup):
        super().__init__(parameters, setup)
        self.h = setup.observation.matrix

    def analyse(self, state, y):
        return state + 0.1 * (y - state @ self.h.T) @ self.h


class Told(Kept):
    """Makes it anew."""

    def observe(self, observation):
        super().observe(observation)
        self.h = observation.matrix


class Knows(Kept):
    missing = "own"

    def analyse(self, state, y):
        return state + 0.1 * np.nan_to_num(y - state @ self.h.T) @ self.h


def test_filters_of_ones_own_with_a_constructor_have_to_say_what_they_do():
    whole = make_problem("mask", D).observation
    y = measurements(whole)
    y[3, 1] = NAN
    setup = Setup(ring(0.0), whole, np.zeros(D, np.float32), 1.0, Stream(0, "own"))
    with pytest.raises(ValueError, match=r"Kept: cannot do without .* \(NaN\) in cycle 4; "):
        run(Kept(None, setup), y)
    run(Kept(None, setup), np.nan_to_num(y))
    y[1] = NAN
    assert_same(run(Told(None, setup), y), run(Knows(None, setup), y))


# --- in Python


@pytest.fixture(scope="module")
def problem():
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "identity", noise=1.0)
    return masf.simulate(system, observation, gap=5, cycles=6, members=10, seed=3)


def again(problem, change: Callable[[np.ndarray], Any], ensemble: Any = None):
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "identity", noise=1.0)
    values = change(problem["observation"].values.copy())
    members = problem["initial_ensemble"].values if ensemble is None else ensemble
    return masf.make_problem(system, observation, values, members, gap=5)


def test_what_is_masked_is_missing(problem):
    holes = np.random.default_rng(0).random(problem["observation"].shape) < 0.3

    def filled(y):
        return np.ma.masked_array(np.where(holes, 9.96921e36, y), holes)

    masked = again(problem, filled)
    of_nan = again(problem, lambda y: np.where(holes, NAN, y))
    np.testing.assert_array_equal(np.isnan(masked["observation"]), holes)
    found, expected = (masf.assimilate(p, "letkf") for p in (masked, of_nan))
    np.testing.assert_array_equal(found["mean"], expected["mean"])
    assert np.all(np.isfinite(found["mean"]))
    complete = masf.assimilate(again(problem, lambda y: y), "letkf")
    assert float(np.mean(found["spread"])) > float(np.mean(complete["spread"]))


def one(value: float, *at: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(y):
        y[at] = value
        return y

    return change


def test_values_that_are_no_measurements_are_refused_with_their_place(problem):
    with pytest.raises(ValueError, match="measurements: cycle 5, component 8 is inf: expected"):
        again(problem, one(np.inf, 4, 7))
    with pytest.raises(ValueError, match=r"measurements are all missing \(NaN\)"):
        again(problem, lambda y: np.full_like(y, NAN))
    members = problem["initial_ensemble"].values.copy()
    members[2, 1] = NAN
    with pytest.raises(ValueError, match="ensemble: member 3, component 2 is nan: expected finite"):
        again(problem, lambda y: y, members)


def test_missing_leaves_truth_and_other_measurements_as_they_are(problem):
    system = masf.make_system("lorenz96", dimension=12)
    settings = {"gap": 5, "cycles": 6, "members": 10, "seed": 3}
    found = {}
    for share in (0.3, 0.6):
        observation = masf.make_observation(system, "identity", noise=1.0, missing=share)
        found[share] = masf.simulate(system, observation, **settings)
        for name in ("truth", "initial_ensemble"):
            np.testing.assert_array_equal(found[share][name], problem[name])
        y = found[share]["observation"].values
        there = np.isfinite(y)
        np.testing.assert_array_equal(y[there], problem["observation"].values[there])
        # A binomial share of 72.
        assert abs(1 - there.mean() - share) < 4 * np.sqrt(share * (1 - share) / y.size)
    fewer, more = (np.isnan(found[share]["observation"]) for share in (0.3, 0.6))
    assert np.all(more.values[fewer.values])


def test_files_keep_what_is_missing(tmp_path):
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0, missing=0.5)
    made = masf.simulate(system, observation, gap=2, cycles=6, members=3)
    write(tmp_path / "truth.nc", made)
    read = read_truth(tmp_path / "truth.nc")
    assert np.isnan(read.observation).any()
    np.testing.assert_array_equal(read.observation, made["observation"].values)
    assert read.settings.observation["missing"] == 0.5


def test_random_covariances_have_parts_of_their_own():
    covariance = covariance_matrix(5, np.random.default_rng(1))
    part = Mask(D, range(5), covariance).only(np.array([1, 4])).noise
    y = np.array([0.3, -1.0])
    expected = -0.5 * y @ np.linalg.solve(covariance[np.ix_([1, 4], [1, 4])], y)
    assert part.log_density(y) == pytest.approx(expected)


# --- in a study


def small(tmp_path: Path, filters: list[str], missing: float = 0.3) -> dict[str, Any]:
    return {
        "results": str(tmp_path),
        "seeds": {"test": [0]},
        "filters": filters,
        "observations": {
            "all": {"operator": "identity", "noise": 1.0},
            "most": {"operator": "identity", "noise": 1.0, "missing": missing},
        },
        "experiments": {
            "lorenz63": {
                "title": "Lorenz-63",
                "system": "lorenz63",
                "parameters": {"dt": 0.01},
                "observations": ["all", "most"],
                "gaps": [10],
                "members": 10,
                "cycles": 40,
                "spin_up_cycles": 5,
            }
        },
    }


def test_a_study_scores_what_is_missing_as_all_else(tmp_path):
    config = small(tmp_path, ["etkf", "masf_mc"], missing=0.7)
    study = make_study(config, root=ROOT)
    assert {cell.observation_name for cell in study.cells.values()} == {"all", "most"}
    measured = {}
    for cell in study.cells.values():
        simulate_to_file(cell.settings, tmp_path / cell.truth)
        measured[cell.observation_name] = read_truth(tmp_path / cell.truth).observation
        for name in cell.filters:
            assimilate_to_file(
                tmp_path / cell.truth,
                tmp_path / cell.estimate(name),
                name=name,
                parameters=study.filter_parameters(name, cell),
                cost=tmp_path / cell.cost(name),
            )
    there = ~np.isnan(measured["most"])
    assert not there.all(axis=1)[5:].all()
    assert not there.any(axis=1)[5:].all(), "no cycle is empty: another seed"
    np.testing.assert_array_equal(measured["most"][there], measured["all"][there])
    scores, _ = gather(study)
    rows = scores.set_index(["filter", "observation"])
    assert np.isfinite(rows["rmse"]).all()
    assert not rows["diverged"].any()
    assert rows.loc[("etkf", "most"), "rmse"] > rows.loc[("etkf", "all"), "rmse"]
    # Of what an analysis tells of itself, the mean over the cycles that had one.
    assert rows.loc[("masf_mc", "most"), "diagnostic_effective_size"] > 0


def test_a_filter_that_cannot_is_refused_before_any_job(tmp_path):
    config = small(tmp_path, ["etkf", "theirs"])
    theirs = {"label": "Theirs", "command": "python theirs.py"}
    expected = (
        "filter 'theirs': cannot do without the measurements that observations.most.missing = 0.3 "
        "leaves out; add it to leave_out_filters (in experiments.lorenz63, system 'lorenz63', "
        "observation 'most')"
    )
    with pytest.raises(ConfigFault, match=re.escape(expected)):
        study_with(config, {"etkf": {"label": "ETKF"}, "theirs": theirs}, {})
    study_with(config, {"etkf": {"label": "ETKF"}, "theirs": theirs | {"missing": True}}, {})
    with pytest.raises(ConfigFault, match="missing is for filters with a command"):
        study_with(small(tmp_path, ["etkf"]), {"etkf": {"label": "ETKF", "missing": True}}, {})


@pytest.mark.parametrize("share", [-0.1, 1.0, "most"])
def test_shares_are_checked(share):
    with pytest.raises(ValueError, match="missing"):
        observation_settings({"operator": "identity", "noise": 1.0, "missing": share})


def test_a_prior_for_what_is_missing_is_trained_with_holes(tmp_path, monkeypatch):
    """And one that was trained without any serves cycles with holes, too."""
    system = masf.make_system("lorenz96", dimension=12)
    settings = {
        "worlds": 6, "cycles": 3, "spin_up_cycles": 1, "members": 8, "extra_members": 4,
        "steps": 5, "rounds": 2, "climate_steps": 20, "localization_radii": [4.0],
    }  # fmt: skip
    masks = []
    learned = LearnedDenoiser.__init__

    def seen(self, *args, **kwargs):
        learned(self, *args, **kwargs)
        masks.append(self._context[2].numpy())

    monkeypatch.setattr(LearnedDenoiser, "__init__", seen)
    problems, shares = {}, {}
    for missing in (0.0, 0.5):
        masks.clear()
        observation = masf.make_observation(system, "identity", noise=1.0, missing=missing)
        problem = masf.simulate(system, observation, gap=3, cycles=6, members=12)
        problems[missing] = (
            problem,
            masf.train_prior(problem, tmp_path / f"{missing}.safetensors", settings),
        )
        shares[missing] = 1 - np.mean(masks)
        assert set(np.unique(masks)) <= {0.0, 1.0}
    assert shares[0.0] == 0
    assert shares[0.5] == pytest.approx(0.5, abs=0.1)
    assert problems[0.0][1].read_bytes() != problems[0.5][1].read_bytes()
    # A system of one's own, too.
    masks.clear()
    own = type("Mine", (type(system),), {})(system.parameters)
    of_own = masf.simulate(own, observation, gap=3, cycles=6, members=12)
    masf.train_prior(of_own, tmp_path / "own.safetensors", settings, system=own)
    assert 1 - np.mean(masks) == pytest.approx(0.5, abs=0.1)
    holes = problems[0.5][0]
    for _, prior in problems.values():
        masks.clear()
        found = masf.assimilate(holes, "masf", prior=prior)
        assert found.attrs["diverged"] == 0
        assert np.all(np.isfinite(found["mean"]))
        # What the network is told is what the cycle measures.
        told = {tuple(mask) for mask in masks}
        assert told == {tuple(1.0 * ~np.isnan(y)) for y in holes["observation"].values}


def test_commands_are_told_by_nan(tmp_path):
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0, missing=0.5)
    truth = truth_of(masf.simulate(system, observation, gap=2, cycles=6, members=3))
    setup = Setup(system, observation, truth.initial_mean, 1.0, Stream(0, "command"))
    write_problem(tmp_path / "problem.nc", truth, setup, seed=1, device="cpu")
    with netCDF4.Dataset(tmp_path / "problem.nc") as data:
        written = data["observation"][:]
    assert not np.ma.is_masked(written)
    np.testing.assert_array_equal(written, truth.observation)
    assert np.isnan(written).any()


def test_arrows_are_drawn_where_both_velocities_were_measured():
    figure = Figure()
    ax = figure.subplots()
    places = np.array([[0.0, 0.0], [2.0, 2.0], [4.0, 4.0]] * 2)
    _arrows(ax, np.array([1.0, NAN, 2.0, 1.0, 1.0, -1.0]), places, 8)
    (arrows,) = ax.collections
    np.testing.assert_array_equal(arrows.U, [1, 2])
    np.testing.assert_array_equal(arrows.XY, [[0, 0], [4, 4]])
    assert np.isfinite(arrows.scale)
    ax.clear()
    _arrows(ax, np.full(6, NAN), places, 8)
    assert not ax.collections
