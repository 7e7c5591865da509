"""Filters that are not ours: they see no truth, are scored as ours are, and go wrong in clear
words.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest

from masf.cli import main
from masf.cli.options import THREAD_VARIABLES
from masf.files.cell import CellSettings, build
from masf.files.provenance import assimilate_version
from masf.files.truth import Truth, write_truth
from masf.filters.base import Setup
from masf.programs import located
from masf.stages.assimilate import run_filter
from masf.stages.external import CommandFault, own_seed, read_estimate, write_problem
from masf.stages.simulate import simulate

GAP, CYCLES = 3, 4
CELL = CellSettings(
    "lorenz63", {"dt": 0.01}, {"operator": "identity", "noise": 1.0}, GAP, CYCLES, 6, 1.0, 5
)
COMMAND = shlex.join([sys.executable, str(Path(__file__).parent / "external_filter.py")])


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate(CELL)


@pytest.fixture(scope="module")
def good_command(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A command that repeats an estimate made once."""
    kept = tmp_path_factory.mktemp("estimate") / "estimate.nc"
    run_filter("theirs", {}, truth, command=f"sh -c '{COMMAND} \"$@\" && cp $6 {kept}' sh")
    return f"sh -c 'cp {kept} $6' sh"


# The problem


def problem_of(settings: CellSettings, path: Path) -> tuple[Truth, dict[str, Any], dict[str, Any]]:
    """The truth of a cell, and the variables and attributes of its problem.nc."""
    truth = simulate(settings)
    system, observation = build(settings)
    setup = Setup(system, observation, truth.initial_mean, settings.initial_spread, None)
    # type: ignore[arg-type]
    write_problem(path, truth, setup, seed=7, device="cpu")
    with netCDF4.Dataset(path) as data:
        return (
            truth,
            {k: (v.dimensions, v[:].filled()) for k, v in data.variables.items()},
            data.__dict__,
        )


def test_problem_holds_what_a_filter_may_know(tmp_path: Path) -> None:
    truth, variables, attributes = problem_of(CELL, tmp_path / "problem.nc")
    assert {name: dims for name, (dims, _) in variables.items()} == {
        "observation": ("cycle", "obs"),
        "cycle_step": ("cycle",),
        "initial_mean": ("component",),
        "initial_ensemble": ("member", "component"),
        "H_indices": ("obs",),
        "R_diagonal": ("obs",),
    }
    for name in ("observation", "initial_mean", "initial_ensemble"):
        np.testing.assert_array_equal(variables[name][1], getattr(truth, name))
    assert variables["H_indices"][1].tolist() == [0, 1, 2]
    assert json.loads(attributes["parameters"]) == {
        "dt": 0.01, "sigma": 10.0, "rho": 28.0, "beta": 8 / 3, "model_noise": 0.0
    }  # fmt: skip
    assert (attributes["system"], attributes["gap"], attributes["cycles"], attributes["seed"]) == (
        "lorenz63",
        GAP,
        CYCLES,
        7,
    )


def test_problem_holds_matrices_where_the_observation_has_them(tmp_path: Path) -> None:
    matrix, covariance = [[1.0, 0.5, 0.0], [0.0, 0.0, 2.0]], [[1.0, 0.3], [0.3, 2.0]]
    settings = dataclasses.replace(
        CELL, observation={"operator": "matrix", "matrix": matrix, "noise": covariance}
    )
    _, variables, _ = problem_of(settings, tmp_path / "problem.nc")
    assert variables["cycle_step"][1].tolist() == [GAP * k for k in range(1, CYCLES + 1)]
    given = {"observation", "cycle_step", "initial_mean", "initial_ensemble", "H", "R"}
    assert variables.keys() == given
    assert (variables["H"][0], variables["H"][1].tolist()) == (("obs", "component"), matrix)
    assert (variables["R"][0], variables["R"][1].tolist()) == (("obs", "other_obs"), covariance)


def test_problem_with_an_ensemble_of_ones_own_has_no_spread_that_stands_for_it(
    truth: Truth, tmp_path: Path
) -> None:
    system, observation = build(CELL)
    given = dataclasses.replace(truth, settings=dataclasses.replace(CELL, initial_spread=None))
    x = truth.initial_ensemble
    setup = Setup(system, observation, x.mean(axis=0), None, None, None, x - x.mean(axis=0))
    # type: ignore[arg-type]
    write_problem(tmp_path / "given.nc", given, setup, seed=7, device="cpu")
    with netCDF4.Dataset(tmp_path / "given.nc") as data:
        assert "initial_spread" not in data.ncattrs()
        np.testing.assert_array_equal(data["initial_ensemble"][:], x)
    with pytest.raises(ValueError, match="initial_spread or initial_anomalies"):
        Setup(system, observation, x.mean(axis=0), None, None)  # type: ignore[arg-type]


