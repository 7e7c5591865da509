"""Filters that are not ours: a command, in any language, that reads problem.nc and writes
estimate.nc.

    COMMAND --problem problem.nc --parameters JSON --output estimate.nc

runs in the working directory, once for each cell. The *problem* holds what a filter may know, never
the truth:

    observation(cycle, obs)                 the measurements; NaN where one is missing
    cycle_step(cycle)                       the model step of each, from the start: multiples of
                                            ``gap`` where that is a number
    initial_mean(component)                 of the initial distribution
    initial_ensemble(member, component)     the ensemble that all filters start from
    H_indices(obs) or H(obs, component)     H: the observed components, from 0, or the matrix
    R_diagonal(obs) or R(obs, other_obs)    R: its diagonal where it is diagonal, or the matrix

and as global attributes ``system``, ``parameters`` (JSON: all of the system's, defaults included),
``dt``, ``observation`` (JSON, as in the config), ``gap`` (steps from one measurement to the next;
or, as text such as "5-10-20", a pattern of them that repeats), ``cycles``, ``device`` (auto, cpu or
cuda), ``initial_spread`` (the initial distribution is N(initial_mean, initial_spread^2 I), of
smooth fields a correlation in place of I; there is no such attribute where nothing is known of it
but the initial ensemble, whose mean is then initial_mean) and ``seed``, for the filter's own random
numbers. A state of several axes is flattened into ``component``, the last axis fastest. The
*estimate* holds

    mean(model_time, component)             ensemble mean at steps 0 ... last of cycle_step
    spread(model_time, component)           ensemble standard deviation, the same
    forecast(cycle, member, component)      the ensemble just before each measurement
    analysis(cycle, member, component)      the ensemble given it
    wall_seconds(cycle), cpu_seconds(cycle) of forecast and analysis
    model_runs(cycle)                       how often it ran the model over a gap, in members
    diagnostic_NAME(cycle)                  whatever else the filter tells of itself

with at least two members, not necessarily as many as the initial ensemble. At a measurement time,
mean and spread are of the analysis; where all of a cycle's measurements are missing, the analysis
is the forecast. A study runs a command on measurements of which some are missing only if the
filter's file says ``missing: true``. The last three may be left out: without seconds, the command's
own are spread evenly; without model runs, they count as not known. What is not finite, or was never
written, means that the filter diverged there: a result, not an error. masf checks and scores the
estimate as it does that of its own filters.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from masf.arrays import Array, Stream, ensemble_mean, ensemble_spread
from masf.files.trajectory import Trajectory
from masf.files.truth import Truth
from masf.filters.base import Filter, Setup, linear_misfits
from masf.programs import located, located_values, missing_program
from masf.stages import launcher
from masf.stages.cycle import Diverged, run_cycles
from masf.systems.registry import name_of

PROBLEM_FORMAT = "masf-problem-1"
AXES = {
    "H_indices": ("obs",),
    "H": ("obs", "component"),
    "R_diagonal": ("obs",),
    "R": ("obs", "other_obs"),
}
"""Of H and R in the problem."""
SHOWN_LINES = 15
"""Last lines of a failed command's output that the error repeats."""


class CommandFault(ValueError):
    """A command that is missing, fails, or writes something other than an estimate."""

    def __init__(self, command: str, fault: str) -> None:
        super().__init__(f"command {command!r} {fault}")


@dataclass(frozen=True)
class Estimate:
    """What a command wrote, in float32, NaN where it wrote nothing: see the module's docstring for
    the shapes.
    """

    mean: np.ndarray
    spread: np.ndarray
    forecast: np.ndarray
    analysis: np.ndarray
    wall_seconds: np.ndarray | None = None
    cpu_seconds: np.ndarray | None = None
    model_runs: np.ndarray | None = None
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)


