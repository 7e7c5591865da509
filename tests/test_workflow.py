"""The workflow, run for real on a tiny study in a copy of this project."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from browser import console
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.webdriver import WebDriver as Browser
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from masf.files.parameters import ParameterSource
from masf.report.words import source_in_words
from masf.study.load import load_study
from masf.study.plan import nothing_made

ROOT = Path(__file__).parent.parent
TINY = "tests/config/tiny.yaml"
CELLS = [f"lorenz63/dt~0.01/all/gap~5/members~10/seed~{seed}" for seed in (0, 1)]
COPIED = [
    "masf",
    "workflow",
    "config",
    "tests/config",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "environment.yml",
    "local",
    "slurm",
    "workstation",
]
AFTER_ALL_FILTERS = {"aggregate": 1, "plot": 2, "page": 1, "all": 1}
PATIENCE = 900
"""Seconds after which a hanging run counts as failed; on a machine of its own a run takes a
twentieth of that.
"""

BROKEN = '''
from masf.filters.base import Filter


class Broken(Filter):
    """Returns NaN in its second analysis."""

    analyses = 0

    def analyse(self, state, y):
        self.analyses += 1
        return state * (float("nan") if self.analyses == 2 else 1.0)


filter = Broken
'''


@dataclass(frozen=True)
class DryJob:
    """A job of a dry run, and what it asks for."""

    rule: str
    threads: int
    gpu: int
    mem_mb: int
    runtime: int


def jobs_in(out: str) -> list[DryJob]:
    """The jobs in what a dry run says."""

    def asked(lines: str, key: str, default: int) -> int:
        found = re.search(rf"\b{key}[=:] ?(\d+)", lines)
        return int(found[1]) if found else default

    parts = re.split(r"^(?:local)?rule (\w+):$", out, flags=re.MULTILINE)
    defaults = {"threads": 1, "gpu": 0, "mem_mb": 0, "runtime": 0}
    return [
        DryJob(rule, **{key: asked(lines, key, default) for key, default in defaults.items()})
        for rule, lines in zip(parts[1::2], parts[2::2], strict=True)
    ]


class Project:
    """A copy of this project with one more filter, which returns NaN, in its tiny study."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source, target = ROOT / name, root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(
                    source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy2(source, target, follow_symlinks=False)
        # The environment that runs these tests, under the name that the Makefile asks for.
        (root / "venv").mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            if (Path(sys.prefix) / name).exists():
                (root / "venv" / name).symlink_to(Path(sys.prefix) / name)
        (root / "venv" / ".installed").touch()
        (root / "masf" / "filters" / "broken.py").write_text(BROKEN, encoding="utf-8")
        (root / "config" / "filters" / "broken.yaml").write_text(
            "label: Broken\n", encoding="utf-8"
        )
        config = yaml.safe_load((root / TINY).read_text(encoding="utf-8"))
        config["experiments"]["lorenz63"]["add_filters"] = ["broken"]
        self.write_config(TINY, config)

    def write_config(self, path: str, config: dict[str, Any]) -> None:
        (self.root / path).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def changed_config(
        self, change: Callable[[dict[str, Any]], object], path: str = "changed.yaml"
    ) -> str:
        """A config file that differs from the tiny one by ``change``."""
        config = yaml.safe_load((self.root / TINY).read_text(encoding="utf-8"))
        change(config)
        self.write_config(path, config)
        return path

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE", "MAKE"))}
        bin_folder = str(self.root / "venv" / "bin")
        return kept | {
            "PYTHONPATH": str(self.root),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{bin_folder}:{kept['PATH']}",
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command here; what it wrote is in ``stdout``."""
        return subprocess.run(  # noqa: S603
            words,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )

    def make_words(self, config: str) -> list[str]:
        return ["make", "VENV=venv", "study", f"CONFIG={config}"]

    def make(self, config: str = TINY) -> subprocess.CompletedProcess[str]:
        return self.run(*self.make_words(config))

    def dry_run(self, config: str = TINY, *more: str) -> str:
        done = self.run("snakemake", "--dry-run", "--configfile", config, *more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def planned(self, config: str = TINY, *more: str) -> dict[str, int]:
        """How many jobs of each rule a run would execute."""
        out = self.dry_run(config, *more)
        if "Nothing to be done" in out:
            return {}
        table = out.split("Job stats:", 1)[1].split("total", 1)[0]
        return {
            name: int(count)
            for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)
        }

    @contextmanager
    def edited(self, path: str, change: Callable[[str], str]) -> Iterator[None]:
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert change(text) != text
        file.write_text(change(text), encoding="utf-8")
        try:
            yield
        finally:
            file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def results(project: Project) -> Path:
    """The results of a whole run."""
    done = project.make()
    assert done.returncode == 0, done.stdout
    return project.root / "results" / "tiny"


# A whole run


def test_run_makes_estimates_tables_and_figures(results: Path) -> None:
    for cell in CELLS:
        names = {path.name for path in (results / cell).iterdir()}
        assert names == {"truth.nc"} | {
            f"{name}.{end}" for name in ("masf", "enkf", "broken") for end in ("nc", "cost.json")
        }
    tables = {
        f"{name}{kind}.{end}"
        for name in ("lorenz63", "same_cells")
        for kind in ("", "_paired", "_cost")
        for end in ("csv", "md", "tex")
    } | {f"settings.{end}" for end in ("csv", "md", "tex")}
    assert {path.name for path in (results / "tables").iterdir()} == tables
    assert {path.name for path in results.glob("*.*")} == {
        "index.html",
        "study.json",
        *(f"{name}.{end}" for name in ("scores", "costs") for end in ("csv", "parquet")),
    }
    assert {path.name for path in (results / "figures").iterdir()} == {
        f"{name}.{end}" for name in ("trajectories", "sweep") for end in ("pdf", "png")
    }


def test_filter_that_returns_nan_is_a_row_with_a_count(results: Path) -> None:
    table = pd.read_csv(results / "tables" / "lorenz63.csv").set_index("filter")
    assert table["diverged"].to_dict() == {"masf": 0, "enkf": 0, "broken": 2}
    assert table["rmse_mean"].isna().to_dict() == {"masf": False, "enkf": False, "broken": True}


def test_no_prior_is_trained_where_no_filter_needs_one(results: Path) -> None:
    assert not list(results.rglob("*.safetensors"))


def test_jobs_that_ask_for_a_gpu_compute_on_it_and_no_others(project: Project) -> None:
    def with_network_and_tuning(config: dict[str, Any]) -> None:
        config["results"] = "results/devices"
        config["pinned"]["masf"]["network"] = True
        config["priors"] = {"lorenz63": {"gaps": [5], "localization_radii": [None]}}
        config["seeds"]["tuning"] = [100]
        config["tuning"] = {"trials": 2, "points": [{"experiment": "lorenz63"}]}

    # This profile sets gpu: true.
    out = project.dry_run(
        project.changed_config(with_network_and_tuning),
        "--profile",
        "workstation",
        "--printshellcmds",
    )
    gpus = {job.rule: job.gpu for job in jobs_in(out)}
    on_gpu = {"train_prior", "assimilate_masf", "tune_gpu"}
    on_cpu = {"assimilate_enkf", "assimilate_broken", "tune"}
    assert {rule for rule, gpu in gpus.items() if gpu} == on_gpu
    devices: dict[str, set[str]] = {}
    for stage, name, device in re.findall(
        r"masf (train-prior|tune|assimilate)(?: --filter (\w+))?.* --device (\w+)", out
    ):
        devices.setdefault(device, set()).add(f"{stage} {name}")
    assert devices == {
        "cuda": {"train-prior ", "tune masf", "assimilate masf"},
        "cpu": {"tune enkf", "assimilate enkf", "assimilate broken"},
    }
    assert on_cpu < set(gpus)
    # Without a GPU the same jobs run on the processor.
    assert (
        project.dry_run("changed.yaml", "--printshellcmds").count("--device cpu") == 1 + 2 + 3 * 2
    )


def test_another_executor_takes_the_place_of_slurm(project: Project) -> None:
    """A dry run of the profile for LSF: its GPU jobs ask for one in LSF's words."""

    def with_network(config: dict[str, Any]) -> None:
        config["results"] = "results/lsf"
        config["pinned"]["masf"]["network"] = True
        config["priors"] = {"lorenz63": {"gaps": [5], "localization_radii": [None]}}

    out = project.dry_run(
        project.changed_config(with_network), "--profile", "workflow/profiles/lsf"
    )
    _, *parts = re.split(r"^(?:local)?rule (\w+):$", out, flags=re.MULTILINE)
    jobs = list(zip(parts[::2], parts[1::2], strict=True))
    on_gpu = {rule for rule, lines in jobs if "lsf_extra=-gpu num=1" in lines}
    assert on_gpu == {"train_prior", "assimilate_masf"}
    assert "assimilate_enkf" in out  # in a group, whose jobs are listed otherwise


# What stands for Apptainer: it runs the command that is to run in the image, and says so.
APPTAINER = """#!/bin/sh
[ "$1" = --version ] && { echo apptainer version 1.4.0; exit; }
echo "$@" >> apptainer.log
while [ "$1" != bash ] && [ "$1" != sh ]; do shift; done
exec "$@"
"""


def test_jobs_run_in_the_container_that_the_config_names(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apptainer = tmp_path / "apptainer"
    apptainer.write_text(APPTAINER, encoding="utf-8")
    apptainer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    image = project.root / "masf.sif"
    image.touch()

    def in_container(config: dict[str, Any]) -> None:
        config.update(results="results/container", container="masf.sif")

    config = project.changed_config(in_container)
    call = ["snakemake", "--cores", "1", "--configfile", config, "--until", "simulate"]
    refused = project.run(*call)
    assert refused.returncode
    assert "container = 'masf.sif': no job would run in it" in refused.stdout
    done = project.run(*call, "--software-deployment-method", "apptainer")
    assert done.returncode == 0, done.stdout
    ran = (project.root / "apptainer.log").read_text(encoding="utf-8").splitlines()
    simulated = [line for line in ran if "masf simulate" in line]
    assert len(simulated) == 2
    assert all("masf.sif" in line for line in ran)
    assert len(list(project.root.glob("results/container/**/truth.nc"))) == 2


@pytest.mark.usefixtures("results")
def test_second_run_does_nothing(project: Project) -> None:
    done = project.make()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_experiments_share_their_cells(project: Project) -> None:
    filters = {f"assimilate_{name}": 2 for name in ("masf", "enkf", "broken")}
    assert project.planned(TINY, "--forceall") == {
        "simulate": 2,
        "study": 1,
        **filters,
        **AFTER_ALL_FILTERS,
    }


def test_report_has_tables_and_figures(results: Path, project: Project) -> None:
    done = project.run("snakemake", "--configfile", TINY, "--report", str(results / "report.html"))
    assert done.returncode == 0, done.stdout
    text = (results / "report.html").read_text(encoding="utf-8")
    for words in (
        "RMSE of a tiny study against the gap",
        "sweep.png",
        "lorenz63.csv",
        "same_cells_cost.csv",
        "seeds 0, 1",
    ):
        assert words in text


@pytest.mark.parametrize(
    "category", ["Scores", "Paired comparison", "Cost", "More figures", "Provenance"]
)
def test_report_opens_in_a_browser_without_errors(
    category: str, results: Path, project: Project, browser: Browser
) -> None:
    report = results / "report.html"
    if not report.exists():
        done = project.run("snakemake", "--configfile", TINY, "--report", str(report))
        assert done.returncode == 0, done.stdout
    browser.get(report.as_uri())
    entry = f"//span[normalize-space(text())='{category}']"
    # The menu moves while it opens, and another entry may lie where this one is going.
    moving = [
        NoSuchElementException,
        StaleElementReferenceException,
        ElementClickInterceptedException,
    ]
    WebDriverWait(browser, PATIENCE, ignored_exceptions=moving).until(
        lambda b: b.find_element(By.XPATH, entry).click() or True
    )
    WebDriverWait(browser, PATIENCE).until(lambda b: b.find_elements(By.XPATH, "//li | //table"))
    assert [line for line in console(browser) if line["level"] == "SEVERE"] == []


MODULE = """
configfile: "mine.yaml"

module masf:
    snakefile: "{snakefile}"
    config: config["masf"]

use rule * from masf as masf_*

rule mine:
    default_target: True
    input: rules.masf_all.input
    output: "mine.txt"
    shell: "wc -l results/tiny/scores.csv > {{output}}"
"""


def test_workflow_is_a_module_of_another_in_another_directory(
    project: Project, tmp_path: Path
) -> None:
    config = yaml.safe_load((ROOT / TINY).read_text(encoding="utf-8"))
    config["seeds"]["test"] = [0]
    config["experiments"] = {"lorenz63": config["experiments"]["lorenz63"]}
    config["filters"] = ["enkf"]
    config["pinned"] = {}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"masf": config}), encoding="utf-8")
    snakefile = MODULE.format(snakefile=project.root / "workflow" / "Snakefile")
    (tmp_path / "Snakefile").write_text(snakefile, encoding="utf-8")
    done = subprocess.run(
        ["snakemake", "--cores", "2"],  # noqa: S607
        cwd=tmp_path,
        env=project.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8").split()[0] == "2"
    assert (tmp_path / "results" / "tiny" / "index.html").exists()


# Rules of filters

OWN_RULE = """
use rule assimilate as assimilate_broken with:
    wildcard_constraints:
        filter="broken",
    threads: 3
    resources:
        mem_mb=1234,
        runtime=5,
        gpu=0,
"""


def test_every_filter_has_a_rule_that_a_profile_can_name(project: Project) -> None:
    done = project.run("snakemake", "--list-rules", "--configfile", TINY)
    assert {"assimilate_masf", "assimilate_enkf", "assimilate_broken"} < set(done.stdout.split())
    out = project.dry_run(TINY, "--forceall", "--set-resources", "assimilate_enkf:mem_mb=4321")
    asked = {(job.rule, job.mem_mb) for job in jobs_in(out) if job.rule.startswith("assimilate_")}
    assert {rule for rule, mem_mb in asked if mem_mb == 4321} == {"assimilate_enkf"}


def test_a_file_of_a_filter_replaces_its_rule(project: Project) -> None:
    path = project.root / "workflow" / "rules" / "filters" / "broken.smk"
    path.parent.mkdir()
    path.write_text(OWN_RULE, encoding="utf-8")
    try:
        jobs = {
            job.rule: job for job in jobs_in(project.dry_run(TINY, "--forceall", "--cores", "4"))
        }
    finally:
        shutil.rmtree(path.parent)
    broken, enkf = jobs["assimilate_broken"], jobs["assimilate_enkf"]
    assert (broken.threads, broken.mem_mb, broken.runtime) == (3, 1234, 5)
    assert (enkf.threads, enkf.mem_mb) != (3, 1234)


# What is run again


def add_code(text: str) -> str:
    return f"{text}\n_ADDED = 1\n"


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("masf/filters/enkf.py", {"assimilate_enkf": 2, **AFTER_ALL_FILTERS}),
        ("masf/diffusion/process.py", {"assimilate_masf": 2, **AFTER_ALL_FILTERS}),
        ("masf/report/figures/ranks.py", {"plot": 2, "page": 1, "all": 1}),
    ],
)
def test_edit_of_code_reruns_what_it_made_and_nothing_else(
    path: str, expected: dict[str, int], project: Project
) -> None:
    with project.edited(path, add_code):
        assert project.planned() == expected


