"""``import masf``: the same results as the stages on files, with a user's own system, observation
and filter too.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

import masf
from masf import api
from masf.atomic import sha256
from masf.blocks import Blocks
from masf.cli import commands
from masf.files.cell import build
from masf.filters.registry import filter_class
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.noise import make_noise
from masf.observations.pooling import Pooling
from masf.study.messages import ConfigFault

CYCLES = 6
OF_FILES_ALONE = {"truth_sha256", "threads"}
"""Attributes of {filter}.nc that an estimate in memory lacks."""


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    system = masf.make_system("lorenz96", dimension=12)
    return masf.simulate(
        system,
        masf.make_observation(system, "stride", stride=2, noise=0.5),
        gap=5,
        cycles=CYCLES,
        members=20,
    )


def test_import_loads_nothing_and_using_it_loads_no_torch() -> None:
    code = (
        "import sys, masf, masf.cli; print(sorted({'numpy', 'pydantic', 'torch'} & "
        "set(sys.modules)));"
        "masf.make_system('lorenz63'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
    assert masf.__all__ == api.__all__
    assert set(masf.__all__) <= set(dir(masf))
    typed = ast.parse(Path(masf.__file__).read_text(encoding="utf-8"))
    imported = [
        alias.name
        for node in ast.walk(typed)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert set(masf.__all__) <= set(imported)
    with pytest.raises(AttributeError, match="no attribute 'assimilat'"):
        masf.assimilat  # noqa: B018


def test_datasets_are_what_the_stages_write(truth: xr.Dataset, tmp_path: Path) -> None:
    settings = json.loads(truth.attrs["settings"])
    given = {
        f"--{k.replace('_', '-')}": json.dumps(v) if isinstance(v, dict) else str(v)
        for k, v in settings.items()
    }
    options = [word for pair in given.items() for word in pair]
    commands(["simulate", "-o", str(tmp_path / "truth.nc"), *options], standalone_mode=False)
    written = xr.load_dataset(tmp_path / "truth.nc")
    xr.testing.assert_identical(truth, written)
    estimate = masf.assimilate(written, "letkf", {"inflation": 1.1})
    parameters = estimate.attrs["filter_parameters"]
    # What config/filters says, but for what is given.
    assert json.loads(parameters) == {"inflation": 1.1, "localization_radius": 12, "rotation": True}
    words = [
        "assimilate",
        "--filter",
        "letkf",
        "--parameters",
        parameters,
        "--truth",
        str(tmp_path / "truth.nc"),
    ]
    commands([*words, "-o", str(tmp_path / "letkf.nc")], standalone_mode=False)
    by_stage = xr.load_dataset(tmp_path / "letkf.nc")
    xr.testing.assert_equal(estimate, by_stage)
    changed = {k: v for k, v in by_stage.attrs.items() if estimate.attrs.get(k) != v}
    assert changed.keys() == {"parameter_source", *OF_FILES_ALONE}


def test_stage_and_api_record_the_same_of_what_made_an_estimate(
    truth: xr.Dataset, tmp_path: Path
) -> None:
    truth.to_netcdf(path := tmp_path / "truth.nc")
    estimate = masf.assimilate(xr.load_dataset(path), "letkf")
    words = [
        "assimilate",
        "--filter",
        "letkf",
        "--parameters",
        estimate.attrs["filter_parameters"],
        "--truth",
        str(path),
    ]
    commands([*words, "-o", str(tmp_path / "letkf.nc")], standalone_mode=False)
    by_stage = xr.load_dataset(tmp_path / "letkf.nc")
    assert by_stage.attrs.keys() - estimate.attrs.keys() == OF_FILES_ALONE
    alone = {name: by_stage.attrs.pop(name) for name in OF_FILES_ALONE}
    assert alone == {"truth_sha256": sha256(path), "threads": 1}
    xr.testing.assert_identical(estimate, by_stage)


class Rotation(masf.System):
    """A point on a circle."""

    Parameters = masf.SystemParameters

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def step(self, x: Any, stream: masf.Stream) -> Any:
        c, s = np.cos(self.dt), np.sin(self.dt)
        return x @ np.array([[c, s], [-s, c]], dtype=np.float32)

    def typical_state(self, stream: masf.Stream) -> np.ndarray:
        return np.array([2.0, 0.0])


class Replacement(masf.Filter):
    """The members are put where the measurement is, with its noise."""

    def analyse(self, state: Any, y: Any) -> Any:
        perturbed = y + self.observation.noise.draw((len(state),), state, self.stream)
        return perturbed @ np.linalg.inv(self.observation.matrix.T).astype("f4")


def test_own_system_observation_and_filter() -> None:
    system = Rotation(masf.SystemParameters(dt=0.1))
    h, r = np.array([[2.0, 1.0], [0.0, 1.0]]), np.array([[0.2, 0.1], [0.1, 0.2]])
    observation = masf.make_observation(system, "matrix", matrix=h, noise=r)
    truth = masf.simulate(system, observation, gap=3, cycles=40, members=200)
    with pytest.raises(ValueError, match="'Rotation' is none of masf's"):
        masf.assimilate(truth, Replacement)
    replaced, enkf = (masf.assimilate(truth, f, system=system) for f in (Replacement, "enkf"))
    scores = masf.score({"mine": replaced, "theirs": enkf}, spin_up_cycles=10)
    # The covariance of H^(-1) y is H^(-1) R H^(-T), half its trace the mean square error of y
    # alone; a filter remembers.
    inverse = np.linalg.inv(observation.matrix)
    alone = np.sqrt(np.trace(inverse @ observation.noise.covariance @ inverse.T) / 2)
    assert scores.loc["mine", "rmse_analysis"] == pytest.approx(alone, rel=0.3)
    assert scores.loc["theirs", "rmse_analysis"] < 0.6 * scores.loc["mine", "rmse_analysis"]
    # Without the truth: the same estimate, and nothing that would need it.
    problem = masf.make_problem(
        system, observation, truth["observation"].values, truth["initial_ensemble"].values, gap=3
    )
    blind = masf.assimilate(problem, "enkf", system=system)
    np.testing.assert_array_equal(blind["mean"], enkf["mean"])
    assert {"rmse", "crps", "ranks"} & set(enkf.data_vars)
    assert not {"rmse", "crps", "ranks", "spread_skill", "rmse_forecast", "crps_forecast"} & set(
        blind.data_vars
    )
    with pytest.raises(
        ValueError,
        match=r"'enkf' lacks crps, rmse, rmse_forecast: its truth is not known; masf\.innovation",
    ):
        masf.score(blind)


def test_an_own_system_has_what_config_says_of_any_but_for_radii() -> None:
    system = Rotation(masf.SystemParameters(dt=0.1))
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=3, cycles=2, members=20)

    def used(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        found = masf.assimilate(truth, name, parameters, system=system)
        return json.loads(found.attrs["filter_parameters"])

    letkf = yaml.safe_load(Path("config/filters/letkf.yaml").read_text(encoding="utf-8"))
    usual = letkf["parameters"] | {"localization_radius": None}  # its components have no places
    assert used("letkf").items() >= usual.items()
    assert used("letkf", {"rotation": False})["rotation"] is False
    ring = masf.make_system("lorenz96", dimension=12, dt=0.01, forcing=8)
    own = type("Ring", (type(ring),), {})(ring.parameters)
    seen = masf.simulate(
        own, masf.make_observation(own, "identity", noise=1.0), gap=3, cycles=2, members=20
    )
    found = masf.assimilate(seen, "masf_gaussian", {"localization_radius": 4}, system=own)
    parameters = json.loads(found.attrs["filter_parameters"])
    assert (parameters["inflation"], parameters["localization_radius"]) == (1.02, 4)
    assert parameters["greatest_misfit"] == 4


@pytest.mark.parametrize(
    "own",
    [
        Mask(6, np.array([4, 0, 0]), noise=[0.1, 0.2, 0.3]),
        Pooling(Blocks((6,), 3), 1, noise=0.5),
        Matrix(np.arange(12.0).reshape(2, 6), noise=[[1.0, 0.5], [0.5, 1.0]]),
    ],
    ids=["mask", "pooling", "matrix"],
)
def test_settings_of_an_own_observation_build_it_again(own: masf.Observation) -> None:
    system = masf.make_system("lorenz96", dimension=6)
    truth = masf.simulate(system, own, gap=1, cycles=1, members=2)
    _, again = build(api._cell(truth)[0].settings)
    assert type(again) is type(own)
    np.testing.assert_array_equal(again.matrix, own.matrix)
    np.testing.assert_allclose(again.noise.covariance, own.noise.covariance, rtol=1e-12)


def test_two_estimates_of_one_filter_have_two_rows(truth: xr.Dataset) -> None:
    inflated = [masf.assimilate(truth, "etkf", {"inflation": x}) for x in (1.0, 1.3)]
    scores = masf.score(inflated)
    assert list(scores.index) == ["etkf", "etkf"]
    each = [masf.score(estimate)["rmse"].item() for estimate in inflated]
    assert scores["rmse"].tolist() == each
    assert each[0] != each[1]


def test_a_lost_track_is_said_where_it_is_known() -> None:
    system = masf.make_system("lorenz96", dimension=40)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=20, cycles=30, members=4)
    enkf, free = (masf.assimilate(truth, name) for name in ("enkf", "free_run"))
    assert masf.score(enkf)["lost"].isna().tolist() == [True]
    assert masf.score(enkf, truth=truth)["lost"].tolist() == [True]
    assert masf.score([enkf, free])["lost"].tolist() == [True, False]
    # A free run of another cell says nothing of this one.
    other = masf.assimilate(
        masf.simulate(system, observation, gap=20, cycles=30, members=4, seed=1), "free_run"
    )
    assert masf.score([enkf, other])["lost"].isna().tolist() == [True, False]


def test_distance_to_a_reference() -> None:
    system = masf.make_system("linear_gaussian", dimension=4)
    truth = masf.simulate(
        system, masf.make_observation(system, "identity", noise=1.0), gap=2, cycles=20, members=400
    )
    kept = {"covariance": True, "saved_members": 100}
    reference, enkf, free = (
        masf.assimilate(truth, name, **kept) for name in ("kalman", "enkf", "free_run")
    )
    scores = masf.score([enkf, free], reference=reference, spin_up_cycles=2)
    assert list(scores.index) == ["enkf", "free_run"]
    assert scores.loc["enkf", "mean_distance"] < 0.2 < 1 < scores.loc["free_run", "mean_distance"]


def test_prior_is_trained_once_and_kept(
    truth: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    short = {
        "network": {"width": 4, "blocks": 1},
        "worlds": 2,
        "cycles": 2,
        "spin_up_cycles": 0,
        "members": 6,
        "steps": 2,
    }
    path = masf.train_prior(truth, settings=short, device="cpu")
    assert tmp_path in path.parents
    content = path.read_bytes()
    monkeypatch.setattr(
        "masf.stages.train_prior.train", lambda *_, **__: pytest.fail("trained again")
    )
    assert masf.train_prior(truth, settings=short, device="cpu") == path
    estimate = masf.assimilate(truth, "masf", prior=path, device="cpu")
    assert {"diagnostic_loss_prior", "diagnostic_network_used"} <= set(estimate.data_vars)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match="prior: filter 'etkf' takes none: leave it out"):
        masf.assimilate(truth, "etkf", prior=path)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert masf.train_prior(truth, settings=short | {"steps": 3}, device="cpu") != path


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("enfk", {}, "unknown filter 'enfk'.*did you mean"),
        ("enkf", {"inflatoin": 1.1}, "inflatoin: unknown key .did you mean 'inflation'"),
        ("enkf", {"inflation": 0.5}, "inflation = 0.5: input should be greater than or equal to 1"),
        ("kalman", {}, "for linear systems only"),
        ("dapper_etkf", {}, "no program.*install it by: make dapper"),
        ("masf", {}, "pretrained prior"),
    ],
)
def test_unfit_filter_is_refused(
    name: str,
    parameters: dict[str, Any],
    said: str,
    truth: xr.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("masf.places._PROJECT", tmp_path)
    with pytest.raises((ValueError, ConfigFault), match=said):
        masf.assimilate(truth, name, parameters)


def test_unfit_arrays_are_refused(truth: xr.Dataset) -> None:
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "identity", noise=1.0)
    y, x = truth["observation"].values, truth["initial_ensemble"].values
    said = r"measurements have shape \(6, 6\): expected \(cycles, measurements\), 12 columns$"
    with pytest.raises(ValueError, match=said):
        masf.make_problem(system, observation, y, x, gap=5)
    said = r"ensemble has shape \(12, .*\(members, components\), 12 columns: is it transposed\?"
    with pytest.raises(ValueError, match=said):
        masf.make_problem(system, observation, np.ones((6, 12)), x.T[:, :9], gap=5)
    one = masf.make_observation(system, "components", components=[3], noise=1.0)
    said = r"measurements have shape \(6,\): expected .*, 1 columns: pass it as \[:, None\]$"
    with pytest.raises(ValueError, match=said):
        masf.make_problem(system, one, y[:, 0], x, gap=5)
    masf.make_problem(system, one, y[:, :1], x, gap=5)
    with pytest.raises(ValueError, match="observation that are not finite"):
        masf.assimilate(truth.assign(observation=truth["observation"] * np.inf), "enkf")
    with pytest.raises(ValueError, match="no measurement: all of observation is NaN"):
        masf.assimilate(truth.assign(observation=truth["observation"] * np.nan), "enkf")
    with pytest.raises(ValueError, match="no problem of masf"):
        masf.assimilate(xr.Dataset(), "enkf")
    with pytest.raises(ValueError, match="leaves none of 6 cycles"):
        masf.score(masf.assimilate(truth, "enkf"), spin_up_cycles=6)
    with pytest.raises(ValueError, match="observation is of 12 components, and the system has 40"):
        masf.simulate(masf.make_system("lorenz96"), observation, gap=1, cycles=1)


def test_an_ensemble_may_have_the_shape_of_the_system_s_states() -> None:
    system = masf.make_system("kolmogorov", size=8, forcing_wavenumber=2)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=1, cycles=2, members=4)
    y, x = truth["observation"].values, truth["initial_ensemble"]
    assert x.shape == (4, 2, 8, 8)
    found = masf.make_problem(system, observation, y, x, gap=1)
    flat = masf.make_problem(system, observation, y, x.values.reshape(4, -1), gap=1)
    xr.testing.assert_identical(found, flat)
    np.testing.assert_array_equal(found["initial_ensemble"], x)
    for wrong in (x.values.transpose(0, 2, 3, 1), x.values[0], x.values.reshape(4, 2, 64)):
        with pytest.raises(ValueError, match=r"ensemble has shape .*: expected .*, 128 columns"):
            masf.make_problem(system, observation, y, wrong, gap=1)


def test_an_ensemble_of_equal_members_is_refused_where_it_would_stay_so() -> None:
    """Members that differ by less than filters see are equal, too."""
    y, rows = np.ones((3, 3)), np.full((5, 3), 1e4)
    for x in (rows, rows + 1e-6 * np.arange(5)[:, None]):
        quiet = masf.make_system("lorenz63")
        observation = masf.make_observation(quiet, "identity", noise=1.0)
        with pytest.raises(masf.Refused, match="ensemble: all 5 members are equal in float32"):
            masf.make_problem(quiet, observation, y, x, gap=1)
        # One that is known exactly at the start, and no longer after a step.
        noisy = masf.make_system("lorenz63", model_noise=0.1)
        masf.make_problem(noisy, observation, y, x, gap=1)
    rows[2, 1] += 1
    masf.make_problem(quiet, observation, y, rows, gap=1)


def test_a_run_that_diverges_is_called_as_its_filter_was_asked_for(
    truth: xr.Dataset, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.float32("nan")
    monkeypatch.setattr(filter_class("etkf"), "analyse", lambda _, state, __: state * nothing)
    assert masf.assimilate(truth, "etkf").attrs["diverged"]
    assert "filter etkf diverged in cycle 1: " in caplog.text


def test_what_a_mask_hides_is_no_number(truth: xr.Dataset) -> None:
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "stride", stride=2, noise=1.0)
    y, x = truth["observation"].values.copy(), truth["initial_ensemble"].values.copy()
    y[2, 1], x[3, 7] = 9.97e36, 9.97e36  # what netCDF4 has under its masks
    problem = masf.make_problem(
        system, observation, np.ma.masked_greater(y, 1e30), truth["initial_ensemble"].values, gap=5
    )
    found = problem["observation"].values
    np.testing.assert_array_equal(np.argwhere(np.isnan(found)), [[2, 1]])
    np.testing.assert_array_equal(found[~np.isnan(found)], y[y < 1e30])
    # Rows, each with a mask of its own.
    rows = masf.make_problem(system, observation, list(np.ma.masked_greater(y, 1e30)), x[:3], gap=5)
    np.testing.assert_array_equal(rows["observation"], found)
    with pytest.raises(ValueError, match="ensemble: member 4, component 8 is nan"):
        masf.make_problem(system, observation, y, np.ma.masked_greater(x, 1e30), gap=5)
    h = np.ma.masked_equal(np.eye(12)[:2] + 1.0, 2.0)
    with pytest.raises(ValueError, match="matrix"):
        masf.make_observation(system, "matrix", matrix=h, noise=1.0)
    with pytest.raises(ValueError, match=r"observation matrix: row 1, column 1 .* masked"):
        Matrix(h, 1.0)
    with pytest.raises(ValueError, match="noise"):
        Matrix(np.eye(12)[:2], np.ma.masked_equal([1.0, 2.0], 2.0))


def test_a_value_that_stands_for_what_is_missing_is_warned_of(
    truth: xr.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "stride", stride=2, noise=1.0)
    y, x = truth["observation"].values, truth["initial_ensemble"].values

    def said(changed: np.ndarray) -> list[str]:
        caplog.clear()
        masf.make_problem(system, observation, changed, x, gap=5)
        return [record.getMessage() for record in caplog.records]

    for harmless in ({}, {(0, 0): -9999}, {(0, 0): 0, (1, 0): 0}, {(..., 3): np.nan}):
        changed = y.copy()
        for where, value in harmless.items():
            changed[where] = value
        assert said(changed) == []
    for value in (-9999, 1e6):
        changed = y.copy()
        changed[1, 3] = changed[4, 0] = changed[5, 0] = value
        (warning,) = said(changed)
        assert warning.startswith(
            f"measurements: {value:g} comes 3 times, first in cycle 2, component 4, and lies far"
        )


@pytest.mark.parametrize("members", [4, 40], ids=["fewer members than components", "more"])
def test_filters_that_start_from_a_distribution_take_the_ensemble_that_is_given(
    members: int,
) -> None:
    system = masf.make_system("linear_gaussian", dimension=6, model_noise=0.0)
    observation = masf.make_observation(system, "components", components=[0, 3], noise=0.5)
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky(0.7 + 0.3 * np.eye(6)) * np.array([[0.2, 1, 3, 0.5, 2, 1]]).T
    x = np.arange(6) + rng.standard_normal((members, 6)) @ factor.T
    problem = masf.make_problem(system, observation, 2 + rng.standard_normal((5, 2)), x, gap=2)
    etkf = masf.assimilate(problem, "etkf", {"inflation": 1.0}, covariance=True)
    kalman = masf.assimilate(problem, "kalman", covariance=True)
    for name in ("mean", "spread", "covariance"):
        np.testing.assert_allclose(kalman[name], etkf[name], rtol=1e-4, atol=1e-4, err_msg=name)
    particle = masf.assimilate(problem, "particle", {"particles": 20_000, "bandwidth": 1.0})
    # Until the first measurement a particle filter makes no error but that of its draws.
    error = (particle["mean"] - kalman["mean"])[:2] / kalman["spread"][:2]
    assert float(abs(error).max()) < 5 / np.sqrt(20_000)
    ratio = particle["spread"][:2] / kalman["spread"][:2]
    np.testing.assert_allclose(ratio, 1, atol=5 / np.sqrt(2 * 20_000))
    assert json.loads(problem.attrs["settings"])["initial_spread"] is None


def test_noise_that_float32_cannot_tell_is_said(caplog: pytest.LogCaptureFixture) -> None:
    system = masf.make_system("lorenz96", dimension=4)
    x = 101_325 + np.random.default_rng(0).standard_normal((5, 4))
    for noise, said in ((0.01, False), (0.005, True)):
        observation = masf.make_observation(system, "stride", stride=2, noise=[1.0, noise])
        caplog.clear()
        masf.make_problem(system, observation, x[:, ::2], x, gap=1)
        assert said is ("noise 0.005 of measurement 2 is" in caplog.text), caplog.text
    linear = masf.make_system("linear_gaussian", dimension=4)
    observation = masf.make_observation(linear, "identity", noise=1e-8)
    masf.simulate(linear, observation, gap=1, cycles=2)
    assert "noise 1e-08 of measurement 1 is" in caplog.text


# Systems and observations that are passed


def test_the_model_that_is_passed_forecasts_and_is_recorded(truth: xr.Dataset) -> None:
    forced = masf.make_system("lorenz96", dimension=12, forcing=12)
    usual, wrong = masf.assimilate(truth, "etkf"), masf.assimilate(truth, "etkf", system=forced)
    same = masf.assimilate(truth, "etkf", system=masf.make_system("lorenz96", dimension=12))
    xr.testing.assert_identical(usual, same)
    # The mean before the first analysis is that of the members, stepped by the model.
    x = truth["initial_ensemble"].values
    for _ in range(5):
        x = forced.step(x, masf.Stream(0, "unused"))
    first = x.mean(axis=0)
    assert np.sqrt(np.mean((first - truth["truth"].values[5]) ** 2)) == pytest.approx(
        float(wrong["rmse_forecast"][0]), rel=1e-4
    )
    assert wrong["rmse"].mean() > usual["rmse"].mean()
    recorded = {data.attrs["model"] for data in (usual, wrong)}
    assert recorded == {"lorenz96"}
    assert json.loads(wrong.attrs["model_parameters"])["forcing"] == 12
    assert json.loads(usual.attrs["model_parameters"])["forcing"] == 8
    assert json.loads(wrong.attrs["settings"])["parameters"]["forcing"] == 8


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("lorenz96", {"dimension": 20}, r"shape \(20,\), and the problem's have \(12,\)"),
        ("lorenz63", {}, r"'lorenz63' has states of shape \(3,\)"),
        ("lorenz96", {"dimension": 12, "dt": 0.05}, "dt 0.05, and the problem's steps are 0.01"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    name: str, parameters: dict[str, float], said: str, truth: xr.Dataset
) -> None:
    with pytest.raises(ValueError, match=said):
        masf.assimilate(truth, "etkf", system=masf.make_system(name, **parameters))


def test_defaults_are_the_same_in_every_folder_and_are_shown(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "run.yaml").write_text("results: elsewhere\n", encoding="utf-8")
    code = "import masf; print(masf.make_system('kolmogorov', size=64))"
    shown = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
        ).stdout.strip()
        for folder in (tmp_path, Path(__file__).parent)
    }
    assert shown == {repr(masf.make_system("kolmogorov", size=64))}
    assert "reynolds=100.0" in (text := shown.pop())
    assert "size" not in (by_default := text.partition("by default: ")[2])
    assert "reynolds" in by_default
    system = masf.make_system("lorenz96", dimension=40, forcing=8, dt=0.01)
    assert repr(system) == "Lorenz96(dt=0.01, dimension=40, forcing=8.0)"
    observation = masf.make_observation(system, "stride", stride=2, noise=1.0)
    assert repr(observation) == (
        "Mask(operator='stride', noise=1.0, stride=2, dimension=40; "
        "by default: missing=0.0, offset=0)"
    )


class Doubled(Mask):
    """Twice the components, which a mask's settings would not say."""

    def apply(self, x: Any) -> Any:
        return 2 * x[..., self.indices]


