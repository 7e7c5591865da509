"""The workflow on a real SLURM of one node: a tiny study to its tables, and back to them after each
fault.

These tests need root, and SLURM or the means to install it; elsewhere they are skipped. What is
submitted is tested everywhere.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, recorded, recording
from debian import CannotRun
from obstacles import Obstructed, kill, tables
from test_workflow import PATIENCE

PROFILE = [
    "--profile", "slurm", "--latency-wait", "5",
    # There is no accounting, and nobody wants to wait 40 s for the first look.
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        cluster = Cluster()
    except CannotRun as reason:
        pytest.skip(f"no SLURM here: {reason}")
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Obstructed:
    return Obstructed(tmp_path_factory.mktemp("slurm") / "a project")


@pytest.fixture(scope="module")
def environment(cluster: Cluster, project: Obstructed) -> dict[str, str]:
    return project.environment | {"PATH": f"{cluster.folder / 'bin'}:{project.environment['PATH']}"}


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, project: Obstructed, environment: dict[str, str]) -> Path:
    """The results of a run without faults."""
    config = project.study("results/undisturbed", "undisturbed.yaml")
    run = project.start("snakemake", *PROFILE, "--configfile", config, environment=environment)
    assert run.wait(PATIENCE) == 0, f"{project.output()}\n{cluster.logs()}"
    return project.root / "results" / "undisturbed"


def option(call: list[str], name: str) -> str:
    """The value of an option of sbatch, in either spelling; empty without it."""
    for word, following in zip(call, [*call[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def calls_of(calls: list[list[str]], rule: str) -> list[list[str]]:
    """The calls of sbatch for a rule, or for the group called ``cells``."""
    return [call for call in calls if option(call, "--comment").startswith(f"rule_{rule}")]


def test_tiny_study_runs_to_its_tables(cluster: Cluster, undisturbed: Path) -> None:
    kinds = ("lorenz63", "lorenz63_paired", "settings")
    assert set(tables(undisturbed)) == {
        f"{name}.{end}" for name in kinds for end in ("csv", "md", "tex")
    }
    calls = cluster.submitted()
    # Truths and the small filter's estimates share an entry in the queue.
    assert len(calls_of(calls, "cells")) == 1
    assert {rule: len(calls_of(calls, rule)) for rule in ("simulate", "assimilate_enkf")} == {
        "simulate": 0,
        "assimilate_enkf": 0,
    }
    # The group; two filters with a job a cell; the tables, and the page.
    assert len(calls) == 1 + 2 + 2 + 1 + 1
    # Who computes on a GPU asks for one, and nobody else.
    assert [option(call, "--gpus") for call in calls_of(calls, "assimilate_masf")] == ["1", "1"]
    assert [call for call in calls if option(call, "--gpus")] == calls_of(calls, "assimilate_masf")
    # There is one GPU, so SLURM ran those jobs one after the other.
    jobs = cluster.run("scontrol", "--oneliner", "show", "jobs").splitlines()
    times = sorted(re.findall(r"(?:StartTime|EndTime)=(\S+)", job) for job in jobs if "gpu" in job)
    assert len(times) == 2
    assert times[0][1] <= times[1][0]


def test_status_counts_what_the_cluster_has_done(
    project: Obstructed, environment: dict[str, str], undisturbed: Path
) -> None:
    run = project.start("masf", "status", undisturbed, environment=environment)
    assert run.wait(PATIENCE) == 0
    said = project.output()
    assert "assimilate\t6\t0\t0\t0" in said


def test_faults_lose_nothing(
    cluster: Cluster, project: Obstructed, environment: dict[str, str], undisturbed: Path
) -> None:  # fmt: skip
    config = project.study("results/faults", "faults.yaml")
    words = ["snakemake", *PROFILE, "--configfile", config]
    before = len(cluster.submitted())

    def obstacles() -> list[list[str]]:
        return calls_of(cluster.submitted()[before:], "assimilate_obstacle")

    # Jobs over their memory are killed, and come further with more.
    project.put("memory")
    project.put("wait")
    run = project.start(*words, environment=environment)
    project.until(lambda: len(project.waiting()) == 2, run)
    first, second = (
        {option(call, "--mem") for call in obstacles()[:2]},
        {option(call, "--mem") for call in obstacles()[2:]},
    )
    assert len(first) == len(second) == 1
    assert int(*second) == 2 * int(*first)
    logs = project.root / ".snakemake" / "slurm_logs" / "rule_assimilate_obstacle"
    assert (
        sum(
            "exceeded memory limit" in path.read_text(encoding="utf-8")
            for path in logs.rglob("*.log")
        )
        == 2
    )
    project.remove("memory")

    # A job that somebody cancels is submitted again.
    # Others may run beside them, where the machine is busy.
    jobs = cluster.run("squeue", "--noheader", "--states=RUNNING", "--format=%A %k").splitlines()
    running = [job.split()[0] for job in jobs if "rule_assimilate_obstacle" in job]
    assert len(running) == 2
    cluster.run("scancel", running[0])
    project.until(lambda: len(obstacles()) == 5, run)

    # Snakemake is killed while its jobs run.
    kill(run)
    project.remove("wait")
    again = subprocess.run(  # noqa: S603
        words,
        cwd=project.root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    assert again.returncode != 0
    assert "Directory cannot be locked" in again.stdout
    assert project.run("snakemake", "--configfile", config, "--unlock").returncode == 0
    run = project.start(*words, environment=environment)
    assert run.wait(PATIENCE) == 0, f"{project.output()}\n{cluster.logs()}"
    assert tables(project.root / "results" / "faults") == tables(undisturbed)


# Without a SLURM

FAKE = """#!/bin/sh
{record}
echo 'no SLURM here' >&2
exit 1
"""


SITE = {
    "  # slurm_partition: cpu\n": "  slurm_partition: cpu\n",
    "  # slurm_account: my_account\n": "  slurm_account: my_account\n",
    "train_prior: &gpu {nodes: 1}": "train_prior: &gpu {nodes: 1, slurm_partition: gpu, "
    "gpu_model: a100, constraint: gpu80gb}",
}
"""The lines of the profile that a site sets, and how, as their comments say."""

LIMITS = "# resources: {runtime: 1d, mem_mb: 190000}\n"


def submissions(folder: Path, lines: dict[str, str]) -> list[list[str]]:
    """What the tiny study on twelve seeds, with a prior, submits at first, to a SLURM that takes
    nothing, with these lines of the profile replaced.
    """
    project = Obstructed(folder / "project")

    def larger(config: dict[str, Any]) -> None:
        config["seeds"]["test"] = list(range(12))
        config["pinned"]["masf"]["network"] = True
        config["priors"] = {"lorenz63": {"gaps": [5], "localization_radii": [None]}}

    config = project.changed_config(larger, "many.yaml")
    profile = project.root / "workflow" / "profiles" / "slurm" / "config.yaml"
    text = profile.read_text(encoding="utf-8")
    for line, set_line in lines.items():
        assert line in text
        text = text.replace(line, set_line)
    profile.write_text(text, encoding="utf-8")
    programs = folder / "bin"
    programs.mkdir()
    for name in ("sbatch", "squeue", "sinfo", "scontrol", "scancel"):
        (programs / name).write_text(
            FAKE.format(record=recording(folder / f"{name}.calls")), encoding="utf-8"
        )
        (programs / name).chmod(0o755)
    (programs / "sacctmgr").write_text("#!/bin/sh\necho my_account\n", encoding="utf-8")
    (programs / "sacctmgr").chmod(0o755)
    path = f"{programs}:{project.environment['PATH']}"
    done = subprocess.run(  # noqa: S603
        ["snakemake", *PROFILE, "--retries", "0", "--configfile", config],  # noqa: S607
        cwd=project.root,
        env=project.environment | {"PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    calls = recorded(folder / "sbatch.calls")
    assert calls, done.stdout
    return calls


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What is submitted with the site's lines."""
    return submissions(tmp_path_factory.mktemp("submitted"), SITE)