@pytest.mark.usefixtures("results")
def test_edit_of_a_comment_or_of_what_the_study_does_not_run_reruns_nothing(
    project: Project,
) -> None:
    with (
        project.edited("masf/filters/enkf.py", lambda text: f"{text}\n# A comment.\n"),
        project.edited("masf/filters/kalman.py", add_code),
        project.edited("masf/systems/lorenz96.py", add_code),
    ):
        assert project.planned() == {}


def rules_in(out: str) -> set[str]:
    """The rules of the jobs of a dry run."""
    return {job.rule for job in jobs_in(out)}


def estimates_in(out: str) -> set[str]:
    """The truths and estimates that a dry run would make, below the results."""
    outputs = re.findall(r"^    output: (.*)$", out, flags=re.MULTILINE)
    return {
        path.removeprefix("results/tiny/")
        for line in outputs
        for path in line.split(", ")
        if path.endswith(".nc")
    }


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda c: c["pinned"]["masf"].update(steps=5),
            {(cell, "masf") for cell in CELLS},
            id="parameter of a filter",
        ),
        pytest.param(
            lambda c: c["seeds"].update(test=[0, 1, 7]),
            {
                ("lorenz63/dt~0.01/all/gap~5/members~10/seed~7", name)
                for name in ("truth", "masf", "enkf", "broken")
            },
            id="seed",
        ),
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(gaps=[5, 6]),
            {
                (f"lorenz63/dt~0.01/all/gap~6/members~10/seed~{seed}", name)
                for seed in (0, 1)
                for name in ("truth", "masf", "enkf", "broken")
            },
            id="gap",
        ),
        pytest.param(
            lambda c: c["experiments"]["same_cells"]["parameters"].update(rho=30),
            {
                (f"lorenz63/dt~0.01+rho~30/all/gap~5/members~10/seed~{seed}", name)
                for seed in (0, 1)
                for name in ("truth", "enkf")
            },
            id="parameter of a system",
        ),
    ],
)
def test_edit_of_the_config_reruns_exactly_the_cells_it_changes(
    change: Callable, expected: set[tuple[str, str]], project: Project
) -> None:
    def without_sweep(config: dict[str, Any]) -> None:
        change(config)
        del config["figures"]

    out = project.dry_run(project.changed_config(without_sweep))
    assert estimates_in(out) == {f"{cell}/{name}.nc" for cell, name in expected}
    made = {"simulate" if name == "truth" else f"assimilate_{name}" for _, name in expected}
    assert rules_in(out) == made | {"study", "aggregate", "page", "all"}


