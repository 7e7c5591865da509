"""What the workflow's rules run and ask for."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from masf.cli import commands
from masf.files.provenance import assimilate_version, simulate_version
from masf.report.captions import table_entry
from masf.study import paths
from masf.study.costs import Request
from masf.study.jobs import (
    Job,
    Jobs,
    all_jobs,
    file_options,
    masf_command,
    missing_programs,
    tuned_files,
)
from masf.study.load import load_study, make_study, study_with
from masf.study.study import Study

ROOT = Path(__file__).parent.parent
FILES = {
    "simulate": "--output o",
    "train_prior": "--device cpu --threads 2 --output o",
    "tune": "--truth a --truth b --storage j --device cpu --threads 1 --output o",
    "assimilate": "--truth t --device cpu --threads 1 --output o --cost c",
    "aggregate": "--study s --scores a --costs b --tables t",
    "plot": "--study s --scores a --output o.pdf --output o.png",
    "page": "--study s --scores a --costs b --figures f --tables t --output o",
}
"""What rules add to their commands."""


@pytest.fixture(scope="module", params=["quick", "tuning"])
def study(request: pytest.FixtureRequest) -> Study:
    return load_study(ROOT / "config" / f"{request.param}.yaml", ROOT)


def changed(**changes: Any) -> Study:
    """The tiny study with some sections changed."""
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    return make_study(config | changes, root=ROOT)


def wildcards(found: dict[str, Any], **more: str) -> dict[str, str]:
    return {key: str(value) for key, value in found.items()} | more


def jobs_of(study: Study) -> list[tuple[str, Job]]:
    """All jobs of a study, with their rules."""
    jobs = Jobs(study)
    return [(rule, jobs(rule, found)) for rule, found in all_jobs(study).values()]


def parsed(rule: str, job: Job) -> dict[str, Any]:
    """The options that the command line finds in a job's command and what its rule adds."""
    stage, *words = shlex.split(f"{job.command} {FILES[rule]}")[1:]
    return commands.commands[stage].make_context(stage, words).params


def test_the_command_line_understands_every_command_of_a_study(study: Study) -> None:
    jobs = jobs_of(study)
    assert {rule for rule, _ in jobs} >= {
        "simulate",
        "train_prior",
        "assimilate",
        "aggregate",
        "page",
    }
    for rule, job in jobs:
        assert parsed(rule, job)


def test_each_job_is_known_by_an_output_of_its_own(study: Study) -> None:
    logs = {
        paths.log(rule, study.config.seeds.together).format_map(found)
        for rule, found in all_jobs(study).values()
    }
    assert len(logs) == len(all_jobs(study))
    runs = {
        (cell.point if study.config.seeds.together else cell.path, name)
        for cell in study.cells.values()
        for name in cell.filters
    }
    assert [rule for rule, _ in all_jobs(study).values()].count("assimilate") == len(runs)


def test_a_command_that_lacks_an_option_would_be_noticed(study: Study) -> None:
    (job,) = (job for rule, job in jobs_of(study) if rule == "aggregate")
    with pytest.raises(click.UsageError):
        commands.commands["aggregate"].make_context("aggregate", shlex.split(job.command)[2:])


def test_truths_are_simulated_as_their_cells_say(study: Study) -> None:
    for cell in study.all_cells.values():
        job = Jobs(study)("simulate", wildcards(cell.wildcards))
        options = parsed("simulate", job)
        said = {key: value for key, value in options.items() if key in vars(cell.settings)}
        assert said | {"seed": options["seeds"]} == {
            **vars(cell.settings),
            "seed": (cell.settings.seed,),
        }
        assert (job.inputs, job.version) == ({}, simulate_version(cell.settings.system))


def test_filters_run_with_the_parameters_that_the_study_has_for_them(study: Study) -> None:
    jobs = Jobs(study)
    for cell in study.cells.values():
        for name in cell.filters:
            job = jobs("assimilate", wildcards(cell.wildcards, filter=name))
            options = parsed("assimilate", job)
            assert options["name"] == name
            assert options["module"] == study.filter_module(name)
            assert options["parameters"] == json.loads(
                json.dumps(study.default_parameters(name, cell))
            )
            assert options["pinned"] == study.config.pinned.get(name, {})
            assert options["saved_members"] == cell.saved_members
            assert options["covariance"] is (cell.reference is not None)
            assert job.version == assimilate_version(name, cell.settings.system)
            below = {
                key: [file.removeprefix(f"{study.config.results}/") for file in files]
                for key, files in job.inputs.items()
            }
            tuned = study.tuning_path(name, cell)
            assert below["truth"] == [cell.truth]
            assert below.get("tuned") == (None if tuned is None else [tuned])
            assert below.get("prior") == (
                [study.prior(cell).path] if study.needs_prior(name, cell) else None
            )


def test_one_job_has_all_seeds_of_a_situation_where_the_study_says_so() -> None:
    apart = changed()
    study = changed(seeds={**apart.config.seeds.model_dump(), "together": True, "tuning": []})
    jobs = Jobs(study)
    for cell in study.cells.values():
        at = wildcards(cell.wildcards_together)
        assert parsed("simulate", jobs("simulate", at))["seeds"] == (0, 1)
        for name in cell.filters:
            job = jobs("assimilate", at | {"filter": name})
            assert [Path(path).parent.name for path in job.inputs["truth"]] == ["seed~0", "seed~1"]
            single = Jobs(apart)("assimilate", wildcards(cell.wildcards, filter=name))
            assert job.command == single.command
            assert job.request.runtime == 2 * single.request.runtime
            assert job.request.mem_mb == single.request.mem_mb
    rules = [rule for rule, _ in all_jobs(study).values()]
    halved = [rule for rule, _ in all_jobs(apart).values()]
    for rule in ("simulate", "assimilate"):
        assert 2 * rules.count(rule) == halved.count(rule)