def test_cells_share_an_entry_of_the_queue_as_wide_as_cores(submitted: list[list[str]]) -> None:
    # Twelve truths with one estimate each, eight to an entry; four jobs run side by side, for one
    # that lasts 10 minutes each.
    groups = calls_of(submitted, "cells")
    assert len(groups) == 2
    assert {option(call, "--cpus-per-task") for call in groups} == {"4"}
    assert sorted(int(option(call, "-t")) for call in groups) == [20, 40]
    assert all(4 * 1500 <= int(option(call, "--mem")) < 4 * 2000 for call in groups)
    assert not any(option(call, "--gpus") for call in groups)


def test_partition_account_and_type_of_gpu_are_those_of_the_profile(
    submitted: list[list[str]],
) -> None:
    groups, (prior,) = calls_of(submitted, "cells"), calls_of(submitted, "train_prior")
    assert len(submitted) == len(groups) + 1
    assert {option(call, "-A") for call in submitted} == {"my_account"}
    assert {option(call, "-p") for call in groups} == {"cpu"}
    assert option(prior, "-p") == "gpu"
    assert option(prior, "--gpus") == "a100:1"
    assert option(prior, "-C") == "gpu80gb"
    assert not any(option(call, "-C") for call in groups)


def test_no_request_is_above_the_limits_of_the_profile(
    submitted: list[list[str]], tmp_path: Path
) -> None:
    limited = submissions(tmp_path, SITE | {LIMITS: "resources: {runtime: 15, mem_mb: 4500}\n"})
    for name, limit in (("-t", 15), ("--mem", 4500)):
        free, bound = (
            [int(option(call, name)) for call in calls] for calls in (submitted, limited)
        )
        assert max(free) > limit
        assert max(bound) <= limit
    assert len(calls_of(limited, "cells")) == len(calls_of(submitted, "cells"))
