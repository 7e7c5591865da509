"""What a study costs before it is run: jobs by rule, those that Snakemake says are left, and hours
from measured costs.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path

from tabulate import tabulate

from masf.study import paths
from masf.study.cells import Cell
from masf.study.costs import (
    START_SECONDS,
    Measured,
    assimilate_seconds,
    simulate_seconds,
    train_prior_seconds,
)
from masf.study.jobs import Jobs, all_jobs, rule_of
from masf.study.messages import ConfigFault
from masf.study.study import Study

WITHOUT_REQUEST = {"study", "observation"}
"""Rules whose jobs write a text, where Snakemake runs."""

PENDING = "update pending"
"""What Snakemake's summary says of an output that is to be made."""

READ_SECONDS = 0.05
"""Stage aggregate: seconds for each estimate."""


@dataclass(frozen=True)
class Planned:
    """A job that is left to be run, and what it asks for."""

    rule: str
    output: str
    """The first of its outputs."""
    threads: int
    gpu: int
    mem_mb: int
    runtime: int


@dataclass(frozen=True)
class Cost:
    """What a job is expected to take, in seconds; ``measured`` is False where that is the time it
    asks for.
    """

    job: Planned
    seconds: float
    measured: bool

    @property
    def cpu_hours(self) -> float:
        return self.job.threads * self.seconds / 3600

    @property
    def gpu_hours(self) -> float:
        return self.job.gpu * self.seconds / 3600


