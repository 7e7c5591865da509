"""The forecast/analysis cycle: the only place that loops over time."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, SupportsFloat

import numpy as np

from masf.arrays import Array, Stream, on_device, require_states, to_numpy
from masf.faults import ContractFault
from masf.files.trajectory import Trajectory, missing
from masf.filters.base import Filter
from masf.gaps import Gap, measurement_steps
from masf.observations.base import Observation
from masf.progress import progress_bar
from masf.scores.innovations import Predicted, innovation_series
from masf.scores.metrics import fair_crps, rank_counts
from masf.systems.counting import counted_steps

log = logging.getLogger(__name__)

AS_MANY = "; an analysis has as many members as its forecast"

FAR = 10
"""Innovations over their expected spread, from which on measurements are doubted."""


class Diverged(Exception):
    """The estimate is not finite any more, or without spread.

    An ensemble has lost its spread where it is, on average over components, below the distance of
    neighbouring numbers of the members' precision: then they are one. A filter that keeps moments
    may be as sure as it finds right, but for a spread of 0.
    """


class _Clock:
    """Adds up wall and processor seconds of the blocks that it is entered for. On some machines a
    call of the processor's clock takes as long as a model step, so that none is within the wall
    seconds.
    """

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def run_cycles(
    filter_: Filter,
    ensemble: np.ndarray,
    observations: np.ndarray,
    *,
    gap: Gap,
    truth_at_cycles: np.ndarray,
    torch_device: str | None = None,
    saved_members: int = 3,
    covariance: bool = False,
    seed: int = 0,
    called: str | None = None,
) -> Trajectory:
    """Runs ``filter_`` through all measurements; a filter that diverges is a result, not an error.

    Args:
        filter_: the filter. It never sees the truth.
        ensemble: (N, d) the initial ensemble.
        observations: (cycles, m) measurements, ``gap`` steps apart, the first after ``gap`` steps;
            NaN where one is missing.
        gap: model steps between two measurements, or a pattern (masf.gaps).
        truth_at_cycles: (cycles, d) the truth at measurement times, for CRPS and ranks only.
        torch_device: where to compute; None for numpy.
        saved_members: how many analysis members to keep, at most.
        covariance: whether to keep the covariance of each analysis.
        seed: fixes the noise of the members among which measurements are ranked.
        called: what messages call the filter; its class without.

    Raises:
        ValueError: where measurements are missing, for a filter that cannot do without; where
            there are more or fewer than the observation makes.
        ContractFault: where the filter or its system returns something of another shape or type
            than its class says.
    """
    called = called or type(filter_).__name__
    if filter_.missing == "refused" and np.any(np.isnan(observations)):
        raise ValueError(
            f"filter {called}: cannot do without the measurements that are missing "
            f"(NaN) in cycle {1 + int(np.argmax(np.isnan(observations).any(axis=1)))}; where it "
            "can, its class says so: override observe, or set missing, see masf.Filter"
        )
    (cycles, m), d = observations.shape, ensemble.shape[1]
    if m != filter_.observation.size:
        raise ValueError(
            f"there are {m} measurements a cycle, and the observation makes "
            f"{filter_.observation.size}: make those that are not to be used NaN"
        )
    steps_at = [0, *map(int, measurement_steps(gap, cycles))]
    result = Trajectory.missing(cycles, steps_at[-1], d, m, covariance=covariance)
    noise = Stream(seed, "noise of the members that measurements are ranked among")
    run = _Run(filter_, result, steps_at, truth_at_cycles, saved_members, torch_device, noise)
    state = run.start(on_device(ensemble, torch_device))
    for k in progress_bar(range(cycles), desc="assimilate", unit="cycle"):
        clock = _Clock()
        try:
            with _failures_diverge(), counted_steps(filter_.system) as steps:
                state = run.forecast(state, k, clock)
                run.record_forecast(state, k, observations[k])
                state = run.analyse(state, k, observations[k], clock)
                members = run.members(state)
        except Diverged as error:
            log.warning(
                "filter %s diverged in cycle %d: %s%s",
                called,
                k + 1,
                error,
                _innovations(result, k),
            )
            result.cut(k, steps_at[k])
            break
        except ContractFault as fault:
            raise ContractFault(f"{fault} (in cycle {k + 1})") from None
        except Exception as error:
            error.add_note(f"in cycle {k + 1} of filter {called}")
            raise
        run.record_analysis(state, k, members, clock)
        result.model_runs[k] = steps.taken / (steps_at[k + 1] - steps_at[k])
    return result


class _Run:
    """The parts of a run, in the order in which a cycle has them; each records what it finds in
    ``result``.

    Attributes:
        filter: the filter.
        result: the trajectory that is filled in.
        steps: the model steps at which cycles begin, and the last one ends.
        truth_at_cycles: (cycles, d)
        saved_members: how many analysis members to keep, at most.
        torch_device: where to compute; None for numpy.
        noise: random numbers for the members that measurements are ranked among.
        name: of the filter's class, for messages.
        is_ensemble: whether the filter's state is an ensemble (N, d).
        keeps_moments: whether it is a mean and a covariance, of which members are drawn.
        x: (N, d) the initial ensemble, of whose kind all arrays must be.
        count: number of members that the filter has, from the first forecast on.
    """

    def __init__(
        self,
        filter_: Filter,
        result: Trajectory,
        steps: list[int],
        truth_at_cycles: np.ndarray,
        saved_members: int,
        torch_device: str | None,
        noise: Stream,
    ) -> None:
        self.filter = filter_
        self.result = result
        self.steps = steps
        self.truth_at_cycles = truth_at_cycles
        self.saved_members = saved_members
        self.torch_device = torch_device
        self.noise = noise
        self._whole = self._part = filter_.observation
        self._measured = np.arange(self._whole.size)
        self._observed = self._whole
        self._analysed = False
        self.name = type(filter_).__name__
        self.is_ensemble = type(filter_).members is Filter.members
        self.keeps_moments = (
            not self.is_ensemble and type(filter_).covariance is not Filter.covariance
        )
        self.x: Array = None
        self.count: int | None = None

    def start(self, ensemble: Array) -> Any:
        """The filter's state at time 0, from the initial ensemble (N, d)."""
        self.result.make_room(len(ensemble), self.saved_members)
        self.x = ensemble
        state = self.filter.start(ensemble)
        if self.is_ensemble:
            shape = (len(state) if hasattr(state, "__len__") else len(ensemble), ensemble.shape[1])
            require_states(f"{self.name}.start", state, ensemble, shape)
        self._record_moments(state, 0)
        return state

    def forecast(self, state: Any, k: int, clock: _Clock) -> Any:
        """The state some steps later, just before measurement k. Raises Diverged."""
        now, after = self.steps[k : k + 2]
        for i in range(now + 1, after + 1):
            with clock:
                before, state = state, self.filter.forecast(state)
            if self.is_ensemble:
                require_states(f"{self.name}.forecast", state, before)
            self._record_moments(state, i)
        self._check(after, analysed=False)
        return state

    def record_forecast(self, state: Any, k: int, y: np.ndarray) -> None:
        """What is scored of the forecast just before measurement k, y (m,), which the analysis
        takes the place of.
        """
        result, after, truth = self.result, self.steps[k + 1], self.truth_at_cycles[k]
        result.forecast_mean[k], result.forecast_spread[k] = (
            result.mean[after],
            result.spread[after],
        )
        members = self.members(state)
        if k == 0:
            # Some filters choose the number of members themselves.
            result.make_room(len(members), self.saved_members)
        result.crps_forecast[k] = fair_crps(members, truth)
        result.ranks_forecast[k] = rank_counts(members, truth)
        self._record_innovations(state, k, members, y)

    def _record_innovations(self, state: Any, k: int, members: np.ndarray, y: np.ndarray) -> None:
        measured = np.flatnonzero(~np.isnan(y))
        if len(measured) == 0:
            return
        part, there = self._measuring(measured), y[measured]
        # What a forecast overflows to, when it is measured, is a result.
        with np.errstate(over="ignore", invalid="ignore"):
            if self.keeps_moments and part.linear:
                covariance = to_numpy(self.filter.covariance(state))
                mean = self.result.forecast_mean[k]
                predicted = Predicted.of_moments(mean, covariance, there, part)
            else:
                predicted = Predicted.of_ensemble(members, there, part)
            found = innovation_series(predicted, members, there, part, self.noise)
        for name, values in found.items():
            self.result.innovations[name][k, measured] = values

    def _measuring(self, measured: np.ndarray) -> Observation:
        """What is left of the observation where only the measurements ``measured`` (k,) are
        there.
        """
        if not np.array_equal(measured, self._measured):
            self._part, self._measured = self._whole.only(measured), measured
        return self._part

    def analyse(self, state: Any, k: int, y: np.ndarray, clock: _Clock) -> Any:
        """The state given measurement k, y (m,), NaN where one is missing. Raises Diverged.

        Where all are, the forecast is the analysis, unchanged.
        """
        after = self.steps[k + 1]
        y = self._reduced(y, clock)
        if self._analysed:
            known = on_device(y, self.torch_device)
            with clock:
                before, state = state, self.filter.analyse(state, known)
                if self.is_ensemble:
                    require_states(f"{self.name}.analyse", state, before, hint=AS_MANY)
                state = self.filter.project(state)
        self._record_moments(state, after)
        self._check(after, analysed=True)
        return state

    def _reduced(self, y: np.ndarray, clock: _Clock) -> np.ndarray:
        """What the filter is given of the measurement y (m,), after it was told what that is."""
        measured = np.flatnonzero(~np.isnan(y))
        self._analysed = len(measured) > 0 or self.filter.missing == "own"
        if self.filter.missing == "own" or not self._analysed:
            return y
        part = self._measuring(measured)
        if part is not self._observed:
            with clock:
                self.filter.observe(part)
            self._observed = part
        return y[measured]

    def record_analysis(self, state: Any, k: int, members: np.ndarray, clock: _Clock) -> None:
        """What is scored and kept of the analysis at measurement k, whose ``members`` (N, d) those
        of ``state`` are.
        """
        result, truth = self.result, self.truth_at_cycles[k]
        result.wall_seconds[k], result.cpu_seconds[k] = clock.wall, clock.cpu
        result.crps[k] = fair_crps(members, truth)
        result.ranks[k] = rank_counts(members, truth)
        result.members[:, k] = members[: self.saved_members]
        if result.covariance is not None:
            result.covariance[k] = to_numpy(self.filter.covariance(state))
        for name, value in self.filter.diagnostics().items() if self._analysed else ():
            if not isinstance(value, SupportsFloat):
                raise ContractFault(
                    f"{self.name}.diagnostics: {name!r} is {value!r:.80}: expected a number"
                )
            result.diagnostics.setdefault(name, missing(len(self.truth_at_cycles)))[k] = value

    def members(self, state: Any) -> np.ndarray:
        """The members (N, d) of a state, as many in every cycle. Raises ContractFault."""
        found = self.filter.members(state)
        what, d = f"{self.name}.members", self.x.shape[1]
        if self.count is None and getattr(found, "ndim", 0) == 2:
            self.count = len(found)
        require_states(what, found, self.x, (self.count or len(self.x), d))
        return to_numpy(found)

    def _record_moments(self, state: Any, i: int) -> None:
        moments = self.filter.moments(state)
        if not isinstance(moments, tuple) or len(moments) != 2:
            raise ContractFault(
                f"{self.name}.moments returned {type(moments).__name__}: expected a tuple of mean "
                "and standard deviation"
            )
        for which, found in zip(("mean", "standard deviation"), moments, strict=True):
            require_states(
                f"{self.name}.moments ({which})",
                found,
                self.x,
                self.x.shape[1:],
                "; reduce over members only, axis=0",
            )
        self.result.mean[i], self.result.spread[i] = map(to_numpy, moments)

    def _check(self, i: int, *, analysed: bool) -> None:
        mean, spread = self.result.mean[i], self.result.spread[i]
        lost = ~(np.isfinite(mean) & np.isfinite(spread))
        if np.any(lost):
            after = "analysis" if analysed else "forecast"
            raise Diverged(
                f"the ensemble is not finite after the {after}, in {int(np.sum(lost))} of "
                f"{len(lost)} components, first in {int(np.argmax(lost)) + 1}"
            )
        told_apart = float(np.mean(np.spacing(np.abs(mean)))) if self.is_ensemble else 0.0
        if float(np.mean(spread)) <= told_apart:
            raise Diverged("the ensemble has lost its spread")


