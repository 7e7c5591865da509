"""What a study costs before it is run: jobs by rule from Snakemake's dry run, and hours from measured costs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from masf.study.costs import START_SECONDS, Measured, assimilate_seconds, simulate_seconds, train_prior_seconds
from masf.study.messages import ConfigFault
from masf.study.study import Study

READ_SECONDS = 0.05
"""Stage aggregate: seconds for each estimate."""


@dataclass(frozen=True)
class Job:
    """A job of a dry run."""

    rule: str
    output: str
    threads: int
    gpu: int
    mem_mb: int
    runtime: int


@dataclass(frozen=True)
class Cost:
    """What a job is expected to take, in seconds; ``measured`` is False where that is the time it asks for."""

    job: Job
    seconds: float
    measured: bool

    @property
    def cpu_hours(self) -> float:
        return self.job.threads * self.seconds / 3600

    @property
    def gpu_hours(self) -> float:
        return self.job.gpu * self.seconds / 3600


def dry_run(config: Path, *more: str) -> list[Job]:
    """The jobs that Snakemake would run now, in the working directory. Raises ConfigFault where it cannot say."""
    words = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--configfile", str(config), *more]
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigFault(f"{config}: snakemake --dry-run failed:\n{done.stdout.strip()}")
    return parse(done.stdout)


def parse(text: str) -> list[Job]:
    """The jobs in the output of a dry run."""
    parts = re.split(r"^(?:local)?(?:rule|checkpoint) (\w+):$", text, flags=re.MULTILINE)
    return [_job(rule, lines) for rule, lines in zip(parts[1::2], parts[2::2], strict=True)]


def _job(rule: str, lines: str) -> Job:
    def number(key: str, default: int) -> int:
        found = re.search(rf"\b{key}[=:] ?(\d+)", lines)
        return int(found[1]) if found else default

    output = re.search(r"^    output: (.*?)(?:, |$)", lines, flags=re.MULTILINE)
    return Job(
        rule,
        output[1] if output else "",
        threads=number("threads", 1),
        gpu=number("gpu", 0),
        mem_mb=number("mem_mb", 0),
        runtime=number("runtime", 0),
    )


def expected(study: Study, jobs: Sequence[Job], measured: Measured) -> list[Cost]:
    """What each job is expected to take; jobs of unknown cost count with the time that they ask for."""
    cells = study.cells | {cell.path: cell for at_point in study.points.values() for cell in at_point}
    estimates = sum(len(cell.filters) for cell in study.cells.values())

    def seconds(job: Job) -> float | None:
        place = Path(job.output).relative_to(study.config.results).parent if job.output else Path()
        if job.rule == "aggregate":
            return START_SECONDS + READ_SECONDS * estimates
        if job.rule in {"plot", "page"} or not job.runtime:
            return float(START_SECONDS)
        if job.rule == "train_prior":
            return train_prior_seconds(study.priors[str(place / Path(job.output).name)])
        if job.rule in {"tune", "tune_gpu"} and study.config.tuning is not None:
            runs = [assimilate_seconds(study, Path(job.output).stem, cell, measured) for cell in study.points[str(place.parent)]]
            known_runs = [seconds for seconds in runs if seconds is not None]
            return study.config.tuning.trials * sum(known_runs) if len(known_runs) == len(runs) else None
        cell = cells.get(str(place))
        if cell is None:
            return None
        if job.rule == "simulate":
            return simulate_seconds(cell, measured)
        return assimilate_seconds(study, Path(job.output).stem, cell, measured)

    known = [seconds(job) for job in jobs]
    return [Cost(j, 60.0 * j.runtime if s is None else s, s is not None) for j, s in zip(jobs, known, strict=True)]


def report(costs: Sequence[Cost], measured: Measured) -> str:
    """Jobs, hours and requests by rule, with the assumptions."""
    by_rule: dict[str, list[Cost]] = {}
    for cost in costs:
        if cost.job.rule != "all":
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
    rows.append(["total", *(sum(row[i] for row in rows) for i in (1, 2, 3)), *(max(row[i] for row in rows) for i in (4, 5, 6))])
    heads = ["rule", "jobs", "CPU hours", "GPU hours", "longest, minutes", "most MB asked", "most minutes asked"]
    table = tabulate(rows, heads, floatfmt=("", "g", ".2f", ".2f", ".1f", "g", "g"))
    return f"{table}\n\n{assumptions(costs, measured)}"


def assumptions(costs: Sequence[Cost], measured: Measured) -> str:
    """What the hours rest on, one line each."""
    on_gpu = {run.filter for run in measured.runs if run.device == "cuda"}
    lines = [
        f"Hours are scaled by ensemble size N d and gap from {len(measured.runs)} measured runs on one processor core each:",
        "expect a factor of two either way. What is asked is asked at first; each retry doubles it.",
        f"Each job starts in {START_SECONDS} s; waiting in a queue is not counted.",
    ]
    if any(cost.job.rule == "train_prior" for cost in costs):
        lines.append("Training of priors is scaled by its cycles and steps alone: rough.")
    if any(cost.job.gpu for cost in costs) and not on_gpu:
        lines.append(
            "GPU hours are the same jobs' hours on a processor core: no run was measured on a GPU, faster in large cells."
        )
    unknown = sorted({cost.job.rule for cost in costs if not cost.measured})
    if unknown:
        lines.append(f"(*) Not measured, and counted with all the time that they ask for: {', '.join(unknown)}.")
    return "\n".join(lines)