def test_observation_too_long_for_a_command_goes_by_a_file(project: Project) -> None:
    dimension = 100
    matrix = [[1 / (1 + i + j) for j in range(dimension)] for i in range(dimension)]
    assert len(str(matrix)) > 2**17

    def dense(config: dict[str, Any]) -> None:
        config["results"] = "results/dense"
        config["observations"]["all"] = {"operator": "matrix", "matrix": matrix, "noise": 1.0}
        parameters = {"dt": 0.01, "forcing": 8, "dimension": dimension}
        config["experiments"] = {
            "dense": {
                **config["experiments"]["same_cells"],
                "system": "lorenz96",
                "parameters": parameters,
            }
        }
        del config["figures"], config["experiments"]["dense"]["leave_out_filters"]
        config["filters"] = ["enkf"]
        config["pinned"] = {}
        config["seeds"]["test"] = [0]

    config = project.changed_config(dense)
    done = project.run("snakemake", "--profile", "local", "--configfile", config)
    assert done.returncode == 0, done.stdout
    assert (project.root / "results" / "dense" / "tables" / "dense.csv").exists()
    matrix[0][0] = 2.0
    assert project.planned(project.changed_config(dense))["simulate"] == 1


def add_seed_and_filter(config: dict[str, Any]) -> None:
    config["seeds"]["test"] = [0, 1, 2]
    config["experiments"]["lorenz63"]["add_filters"].append("free_run")


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda c: c["experiments"]["lorenz63"].update(title="Another title"),
            {"study": 1, **AFTER_ALL_FILTERS},
            id="title",
        ),
        pytest.param(
            add_seed_and_filter,
            {
                "study": 1,
                "simulate": 1,
                "assimilate_masf": 1,
                "assimilate_enkf": 1,
                "assimilate_broken": 1,
                "assimilate_free_run": 3,
                **AFTER_ALL_FILTERS,
            },
            id="one more seed and one more filter",
        ),
    ],
)
def test_edit_of_the_config_reruns_what_it_changes(
    change: Callable, expected: dict[str, int], project: Project
) -> None:
    assert project.planned(project.changed_config(change)) == expected


