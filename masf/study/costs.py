"""What jobs cost: the memory and time that they ask for, by stage, setting and attempt, and what
they are expected to use.

Expectations come from measured runs (``measured_costs.csv``, written by
``benchmarks/measured_costs.py``). A cycle is

    gap * step(N d) + analysis(N d)

with ``step`` from filter ``free_run``, which does nothing else, and ``analysis`` the rest. Each is
interpolated between measured sizes N d, linearly in logarithms, and extended beyond the largest
along the last piece; below the smallest it is constant.

Requests are meant to suffice at the first attempt nearly always, and are doubled with each retry.
Runtime is MARGIN times the expectation; memory is MEMORY_MARGIN times the filter's, and its
workflow process's beside it. Each is at least what the filter's file says. A filter without
measurements asks for what its file says: the runtime in proportion to the ensemble's size, where
that is above REFERENCE_SIZE, and besides the memory for the cell's arrays.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from masf.files.cell import CellSettings
from masf.gaps import Gap, pattern_of
from masf.study.cells import Cell, PriorTraining
from masf.study.messages import ConfigFault
from masf.study.study import Study
from masf.systems.registry import make_system

MEASURED = Path(__file__).parent / "measured_costs.csv"
MARGIN = 4
"""Runtime over its expectation: clusters' processors differ, and what is measured is a mean."""
MEMORY_MARGIN = 2
"""Memory over its expectation, which varies less."""

START_SECONDS = 3
"""What a job takes besides its cycles, at most: interpreter and imports (1 without torch, 2.5 with
it), files, the workflow.
"""

REFERENCE_SIZE = 40 * 100
"""N d up to which an unmeasured filter asks for just what its file says."""

PRIOR_CYCLE_SECONDS = 0.02
PRIOR_STEP_SECONDS = 0.02
PRIOR_SIZE = 40 * 128
"""Training a prior: seconds of a world's analysis and of a step, where its members, or the states
of a batch, are so many numbers (Lorenz-96 with 40 components, 128 of either).
"""

PROCESS_MIB = 200
"""What a job's own workflow process takes beside it, on a cluster."""

OPTUNA_MIB = 200
"""What the tuner takes beside the filter that it runs."""

MIB = 2**20
COLUMNS = [
    "filter",
    "system",
    "dimension",
    "members",
    "gap",
    "device",
    "seconds_per_cycle",
    "peak_memory_mib",
]
"""Of a table of measured costs."""


@dataclass(frozen=True)
class Request:
    """What one attempt of a job asks for: memory in MB, and minutes."""

    mem_mb: int
    runtime: int
    goes_on: bool = False
    """Whether the next attempt goes on where this one was cut off, and so needs no more time."""

    def attempt(self, attempt: int, longest: int | None = None) -> Request:
        """What the given attempt asks for, the first being 1: twice as much each time, and never
        more than ``longest`` minutes, if there is such a limit.
        """
        factor = 2 ** (attempt - 1)
        runtime = self.runtime if self.goes_on else self.runtime * factor
        if longest is not None:
            runtime = min(runtime, longest)
        return replace(self, mem_mb=self.mem_mb * factor, runtime=runtime)


