"""Measurements that come at irregular times: steps in Python and in files, a pattern of gaps that
repeats in a config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

import masf
from masf.arrays import Stream
from masf.files.cell import CellSettings
from masf.files.netcdf import write
from masf.files.truth import read_truth, truth_of
from masf.filters.base import Setup
from masf.filters.registry import filter_class
from masf.gaps import as_gap, gap_of_steps, measurement_steps, pattern_of
from masf.observations.mask import Mask
from masf.stages.aggregate import aggregate, gather
from masf.stages.assimilate import assimilate_to_file
from masf.stages.cycle import run_cycles
from masf.stages.external import _Replay, read_estimate, write_problem
from masf.stages.plot import draw
from masf.stages.simulate import simulate_to_file
from masf.study.load import make_study
from masf.study.messages import ConfigFault
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
STEPS = [2, 3, 7, 8, 14]


@pytest.mark.parametrize(
    ("given", "gap", "steps"),
    [
        (5, 5, [5, 10, 15, 20]),
        (np.int64(5), 5, [5, 10, 15, 20]),
        ([5], 5, [5, 10, 15, 20]),
        ([5, 5], 5, [5, 10, 15, 20]),
        ([5, 10, 20], "5-10-20", [5, 15, 35, 40]),
        ((2, 3, 2, 3), "2-3", [2, 5, 7, 10]),
        ([2, 3, 2], "2-3-2", [2, 5, 7, 9]),
        ("5-10", "5-10", [5, 15, 20, 30]),
        ("7", 7, [7, 14, 21, 28]),
    ],
)
def test_a_gap_has_one_way_to_be_written(given, gap, steps):
    assert as_gap(given) == gap
    assert type(as_gap(given)) is type(gap)
    assert as_gap(pattern_of(gap)) == gap
    np.testing.assert_array_equal(measurement_steps(gap, 4), steps)
    assert as_gap([4, *np.diff(steps)]) == gap_of_steps([4, *(4 + np.cumsum(np.diff(steps)))])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "gap is 0: expected at least 1"),
        (-1, "gap is -1: expected at least 1"),
        ("-1", "gap is -1: expected at least 1"),
        ([5, 0], "gap is 0: expected at least 1"),
        (10**6, "gap is 1000000: expected at most 100000"),
        (2.5, "gap is 2.5: expected a number of steps, or a list of such that repeats"),
        ("5-", "gap is '5-': expected a number of steps"),
        ([], r"gap is \[\]: expected a number of steps"),
        (True, "gap is True: expected a number of steps"),
        (None, "gap is None: expected a number of steps"),
    ],
)
def test_what_is_no_gap_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        as_gap(given)


@pytest.mark.parametrize(
    "steps",
    [
        [0, 3],
        [3, 3],
        [4, 2],
        [1.5, 2],
        [],
        [[1, 2]],
        [1, np.nan],
        [1, np.inf],
        ["1"],
        np.array(["2020-01-01"], "M8[D]"),
    ],
)
def test_steps_that_do_not_rise_are_refused(steps):
    with pytest.raises(ValueError, match="steps: "):
        gap_of_steps(steps)


# --- the cycle


def test_kalman_at_irregular_times_is_the_closed_form():
    """The Kalman filter, written down with a power of the model for each gap."""
    system = make_system("linear_gaussian", {"dimension": 4, "model_noise": 0.4})
    observation = Mask(4, [0, 2], noise=[0.5, 0.8])
    y = np.random.default_rng(1).standard_normal((len(STEPS), 2)).astype(np.float32)
    cls = filter_class("kalman")
    setup = Setup(system, observation, np.zeros(4, np.float32), 1.0, Stream(0, "test"))
    found = run_cycles(
        cls(cls.Parameters(), setup),
        np.zeros((2, 4)),
        y,
        gap=gap_of_steps(STEPS),
        truth_at_cycles=np.zeros((len(STEPS), 4)),
        covariance=True,
    )
    assert len(found.mean) == STEPS[-1] + 1
    mean, covariance, model, h = np.zeros(4), np.eye(4), system.matrix, observation.matrix
    for k, gap in enumerate(np.diff(STEPS, prepend=0)):
        power = np.linalg.matrix_power(model, gap)
        noise = sum(0.4**2 * (p := np.linalg.matrix_power(model, i)) @ p.T for i in range(int(gap)))
        mean, covariance = power @ mean, power @ covariance @ power.T + noise
        np.testing.assert_allclose(found.forecast_mean[k], mean, rtol=1e-5, atol=1e-6)
        precision = h.T @ np.diag([0.5**-2, 0.8**-2]) @ h
        posterior = np.linalg.inv(np.linalg.inv(covariance) + precision)
        rhs = np.linalg.solve(covariance, mean) + h.T @ (y[k] / [0.5**2, 0.8**2])
        mean, covariance = posterior @ rhs, posterior
        np.testing.assert_allclose(found.mean[STEPS[k]], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.covariance[k], covariance, rtol=1e-4, atol=1e-6)
    # A cycle counts the model's runs over a gap of its own: nobody ran a member here.
    assert np.all(found.model_runs == 0)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("etkf", {}),
        ("letkf", {}),
        ("masf_gaussian", {"passes": 2}),
        ("masf_mc", {}),
        ("ienks", {"lag": 2}),
        ("free_run", {}),
    ],
)
def test_irregular_times_are_regular_ones_of_which_some_are_missing(name, parameters):
    """A measurement at some of all steps: NaN at the others, or never heard of."""
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=1, cycles=STEPS[-1], members=10)
    y, members = truth["observation"].values, truth["initial_ensemble"].values
    holes = np.full_like(y, np.nan)
    at = np.array(STEPS) - 1
    holes[at] = y[at]
    every = masf.make_problem(system, observation, holes, members, gap=1)
    some = masf.make_problem(system, observation, y[at], members, steps=STEPS)
    expected, found = (masf.assimilate(p, name, parameters) for p in (every, some))
    np.testing.assert_array_equal(found["mean"], expected["mean"])
    np.testing.assert_array_equal(found["spread"], expected["spread"])
    np.testing.assert_array_equal(found["cycle_time"], found["model_time"].values[STEPS])
    runs = 10 * (parameters.get("passes", 1))
    if name not in {"ienks", "masf_gaussian"}:
        np.testing.assert_array_equal(found["model_runs"], runs)


# --- in Python and in files


def problem(**when: Any):
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    rng = np.random.default_rng(0)
    y, members = rng.standard_normal((5, 3)), rng.standard_normal((8, 3))
    return masf.make_problem(system, observation, y, members, **when)


def test_a_problem_says_when_it_was_measured():
    made = problem(steps=STEPS)
    np.testing.assert_allclose(made["cycle_time"], np.array(STEPS) * 0.01, rtol=1e-6)
    assert problem(gap=[2, 1, 4, 1, 6]).identical(made)
    assert problem(gap=[3]).identical(problem(gap=3))
    with pytest.raises(ValueError, match="expected gap or steps, and one of them only"):
        problem()
    with pytest.raises(ValueError, match="expected gap or steps, and one of them only"):
        problem(gap=2, steps=STEPS)
    with pytest.raises(ValueError, match="steps has 4 numbers: expected 5, one a measurement"):
        problem(steps=STEPS[:4])
    with pytest.raises(ValueError, match="that of measurement 2 is 2: expected steps that rise"):
        problem(steps=[2, 2, 3, 4, 5])
    with pytest.raises(
        ValueError, match=r"measurement 1 is 0: .* begin the ensemble a step earlier"
    ):
        problem(steps=[0, 2, 3, 4, 5])


def test_times_that_were_changed_in_a_file_are_refused(tmp_path):
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=[2, 5], cycles=4, members=5)
    assert len(truth["truth"]) == 15
    write(tmp_path / "truth.nc", truth)
    np.testing.assert_array_equal(read_truth(tmp_path / "truth.nc").settings.steps, [2, 7, 9, 14])
    estimate = masf.assimilate(truth, "etkf")
    scores = masf.score(estimate, spin_up_cycles=1).iloc[0]
    rmse = estimate["rmse"].values.astype(float)
    assert scores["rmse_analysis"] == pytest.approx(rmse[[7, 9, 14]].mean())
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean(rmse[3:] ** 2)))
    moved = truth.assign_coords(cycle_time=truth["cycle_time"] + np.float32(0.01))
    with pytest.raises(ValueError, match="has a cycle_time other than its gap 2-5 says"):
        masf.assimilate(moved, "etkf")
    with pytest.raises(ValueError, match="has 15 times and 3 measurements: its settings"):
        masf.assimilate(truth.isel(cycle=slice(3)), "etkf")


def test_commands_are_told_when(tmp_path):
    system = masf.make_system("lorenz63")
    observation = masf.make_observation(system, "identity", noise=1.0)
    made = masf.simulate(system, observation, gap=[2, 5], cycles=4, members=3)
    truth = truth_of(made)
    setup = Setup(system, observation, truth.initial_mean, 1.0, Stream(0, "command"))
    write_problem(tmp_path / "problem.nc", truth, setup, seed=1, device="cpu")
    with netCDF4.Dataset(tmp_path / "problem.nc") as data:
        assert data["cycle_step"][:].tolist() == [2, 7, 9, 14]
        assert data.gap == "2-5"
    # What it writes is walked through at these steps, and scored as our own.
    own = masf.assimilate(made, "etkf", saved_members=3)
    free = masf.assimilate(made, "free_run", saved_members=3)
    with netCDF4.Dataset(tmp_path / "estimate.nc", "w") as data:
        for name, length in {"model_time": 15, "cycle": 4, "member": 3, "component": 3}.items():
            data.createDimension(name, length)
        for name in ("mean", "spread"):
            data.createVariable(name, "f4", ("model_time", "component"))[:] = own[name].values
        for name, members in (("forecast", free), ("analysis", own)):
            variable = data.createVariable(name, "f4", ("cycle", "member", "component"))
            variable[:] = members["member"].values.transpose(1, 0, 2)
    estimate = read_estimate(tmp_path / "estimate.nc", steps=truth.settings.steps, dimension=3)
    found = run_cycles(
        _Replay(estimate, truth.settings.steps, setup),
        truth.initial_ensemble,
        truth.observation,
        gap="2-5",
        truth_at_cycles=truth.truth[truth.settings.steps],
    )
    np.testing.assert_array_equal(found.mean, own["mean"])
    np.testing.assert_array_equal(found.members, own["member"])
    np.testing.assert_allclose(
        found.forecast_mean, free["member"].values.mean(axis=0), rtol=1e-5, atol=1e-5
    )


# --- in a study


IRREGULAR = {
    "title": "Irregular times", "system": "lorenz63", "parameters": {"dt": 0.01},
    "observations": ["all"], "members": 10, "cycles": 7, "spin_up_cycles": 2,
}  # fmt: skip


def config(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "results": str(tmp_path),
        "seeds": {"test": [0, 1]},
        "filters": ["etkf", "free_run"],
        "observations": {"all": {"operator": "identity", "noise": 1.0}},
        "experiments": {
            "irregular": {**IRREGULAR, "gaps": [5, [5, 10, 2]]},
            "alone": {**IRREGULAR, "gaps": [[5, 10, 2]]},
        },
        "figures": {
            "paths": {
                "kind": "trajectories",
                "title": "Paths",
                "experiment": "alone",
                "seed": 0,
                "cycles": 4,
            },
            "over_time": {
                "kind": "sweep",
                "title": "Over time",
                "panels": [
                    {
                        "experiment": "irregular",
                        "axis": "time",
                        "observation": "all",
                        "where": {"gap": "5-10-2"},
                        "seed": 0,
                    }
                ],
            },
        }
        | changes,
    }


def test_a_pattern_of_gaps_is_a_cell_like_others(tmp_path):
    study = make_study(config(tmp_path), root=ROOT)
    paths = {cell.path.split("/")[3] for cell in study.cells.values()}
    assert paths == {"gap~5", "gap~5-10-2"}
    for cell in study.cells.values():
        simulate_to_file(cell.settings, tmp_path / cell.truth)
        for name in cell.filters:
            assimilate_to_file(
                tmp_path / cell.truth,
                tmp_path / cell.estimate(name),
                name=name,
                parameters=study.filter_parameters(name, cell),
                cost=tmp_path / cell.cost(name),
            )
    aggregate(
        study,
        scores=tmp_path / "scores.parquet",
        costs=tmp_path / "costs.parquet",
        tables=tmp_path / "tables",
    )
    scores, _ = gather(study)
    rows = scores.set_index(["filter", "gap", "seed"])["rmse_analysis"].sort_index()
    assert set(rows.index.get_level_values("gap")) == {"5", "5-10-2"}
    assert np.all(rows["etkf"].to_numpy() < rows["free_run"].to_numpy())
    table = (tmp_path / "tables" / "irregular.md").read_text(encoding="utf-8")
    assert "5-10-2" in table
    for name in study.config.figures:
        draw(study, name, tmp_path / "scores.parquet", [tmp_path / f"{name}.png"])
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_an_axis_of_gaps_needs_numbers(tmp_path):
    panel = {"experiment": "irregular", "axis": "gap", "observation": "all"}
    sweep = {"kind": "sweep", "title": "Sweep", "panels": [panel]}
    with pytest.raises(ConfigFault, match="axis = 'gap': 5-10-2 of experiment 'irregular' is no"):
        make_study(config(tmp_path, sweep=sweep), root=ROOT)


def test_settings_write_the_gap_in_one_way():
    keys = {
        "system": "lorenz63", "parameters": {}, "observation": {}, "cycles": 4, "members": 2,
        "initial_spread": 1.0, "seed": 0,
    }  # fmt: skip
    assert CellSettings(gap=[2, 3, 2, 3], **keys) == CellSettings(gap="2-3", **keys)
    assert '"gap": 5' in CellSettings(gap=5, **keys).to_json()