# Tuning


TUNED = "tests/config/tuned.yaml"
TUNED_POINT = "lorenz63/dt~0.01/all/gap~5/members~10"


def test_tuning_finds_the_parameters_that_assimilate_uses_and_more_trials_go_on_from_those_made(
    project: Project,
) -> None:
    done = project.make(TUNED)
    assert done.returncode == 0, done.stdout
    results = project.root / "results" / "tuned"
    tuning = results / TUNED_POINT / "tuning"
    outcome = json.loads((tuning / "enkf.json").read_text(encoding="utf-8"))
    assert outcome["seeds"] == [100, 101]
    assert outcome["truth_settings"]["cycles"] == 6
    assert len(outcome["trials"]) == 3
    assert outcome["chosen"] != outcome["default"]  # so that what follows tells one from the other
    scores = pd.read_parquet(results / "scores.parquet").set_index(["filter", "gap"])
    for gap in (5, 10):  # the second takes it from the first
        assert json.loads(scores.loc[("enkf", gap), "filter_parameters"]) == outcome["chosen"]
        source = ParameterSource.model_validate_json(scores.loc[("enkf", gap), "parameter_source"])
        assert (
            source_in_words(source)
            == "tuned at lorenz63, observation all, dt 0.01, gap 5, members 10"
        )
    assert "| tuned at point 1 |" in (results / "tables" / "gaps.md").read_text(encoding="utf-8")
    assert project.planned(TUNED) == {}

    more = yaml.safe_load((project.root / TUNED).read_text(encoding="utf-8"))
    more["tuning"]["trials"] = 4
    project.write_config("more.yaml", more)
    assert project.planned("more.yaml") == {
        "study": 1,
        "tune": 1,
        "assimilate_enkf": 2,
        "aggregate": 1,
        "page": 1,
        "all": 1,
    }
    journal = (tuning / "enkf.journal").read_bytes()
    done = project.run("snakemake", "tunings", "--cores", "1", "--configfile", "more.yaml")
    assert done.returncode == 0, done.stdout
    again = json.loads((tuning / "enkf.json").read_text(encoding="utf-8"))
    assert again["trials"][:3] == outcome["trials"]
    assert len(again["trials"]) == 4
    assert (tuning / "enkf.journal").read_bytes().startswith(journal)
    log = (results / "logs" / TUNED_POINT / "tuning" / "enkf.log").read_text(encoding="utf-8")
    assert "3 finished trials found" in log
    assert log.count(", trial ") == 1


