"""DAPPER's filters as commands: the same problem as ours, against closed forms and a published
score.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from test_workflow import Project

from masf.ensembles.localization import gaspari_cohn
from masf.files.cell import CellSettings, build
from masf.files.trajectory import Trajectory
from masf.stages.assimilate import run_filter
from masf.stages.external import CommandFault
from masf.stages.simulate import simulate
from masf.systems.registry import make_system

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-dapper"
REQUIREMENTS = ROOT / "workflow" / "envs" / "dapper-requirements.txt"
SCRIPT = ROOT / "workflow" / "external" / "dapper_filter.py"
METHODS = ("etkf", "letkf", "ienks")

installed = pytest.mark.skipif(
    not ENVIRONMENT.exists(), reason="DAPPER is not installed here: make dapper"
)

LINEAR = CellSettings(
    system="linear_gaussian",
    parameters={"dimension": 4, "model_noise": 0.0, "persistence": 1.0},
    observation={
        "operator": "matrix",
        "matrix": [[1.0, 0.5, 0, 0], [0, 0, 1.0, -1.0]],
        "noise": [[1.0, 0.4], [0.4, 0.8]],
    },
    gap=3,
    cycles=4,
    members=30,
    initial_spread=1.0,
    seed=2,
)
LORENZ63 = CellSettings(
    "lorenz63", {"dt": 0.01, "rho": 30.0}, {"operator": "identity", "noise": 1.0}, 5, 2, 12, 1.0, 3
)
LORENZ96 = dataclasses.replace(
    LORENZ63, system="lorenz96", parameters={"dt": 0.02, "dimension": 12, "forcing": 9}
)


def run(method: str, settings: CellSettings, **parameters: Any) -> Trajectory:
    command = f".venv-dapper/bin/python workflow/external/dapper_filter.py {method}"
    return run_filter(f"dapper_{method}", parameters, simulate(settings), command=command)[0]


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@installed
@pytest.mark.parametrize("method", METHODS)
def test_linear_system_gets_the_kalman_filter_of_the_initial_ensemble(method: str) -> None:
    found = run(method, LINEAR, **({"tolerance": 0, "iterations": 3} if method == "ienks" else {}))
    truth = simulate(LINEAR)
    system, observation = build(LINEAR)
    mean, covariance = truth.initial_ensemble.mean(axis=0), np.cov(truth.initial_ensemble.T)
    h, r = observation.matrix, observation.noise.covariance
    for i in range(1, len(truth.truth)):
        mean, covariance = system.matrix @ mean, system.matrix @ covariance @ system.matrix.T
        if i % LINEAR.gap == 0:
            cycle = i // LINEAR.gap - 1
            np.testing.assert_allclose(found.forecast_mean[cycle], mean, rtol=1e-4, atol=1e-4)
            gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + r)
            mean = mean + gain @ (truth.observation[cycle] - h @ mean)
            covariance = covariance - gain @ h @ covariance
        np.testing.assert_allclose(
            found.mean[i], mean, rtol=1e-4, atol=1e-4, err_msg=f"mean at step {i}"
        )
        np.testing.assert_allclose(
            found.spread[i], np.sqrt(np.diag(covariance)), rtol=1e-4, err_msg=f"spread at step {i}"
        )


@installed
@pytest.mark.parametrize("settings", [LORENZ63, LORENZ96], ids=lambda s: s.system)
def test_its_model_is_ours(settings: CellSettings) -> None:
    free, _, _ = run_filter("free_run", {}, simulate(settings))
    found = run("etkf", settings)
    np.testing.assert_allclose(
        found.mean[: settings.gap], free.mean[: settings.gap], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(found.forecast_mean[0], free.forecast_mean[0], rtol=1e-5, atol=1e-5)


@installed
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("etkf", {}),
        ("letkf", {"localization_radius": 3}),
        ("lnetf", {"localization_radius": 3, "noise_factor": 1.4}),
        ("lnetf", {"localization_radius": None}),
    ],
)
def test_its_filter_is_ours(method: str, parameters: dict[str, Any]) -> None:
    settings = dataclasses.replace(
        LORENZ96, observation={"operator": "stride", "stride": 2, "noise": 1.2}
    )
    found = run(method, settings, inflation=1.05, **parameters)
    chosen = {"inflation": 1.05, "rotation": False, **parameters}
    ours, _, _ = run_filter(method, chosen, simulate(settings))
    for name in ("mean", "spread", "forecast_mean", "members", "crps", "crps_forecast"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(ours, name), rtol=1e-3, atol=1e-3, err_msg=name
        )


@installed
def test_smoother_shows_no_estimate_that_has_seen_the_next_measurement() -> None:
    free, _, _ = run_filter("free_run", {}, simulate(LORENZ63))
    found = run("ienks", LORENZ63, lag=2)
    np.testing.assert_allclose(found.mean[:5], free.mean[:5], rtol=1e-5, atol=1e-5)
    assert np.abs(found.mean[5] - free.mean[5]).max() > 0.01
    assert np.all((found.diagnostics["iterations"] >= 1) & (found.diagnostics["iterations"] <= 10))


@installed
def test_model_noise_has_its_variance() -> None:
    parameters = {"dimension": 3, "model_noise": 0.5, "dt": 0.25, "persistence": 0.9}
    settings = dataclasses.replace(
        LINEAR, parameters=parameters, members=3000, cycles=1, observation=LORENZ63.observation
    )
    matrix = make_system("linear_gaussian", parameters).matrix
    covariance = np.cov(simulate(settings).initial_ensemble.T)
    # Three steps; the first two are not analysed.
    for _ in range(2):
        covariance = matrix @ covariance @ matrix.T + 0.25 * np.eye(3)
    # The standard error of a standard deviation from 3000 members is 1.3%.
    np.testing.assert_allclose(
        run("etkf", settings).spread[2], np.sqrt(np.diag(covariance)), rtol=0.06
    )


@installed
def test_localisation_radius_means_what_it_means_here(tmp_path: Path) -> None:
    factor = next(
        ast.literal_eval(node.value)
        for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GASPARI_COHN"
    )
    code = (
        "import contextlib, numpy as np\n"
        "with contextlib.redirect_stdout(None): from dapper.tools.localization import dist2coeff\n"
        f"print(dist2coeff(np.arange(20.0), 7 / {factor}, 'GC').tolist())"
    )
    words, home = (
        [str(ENVIRONMENT / "bin" / "python"), "-c", code],
        {"HOME": str(tmp_path), "MPLBACKEND": "Agg"},
    )
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | home)  # noqa: S603
    np.testing.assert_allclose(
        ast.literal_eval(done.stdout), gaspari_cohn(np.arange(20.0), 7.0), atol=1e-12
    )


@installed
def test_published_score_of_the_etkf() -> None:
    settings = CellSettings(
        "lorenz96",
        {"dt": 0.05, "dimension": 40, "forcing": 8},
        {"operator": "identity", "noise": 1.0},
        1,
        400,
        24,
        0.0316228,
        0,
    )
    found = run("etkf", settings, inflation=1.013, rotation=True)
    errors = np.sqrt(np.mean((found.mean - simulate(settings).truth) ** 2, axis=1))
    # Sakov and Oke (2008), Table 1: 0.18, in a run a hundred times as long.
    assert 0.16 < errors[100:].mean() < 0.21


@installed
@pytest.mark.parametrize(
    ("method", "settings", "parameters", "said"),
    [
        (
            "etkf",
            LORENZ63,
            {"infl": 1.1},
            "unknown parameters infl; allowed are inflation, rotation",
        ),
        ("etkf", LORENZ63, {"inflation": 0.5}, "inflation = 0.5: expected a number of at least 1"),
        ("ienks", LORENZ63, {"lag": 1.5}, "lag = 1.5: expected a whole number of at least 1"),
        ("letkf", LORENZ63, {"localization_radius": 4}, "there are components without distances"),
        (
            "ienks",
            dataclasses.replace(LINEAR, parameters={"dimension": 4}),
            {},
            "for systems without model noise",
        ),
        (
            "ienks",
            dataclasses.replace(LORENZ63, parameters={"dt": 0.01, "model_noise": 0.1}),
            {},
            "for systems without model noise",
        ),
    ],
)
def test_what_it_cannot_do_is_said(
    method: str, settings: CellSettings, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(CommandFault, match=said):
        run(method, settings, **parameters)


# Without DAPPER


def test_pins_name_the_version_that_the_script_is_for() -> None:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pins = {
        r.name: str(r.specifier)
        for r in (Requirement(line) for line in lines if not line.startswith("#"))
    }
    assert f'VERSION = "{pins["dapper"].removeprefix("==")}"' in SCRIPT.read_text(encoding="utf-8")
    assert {"dapper", "netCDF4", "numpy", "scipy"} == pins.keys()
    assert all(specifier.startswith("==") for specifier in pins.values())


def test_script_imports_nothing_of_masf() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    imported = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not [line for line in imported if "masf" in line]


@pytest.mark.parametrize("name", ["config", "quick"])
def test_no_default_study_needs_it(name: str) -> None:
    config = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    listed = [
        *config["filters"],
        *(f for e in config["experiments"].values() for f in e.get("add_filters", [])),
    ]
    assert not [name for name in listed if name.startswith(("dapper", "dapyr"))]


def test_study_without_its_environment_stops_before_any_job(tmp_path: Path) -> None:
    project = Project(tmp_path)
    done = project.make("config/dapper.yaml")
    assert done.returncode != 0
    assert (
        "filter 'dapper_etkf' runs .venv-dapper/bin/python, which is not there: make dapper"
        in done.stdout
    )
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) < 10
    assert not (tmp_path / "results").exists()