def run_command(
    command: str,
    name: str,
    parameters: dict[str, Any],
    truth: Truth,
    setup: Setup,
    *,
    device: str,
    saved_members: int,
    covariance: bool = False,
) -> Trajectory:
    """What ``command`` estimates, checked and scored by the same code as our own filters.

    Args:
        command: words as for a shell, without the three options.
        name: what the study calls the filter; fixes its random numbers together with the cell's
            seed.
        parameters: handed over as JSON, those that name files as masf.programs finds them.
        truth: the cell. The command does not see the truth in it.
        setup: its system and observation.
        device: handed over; a command may compute where it likes.
        saved_members: how many analysis members to keep.
        covariance: whether to keep the covariance of each analysis.

    Raises:
        CommandFault: naming the command, its exit code and the last lines of what it said, or what
            is wrong with its estimate.
    """
    if faults := linear_misfits(setup.observation):
        raise CommandFault(command, "; ".join(faults))
    if program := missing_program(command):
        raise CommandFault(command, f"cannot be run: {program!r} is no program here")
    settings = truth.settings
    with tempfile.TemporaryDirectory(prefix="masf-") as folder:
        problem, output, usage = (
            Path(folder) / name for name in ("problem.nc", "estimate.nc", "usage.json")
        )
        write_problem(problem, truth, setup, seed=own_seed(settings.seed, name), device=device)
        words = [
            *located(command),
            "--problem",
            str(problem),
            "--parameters",
            json.dumps(located_values(parameters), sort_keys=True),
        ]
        _run(command, [*words, "--output", str(output)], usage)
        used = json.loads(usage.read_text(encoding="utf-8"))
        try:
            estimate = read_estimate(
                output,
                steps=settings.steps,
                dimension=setup.system.dimension,
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise CommandFault(command, f"wrote no estimate that can be used: {error}") from error
    trajectory = run_cycles(
        _Replay(estimate, settings.steps, setup),
        truth.initial_ensemble,
        truth.observation,
        gap=settings.gap,
        truth_at_cycles=truth.truth[settings.steps],
        saved_members=saved_members,
        covariance=covariance,
        seed=settings.seed,
        called=name,
    )
    for key in ("wall_seconds", "cpu_seconds"):
        replayed, own = getattr(trajectory, key), getattr(estimate, key)
        seconds = np.full_like(replayed, used[key] / len(replayed)) if own is None else own
        setattr(trajectory, key, np.where(np.isnan(replayed), replayed, seconds))
    # A command's model is its own: nobody but the command can count how often it runs.
    unknown = np.full_like(trajectory.model_runs, np.nan)
    counted = unknown if estimate.model_runs is None else estimate.model_runs
    trajectory.model_runs = np.where(np.isnan(trajectory.model_runs), unknown, counted)
    trajectory.peak_memory_mib = used["peak_memory_mib"]
    return trajectory


def own_seed(cell_seed: int, name: str) -> int:
    """A positive seed for a filter's own random numbers, from which the cell's, which made the
    truth, is not known.
    """
    return 1 + int(Stream(cell_seed, f"filter {name}").numpy.integers(2**31 - 1))


def write_problem(path: Path, truth: Truth, setup: Setup, *, seed: int, device: str) -> None:
    """Writes problem.nc, see the module's docstring."""
    import netCDF4  # late: the config's check needs no files

    system, observation, settings = setup.system, setup.observation, truth.settings
    arrays: dict[tuple[str, ...], Any] = {
        ("observation", "cycle", "obs"): truth.observation,
        ("cycle_step", "cycle"): settings.steps,
        ("initial_mean", "component"): truth.initial_mean,
        ("initial_ensemble", "member", "component"): truth.initial_ensemble,
    }
    for name, values in (observation.arrays() | observation.noise.arrays()).items():
        arrays[name, *AXES[name]] = values
    with netCDF4.Dataset(path, "w") as data:
        for (name, *dims), values in arrays.items():
            for dim, length in zip(dims, values.shape, strict=True):
                if dim not in data.dimensions:
                    data.createDimension(dim, length)
            data.createVariable(name, values.dtype, dims)[:] = values
        attributes = {
            "format": PROBLEM_FORMAT,
            "system": name_of(system),
            "parameters": system.parameters.model_dump_json(),
            "dt": system.dt,
            "observation": json.dumps(dict(observation.settings), sort_keys=True),
            "gap": settings.gap,
            "cycles": settings.cycles,
            "device": device,
            "seed": seed,
        }
        if settings.initial_spread is not None:
            attributes["initial_spread"] = settings.initial_spread
        data.setncatts(attributes)


def read_estimate(path: Path, *, steps: np.ndarray, dimension: int) -> Estimate:
    """Reads estimate.nc, see the module's docstring, of measurements at ``steps`` (cycles,).

    Raises:
        OSError: if it is missing or no NetCDF file.
        ValueError: naming the variable that is missing, of other dimensions, or senseless.
    """
    import netCDF4

    if not path.is_file():
        raise OSError("there is no file where --output said")
    lengths = {"model_time": int(steps[-1]) + 1, "cycle": len(steps), "component": dimension}
    found: dict[str, np.ndarray] = {}
    with netCDF4.Dataset(path) as data:

        def read(name: str, *dims: str) -> np.ndarray:
            variable = data.variables[name]
            shown = ", ".join(
                f"{dim} {length}"
                for dim, length in zip(variable.dimensions, variable.shape, strict=True)
            )
            wanted = ", ".join(f"{dim} {lengths.get(dim, 'of 2 or more')}" for dim in dims)
            fits = all(
                n == lengths.get(dim, max(n, 2))
                for n, dim in zip(variable.shape, dims, strict=False)
            )
            if variable.dimensions != dims or not fits:
                raise ValueError(f"{name} has dimensions ({shown}), expected ({wanted})")
            try:
                with np.errstate(over="ignore"):
                    # What a command never wrote is masked; in other readers it is a large, finite
                    # number.
                    return np.ma.filled(np.ma.asarray(variable[:]).astype(np.float32), np.nan)
            except (TypeError, ValueError):
                raise ValueError(f"{name} has type {variable.dtype}, expected numbers") from None

        for name, *dims in (
            ("mean", "model_time", "component"),
            ("spread", "model_time", "component"),
            ("forecast", "cycle", "member", "component"),
            ("analysis", "cycle", "member", "component"),
        ):
            if name not in data.variables:
                raise ValueError(
                    f"lacks variable {name}({', '.join(dims)}); it has "
                    f"{', '.join(data.variables) or 'none'}"
                )
            found[name] = read(name, *dims)
        costs: dict[str, np.ndarray] = {
            name: read(name, "cycle")
            for name in ("wall_seconds", "cpu_seconds", "model_runs")
            if name in data.variables
        }
        prefix = "diagnostic_"
        diagnostics = {
            name.removeprefix(prefix): read(name, "cycle")
            for name in data.variables
            if name.startswith(prefix)
        }
    for name in ("mean", "spread"):
        if not np.all(np.isfinite(found[name][0])):
            raise ValueError(f"{name} is not finite at time 0, where the initial ensemble is")
    never_negative = {"spread": found["spread"], **costs}
    for name, values in never_negative.items():
        if np.any(values < 0):
            raise ValueError(f"{name} has negative values")
    return Estimate(**found, **costs, diagnostics=diagnostics)


def _run(command: str, words: list[str], usage: Path) -> None:
    """Runs the command, passing on what it says. Raises CommandFault where it fails."""
    said: deque[str] = deque(maxlen=SHOWN_LINES)
    started = [sys.executable, "-I", "-S", launcher.__file__, str(usage), *words]
    # The command's own words are for the log: masf's standard output is nobody's.
    with subprocess.Popen(  # noqa: S603
        started,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                sys.stderr.write(line)
                said.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise CommandFault(
            command,
            f"failed with exit code {process.returncode}; it last "
            f"said:\n{''.join(said) or '(nothing)'}",
        )


class _Replay(Filter):
    """Walks through an estimate as if it were being made, so that masf.stages.cycle checks and
    scores it as any filter's.

    The state is the model step, and whether it is analysed yet.
    """

    missing = "own"

    def __init__(self, estimate: Estimate, steps: np.ndarray, setup: Setup) -> None:
        super().__init__(None, setup)
        self.estimate = estimate
        self.cycles = {int(step): k for k, step in enumerate(steps)}
        self.cycle = 0

    def start(self, ensemble: Array) -> tuple[int, bool]:
        return 0, True

    def forecast(self, state: tuple[int, bool]) -> tuple[int, bool]:
        return state[0] + 1, False

    def analyse(self, state: tuple[int, bool], y: Array) -> tuple[int, bool]:
        self.cycle = self.cycles[state[0]]
        return state[0], True

    def moments(self, state: tuple[int, bool]) -> tuple[Array, Array]:
        time, analysed = state
        moments = self.estimate.mean[time], self.estimate.spread[time]
        if time in self.cycles:
            members = self.members(state)
            if not np.all(np.isfinite(members)):
                raise Diverged("the ensemble is not finite")
            if not analysed:
                return ensemble_mean(members), ensemble_spread(members)
        if not all(np.all(np.isfinite(values)) for values in moments):
            raise Diverged("the estimate is not finite")
        return moments

    def members(self, state: tuple[int, bool]) -> Array:
        time, analysed = state
        ensembles = self.estimate.analysis if analysed else self.estimate.forecast
        return ensembles[self.cycles[time]]

    def diagnostics(self) -> dict[str, float]:
        return {
            name: float(values[self.cycle]) for name, values in self.estimate.diagnostics.items()
        }