class DoubledThroughout(masf.Observation):
    """The same, with all that is said of it."""

    def apply(self, x: Any) -> Any:
        return 2 * x[..., ::2]

    def adjoint(self, v: Any) -> Any:
        x = np.zeros((*v.shape[:-1], self.dimension), dtype=v.dtype)
        x[..., ::2] = 2 * v
        return x


class Squared(DoubledThroughout):
    """Not linear."""

    def apply(self, x: Any) -> Any:
        return x[..., ::2] ** 2


def test_an_own_observation_goes_through_or_is_refused() -> None:
    system = masf.make_system("lorenz96", dimension=12)
    own = DoubledThroughout(12, make_noise(0.5, 6), {})
    matrix = masf.make_observation(system, "matrix", matrix=own.matrix, noise=0.5)
    run = {"gap": 2, "cycles": 4, "members": 20}
    mine, theirs = masf.simulate(system, own, **run), masf.simulate(system, matrix, **run)
    np.testing.assert_allclose(mine["observation"], theirs["observation"], atol=1e-5)
    with pytest.raises(ValueError, match=r"DoubledThroughout' is none of masf's: pass it"):
        masf.assimilate(mine, "etkf")
    given = (mine["observation"].values, mine["initial_ensemble"].values)
    problems = (mine, masf.make_problem(system, own, *given, gap=2))
    expected = masf.assimilate(theirs, "etkf", {"inflation": 1.0, "rotation": False})
    for problem in problems:
        found = masf.assimilate(
            problem, "etkf", {"inflation": 1.0, "rotation": False}, observation=own
        )
        np.testing.assert_allclose(found["mean"], expected["mean"], atol=1e-3)
    assert "DoubledThroughout" in mine.attrs["settings"]

    # One that was changed afterwards is recorded as no other, either.
    changed = masf.make_observation(system, "stride", stride=2, noise=0.5)
    changed.noise = make_noise(2.0, 6)
    found = masf.assimilate(masf.simulate(system, changed, **run), "etkf", observation=changed)
    assert json.loads(found.attrs["model_observation"])["operator"] == "masf.observations.mask.Mask"

    torn = Doubled(12, np.arange(0, 12, 2), 0.5)
    kept = masf.simulate(system, torn, **run)
    with pytest.raises(ValueError, match=r"Doubled' is none of masf's: pass it"):
        masf.assimilate(kept, "etkf")
    with pytest.raises(ValueError, match=r"Doubled.adjoint is not .* Doubled.matrix x differs"):
        masf.assimilate(kept, "etkf", observation=torn)
    curved = Squared(12, make_noise(0.5, 6), {})
    with pytest.raises(ValueError, match=r"Squared\.apply is not linear: derive the class"):
        masf.assimilate(masf.simulate(system, curved, **run), "enkf", observation=curved)
    with pytest.raises(ValueError, match="makes 12 measurements of 12 components, and the problem"):
        masf.assimilate(mine, "etkf", observation=Mask(12, np.arange(12), 1.0))