def test_filter_does_not_learn_the_seed_of_the_truth() -> None:
    seeds = {own_seed(seed, name) for seed in range(50) for name in ("one", "other")}
    assert len(seeds) == 100
    assert not seeds & set(range(50))


# Its estimate


def test_command_that_does_what_our_filter_does_gets_the_same_scores(truth: Truth) -> None:
    ours, _, _ = run_filter("free_run", {}, truth, saved_members=2)
    theirs, system, where = run_filter(
        "theirs", {"seconds": 0.25}, truth, saved_members=2, command=COMMAND
    )
    assert (type(system).__name__, where) == ("Lorenz63", "external")
    for name in (
        "mean", "spread", "forecast_mean", "members", "crps", "crps_forecast", "model_runs",
    ):  # fmt: skip
        np.testing.assert_allclose(
            getattr(theirs, name), getattr(ours, name), rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert theirs.diverged_at is ours.diverged_at is None
    assert theirs.diagnostics["twice"].tolist() == [0, 2, 4, 6]
    # The seconds that it tells, and its processor time, which it does not tell, spread evenly.
    assert theirs.wall_seconds.tolist() == [0.25] * CYCLES
    assert np.ptp(theirs.cpu_seconds) == 0
    assert 0.01 < CYCLES * theirs.cpu_seconds[0] < 60
    assert 10 < theirs.peak_memory_mib < 10_000


def test_what_a_command_does_not_write_has_diverged(truth: Truth) -> None:
    found, _, _ = run_filter(
        "theirs", {"seconds": 0.25}, truth, command=f"{COMMAND} --diverge-in 2"
    )
    assert found.diverged_at == 2
    assert np.isfinite(found.mean).all(axis=1).tolist() == [True] * (2 * GAP + 1) + [False] * (
        2 * GAP
    )
    for series in (found.crps, found.crps_forecast, found.wall_seconds, found.cpu_seconds):
        assert np.isfinite(series).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("spoil", "cycle"),
    [
        pytest.param(
            lambda e: e["mean"].__setitem__(2 * GAP, np.nan), 1, id="a mean after an analysis"
        ),
        pytest.param(
            lambda e: e["mean"].__setitem__(GAP + 1, np.inf), 1, id="a mean between measurements"
        ),
        pytest.param(lambda e: e["analysis"].__setitem__((2, 0), np.nan), 2, id="one member"),
        pytest.param(
            lambda e: e["forecast"].__setitem__((0, 0), np.nan), 0, id="one member of a forecast"
        ),
        pytest.param(
            lambda e: e["spread"].__setitem__(slice(3 * GAP, None), 0),
            2,
            id="a spread that is lost",
        ),
    ],
)
def test_estimate_that_is_not_finite_or_lost_its_spread_has_diverged(
    spoil: Callable, cycle: int, truth: Truth, good_command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_spoilt(*words: Any, **options: Any) -> Any:
        estimate = read_estimate(*words, **options)
        spoil(vars(estimate))
        return estimate

    monkeypatch.setattr("masf.stages.external.read_estimate", read_spoilt)
    assert run_filter("theirs", {}, truth, command=good_command)[0].diverged_at == cycle


# What goes wrong


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (f"{COMMAND} --fail", ["exit code 1", "read the problem\nand could make nothing of it"]),
        (f"{COMMAND} --write-nothing", ["no file where --output said"]),
        ("no/such/program --option", ["'no/such/program' is no program here"]),
        ("sh -c 'kill -9 $$'", ["exit code 137", "(nothing)"]),
        ("sh -c 'echo nonsense > $6' sh", ["no estimate that can be used", "Unknown file format"]),
    ],
)
def test_command_that_fails_is_named(command: str, said: list[str], truth: Truth) -> None:
    with pytest.raises(CommandFault) as caught:
        run_filter("theirs", {}, truth, command=command)
    for text in (repr(command), *said):
        assert text in str(caught.value)


