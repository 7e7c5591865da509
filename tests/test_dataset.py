"""The files of a cell: what is written is read again, CF-style and in float32, and says how it was
made.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from masf.arrays import Stream
from masf.atomic import FileFault, replacing
from masf.files.cell import CellSettings
from masf.files.cost import read_cost, write_cost
from masf.files.estimate import estimate, read_estimate, write_estimate
from masf.files.netcdf import write
from masf.files.truth import Truth, read_truth, write_truth
from masf.scores.fields import critical_success_index, structural_similarity
from masf.scores.run import score
from masf.stages.assimilate import run_filter
from masf.stages.simulate import simulate
from masf.systems import flow
from masf.systems.base import System
from masf.systems.registry import make_system

SETTINGS = CellSettings(
    system="lorenz96",
    parameters={"dt": 0.05, "dimension": 6, "forcing": 8},
    observation={"operator": "stride", "stride": 2, "noise": 0.5},
    gap=3,
    cycles=4,
    members=5,
    initial_spread=1.0,
    seed=2,
)
SYSTEM: System = make_system(SETTINGS.system, SETTINGS.parameters)
ATTRIBUTES = {
    "filter": "enkf",
    "filter_module": "enkf",
    "filter_parameters": "{}",
    "parameter_source": "{}",
    "code_version": "abc",
}


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate(SETTINGS)


@pytest.fixture(scope="module")
def folder(truth: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """truth.nc, enkf.nc and enkf.cost.json of one cell."""
    folder = tmp_path_factory.mktemp("cell")
    write_files(folder, truth)
    return folder


def write_files(folder: Path, truth: Truth) -> None:
    write_truth(folder / "truth.nc", truth, SYSTEM, "v1")
    trajectory, system, _ = run_filter("enkf", {}, truth, saved_members=2)
    write_estimate(folder / "enkf.nc", trajectory, truth, system, ATTRIBUTES)
    write_cost(
        folder / "enkf.cost.json",
        trajectory,
        {"peak_memory_mib": 12.5, "device": "numpy", "threads": 1},
    )


def test_cells_that_differ_in_their_size_have_one_truth_and_nested_ensembles(truth: Truth) -> None:
    larger = simulate(dataclasses.replace(SETTINGS, members=9))
    for name in ("truth", "observation", "initial_mean"):
        np.testing.assert_array_equal(getattr(larger, name), getattr(truth, name))
    np.testing.assert_array_equal(larger.initial_ensemble[:5], truth.initial_ensemble)


def test_truth_survives_the_file(folder: Path, truth: Truth) -> None:
    again = read_truth(folder / "truth.nc")
    assert again.settings == truth.settings
    for name in ("truth", "observation", "initial_mean", "initial_ensemble"):
        written, read = getattr(truth, name), getattr(again, name)
        assert read.dtype == written.dtype == np.float32
        np.testing.assert_array_equal(read, written)


def test_estimate_survives_the_file(folder: Path, truth: Truth) -> None:
    trajectory, _, _ = run_filter("enkf", {}, truth, saved_members=2)
    data = read_estimate(folder / "enkf.nc")
    np.testing.assert_array_equal(data["mean"], trajectory.mean)
    np.testing.assert_array_equal(data["spread"], trajectory.spread)
    np.testing.assert_array_equal(data["member"], trajectory.members)
    for name in ("crps", "ranks", "ranks_forecast"):
        np.testing.assert_array_equal(data[name], getattr(trajectory, name))
    np.testing.assert_allclose(
        data["spread_forecast"], np.sqrt(np.mean(trajectory.forecast_spread**2, axis=1)), rtol=1e-6
    )
    assert "covariance" not in data
    errors = np.sqrt(np.mean((trajectory.mean.astype(float) - truth.truth) ** 2, axis=1))
    np.testing.assert_allclose(data["rmse"], errors, rtol=1e-6)
    np.testing.assert_allclose(
        data["spread_skill"],
        np.sqrt(np.mean(trajectory.spread.astype(float) ** 2, axis=1)) / errors,
        rtol=1e-5,
    )
    forecast_errors = np.sqrt(
        np.mean((trajectory.forecast_mean.astype(float) - truth.truth[3::3]) ** 2, axis=1)
    )
    np.testing.assert_allclose(data["rmse_forecast"], forecast_errors, rtol=1e-6)
    assert {k: data.attrs[k] for k in ATTRIBUTES} == ATTRIBUTES
    assert (data.attrs["diverged"], data.attrs["diverged_at_cycle"]) == (0, -1)


def test_scores_of_a_flow_s_vorticity_are_means_over_analyses() -> None:
    settings = dataclasses.replace(
        SETTINGS,
        system="kolmogorov",
        parameters={"size": 16},
        observation={"operator": "grid", "stride": 4, "noise": 0.1},
    )
    trajectory, system, _ = run_filter("enkf", {}, truth := simulate(settings))
    velocities = truth.truth.reshape(-1, 2, 16, 16)
    fields = [flow.vorticity(x.reshape(-1, 2, 16, 16)[6::3]) for x in (trajectory.mean, velocities)]
    data = estimate(trajectory, truth, system, ATTRIBUTES)
    scores = score(data, gap=3, spin_up_cycles=1, velocities=velocities)
    for name, function in (("ssim", structural_similarity), ("csi", critical_success_index)):
        assert scores[name] == pytest.approx(
            np.mean([function(*pair) for pair in zip(*fields, strict=True)]), rel=1e-6
        )
        assert np.isnan(score(data, gap=3, spin_up_cycles=1)[name])


@pytest.mark.parametrize("name", ["truth.nc", "enkf.nc"])
def test_file_is_cf_style_and_opens_with_plain_xarray(name: str, folder: Path) -> None:
    with xr.open_dataset(folder / name) as data:
        assert data.attrs["Conventions"] == "CF-1.11"
        assert data.attrs["title"]
        assert data.attrs["seed"] == SETTINGS.seed
        assert data.attrs["masf_version"]
        assert CellSettings(**json.loads(data.attrs["settings"])) == SETTINGS
        for variable in data.variables.values():
            assert variable.dtype == np.float32
            assert variable.attrs["units"]
            assert variable.attrs["long_name"]
            assert "_FillValue" not in variable.encoding
        assert dict(data.sizes).items() >= {"model_time": 13, "component": 6, "cycle": 4}.items()
        np.testing.assert_allclose(data["model_time"], 0.05 * np.arange(13), rtol=1e-6)
        np.testing.assert_allclose(data["cycle_time"], 0.15 * np.arange(1, 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("system", "parameters", "observation"),
    [
        ("lorenz96", SETTINGS.parameters, SETTINGS.observation),
        ("kolmogorov", {"size": 16}, {"operator": "grid", "stride": 4, "noise": 0.1}),
    ],
)
def test_files_pass_a_checker_of_the_conventions(
    system: str, parameters: dict, observation: dict, tmp_path: Path
) -> None:
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    settings = dataclasses.replace(
        SETTINGS, system=system, parameters=parameters, observation=observation
    )
    truth, model = simulate(settings), make_system(system, parameters)
    write_truth(tmp_path / "truth.nc", truth, model, "v1")
    trajectory, _, _ = run_filter("enkf", {}, truth, saved_members=2, covariance=True)
    trajectory.diagnostics["steps"] = np.ones(settings.cycles, "f4")
    write_estimate(tmp_path / "enkf.nc", trajectory, truth, model, ATTRIBUTES)
    CheckSuite.load_all_available_checkers()
    for name in ("truth.nc", "enkf.nc"):
        report = tmp_path / f"{name}.txt"
        ComplianceChecker.run_checker(
            str(tmp_path / name), ["cf:1.11"], 0, "strict", output_filename=str(report)
        )
        assert "All tests passed!" in report.read_text(encoding="utf-8"), report.read_text(
            encoding="utf-8"
        )


def test_file_opens_lazily_in_chunks_and_selects_by_model_time(folder: Path) -> None:
    with xr.open_dataset(folder / "enkf.nc") as data:
        assert not data["mean"].variable._in_memory
        np.testing.assert_array_equal(
            data["mean"].sel(model_time=0.3, method="nearest"), data["mean"][6]
        )


def test_truth_file_has_the_variables_that_stages_rely_on(folder: Path) -> None:
    with xr.open_dataset(folder / "truth.nc") as data:
        assert data["truth"].dims == ("model_time", "component")
        assert data["observation"].dims == ("cycle", "obs")
        assert data["initial_mean"].dims == ("component",)
        assert data["initial_ensemble"].dims == ("member", "component")
        assert data.sizes["obs"] == 3
        assert data.sizes["member"] == 5


def test_no_file_holds_the_time_of_its_making(folder: Path, truth: Truth, tmp_path: Path) -> None:
    time.sleep(1.1)  # HDF5 counts time in seconds
    write_files(tmp_path, truth)
    for name in ("truth.nc", "enkf.nc"):
        content = (folder / name).read_bytes()
        assert (tmp_path / name).read_bytes() == content
        assert not re.search(rb"20\d\d-\d\d-\d\d", content)


def test_cost_survives_the_file_and_a_damaged_one_is_named(folder: Path, tmp_path: Path) -> None:
    cost = read_cost(folder / "enkf.cost.json")
    assert len(cost["wall_seconds"]) == len(cost["cpu_seconds"]) == SETTINGS.cycles
    assert (cost["peak_memory_mib"], cost["device"], cost["threads"]) == (12.5, "numpy", 1)
    damaged = tmp_path / "enkf.cost.json"
    for content in ((folder / "enkf.cost.json").read_text(encoding="utf-8")[:40], "{}"):
        damaged.write_text(content, encoding="utf-8")
        with pytest.raises(FileFault, match=re.escape(str(damaged))):
            read_cost(damaged)


@pytest.mark.parametrize("name", ["rmse", "crps"])
def test_estimate_without_a_score_is_named(name: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "enkf.nc"
    with xr.open_dataset(folder / "enkf.nc") as data:
        data.load().drop_vars(name).to_netcdf(path)
    with pytest.raises(
        FileFault, match=f"{re.escape(str(path))}: lacks {name}; .*stage assimilate"
    ):
        read_estimate(path)


def test_truth_is_no_estimate(folder: Path) -> None:
    with pytest.raises(FileFault, match="has format 'masf-truth-2', expected 'masf-estimate-5'"):
        read_estimate(folder / "truth.nc")


# Replacing files


def test_replacing_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("first", encoding="utf-8")
        assert not path.exists()
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("second\ud800", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as one:
        one.write_text("one", encoding="utf-8")
        with replacing(path) as other:
            assert one != other
            other.write_text("other", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "other"
    assert path.read_text(encoding="utf-8") == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_replaced_file_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("x", encoding="utf-8")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_compression_loses_nothing_and_makes_files_of_flows_smaller(tmp_path: Path) -> None:
    system, stream = make_system("kolmogorov", {"size": 32}), Stream(0, "compression")
    x = system.typical_state(stream).astype(np.float32)
    states = []
    for _ in range(30):
        x = np.asarray(system.step(x[None], stream)[0], dtype=np.float32)
        states.append(x)
    values = np.stack(states)
    write(tmp_path / "truth.nc", xr.Dataset({"truth": (("model_time", "component"), values)}))
    with xr.open_dataset(tmp_path / "truth.nc", engine="netcdf4") as read:
        np.testing.assert_array_equal(read["truth"].values, values)
    assert (tmp_path / "truth.nc").stat().st_size < 0.95 * values.nbytes
