"""How far a study is, told from its files."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import small_study, write_results

from masf.cli import commands
from masf.study import paths
from masf.study.jobs import all_jobs
from masf.study.status import INCOMPLETE, State, counts, status
from masf.study.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Runs are there, but nothing that is made of them."""
    made = small_study(tmp_path)
    write_results(made)
    (made.results / paths.STUDY).write_text(made.to_json(), encoding="utf-8")
    return made


def a_run(study: Study, name: str = "enkf") -> tuple[Path, Path]:
    """Its result and its log."""
    cell = next(cell for cell in study.cells.values() if name in cell.filters)
    log = study.results / paths.log("assimilate").format_map(cell.wildcards | {"filter": name})
    log.parent.mkdir(parents=True, exist_ok=True)
    return study.results / cell.estimate(name), log


def of_assimilate(study: Study, working: Path) -> dict[State, int]:
    return dict(counts(status(study, working)))["assimilate"]


def test_each_job_is_counted_once_by_its_stage(study: Study, tmp_path: Path) -> None:
    found = status(study, tmp_path)
    assert len(found) == len(all_jobs(study))
    by_stage = dict(counts(found))
    runs = sum(len(cell.filters) for cell in study.cells.values())
    assert by_stage["assimilate"][State.DONE] == runs
    assert by_stage["aggregate"] == {
        State.DONE: 0, State.RUNNING: 0, State.FAILED: 0, State.LEFT: 1,
    }  # fmt: skip
    assert all(job.expected is None or job.expected > 0 for job in found)


@pytest.mark.parametrize("told_by", ["snakemake", "log"])
def test_a_run_that_failed_is_told_from_one_that_runs(
    told_by: str, study: Study, tmp_path: Path
) -> None:
    result, log = a_run(study)
    result.unlink()
    assert of_assimilate(study, tmp_path)[State.LEFT] == 1
    log.write_text("12:00:00 INFO cycle 3\n", encoding="utf-8")
    marked = tmp_path / INCOMPLETE
    if told_by == "snakemake":
        name = base64.urlsafe_b64encode(str(result).encode()).decode()
        (marked / f"@{name[:40]}").mkdir(parents=True)  # as it splits long names
        (marked / f"@{name[:40]}" / name[40:]).touch()
    assert of_assimilate(study, tmp_path)[State.RUNNING] == 1
    if told_by == "snakemake":
        (marked / f"@{name[:40]}" / name[40:]).unlink()
    else:
        log.write_text("12:00:00 INFO cycle 3\nmasf: error: noise is 0\n", encoding="utf-8")
    assert of_assimilate(study, tmp_path)[State.FAILED] == 1


def test_a_run_without_its_cost_is_not_done(study: Study, tmp_path: Path) -> None:
    cell = next(iter(study.cells.values()))
    (study.results / cell.cost(cell.filters[0])).unlink()
    assert of_assimilate(study, tmp_path)[State.LEFT] == 1


def test_the_command_names_logs_of_failures_and_says_what_to_do_next(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result, log = a_run(study)
    result.unlink()
    log.write_text("Traceback (most recent call last):\nValueError: x\n", encoding="utf-8")
    said = CliRunner().invoke(commands, ["status", str(study.results)]).stdout
    assert f"failed: {log}" in said
    heads, *rows = [line.split("\t") for line in said.splitlines() if "\t" in line]
    assert heads == ["STAGE", "done", "running", "failed", "left"]
    assert {row[0]: row[3] for row in rows}["assimilate"] == "1"
    assert f"masf preview {study.results}" in said
    for path in all_jobs(study):
        place = study.results / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    said = CliRunner().invoke(commands, ["status", str(study.results)]).stdout
    assert said.splitlines()[-1] == f"done: open {study.results / paths.PAGE}"


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(commands, ["status", str(tmp_path)])
    assert "holds no study.json" in str(done.exception)