def test_a_truth_of_another_cell_is_refused_in_scores() -> None:
    system = masf.make_system("lorenz96", dimension=12, dt=0.01, forcing=8)
    seen = masf.make_observation(system, "identity", noise=1.0)
    one, other = (
        masf.simulate(system, seen, gap=5, cycles=6, members=5, seed=seed) for seed in (0, 1)
    )
    estimate = masf.assimilate(one, "etkf")
    assert masf.score(estimate, truth=one)["lost"].notna().all()
    with pytest.raises(ValueError, match="truth is of another cell than the estimates"):
        masf.score(estimate, truth=other)


def test_an_observation_that_refuses_some_states_is_taken() -> None:
    class Concentration(masf.Observation):
        def apply(self, x: Any) -> Any:
            if np.any(x < 0):
                raise ValueError("concentration below 0")
            return x

        def adjoint(self, v: Any) -> Any:
            return v

    system = masf.make_system("lorenz96", dimension=4, dt=0.01, forcing=8)
    own = Concentration(4, make_noise(1.0, 4), {})
    y, x = np.ones((2, 4)), np.ones((3, 4)) + np.eye(3, 4)
    assert masf.make_problem(system, own, y, x, gap=1)["observation"].shape == (2, 4)


def test_an_own_system_is_never_taken_for_one_of_masfs() -> None:
    system = type("lorenz63", (Rotation,), {})(masf.SystemParameters(dt=0.1))
    problem = masf.simulate(system, Mask(2, [0], 1.0), gap=1, cycles=2, members=5)
    with pytest.raises(ValueError, match=r"lorenz63' is none of masf's: pass it"):
        masf.assimilate(problem, "etkf")