def left(study: Study, config: Path) -> list[Planned]:
    """The jobs that Snakemake would run now, in the working directory. Raises ConfigFault where it
    cannot say.

    Snakemake says which outputs are to be made, and by which rules, for its own config file; what
    their jobs ask for, the study. Where nothing is made yet Snakemake is not asked, as all are to
    be made: it takes half a minute for some thousand jobs.
    """
    jobs = all_jobs(study)
    if not any((study.results / path).exists() for path in jobs):
        return planned(study, nothing_made(study))
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--summary",
        "--nolock",
        "--configfile",
        str(config),
    ]
    done = subprocess.run(words, text=True, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigFault(
            f"{config}: snakemake --summary failed:\n{done.stdout}{done.stderr}".rstrip()
        )
    return planned(study, csv.DictReader(StringIO(done.stdout), delimiter="\t"))


def nothing_made(study: Study) -> list[dict[str, str]]:
    """The rows of Snakemake's summary of a study of which nothing is made."""
    jobs = Jobs(study)
    rules = {paths.below(study.config.results, paths.STUDY): "study"}
    written: set[str] = set()
    for path, (rule, wildcards) in all_jobs(study).items():
        rules[paths.below(study.config.results, path)] = rule_of(study, rule, wildcards)
        if rule in ("simulate", "train_prior"):
            written |= set(jobs(rule, wildcards).inputs.get("observation", []))
    rules |= dict.fromkeys(sorted(written), "observation")
    return [
        {"output_file": output, "rule": rule, "plan": PENDING} for output, rule in rules.items()
    ]


def planned(study: Study, summary: Iterable[Mapping[str, str]]) -> list[Planned]:
    """The jobs of a study that are left, from the rows of Snakemake's summary: one an output, with
    the rule that makes it.
    """
    pending = {row["output_file"]: row["rule"] for row in summary if row["plan"] == PENDING}
    found = [
        Planned(rule, output, threads=1, gpu=0, mem_mb=0, runtime=0)
        for output, rule in pending.items()
        if rule in WITHOUT_REQUEST
    ]
    jobs = Jobs(study)
    for path, known in all_jobs(study).items():
        output = paths.below(study.config.results, path)
        if output in pending:
            job = jobs(*known)
            request = job.request
            found.append(
                Planned(
                    pending[output], output, job.threads, job.gpu, request.mem_mb, request.runtime
                )
            )
    return found


def with_gpu(study: Study, gpu: bool) -> Study:
    """The study as if its config said so of ``gpu``."""
    config = study.config.model_copy(update={"gpu": gpu})
    return Study(study.resolved.model_copy(update={"config": config}))


def expected(study: Study, jobs: Sequence[Planned], measured: Measured) -> list[Cost]:
    """What each job is expected to take; jobs of unknown cost count with the time that they ask
    for.
    """
    known = expectations(study, measured)

    def cost(job: Planned) -> Cost:
        if job.output not in known and not job.runtime:
            return Cost(job, START_SECONDS, measured=True)
        seconds = known.get(job.output, _unknown)()
        return (
            Cost(job, 60.0 * job.runtime, measured=False)
            if seconds is None
            else Cost(job, seconds, measured=True)
        )

    return [cost(job) for job in jobs]


def expectations(study: Study, measured: Measured) -> dict[str, Callable[[], float | None]]:
    """Functions that tell the seconds of each job of a study, or None where nothing is measured; by
    the job's first output.
    """
    estimates = sum(len(cell.filters) for cell in study.cells.values())
    drawn = [paths.PAGE, *(paths.figure(name, "pdf") for name in study.figures)]
    found: dict[str, Callable[[], float | None]] = {
        paths.SCORES: lambda: START_SECONDS + READ_SECONDS * estimates,
        **dict.fromkeys(drawn, lambda: START_SECONDS),
        **{path: partial(train_prior_seconds, prior) for path, prior in study.priors.items()},
        **{
            cells[0].truth: partial(_sum_of, partial(simulate_seconds, measured=measured), cells)
            for cells in study.batches()
        },
    }
    for name in study.all_filters:
        of_cell = partial(_assimilate_seconds, study, name, measured)
        for cells in study.batches(name):
            found[cells[0].estimate(name)] = partial(_sum_of, of_cell, cells)
    for point, at_point in study.points.items():
        for name in study.tuned_filters(point):
            found[at_point[0].tuned(name)] = partial(_tune_seconds, study, name, at_point, measured)
    return {
        paths.below(study.config.results, path): expectation for path, expectation in found.items()
    }


def _unknown() -> None:
    """The expectation of a job that masf does not know."""


def _sum_of(seconds: Callable[[Cell], float | None], cells: Sequence[Cell]) -> float | None:
    """Seconds of runs that follow one another in one process; None where one of them is not
    known.
    """
    runs = [seconds(cell) for cell in cells]
    known = [run for run in runs if run is not None]
    return sum(known) - START_SECONDS * (len(known) - 1) if len(known) == len(runs) else None


def _assimilate_seconds(study: Study, name: str, measured: Measured, cell: Cell) -> float | None:
    return assimilate_seconds(study, name, cell, measured)


def _tune_seconds(
    study: Study, name: str, cells: Sequence[Cell], measured: Measured
) -> float | None:
    """Seconds of tuning a filter at a point, whose cells are given: each trial runs on all of
    them.
    """
    assert study.config.tuning is not None
    runs = [assimilate_seconds(study, name, cell, measured) for cell in cells]
    known = [seconds for seconds in runs if seconds is not None]
    return study.config.tuning.trials * sum(known) if len(known) == len(runs) else None


def report(costs: Sequence[Cost], measured: Measured) -> str:
    """Jobs, hours and requests by rule, with the assumptions."""
    by_rule: dict[str, list[Cost]] = {}
    for cost in costs:
        by_rule.setdefault(cost.job.rule, []).append(cost)
    if not by_rule:
        return "Nothing to be done."
    rows: list[list] = [
        [
            f"{rule}{'' if all(c.measured for c in some) else ' (*)'}",
            len(some),
            sum(c.cpu_hours for c in some),
            sum(c.gpu_hours for c in some),
            max(c.seconds for c in some) / 60,
            max(c.job.mem_mb for c in some),
            max(c.job.runtime for c in some),
        ]
        for rule, some in by_rule.items()
    ]
    rows.append(
        [
            "total",
            *(sum(row[i] for row in rows) for i in (1, 2, 3)),
            *(max(row[i] for row in rows) for i in (4, 5, 6)),
        ]
    )
    heads = [
        "rule",
        "jobs",
        "CPU hours",
        "GPU hours",
        "longest, minutes",
        "most MB asked",
        "most minutes asked",
    ]
    table = tabulate(rows, heads, floatfmt=("", "g", ".2f", ".2f", ".1f", "g", "g"))
    return f"{table}\n\n{assumptions(costs, measured)}"


def assumptions(costs: Sequence[Cost], measured: Measured) -> str:
    """What the hours rest on, one line each."""
    on_gpu = {run.filter for run in measured.runs if run.device == "cuda"}
    lines = [
        f"Hours are scaled by ensemble size N d and gap from {len(measured.runs)} measured runs "
        "on one processor core each:",
        "expect a factor of two either way. What is asked is asked at first; each retry "
        "doubles it.",
        f"Each job starts in {START_SECONDS} s; waiting in a queue is not counted.",
    ]
    if any(cost.job.rule == "train_prior" for cost in costs):
        lines.append(
            "Training of priors is scaled by cycles, steps and the numbers in them alone: rough."
        )
    if any(cost.job.gpu for cost in costs) and not on_gpu:
        lines.append(
            "GPU hours are the same jobs' hours on a processor core: no run was measured on a "
            "GPU, faster in large cells."
        )
    unknown = sorted({cost.job.rule for cost in costs if not cost.measured})
    if unknown:
        lines.append(
            "(*) Not measured, and counted with all the time that they ask for: "
            f"{', '.join(unknown)}."
        )
    return "\n".join(lines)
