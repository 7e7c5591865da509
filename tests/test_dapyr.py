"""DAPyr's local particle filter as a command: cycle by cycle what ours makes of the same problem,
and what it refuses.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from test_dapper import LINEAR, LORENZ63, LORENZ96

from masf.files.cell import CellSettings
from masf.files.trajectory import Trajectory
from masf.stages.assimilate import run_filter
from masf.stages.external import CommandFault
from masf.stages.simulate import simulate

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-dapper"
ENVS = ROOT / "workflow" / "envs"
SCRIPT = ROOT / "workflow" / "external" / "dapyr_filter.py"
COMMAND = ".venv-dapper/bin/python workflow/external/dapyr_filter.py"

installed = pytest.mark.skipif(
    not [*ENVIRONMENT.glob("lib/python*/site-packages/DAPyr")],
    reason="DAPyr is not installed here: make dapper",
)
EVERY_SECOND = {"operator": "stride", "stride": 2, "noise": 1.2}
COMPARED = ("mean", "spread", "forecast_mean", "members", "crps", "crps_forecast")


def run(settings: CellSettings, **parameters: Any) -> Trajectory:
    return run_filter("dapyr_lpf", parameters, simulate(settings), command=COMMAND)[0]


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# Where the two differ is avoided: on this ring all measurements are near one another, and so are
# taken in the same order; no taper is below 1e-3, which ours leaves out; and no measurement is one
# that tells members nothing, which ours leaves out where it finds beta.
@installed
@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (
            dataclasses.replace(LORENZ96, seed=4),
            {"localization_radius": 5.0, "mixing": 0.3, "effective_share": 0.4},
        ),
        (
            dataclasses.replace(LORENZ96, observation=EVERY_SECOND, cycles=2, members=20),
            {"localization_radius": 5, "mixing": 0.6, "effective_share": 0.6, "iterations": 3},
        ),
        (LORENZ63, {"localization_radius": None, "mixing": 0.5}),
        (
            dataclasses.replace(
                LINEAR,
                observation={**LINEAR.observation, "noise": 0.9},
                cycles=2,
            ),
            {"localization_radius": None, "mixing": 1.0, "effective_share": 0.3},
        ),
    ],
    ids=["lorenz96", "every second, iterated", "lorenz63, no taper", "matrix"],
)
def test_its_filter_is_ours(settings: CellSettings, parameters: dict[str, Any]) -> None:
    found = run(settings, inflation=1.05, **parameters)
    ours, _, _ = run_filter("local_pf", {"inflation": 1.05, **parameters}, simulate(settings))
    assert np.max(np.abs(ours.mean[settings.gap] - ours.forecast_mean[0])) > 0.1
    for name in COMPARED:
        # DAPyr finds beta to 1e-5.
        np.testing.assert_allclose(
            getattr(found, name), getattr(ours, name), rtol=1e-3, atol=1e-3, err_msg=name
        )
    np.testing.assert_array_equal(found.model_runs, ours.model_runs)
    assert np.all(found.wall_seconds > 0)
    assert np.all(found.cpu_seconds > 0)


@installed
def test_what_a_measurement_does_not_reach_stays() -> None:
    one = {"operator": "components", "components": [0], "noise": 0.5}
    settings = dataclasses.replace(
        LORENZ96, parameters={"dt": 0.02, "dimension": 20, "forcing": 8}, observation=one, cycles=1
    )
    found = run(settings, localization_radius=3)
    moved = np.abs(found.mean[settings.gap] - found.forecast_mean[0])
    assert moved[0] > 0.02
    assert np.all(moved[6:15] < 1e-4)


@installed
def test_model_noise_has_its_variance() -> None:
    parameters = {"dt": 0.01, "model_noise": 0.5}
    settings = dataclasses.replace(
        LORENZ63, parameters=parameters, members=300, cycles=1, gap=2, initial_spread=1e-3
    )
    # The first step only adds noise to members that are all but one.
    np.testing.assert_allclose(run(settings).spread[1], 0.5, rtol=0.15)


@installed
@pytest.mark.parametrize(
    ("settings", "parameters", "said"),
    [
        (LORENZ96, {"gamma": 0.3}, "unknown parameters gamma; allowed are inflation"),
        (LORENZ96, {"mixing": 0}, "mixing = 0: expected a number above 0 and at most 1"),
        (LORENZ96, {"effective_share": 1}, "effective_share = 1: expected a number between 0 and"),
        (LORENZ96, {"iterations": 1.5}, "iterations = 1.5: expected a whole number of at least 1"),
        (LORENZ96, {"iterations": 51}, "iterations = 51: expected at most 50"),
        (LORENZ63, {"localization_radius": 4}, "there are components without distances"),
        (LINEAR, {}, "errors of measurements are correlated"),
        (dataclasses.replace(LORENZ96, gap="2-3"), {}, "measurements come at irregular times"),
    ],
)
def test_what_it_cannot_do_is_said(
    settings: CellSettings, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(CommandFault, match=said):
        run(settings, **parameters)


@installed
def test_missing_measurements_are_refused() -> None:
    truth = simulate(LORENZ96)
    truth.observation[1, 3] = np.nan
    with pytest.raises(CommandFault, match="dapyr_lpf: some measurements are missing"):
        run_filter("dapyr_lpf", {}, truth, command=COMMAND)


# Without DAPyr


def test_pin_names_the_version_that_the_script_is_for() -> None:
    lines = (ENVS / "dapyr-requirements.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (Requirement(line) for line in lines if not line.startswith("#"))
    assert pin.name == "dapyr"
    assert f'VERSION = "{str(pin.specifier).removeprefix("==")}"' in SCRIPT.read_text("utf-8")


def test_both_ways_to_install_it_take_it_alone() -> None:
    words = "install --no-deps --requirement workflow/envs/dapyr-requirements.txt"
    for path in (ROOT / "Makefile", ENVS / "dapper.yaml"):
        assert words in path.read_text(encoding="utf-8").replace("--quiet ", ""), path


def test_script_imports_nothing_of_masf() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert not [n for n in nodes if "masf" in ast.unparse(n)]


def test_its_parameters_are_those_of_our_filter() -> None:
    own, ours = (
        yaml.safe_load((ROOT / "config" / "filters" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("dapyr_lpf", "local_pf")
    )
    assert own["parameters"] == ours["parameters"]
    assert own["search"] == ours["search"]
    for setting in own["settings"]:
        (same,) = (s for s in ours["settings"] if s["when"] == setting["when"])
        assert setting["parameters"] == same["parameters"]