@pytest.mark.parametrize(
    ("name", "given", "key", "without"),
    [
        ("masf_gaussian", {"passes": 1, "lag": 5}, "lag", "passes above 1"),
        ("masf_gaussian", {"passes": 1, "pace": 4.0}, "pace", "passes above 1"),
        ("masf_gaussian", {"passes": 1, "finish": "past"}, "finish", "passes above 1"),
        ("masf_gaussian", {"passes": 1, "passes_radius": 3.0}, "passes_radius", "passes above 1"),
        ("masf_gaussian", {"passes": 1, "greatest_misfit": 0.1}, "greatest_misfit", "passes above"),
        ("masf_gaussian", {"covariance": "ensemble", "localization_radius": 3.0},
         "localization_radius", "covariance localized"),
        ("masf_gaussian", {"static_members": 7}, "static_members", "a static_share"),
        ("masf_gaussian", {"climate_steps": 9}, "climate_steps", "a static_share"),
        ("letkf", {"localization_radius": None, "block": 2}, "block", "a localization_radius"),
        ("ienks", {"localization_radius": None, "block": 2}, "block", "a localization_radius"),
        ("ienks", {"form": "transform", "epsilon": 0.5}, "epsilon", "form bundle"),
        ("masf", {"network": False, "finetune_steps": 3}, "finetune_steps", "network: true"),
    ],
)  # fmt: skip
def test_what_a_caller_gives_and_changes_nothing_is_said(
    name: str, given: dict[str, Any], key: str, without: str, caplog: pytest.LogCaptureFixture
) -> None:
    system = masf.make_system("lorenz96", dimension=8)
    observation = masf.make_observation(system, "identity", noise=1.0)
    truth = masf.simulate(system, observation, gap=5, cycles=3, members=20)
    left_out = masf.assimilate(truth, name, {k: v for k, v in given.items() if k != key})
    assert "changes nothing" not in caplog.text
    found = masf.assimilate(truth, name, given)
    said = f"filter {name!r}: {key} = {json.dumps(given[key])}: changes nothing without {without}"
    assert said in caplog.text
    for variable in ("mean", "spread"):
        np.testing.assert_array_equal(found[variable], left_out[variable])