def share_of_group(longest: int, jobs: int, side_by_side: int, stages: int) -> int:
    """Minutes that each job of a group may ask for, if all of them shall ask for ``longest``.

    A group asks for the sum over those of its jobs that follow one another.

    Args:
        longest: what one entry of the queue may ask for.
        jobs: how many a group has at most.
        side_by_side: how many of them run at once.
        stages: of how many stages they are; a stage waits for the one before it.
    """
    in_turn = math.ceil(jobs / side_by_side) + stages - 1
    return max(1, longest // in_turn)


@dataclass(frozen=True)
class Size:
    """How large a cell is: components, members, mean steps between measurements, measurements."""

    system: str
    dimension: int
    members: int
    gap: float
    cycles: int

    @classmethod
    def of(cls, cell: CellSettings) -> Size:
        return cls(
            cell.system,
            _dimension(cell.system, tuple(cell.parameters.items())),
            cell.members,
            _mean_gap(cell.gap),
            cell.cycles,
        )

    @property
    def ensemble(self) -> int:
        """Numbers in an ensemble, N d."""
        return self.dimension * self.members

    @property
    def arrays_mib(self) -> float:
        """What grows with the cell: truth, mean and spread, once in work and once in writing, and
        an analysis' ensembles.
        """
        return 4 * (6 * self.dimension * (self.cycles * self.gap + 1) + 8 * self.ensemble) / MIB


def _mean_gap(gap: Gap) -> float:
    pattern = pattern_of(gap)
    return sum(pattern) / len(pattern)


@cache
def _dimension(system: str, parameters: tuple[tuple[str, Any], ...]) -> int:
    return make_system(system, dict(parameters)).dimension


@dataclass(frozen=True)
class Run:
    """A measured run of a filter."""

    filter: str
    device: str
    """Where it computed: cpu or cuda. Expectations go over both, which ``masf plan`` says."""
    size: Size
    seconds_per_cycle: float
    peak_memory_mib: float


class Measured:
    """Measured runs, and what they let expect of others."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self._by_filter: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            self._by_filter[run.filter].append(run)

    @classmethod
    @cache
    def read(cls, path: Path = MEASURED) -> Measured:
        """The runs in a table like ``measured_costs.csv``. Raises ConfigFault where it is none."""
        try:
            with path.open(encoding="utf-8", newline="") as f:
                rows = list(csv.DictReader(f))
            return cls(
                [
                    Run(
                        row["filter"],
                        row["device"],
                        Size(
                            row["system"],
                            int(row["dimension"]),
                            int(row["members"]),
                            int(row["gap"]),
                            cycles=1,
                        ),
                        float(row["seconds_per_cycle"]),
                        float(row["peak_memory_mib"]),
                    )
                    for row in rows
                ]
            )
        except OSError as error:
            raise ConfigFault(f"{path}: cannot be read: {error.strerror or error}") from None
        except (UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ConfigFault(
                f"{path}: cannot be read as a table of measured costs: {type(error).__name__}: "
                f"{error}"
            ) from None

    def knows(self, filter_name: str) -> bool:
        return filter_name in self._by_filter

    def seconds_per_cycle(self, filter_name: str, size: Size) -> float:
        """Expected seconds of one cycle of a filter that is known."""
        runs = self._of(filter_name, size.system)
        analysis = [
            (
                run.size.ensemble,
                max(
                    run.seconds_per_cycle - run.size.gap * self.step_seconds(run.size),
                    0.05 * run.seconds_per_cycle,
                ),
            )
            for run in runs
        ]
        return size.gap * self.step_seconds(size) + interpolated(analysis, size.ensemble)

    def peak_memory_mib(self, filter_name: str, size: Size) -> float:
        """Expected memory of a filter that is known, but for the arrays of a long run or a large
        ensemble.
        """
        return interpolated(
            [
                (run.size.ensemble, run.peak_memory_mib)
                for run in self._of(filter_name, size.system)
            ],
            size.ensemble,
        )

    def step_seconds(self, size: Size) -> float:
        """Expected seconds of one model step of an ensemble; 0 without measurements."""
        runs = self._of("free_run", size.system)
        return interpolated(
            [(run.size.ensemble, run.seconds_per_cycle / run.size.gap) for run in runs],
            size.ensemble,
        )

    def _of(self, filter_name: str, system: str) -> list[Run]:
        """A filter's runs on a system, or on any if there are none on that."""
        runs = self._by_filter[filter_name]
        return [run for run in runs if run.size.system == system] or runs


def interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at x > 0 of the curve through ``points`` (x_i, y_i), all positive: straight in
    logarithms between them; constant below the first; beyond the last as between the last two, but
    never falling. 0 without points.

    Points with one x count as their mean; a single x is extended in proportion.
    """
    if not points:
        return 0.0
    gathered: dict[float, list[float]] = defaultdict(list)
    for at, value in points:
        gathered[at].append(value)
    known = sorted((at, sum(values) / len(values)) for at, values in gathered.items())
    if x <= known[0][0]:
        return known[0][1]
    if len(known) == 1:
        return known[0][1] * x / known[0][0]
    (x0, y0), (x1, y1) = next((pair for pair in pairwise(known) if x <= pair[1][0]), known[-2:])
    slope = math.log(y1 / y0) / math.log(x1 / x0)
    return y0 * (x / x0) ** slope if x <= x1 else y1 * (x / x1) ** max(slope, 0.0)


# Expectations, in seconds


def simulate_seconds(cell: Cell, measured: Measured) -> float:
    """Expected seconds of stage simulate; at most, because filters step whole ensembles."""
    size = Size.of(cell.settings)
    return START_SECONDS + size.cycles * size.gap * measured.step_seconds(size)


def assimilate_seconds(study: Study, name: str, cell: Cell, measured: Measured) -> float | None:
    """Expected seconds of a filter in a cell; None without measurements of it."""
    known = _measured_name(study, name, measured)
    size = Size.of(cell.settings)
    return START_SECONDS + size.cycles * measured.seconds_per_cycle(known, size) if known else None


def train_prior_seconds(prior: PriorTraining) -> float:
    """Expected seconds of stage train-prior: rough, because networks differ."""
    if prior.shipped is not None:
        return START_SECONDS
    settings, d = prior.settings, _dimension(prior.system, tuple(prior.parameters.items()))
    members, gap = settings.rows, sum(settings.gaps)
    size = Size(prior.system, d, members, gap / len(settings.gaps), settings.cycles)
    cycle = size.gap * Measured.read().step_seconds(size) + PRIOR_CYCLE_SECONDS * max(
        1.0, size.ensemble / PRIOR_SIZE
    )
    step = PRIOR_STEP_SECONDS * max(1.0, settings.batch * d / PRIOR_SIZE)
    once = settings.worlds * settings.cycles * cycle + settings.steps * step
    return START_SECONDS + settings.rounds * once


def _measured_name(study: Study, name: str, measured: Measured) -> str | None:
    """What the measurements call a filter of the study: by its name, or by its module."""
    return next(
        (known for known in (name, study.filter_module(name)) if measured.knows(known)), None
    )


# Requests


def simulate_request(cell: Cell) -> Request:
    """What stage simulate asks for in a cell."""
    size = Size.of(cell.settings)
    seconds = simulate_seconds(cell, Measured.read())
    return Request(
        math.ceil(1000 + MARGIN * size.arrays_mib), max(10, math.ceil(MARGIN * seconds / 60))
    )


def assimilate_request(study: Study, name: str, cell: Cell) -> Request:
    """What a filter asks for in a cell."""
    asked, size, measured = study.filters[name].resources, Size.of(cell.settings), Measured.read()
    seconds = assimilate_seconds(study, name, cell, measured)
    if seconds is None:
        growth = max(1.0, size.ensemble / REFERENCE_SIZE)
        return Request(
            math.ceil(asked.mem_mb + MEMORY_MARGIN * size.arrays_mib),
            math.ceil(asked.runtime * growth),
        )
    peak = (
        measured.peak_memory_mib(_measured_name(study, name, measured) or name, size)
        + size.arrays_mib
    )
    return Request(
        max(asked.mem_mb, math.ceil(PROCESS_MIB + MEMORY_MARGIN * peak)),
        max(asked.runtime, math.ceil(MARGIN * seconds / 60)),
    )


def in_turn(requests: Sequence[Request]) -> Request:
    """What runs that follow one another in one job ask for."""
    return Request(max(r.mem_mb for r in requests), sum(r.runtime for r in requests))


def tune_request(study: Study, name: str, cells: Sequence[Cell]) -> Request:
    """What tuning a filter at a point asks for: the memory of its runs, which follow each other,
    and of all truths at once.

    Its time is the config's, whatever the trials: a job that is cut off goes on from the trials
    that are done.
    """
    runs = max(assimilate_request(study, name, cell).mem_mb for cell in cells)
    truths = sum(Size.of(cell.settings).arrays_mib for cell in cells)
    runtime = study.config.tuning.runtime if study.config.tuning else 1
    return Request(math.ceil(runs + OPTUNA_MIB + truths), runtime, goes_on=True)


def train_prior_request(prior: PriorTraining) -> Request:
    """What stage train-prior asks for."""
    if prior.shipped is not None:
        return SMALL_REQUEST
    settings, d = prior.settings, _dimension(prior.system, tuple(prior.parameters.items()))
    states = settings.rounds * settings.worlds * settings.cycles * settings.rows * d
    seconds = train_prior_seconds(prior)
    return Request(
        math.ceil(4000 + MARGIN * 4 * states / MIB), max(60, math.ceil(MARGIN * seconds / 60))
    )


def aggregate_request(study: Study) -> Request:
    """What stage aggregate asks for: it reads one estimate at a time."""
    estimates = sum(len(cell.filters) for cell in study.cells.values())
    largest = max(Size.of(cell.settings).arrays_mib for cell in study.cells.values())
    return Request(
        math.ceil(2000 + MARGIN * largest + estimates / 10), math.ceil(30 + estimates / 300)
    )


PLOT_REQUEST = SMALL_REQUEST = Request(2000, 20)
"""What stage plot asks for: it reads scores, or two runs of a cell."""
