"""The commands for people: run, list and show, what they print, and how the command line ends."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import shutil
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner, Result

import masf
from masf.cli import SECTIONS, commands
from masf.cli.options import THREAD_VARIABLES
from masf.filters.registry import filter_names
from masf.observations.settings import OPERATORS
from masf.progress import SILENT
from masf.stages.aggregate import gather
from masf.study.defaults import published_setting, setting_names
from masf.study.load import load_study
from masf.study.study import Study
from masf.systems.registry import system_names

ROOT = Path(__file__).parent.parent
CELL = (
    "--system lorenz96 --parameters dimension=12 --observation every_second --gap 5 --cycles 6 "
    "--members 20 --seed 3 --quiet"
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # commands set them; this restores them


def call(*words: str) -> Result:
    return CliRunner().invoke(commands, [w for word in words for w in word.split()])


def shell(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A script in a shell that finds this masf."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(  # noqa: S603
        ["bash", "-c", script],  # noqa: S607
        capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}, **options
    )  # fmt: skip


def test_run_prints_and_keeps_the_scores_of_the_interface(tmp_path: Path) -> None:
    filters = ("letkf", "letkf:inflation=1.1,localization_radius=null")
    done = call(
        "run", CELL, "--output", str(tmp_path / "kept"), *(f"--filter {name}" for name in filters)
    )
    assert done.exit_code == 0, done.output
    heading, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert heading == [
        "FILTER", "RMSE", "analysis RMSE", "CRPS", "spread / error",
        "s / cycle", "model runs",
    ]  # fmt: skip
    assert [row[0] for row in rows] == list(filters)
    truth = xr.load_dataset(tmp_path / "kept" / "truth.nc")
    estimates = [
        masf.assimilate(truth, "letkf"),
        masf.assimilate(truth, "letkf", {"inflation": 1.1, "localization_radius": None}),
    ]
    # A run shorter than the usual one leaves half of its cycles out.
    named = dict(zip(filters, estimates, strict=True))
    scores = masf.score(named, spin_up_cycles=3, truth=truth)
    for row in rows:
        shown = scores.loc[row[0], ["rmse", "rmse_analysis", "crps", "spread_skill"]]
        assert row[1:5] == [f"{value:.4g}" for value in shown]
        assert float(row[5]) > 0
        assert row[6] == "20"
    assert scores["rmse"].nunique() == 2
    kept = pd.read_parquet(tmp_path / "kept" / "scores.parquet").set_index("filter")
    pd.testing.assert_frame_equal(kept[list(scores)], scores, check_index_type=False)
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "kept" / "letkf.nc"), estimates[0])


SEEDS = CELL.replace("--seed 3", "--seed 3 --seed 4")


def test_run_of_several_seeds_has_means_and_a_folder_of_each(tmp_path: Path) -> None:
    done = call("run", SEEDS, "--filter letkf --filter etkf --output", str(tmp_path))
    assert done.exit_code == 0, done.output
    heads, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert heads[:3] == ["FILTER", "SEEDS", "RMSE"]
    assert [row[:2] for row in rows] == [["letkf", "2"], ["etkf", "2"]]
    kept = [pd.read_parquet(tmp_path / f"seed~{seed}" / "scores.parquet") for seed in (3, 4)]
    assert [rows["seed"].tolist() for rows in kept] == [[3, 3], [4, 4]]
    rmse = pd.concat(kept).groupby("filter")["rmse"]
    for row in rows:
        assert row[2] == f"{rmse.mean()[row[0]]:.4g} ± {rmse.std()[row[0]]:.2g}"
    # Each is as a call of its own makes it.
    assert call("run", CELL, "--filter letkf --output", str(tmp_path / "alone")).exit_code == 0
    alone, beside = (tmp_path / folder / "letkf.nc" for folder in ("alone", "seed~3"))
    assert alone.read_bytes() == beside.read_bytes()
    for words, folder, what in (
        (SEEDS, "alone", "runs of one seed already"),
        (CELL, "", "folders of seeds already"),
    ):
        mixed = call("run", words, "--filter enkf --output", str(tmp_path / folder))
        assert mixed.exit_code == 1
        assert what in str(mixed.exception)
    twice = call("run", CELL, "--seed 3")
    assert twice.exit_code == 2
    assert "--seed 3 is given twice" in twice.output


def test_run_adds_filters_to_a_folder_of_the_same_truth(tmp_path: Path) -> None:
    folder = f"--output {tmp_path}"
    assert call("run", CELL, "--filter letkf --filter etkf", folder).exit_code == 0
    before = pd.read_parquet(tmp_path / "scores.parquet")
    assert call("run", CELL, "--filter enkf --filter etkf", folder).exit_code == 0
    after = pd.read_parquet(tmp_path / "scores.parquet")
    assert after["filter"].tolist() == ["letkf", "enkf", "etkf"]
    again = after.set_index("filter").loc[before["filter"]].reset_index()
    pd.testing.assert_frame_equal(again[list(before)], before)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--seed 3", "--seed 4"), "letkf.nc: is of other settings: seed 3 in place of 4"),
        (("--members 20", "--members 21"), "members 20 in place of 21"),
        (("dimension=12", "dimension=13"), "dimension 12 in place of 13"),
        (("--cycles 6", "--cycles 6 --spin-up-cycles 1"), "spin_up_cycles 3 in place of 1"),
    ],
)
def test_run_refuses_a_folder_of_other_settings_before_anything_runs(
    changed: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("run", CELL, f"--filter letkf --output {tmp_path}").exit_code == 0
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(
        "masf.stages.simulate.simulate_in_memory", lambda *_: pytest.fail("simulated")
    )
    done = call("run", CELL.replace(*changed), f"--filter etkf --output {tmp_path}")
    assert said in str(done.exception)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_run_refuses_a_folder_of_a_study_or_of_a_truth_that_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "study.json").touch()
    done = call("run", CELL, f"--filter etkf --output {tmp_path}")
    assert "holds the results of a study" in str(done.exception)
    folder = tmp_path / "other"
    assert call("run", CELL, f"--filter letkf --output {folder}").exit_code == 0
    truth = xr.load_dataset(folder / "truth.nc")
    truth["truth"][-1] += 1e-3
    truth.to_netcdf(folder / "truth.nc")
    done = call("run", CELL, f"--filter etkf --output {folder}")
    assert "is another truth than these settings give now" in str(done.exception)
    assert not (folder / "etkf.nc").exists()


def test_run_marks_a_filter_that_lost_track(tmp_path: Path) -> None:
    words = "--filter enkf:inflation=1 --filter free_run --members 4 --cycles 30 --quiet"
    done = call("run --parameters dimension=40", words, f"--output {tmp_path}")
    names = [line.split("\t")[0] for line in done.stdout.splitlines()[1:]]
    assert names == ["enkf:inflation=1 (lost track)", "free_run"]
    assert pd.read_parquet(tmp_path / "scores.parquet")["lost"].tolist() == [True, False]
    several = call("run --parameters dimension=40 --seed 0 --seed 1", words)
    row = several.stdout.splitlines()[1].split("\t")
    assert row[:3] == ["enkf:inflation=1", "2 (2 lost track)", "none"]
    # So does whoever looks at the estimate, where the truth lies beside it.
    (tmp_path / "scores.parquet").unlink()
    shown = call("show", str(tmp_path)).stdout.splitlines()
    assert shown[1].startswith("enkf+inflation~1.nc (lost track)\t")
    assert shown[2].startswith("free_run.nc\t")
    assert "lost track\t" in call("show", str(tmp_path / "enkf+inflation~1.nc")).stdout


def test_run_says_which_values_were_tuned_together_with_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        done = call("run --cycles 2 --filter masf:passes=1,network=false --members 100 --gap 20")
    assert done.exit_code == 0, done.output
    assert "perturbation = 0.0" in caplog.text
    assert "were tuned together with passes = 8, which is another here" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        call("run --cycles 2 --filter masf:passes=8,network=false --members 100 --gap 20")
    assert "tuned together" not in caplog.text


def test_run_of_a_flow_has_the_scores_of_its_vorticity(tmp_path: Path) -> None:
    flow = "-s kolmogorov -p size=16 -f free_run --gap 2 --cycles 2 --members 4"
    done = call("run", flow, "--output", str(tmp_path))
    heading, row = [line.split("\t") for line in done.stdout.splitlines()]
    assert heading[5:7] == ["SSIM of vorticity", "CSI of vorticity"]
    assert all(-1 <= float(value) <= 1 for value in row[5:7])
    shown = call("show", str(tmp_path / "scores.parquet")).stdout.splitlines()[0].split("\t")
    assert shown[-2:] == ["ssim", "csi"]
    # Of an estimate they need the truth, which lies beside it.
    shown_again = call("show", f"{tmp_path}/free_run.nc --spin-up-cycles 1").stdout
    assert f"SSIM of vorticity\t{row[5]}, the first cycle left out" in shown_again
    (tmp_path / "truth.nc").unlink()
    assert "SSIM" not in call("show", str(tmp_path / "free_run.nc")).stdout


@pytest.mark.parametrize(("options", "shown"), [("", True), ("--quiet", False)])
def test_progress_is_shown_in_a_terminal_unless_quiet_is_asked_for(
    options: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SILENT, raising=False)  # commands that ran in this process may have set it
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    cell = CELL.replace("--quiet", options)
    done = shell(f"exec masf run {cell} --filter free_run 2>&{end}", pass_fds=[end])
    os.close(end)
    said = b""
    with contextlib.suppress(OSError):  # which says that nobody writes to it any more
        while chunk := os.read(terminal, 4096):
            said += chunk
    os.close(terminal)
    assert done.returncode == 0
    assert (b"assimilate" in said) == shown
    assert (said != b"") == shown


@pytest.mark.parametrize("gap", [20, 50])
def test_filters_have_the_parameters_that_a_study_gives_them(
    gap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    from masf.study.defaults import filter_in_cell

    study = load_study(Path("tests/config/small.yaml"))
    cell = next(
        c
        for c in study.cells.values()
        if c.observation_name == "every_second" and c.settings.gap == gap
    )
    for name in ("enkf", "etkf", "masf_fresh"):
        assert filter_in_cell(
            name, cell.settings, {}, has_prior=True
        ).parameters == study.default_parameters(name, cell)


def test_lists_that_are_piped_have_whole_descriptions() -> None:
    listed = dict(line.split("\t") for line in call("list systems").stdout.splitlines())
    assert listed["lorenz63"].endswith("chaotic at the classical parameters.")
    for words in ("list systems", "list filters", "list observations"):
        for line in call(words).stdout.splitlines():
            assert line.endswith(".") or line.startswith(("dapper_", "dapyr_")), line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--observation operator=stride,strid=4,noise=1",
            "--observation: operator 'stride': strid: unknown key (did you mean 'stride'?)",
        ),
        (
            "--observation operator=stride,stride=0,noise=1",
            "--observation: operator 'stride': stride = 0: ",
        ),
        (
            "--observation operator=stride,stride=4",
            "--observation: operator 'stride': noise: this key is missing",
        ),
        ("--gap 20,10", "'--gap': gap is '20,10': expected a number of steps, or a list"),
        ("--gap 20,10", "on a command line 20-10"),
        (
            "--system lorenz96_two_scale --filter letkf",
            "set it to null (in experiments.lorenz96_two_scale, system 'lorenz96_two_scale', "
            "observation 'all'); on the command line as --filter letkf:localization_radius=null, "
            "in Python as the parameters {'localization_radius': None}",
        ),
    ],
)
def test_run_says_which_option_is_at_fault_and_what_to_write(words: str, said: str) -> None:
    done = call("run", words)
    assert said in f"{done.output}{done.exception}"


@pytest.mark.parametrize("system", system_names())
def test_run_has_defaults_for_each_system(system: str) -> None:
    done = call(f"run --system {system} --filter free_run --cycles 2 --gap 1 --quiet")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1].startswith("free_run\t")


def test_run_trains_a_prior_of_the_flow_where_masf_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = call(
        "run -s kolmogorov -p size=16 -f masf -f free_run --observation "
        "operator=grid,stride=2,noise=0.1 --cycles 4 --quiet"
    )
    assert done.exit_code == 0, done.output
    rmse = {
        line.split("\t")[0]: float(line.split("\t")[1]) for line in done.stdout.splitlines()[1:]
    }
    assert rmse["masf"] < 0.5 * rmse["free_run"]
    assert [path.name.split("-")[0] for path in tmp_path.rglob("*.safetensors")] == ["kolmogorov"]


def test_show_says_what_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    training = {
        "network": {"width": 4, "blocks": 1},
        "worlds": 2,
        "cycles": 2,
        "spin_up_cycles": 0,
        "members": 6,
        "steps": 2,
    }
    assert call("run", CELL, "--filter enkf", f"--output {tmp_path}").exit_code == 0
    prior = masf.train_prior(
        xr.load_dataset(tmp_path / "truth.nc"), settings=training, device="cpu"
    )
    scores = pd.read_parquet(tmp_path / "scores.parquet").loc[0]
    expected = {
        "truth.nc": [
            "Truth, measurements",
            "lorenz96 (dimension 12, dt 0.01, forcing 8",
            "gap 5, members 20",
            "truth (model_time 31,",
        ],
        "enkf.nc": [
            "Estimate by filter enkf",
            '{"inflation": 1.02}',
            "model runs a cycle\t20\n",
            # As many as the run left out.
            f"RMSE\t{scores['rmse']:.4g}, the first 3 cycles left out",
        ],
        "scores.parquet": ["filter\t", "enkf\tlorenz96\t12\t", f"\t{scores['rmse']:.4g}\t"],
        str(prior): ["Pretrained prior: lorenz96", '"width": 4', "held-out loss", "steps 2"],
    }
    for name, said in expected.items():
        done = call("show", str(tmp_path / name))
        assert done.exit_code == 0, done.output
        for text in said:
            assert text in done.stdout, name


def test_run_and_show_print_one_rmse_and_another_spin_up_on_request(tmp_path: Path) -> None:
    ran = call("run", CELL, "--filter enkf", f"--output {tmp_path}")
    rmse = ran.stdout.splitlines()[1].split("\t")[1]
    assert f"RMSE\t{rmse}, the first 3" in call("show", str(tmp_path / "enkf.nc")).stdout
    for left_out, said in ((0, "all cycles"), (2, "the first 2 cycles left out")):
        shown = call("show", str(tmp_path / "enkf.nc"), f"--spin-up-cycles {left_out}").stdout
        assert said in shown
        assert f"RMSE\t{rmse}," not in shown


def test_show_of_a_folder_has_the_scores_of_what_is_in_it(study: Study, tmp_path: Path) -> None:
    ran = call("run", CELL, "--filter enkf", f"--output {tmp_path / 'run'}")
    rmse = ran.stdout.splitlines()[1].split("\t")[1]
    assert rmse in call("show", str(tmp_path / "run")).stdout.splitlines()[1].split("\t")
    # Scores that leave out other cycles are made of the estimates.
    head, row = call("show", str(tmp_path / "run"), "--spin-up-cycles 0").stdout.splitlines()
    assert head.split("\t")[:2] == ["estimate", "RMSE"]
    assert row.split("\t")[0] == "enkf.nc"
    assert rmse not in row.split("\t")
    # A study whose scores were not gathered yet.
    (study.results / "study.json").write_text(study.to_json(), encoding="utf-8")
    shown = dict(
        line.split("\t")[:2] for line in call("show", str(study.results)).stdout.splitlines()
    )
    rows = gather(study)[0].set_index(["cell", "filter"])
    for (cell, name), found in rows.iterrows():
        expected = "diverged" if found["diverged"] else f"{found['rmse']:.4g}"
        assert shown[f"{cell}/{name}.nc"] == expected
    assert len(shown) == len(rows) + 1
    (tmp_path / "empty").mkdir()
    refused = call("show", str(tmp_path / "empty"))
    assert "holds no scores.parquet and no estimate" in str(refused.exception)


def test_show_scores_an_estimate_of_a_study_as_its_tables_do(study: Study, tmp_path: Path) -> None:
    (study.results / "study.json").write_text(study.to_json(), encoding="utf-8")
    cell = next(iter(study.cells.values()))
    shown = call("show", str(study.results / cell.estimate("enkf"))).stdout
    rows = gather(study)[0].set_index(["cell", "filter"])
    expected = f"RMSE\t{rows.loc[(cell.path, 'enkf'), 'rmse']:.4g}, the first cycle left out"
    assert expected in shown
    # Of a file that was taken from its place nothing is known.
    moved = shutil.copy(study.results / cell.estimate("enkf"), tmp_path)
    assert "all cycles" in call("show", str(moved)).stdout
    (study.results / "study.json").write_text("{", encoding="utf-8")
    assert "all cycles" in call("show", str(study.results / cell.estimate("enkf"))).stdout


def test_show_counts_lost_tracks_and_leaves_them_out_of_means(tmp_path: Path) -> None:
    rows = {
        "system": "lorenz63", "gap": 2, "filter": "enkf", "seed": [0, 1, 2],
        **dict.fromkeys(("rmse_analysis", "crps", "spread_skill"), 1.0),
        "rmse": [1.0, 2.0, 90.0], "diverged": False, "lost": [False, False, True],
    }  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "scores.parquet")
    heading, row = (
        line.split("\t")
        for line in call("show", str(tmp_path / "scores.parquet")).stdout.splitlines()
    )
    shown = dict(zip(heading, row, strict=True))
    assert (shown["runs"], shown["lost"], shown["rmse"]) == ("3", "1", "1.5")


def test_run_of_a_setting_has_its_filters_beside_their_published_scores(tmp_path: Path) -> None:
    done = call("run --setting hoteit2015 --cycles 6 --output", str(tmp_path))
    heads, *rows = (line.split("\t") for line in done.stdout.splitlines())
    found = [dict(zip(heads, row, strict=True)) for row in rows]
    runs = published_setting("hoteit2015").runs
    assert [(row["N"], row["published analysis RMSE"]) for row in found] == [
        (str(run.members), "" if run.published is None else f"{run.published:g}") for run in runs
    ]
    # Three letkf have as many members, and differ in what is named.
    assert found[2]["FILTER"] == "letkf:inflation=1.04,localization_radius=10.92"
    kept = pd.read_parquet(tmp_path / "scores.parquet")
    assert kept["members"].tolist() == [run.members for run in runs]
    ran = xr.load_dataset(tmp_path / "letkf+inflation~1.04,localization_radius~10.92+members~10.nc")
    assert json.loads(ran.attrs["filter_parameters"]) == runs[2].parameters
    assert xr.load_dataset(tmp_path / "truth+members~28.nc").sizes["member"] == 28


def test_run_of_a_setting_takes_other_filters_sizes_and_parameters() -> None:
    words = "run --setting hoteit2015 --cycles 4"
    done = call(words, "--filter letkf --filter enkf_n --filter etkf:inflation=1.1 --members 10")
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        *(
            (f"letkf:inflation={inflation},localization_radius={radius}", "10", published)
            for inflation, radius, published in (
                ("1.02", "7.28", "0.21"), ("1.04", "10.92", "0.2"), ("1.1", "18.2", "0.22"),
            )
        ),
        ("enkf_n", "10", ""),
        ("etkf:inflation=1.1", "10", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--setting hoteit2015 --gap 3", "--gap is said by --setting hoteit2015"),
        (
            "--setting hoteit2015 --initial-spread 2",
            "--initial-spread is said by --setting hoteit2015",
        ),
        ("--setting hoteit2015 --system lorenz63", "--system is said by --setting"),
        ("--setting hoteit2015 --members 11", "has no filter with so many"),
        ("--setting hoteit", "unknown setting 'hoteit' (did you mean 'hoteit2015'"),
    ],
)
def test_run_refuses_what_a_setting_says_otherwise(words: str, said: str) -> None:
    done = call("run --cycles 4", words)
    assert done.exit_code != 0
    assert said in f"{done.output}{done.exception}"


def test_run_refuses_a_filter_that_is_named_twice() -> None:
    done = call("run", CELL, "--filter enkf --filter etkf --filter enkf")
    assert done.exit_code == 2
    assert "--filter enkf is given twice: name it once" in done.output


@pytest.mark.parametrize("said", ["inflation=1.1,inflation=1.2", '{"inflation":1,"inflation":2}'])
def test_run_refuses_a_parameter_that_is_given_twice(said: str) -> None:
    done = call("run --filter", f"enkf:{said}")
    assert done.exit_code == 2
    assert "key 'inflation' stands twice" in done.output


def test_show_refuses_what_is_not_masf_s(tmp_path: Path) -> None:
    xr.Dataset({"temperature": ("x", [1.0])}).to_netcdf(tmp_path / "foreign.nc")
    (tmp_path / "cut.nc").write_bytes(b"CDF")
    (tmp_path / "foreign.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "foreign.parquet")
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    said = {
        "foreign.nc": "has format None, which masf does not write",
        "cut.nc": "is truncated or no NetCDF file",
        "foreign.safetensors": "is not a prior of format masf-prior-",
        "foreign.parquet": "is no table of masf's",
        "notes.txt": "is no file of masf's that can be shown",
        "absent.nc": "does not exist",
    }
    names = " ".join(said)
    done = shell(f"for f in {names}; do masf show $f; echo $?; done", cwd=tmp_path)
    assert done.stdout.split() == ["1"] * len(said)
    lines = done.stderr.splitlines()
    for line, (name, text) in zip(lines, said.items(), strict=True):
        assert line.startswith(f"masf: error: {name}: ")
        assert text in line


def test_lists_have_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)

    def first(*words: str) -> list[str]:
        done = call("list", *words)
        assert done.exit_code == 0, done.output
        assert all(len(line.split("\t")) >= 2 for line in done.stdout.splitlines())
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    assert first("systems") == system_names()
    assert first("filters")[: len(filter_names())] == filter_names()
    assert "dapper_letkf" in first("filters")
    assert first("experiments --config config/quick.yaml") == list(
        load_study(Path("config/quick.yaml")).config.experiments
    )
    assert {"inflation", "localization_radius"} <= set(first("filters letkf"))
    # One of ours under another name has what its file says; a command, all that its file says.
    listed = call("list", "filters", "masf_search").stdout
    assert "\npasses\t2\t" in listed
    assert "\nlag\t2\t" in listed
    assert "\nstatic_share\t0.0\t" in listed
    assert {"inflation", "iterations"} < set(first("filters dapper_ienks"))
    assert first("systems lorenz96") == ["dt", "dimension", "forcing"]
    assert "gap" in first("experiments lorenz63")
    # kolmogorov has seeds of its own.
    for name, seeds in (("kolmogorov", "0, 1"), ("lorenz96_dimension", "0, 1, 2, 3, 4")):
        listed = call("list", "experiments", name, "--config config/quick.yaml").stdout
        assert f"\nseeds\t{seeds}\n" in listed
    assert first("settings") == setting_names()
    assert {"source", "chosen by us", "letkf, N 7"} <= set(first("settings sakov2008"))
    assert first("observations") == list(OPERATORS)
    assert {"noise", "transform", "stride"} <= set(first("observations stride"))


def test_every_command_has_a_place_in_the_help_and_a_line_that_fits() -> None:
    assert sorted(commands.commands) == sorted(
        name for section in SECTIONS.values() for name in section
    )
    text = call("--help").stdout
    assert "..." not in text.partition("\n")[2]
    assert all(f"\n{section}:\n" in text for section in SECTIONS)
    examples = [
        line.split("  ")[2].split() for line in text.splitlines() if line.startswith("    masf ")
    ]
    for _, name, *words in examples:
        commands.commands[name].make_context(name, words)
    assert len(examples) >= 3


def test_exit_codes_and_pipes() -> None:
    usage = call("run --gap 0")
    assert usage.exit_code == 2
    assert call("run --filter enkf:inflation").exit_code == 2
    assert call("run --cycles 4 --spin-up-cycles 4").exit_code == 2
    script = """
    masf run --filter enfk; echo $?
    masf list filters | head -1 >/dev/null; echo ${PIPESTATUS[1]}
    timeout --preserve-status --signal INT 3 masf run --filter particle --cycles 100000 --quiet; echo $?
    """  # noqa: E501
    done = shell(script)
    assert done.stdout.split() == ["1", "0", "130"]
    said = done.stderr.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("masf: error: unknown filter 'enfk' (did you mean")
