"""How far a study is, from the files in its results alone: so it can be asked while a workflow runs
somewhere else, such as on a cluster.

A job whose results are all there is done. One that has a log and no results was begun: it runs
where Snakemake has it among those that are incomplete, in the folder ``.snakemake`` beside which
the workflow was started, or else, where there is no such folder, as long as its log does not end
with a fault. Otherwise it failed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from masf.study import paths
from masf.study.costs import Measured
from masf.study.jobs import all_jobs
from masf.study.plan import expectations
from masf.study.study import Study

INCOMPLETE = Path(".snakemake") / "incomplete"
"""Where Snakemake keeps a file for each output that is being made, relative to where it runs."""
FAULTS = ("Traceback (most recent call last)", "masf: error: ", "Error: ")
"""What is in the last lines of the log of a job that failed."""
LAST = 2**12
"""Bytes of a log that are looked at."""


class State(StrEnum):
    """What a job is."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True)
class JobStatus:
    """One job: its rule, what it is, its log, and the seconds that it is expected to take, where
    something like it was measured.
    """

    rule: str
    state: State
    log: Path
    expected: float | None


def status(study: Study, working: Path = Path()) -> list[JobStatus]:
    """The jobs of a study, in the order of its stages.

    Args:
        study: the study, its results where they lie.
        working: the folder in which the workflow runs.
    """
    known = expectations(study, Measured.read())
    incomplete = None
    if (working / INCOMPLETE).is_dir():
        incomplete = {(working / path).resolve() for path in _incomplete(working / INCOMPLETE)}
    found = []
    for first, (rule, at) in all_jobs(study).items():
        together = study.config.seeds.together
        log = study.results / paths.log(rule, together).format_map(at)
        outputs = [study.results / path for path in _outputs(study, rule, at, first)]
        seconds = known.get(paths.below(study.config.results, first), lambda: None)()
        found.append(JobStatus(rule, _state(outputs, log, incomplete), log, seconds))
    return found


def _outputs(study: Study, rule: str, at: Mapping[str, Any], first: str) -> Sequence[str]:
    """What a job leaves when it is done."""
    if rule == "simulate":
        return [cell.truth for cell in study.batch(at)]
    if rule == "assimilate":
        name = at["filter"]
        cells = study.batch(at, name)
        return [path for cell in cells for path in (cell.estimate(name), cell.cost(name))]
    return [first]


def _state(outputs: Sequence[Path], log: Path, incomplete: set[Path] | None) -> State:
    being_made = incomplete is not None and any(path.resolve() in incomplete for path in outputs)
    if being_made:
        return State.RUNNING
    if all(path.is_file() for path in outputs):
        return State.DONE
    if not log.is_file():
        return State.LEFT
    if incomplete is not None or _ends_with_a_fault(log):
        return State.FAILED
    return State.RUNNING


def _ends_with_a_fault(log: Path) -> bool:
    with log.open("rb") as f:
        f.seek(0, 2)
        f.seek(max(0, f.tell() - LAST))
        end = f.read().decode(errors="replace")
    return any(fault in end for fault in FAULTS)


def _incomplete(folder: Path) -> Iterator[str]:
    """The outputs that Snakemake is making: their paths, which it writes in base64 as the names of
    files, in folders whose names begin with @ where they are long.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            parts = [part.removeprefix("@") for part in path.relative_to(folder).parts]
            try:
                yield base64.urlsafe_b64decode("".join(parts)).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue  # of another version of Snakemake


def counts(jobs: Sequence[JobStatus]) -> list[tuple[str, dict[State, int]]]:
    """How many jobs of each stage are what."""
    stages = list(dict.fromkeys(job.rule for job in jobs))
    return [
        (
            stage,
            {s: sum(job.rule == stage and job.state == s for job in jobs) for s in State},
        )
        for stage in stages
    ]  # fmt: skip


def cpu_seconds_left(jobs: Sequence[JobStatus]) -> float:
    """What jobs that are not done are expected to take, those that run included."""
    return sum(job.expected or 0.0 for job in jobs if job.state is not State.DONE)