# Killed runs


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the run ended too soon"
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.02)


def snakemake_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The process of a make's snakemake, once it runs the workflow."""
    children = psutil.Process(process.pid).children(recursive=True)
    running = []
    for child in children:
        try:
            words = child.cmdline()
        except psutil.Error:
            continue  # it has just ended
        if any(word.endswith("bin/snakemake") for word in words[:2]) and "--unlock" not in words:
            running.append(child)
    return running


def to_be_killed(config: dict[str, Any]) -> None:
    """Without figures, and with seeds enough that a fast machine is not done before it is
    killed.
    """
    config["results"] = "results/killed"
    config["seeds"]["test"] = list(range(5))
    del config["figures"], config["experiments"]["same_cells"]


def test_killed_study_is_finished_by_starting_it_again_and_two_do_not_run_at_once(
    project: Project, results: Path
) -> None:
    config = project.changed_config(to_be_killed, "killed.yaml")
    killed = project.root / "results" / "killed"

    def start() -> subprocess.Popen:
        return subprocess.Popen(  # noqa: S603
            project.make_words(config),
            cwd=project.root,
            env=project.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    # Stopped, it cannot end before the second one has given up waiting for it.
    first = start()
    wait_for(lambda: list(killed.rglob("truth.nc")), first)
    os.killpg(first.pid, signal.SIGSTOP)
    second = project.make(config)
    os.killpg(first.pid, signal.SIGCONT)
    assert second.returncode != 0
    assert [line for line in second.stdout.splitlines() if "***" not in line] == [
        "make: another make is running a study in this directory: wait for it to end"
    ]
    # Kill snakemake alone, so that its jobs live on as orphans.
    (snakemake,) = snakemake_of(first)
    snakemake.send_signal(signal.SIGKILL)
    assert first.wait(PATIENCE) != 0
    assert list((project.root / ".snakemake" / "locks").iterdir())

    # Kill everything in the middle of the estimates.
    again = start()
    wait_for(lambda: list(killed.rglob("*.cost.json")), again)
    os.killpg(again.pid, signal.SIGKILL)
    again.wait(PATIENCE)
    assert not (killed / "tables").exists()

    done = project.make(config)
    assert done.returncode == 0, done.stdout
    same = list(results.rglob("*.nc"))
    assert len(same) == 2 * 4
    for path in same:
        assert (killed / path.relative_to(results)).read_bytes() == path.read_bytes()
    assert project.planned(config) == {}


# Configs that cannot be used


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["experiments"]["lorenz63"].update(gaps=[-5]),
            ["experiments.lorenz63.gaps.0 = -5", "expected at least 1"],
        ),
        (lambda c: c["filters"].append("enkff"), ["filters = 'enkff'", "did you mean 'enkf'?"]),
    ],
)
def test_bad_config_stops_before_any_job_with_a_clear_message(
    change: Callable, words: list[str], project: Project
) -> None:
    def spoil(config: dict[str, Any]) -> None:
        change(config)
        config["results"] = "results/bad"

    done = project.make(project.changed_config(spoil))
    assert done.returncode != 0
    for word in words:
        assert done.stdout.count(word) == 1
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) < 10
    assert not (project.root / "results" / "bad").exists()