def test_seeds_that_differ_between_filters_have_jobs_of_their_own() -> None:
    first = changed().config.model_dump(exclude_defaults=True)["experiments"]
    (name, experiment), *_ = first.items()
    other = {**experiment, "seeds": [1], "add_filters": ["letkf"], "leave_out_filters": []}
    seeds = {"test": [0, 1], "together": True}
    study = changed(
        seeds=seeds,
        experiments={name: experiment, "other": other},
        figures={},
        filters=["enkf"],
        pinned={},
    )
    assert list(study.seeds_together("enkf")) == [(0, 1)]
    assert list(study.seeds_together("letkf")) == [(1,)]


def test_tuning_reads_the_truths_of_all_tuning_seeds() -> None:
    study = load_study(ROOT / "config" / "tuning.yaml", ROOT)
    results = study.config.results
    for point, cells in study.points.items():
        for name in study.tuned_filters(point):
            job = Jobs(study)("tune", wildcards(cells[0].wildcards, filter=name, seed="none"))
            assert job.inputs["truths"] == [
                f"{results}/{point}/seed~{seed}/truth.nc" for seed in (100, 101)
            ]
            assert f"{results}/{point}/tuning/{name}.json" in tuned_files(study)
            assert parsed("tune", job)["search"].keys() == study.search(name, cells[0]).keys()


def test_aggregate_waits_for_all_that_is_made(study: Study) -> None:
    made = {
        paths.below(study.config.results, c.estimate(f))
        for c in study.cells.values()
        for f in c.filters
    }
    inputs = Jobs(study)("aggregate", {}).inputs
    assert made < set(inputs["estimates"])
    assert len(inputs["estimates"]) == 2 * len(made)
    assert inputs["tuned"] == tuned_files(study)


def test_retries_ask_for_more_but_tuning_goes_on_where_it_was(study: Study) -> None:
    for rule, job in jobs_of(study):
        first, second = job.request, job.request.attempt(2)
        assert second.mem_mb == 2 * first.mem_mb
        assert second.runtime == (first.runtime if rule == "tune" else 2 * first.runtime)
    assert Request(700, 10, goes_on=True).attempt(3) == Request(2800, 10, goes_on=True)


@pytest.mark.parametrize("gpu", [False, True])
def test_only_jobs_that_ask_for_a_gpu_compute_on_one(gpu: bool) -> None:
    study = changed(gpu=gpu)
    (cell, *_) = study.cells.values()
    jobs = {
        name: Jobs(study)("assimilate", wildcards(cell.wildcards, filter=name))
        for name in ("masf", "enkf")
    }
    assert {name: (job.gpu, job.device) for name, job in jobs.items()} == {
        "masf": (1, "cuda") if gpu else (0, "cpu"),
        "enkf": (0, "cpu"),
    }
    assert jobs["masf"].threads == study.filters["masf"].resources.threads


def test_an_observation_too_long_for_a_command_goes_by_a_file() -> None:
    matrix = [[1 / (1 + i + j) for j in range(3)] for i in range(1000)]
    study = changed(observations={"all": {"operator": "matrix", "matrix": matrix, "noise": 1.0}})
    (cell, *_) = study.cells.values()
    job = Jobs(study)("simulate", wildcards(cell.wildcards))
    assert job.inputs == {"observation": [f"{study.config.results}/observations/all.json"]}
    assert f"--observation @{study.config.results}/observations/all.json" in job.command


def test_a_command_runs_in_place_of_a_module_and_its_program_must_be_there() -> None:
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    del config["pinned"], config["figures"], config["experiments"]["same_cells"]
    files = {
        "masf": {"label": "There", "command": "cat 'a file'"},
        "enkf": {"label": "Not there", "command": "no_such_program x", "install": "buy it"},
    }
    study = study_with(config, files, {})
    (cell, *_) = study.cells.values()
    options = parsed(
        "assimilate", Jobs(study)("assimilate", wildcards(cell.wildcards, filter="masf"))
    )
    assert (options["module"], options["command"]) == (None, "cat 'a file'")
    assert list(missing_programs(study)) == [
        "filter 'enkf' runs no_such_program, which is not there: buy it"
    ]


def test_words_of_a_command_are_quoted() -> None:
    assert shlex.split(masf_command("plot", {"a_b": {"x": "it's"}, "c": None}, "a figure")) == [
        "masf", "plot", "a figure", "--a-b", '{"x": "it\'s"}',
    ]  # fmt: skip
    assert shlex.split(file_options("truth", ["a b", "c"])) == ["--truth", "a b", "--truth", "c"]
    assert file_options("prior", []) == ""


def test_a_job_is_made_once() -> None:
    jobs = Jobs(changed())
    (cell, *_) = jobs.study.cells.values()
    at = wildcards(cell.wildcards, filter="enkf")
    assert jobs("assimilate", at) is jobs("assimilate", dict(at))


def test_the_report_lists_each_table_under_its_experiment() -> None:
    study = load_study(ROOT / "config" / "quick.yaml", ROOT)
    entry = table_entry(study, "lorenz63_exactness")
    assert (entry.category, entry.title) == (
        "Exactness",
        study.config.experiments["lorenz63"].title,
    )
    categories = {table_entry(study, table).category for table in study.tables}
    assert categories == {"Scores", "Paired comparison", "Exactness", "Cost", "Settings"}
    assert table_entry(study, "tuning").category == "Tuning"
    for table in [*study.tables, "tuning"]:
        assert (ROOT / "workflow" / "report" / f"{table_entry(study, table).caption}.rst").is_file()