def _innovations(result: Trajectory, k: int) -> str:
    """How far measurements were from forecasts where a run diverged in cycle k: in that cycle, or
    in the one before where it went no further.
    """
    for cycle in (k, k - 1):
        found = result.innovations["innovation_normalised"][max(cycle, 0)]
        if len(found := found[np.isfinite(found)]):
            ratio = float(np.sqrt(np.mean(found.astype(np.float64) ** 2)))
            why = (
                "; see whether they are in the model's units, and whether those that are missing "
                "are NaN"
            )
            return (
                f"; in cycle {cycle + 1} measurements were {ratio:.3g} times as far from the "
                f"forecast as its spread and their noise say{why if ratio > FAR else ''}"
            )
    return ""


@contextmanager
def _failures_diverge() -> Iterator[None]:
    """Raises Diverged where arithmetic or linear algebra fails in the block; any other error is a
    fault of the code.
    """
    try:
        yield
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        raise Diverged(str(error)) from error
    except RuntimeError as error:
        # torch.linalg.LinAlgError, without importing torch.
        if type(error).__name__ not in {"LinAlgError", "_LinAlgError"}:
            raise
        raise Diverged(str(error)) from error


def peak_memory_mib() -> float:
    """The most memory this process has held, in MiB; on a GPU, the most that torch has held
    there.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
