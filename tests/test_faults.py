"""What may go wrong on one machine: each fault is one clear error, loses nothing, and running again
gives the same tables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from obstacles import Obstructed, kill, tables
from test_workflow import CELLS, PATIENCE


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[bool]:
    """A file system at ``folder``, where one may be mounted; whether it is."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)  # noqa: S603, S607
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


def words(config: str, *more: str) -> list[str]:
    return ["snakemake", "--profile", "local", "--cores", "2", "--configfile", config, *more]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Obstructed:
    return Obstructed(tmp_path_factory.mktemp("faults") / "a project")


@pytest.fixture(scope="module")
def undisturbed(project: Obstructed) -> Path:
    """The results of a run without faults, in paths with spaces and with a read-only config folder,
    as far as one may be made.
    """
    config = project.study("results/a study", "undisturbed.yaml")
    folder = project.root / "config"
    before = sorted(folder.rglob("*"))
    for path in (folder, *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with mounted(folder, "--bind", str(folder)) as is_mounted:
        if is_mounted:
            # Root may write what nobody may, but not on a read-only mount.
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)  # noqa: S603, S607
        done = project.run(*words(config))
    assert done.returncode == 0, done.stdout
    assert sorted(folder.rglob("*")) == before
    return project.root / "results" / "a study"


@pytest.fixture
def copied(project: Obstructed, undisturbed: Path) -> Callable[[str], tuple[str, Path]]:
    """A copy of the undisturbed results, finished as Snakemake sees it: its config, and its
    folder.
    """

    def copy(name: str) -> tuple[str, Path]:
        results = project.root / "results" / name
        shutil.copytree(undisturbed, results, copy_function=shutil.copy2)
        config = project.study(f"results/{name}", f"{name}.yaml")
        assert project.run(*words(config, "--touch")).returncode == 0
        return config, results

    return copy


def test_jobs_on_a_gpu_run_one_at_a_time_where_the_profile_has_one(
    project: Obstructed, undisturbed: Path
) -> None:
    profile = yaml.safe_load((project.root / "local" / "config.yaml").read_text(encoding="utf-8"))
    assert profile["resources"] == {"gpu": 1}
    ran = []
    for cell in CELLS:
        record = undisturbed / "benchmarks" / cell / "masf.tsv"
        end = record.stat().st_mtime
        ran.append((end - float(pd.read_csv(record, sep="\t")["s"].item()), end))
    first, second = sorted(ran)
    assert first[1] <= second[0]


def leftovers(results: Path) -> list[Path]:
    """Temporary files: what was being written when something stopped it."""
    return [
        path
        for path in results.rglob(".*")
        if path.is_file() and not path.name.startswith(".snakemake")
    ]


def test_killed_stage_is_named_and_run_again(project: Obstructed, undisturbed: Path) -> None:
    config = project.study("results/killed stage", "killed.yaml")
    results = project.root / "results" / "killed stage"
    project.put("wait")
    run = project.start(*words(config))
    project.until(lambda: len(project.waiting()) == 2, run)

    second = project.run(*words(config))
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stdout
    assert "Traceback" not in second.stdout

    kill(*map(psutil.Process, project.waiting()))
    project.remove("wait")
    assert run.wait(PATIENCE) != 0
    for cell in CELLS:
        log = f"results/killed stage/logs/{cell}/obstacle.log"
        assert log in project.output()
        assert (project.root / log).exists()
        assert not (results / cell / "obstacle.nc").exists()
    assert leftovers(results) == []

    done = project.run(*words(config))
    assert done.returncode == 0, done.stdout
    assert tables(results) == tables(undisturbed)
    assert {"truth.tsv", "enkf.tsv", "masf.tsv"} <= {
        path.name for path in (results / "benchmarks").rglob("*.tsv")
    }
    assert (results / "benchmarks" / "aggregate.tsv").exists()


def test_truncated_truth_is_named_and_made_again(
    project: Obstructed, undisturbed: Path, copied: Callable[[str], tuple[str, Path]]
) -> None:
    config, results = copied("truncated")
    truth = results / CELLS[0] / "truth.nc"
    with truth.open("rb+") as f:
        f.truncate(truth.stat().st_size // 2)
    done = project.run(*words(config))
    assert done.returncode != 0
    assert f"masf: error: results/truncated/{CELLS[0]}/truth.nc" in done.stdout
    truth.unlink()
    done = project.run(*words(config))
    assert done.returncode == 0, done.stdout
    assert tables(results) == tables(undisturbed)


def test_full_disk_is_told_and_filled_no_further(project: Obstructed, undisturbed: Path) -> None:
    disk = project.root / "results" / "small disk"
    disk.mkdir(parents=True)
    config = project.study("results/small disk/study", "small_disk.yaml")
    results = disk / "study"
    with mounted(disk, "-t", "tmpfs", "-o", "size=4m", "tmpfs") as is_mounted:
        if not is_mounted:
            pytest.skip("nobody may mount a file system here")
        # Room for logs and the first files of a few pages, not for the study.
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2**22 - 24 * os.sysconf("SC_PAGE_SIZE")))
        done = project.run(*words(config))
        assert done.returncode != 0
        assert "The disk of results/small disk/study is full" in done.stdout
        assert leftovers(results) == []
        # What is there by its name is whole.
        ballast.unlink()
        done = project.run(*words(config))
        assert done.returncode == 0, done.stdout
        # Results on another file system than the project, too.
        assert tables(results) == tables(undisturbed)


def test_results_that_cannot_be_written_are_one_error(project: Obstructed) -> None:
    parent = project.root / "results"
    (parent / "read only").mkdir(parents=True, exist_ok=True)
    (parent / "a_file").write_text("in the way")
    with mounted(parent / "read only", "-t", "tmpfs", "-o", "ro", "tmpfs") as is_mounted:
        for blocked in ["a_file", "read only"] if is_mounted else ["a_file"]:
            done = project.run(*words(project.study(f"results/{blocked}/study", "blocked.yaml")))
            assert done.returncode != 0
            assert f"results = 'results/{blocked}/study'" in done.stdout
            assert "Traceback" not in done.stdout
            assert len(done.stdout.splitlines()) < 10