def test_a_key_that_stands_twice_in_a_config_file_stops_before_any_job(project: Project) -> None:
    path = project.changed_config(lambda config: config.update(results="results/bad"))
    with project.edited(path, lambda text: f"{text}gpu: false\ngpu: true\n"):
        done = project.make(path)
    assert done.returncode != 0
    assert f"{path}: key 'gpu' stands twice, in lines" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (project.root / "results" / "bad").exists()


def test_missing_config_file_is_named(project: Project) -> None:
    done = project.make("nothing.yaml")
    assert done.returncode != 0
    assert "CONFIG=nothing.yaml: no such file" in done.stdout
    assert "Traceback" not in done.stdout


def test_missing_config_file_is_named_before_anything_is_installed(tmp_path: Path) -> None:
    words = ["study", "CONFIG=nothing.yaml", f"VENV={tmp_path}/venv", "PYTHON=false"]
    done = subprocess.run(  # noqa: S603
        ["make", "--no-print-directory", *words],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "CONFIG=nothing.yaml: no such file" in done.stderr
    assert done.stdout == ""


# The shipped studies and profiles


@pytest.mark.parametrize(
    "config", ["config/config.yaml", "config/quick.yaml", "config/tuning.yaml"]
)
def test_dry_run_of_a_shipped_study_makes_each_file_in_one_job(
    config: str, project: Project
) -> None:
    out = project.dry_run(config)
    outputs = Counter(
        path
        for line in re.findall(r"^    output: (.*)$", out, flags=re.MULTILINE)
        for path in line.split(", ")
    )
    assert set(outputs.values()) == {1}
    study = load_study(ROOT / config, ROOT)
    estimates = {
        f"{study.config.results}/{cell.path}/{name}.nc"
        for cell in study.cells.values()
        for name in cell.filters
    }
    tuning_cells = [cell.path for cells in study.points.values() for cell in cells]
    truths = {f"{study.config.results}/{path}/truth.nc" for path in [*study.cells, *tuning_cells]}
    assert {path for path in outputs if path.endswith(".nc")} == estimates | truths
    # What masf plan takes for all jobs, without asking Snakemake, are those that it would run.
    jobs = {
        job[1].split(", ")[0]: job[0]
        for job in re.findall(r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    output: (.*)$", out, re.M)
    }
    planned = {row["output_file"]: row["rule"] for row in nothing_made(study)}
    assert {(rule, planned.get(output)) for output, rule in jobs.items()} == {
        (rule, rule) for rule in jobs.values()
    }
    assert len(planned) == len(jobs)


def test_profiles_do_not_set_the_same_keys() -> None:
    # The default profile is stronger than any other, key by key.
    profiles = {
        path.parent.name: set(yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in ROOT.glob("workflow/profiles/*/*.yaml")
    }
    assert set(profiles) == {"default", "local", "lsf", "slurm", "workstation"}
    for name in set(profiles) - {"default"}:
        assert not profiles["default"] & profiles[name]


def test_every_job_that_writes_has_a_log_and_a_benchmark() -> None:
    texts = {
        path.name: path.read_text(encoding="utf-8")
        for path in (ROOT / "workflow" / "rules").glob("*.smk")
    }
    rules = [
        (n, block)
        for n, text in texts.items()
        for block in re.split(r"^(?= *(?:use )?rule\b)", text, flags=re.MULTILINE)
    ]
    writing = [
        (n, block)
        for n, block in rules
        if re.match(r" *rule\b(?s:.*)^ +output:", block, re.MULTILINE)
    ]
    assert {"simulate.smk", "assimilate.smk", "aggregate.smk"} < {name for name, _ in writing}
    for name, block in writing:
        for key in ("log", "benchmark"):
            assert re.search(rf"^ +{key}:\n", block, re.MULTILINE), f"a rule in {name} has no {key}"


def profile_of(name: str) -> dict[str, Any]:
    path = ROOT / "workflow" / "profiles" / name / "config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("cluster", ["slurm", "lsf"])
def test_a_cluster_s_profile_says_of_every_filter_whether_it_shares_an_entry_of_the_queue(
    cluster: str,
) -> None:
    profile = profile_of(cluster)
    files = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (ROOT / "config" / "filters").glob("*.yaml")
    }
    asked = {f"assimilate_{name}": content.get("resources", {}) for name, content in files.items()}
    on_gpu = {rule for rule, resources in asked.items() if resources.get("gpu")}
    assert set(profile["set-resources"]) == on_gpu | {"train_prior", "tune_gpu"}, (
        f"workflow/profiles/{cluster}: set-resources"
    )
    small = {
        rule
        for rule, resources in asked.items()
        if rule not in on_gpu and resources.get("runtime", 30) <= 10
    }
    assert set(profile["groups"]) == small | {"simulate"}, f"workflow/profiles/{cluster}: groups"


def test_profiles_of_clusters_differ_in_how_a_site_is_named_alone() -> None:
    slurm, lsf = profile_of("slurm"), profile_of("lsf")
    assert slurm.keys() == lsf.keys()
    assert {key for key in slurm if slurm[key] != lsf[key]} == {"executor", "set-resources"}


@pytest.mark.parametrize("name", ["local", "slurm", "workstation"])
def test_profile_is_found_from_the_root(name: str) -> None:
    assert (ROOT / name).is_symlink()
    assert not (ROOT / name).readlink().is_absolute()
    assert (ROOT / name).resolve() == (ROOT / "workflow" / "profiles" / name).resolve()
    assert (ROOT / name / "config.yaml").is_file()