def write_estimate(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content: dict[str, Any] = {
        "mean": (("model_time", "component"), np.zeros((CYCLES * GAP + 1, 2))),
        "spread": (("model_time", "component"), np.ones((CYCLES * GAP + 1, 2))),
        "forecast": (("cycle", "member", "component"), np.zeros((CYCLES, 5, 2))),
        "analysis": (("cycle", "member", "component"), np.zeros((CYCLES, 5, 2))),
        "wall_seconds": (("cycle",), np.ones(CYCLES)),
    }
    change(content)
    with netCDF4.Dataset(path, "w") as data:
        for name, (dims, values) in content.items():
            for dim, length in zip(dims, values.shape, strict=True):
                if dim not in data.dimensions:
                    data.createDimension(dim, length)
            data.createVariable(name, str if values.dtype == object else values.dtype, dims)[:] = (
                values
            )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda c: c.pop("spread"),
            r"lacks variable spread\(model_time, component\); it has mean, forecast",
        ),
        (
            lambda c: c.update(
                {
                    k: (dims, np.ones((*v.shape[:-1], 3)))
                    for k, (dims, v) in c.items()
                    if "component" in dims
                }
            ),
            r"mean has dimensions \(model_time 13, component 3\), expected \(model_time 13, component 2\)",  # noqa: E501
        ),
        (
            lambda c: c.update(mean=(("steps", "component"), np.zeros((CYCLES * GAP, 2)))),
            r"mean has dimensions \(steps 12, component 2\), expected \(model_time 13, component 2\)",  # noqa: E501
        ),
        (
            lambda c: c.update(
                {k: (c[k][0], np.zeros((CYCLES, 1, 2))) for k in ("forecast", "analysis")}
            ),
            r"forecast has dimensions \(cycle 4, member 1, component 2\), expected \(cycle 4, member of 2 or more, component 2\)",  # noqa: E501
        ),
        (
            lambda c: c.update(
                wall_seconds=(("cycle",), np.array(["long"] * CYCLES, dtype=object))
            ),
            "wall_seconds has type",
        ),
        (lambda c: c["mean"][1].__setitem__(0, np.nan), "mean is not finite at time 0"),
        (lambda c: c["spread"][1].__setitem__(3, -1.0), "spread has negative values"),
    ],
)
def test_senseless_estimate_is_refused(change: Callable, said: str, tmp_path: Path) -> None:
    write_estimate(tmp_path / "estimate.nc", change)
    with pytest.raises(ValueError, match=said):
        read_estimate(tmp_path / "estimate.nc", steps=GAP * np.arange(1, CYCLES + 1), dimension=2)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--command", f"{COMMAND} --fail"], 1, "masf: error: command"),
        (["--command", COMMAND, "--module", "enkf"], 2, "neither --module nor --prior"),
    ],
)
def test_failed_assimilate_leaves_no_output(
    more: list[str],
    code: int,
    said: str,
    truth: Truth,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    write_truth(tmp_path / "truth.nc", truth, build(CELL)[0], "")
    files = {"truth": "truth.nc", "output": "theirs.nc", "cost": "theirs.cost.json"}
    options = [word for key, name in files.items() for word in (f"--{key}", str(tmp_path / name))]
    monkeypatch.setattr(sys, "argv", ["masf", "assimilate", "--filter", "theirs", *options, *more])
    with pytest.raises(SystemExit) as stopped:
        main()
    err = capfd.readouterr().err
    assert stopped.value.code == code
    assert said in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["truth.nc"]


# Where its files are, and which version they have


def test_files_are_looked_for_here_and_then_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parent.parent
    script = "tests/external_filter.py"
    assert located(f"python {script} a/b 'two words'") == [
        "python",
        str(root / script),
        "a/b",
        "two words",
    ]
    (tmp_path / "tests").mkdir()
    (tmp_path / script).touch()
    assert located(f"python {script}") == ["python", script]


def test_code_version_follows_the_words_of_a_command_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "script.py").write_text("one", encoding="utf-8")
    command = "bin/python ./script.py"

    def version(command: str, system: str = "lorenz63") -> str:
        return assimilate_version("theirs", system, command)

    first = version(command)
    assert version(command) == first
    assert len({first, version(f"{command} more"), version(command, "lorenz96")}) == 3
    (tmp_path / "bin" / "python").unlink()
    (tmp_path / "bin" / "python").symlink_to("/bin/sh")
    assert version(command) == first  # the interpreter is a link
    (tmp_path / "script.py").write_text("two", encoding="utf-8")
    assert version(command) != first
