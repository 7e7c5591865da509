"""The forecast/analysis cycle: the only place that loops over time."""

from __future__ import annotations

import logging
import resource
import sys
import time

import numpy as np

from masf.arrays import on_device, to_numpy
from masf.files.trajectory import Trajectory
from masf.filters.base import Filter
from masf.progress import progress_bar
from masf.scores.metrics import RANKED, fair_crps, rank_counts

log = logging.getLogger(__name__)

COLLAPSED_SPREAD = 1e-6
"""Below this fraction of the initial spread an ensemble has lost its spread, and the run counts as diverged."""


class Diverged(Exception):
    """The ensemble is not finite any more, or has lost its spread."""


class _Clock:
    """Adds up wall and processor seconds of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.wall += time.perf_counter() - self._start[0]
        self.cpu += time.process_time() - self._start[1]


def assimilate(
    filter_: Filter,
    ensemble: np.ndarray,
    observations: np.ndarray,
    *,
    gap: int,
    truth_at_cycles: np.ndarray,
    torch_device: str | None = None,
    saved_members: int = 3,
    covariance: bool = False,
) -> Trajectory:
    """Runs ``filter_`` through all measurements; a filter that diverges is a result, not an error.

    Args:
        filter_: the filter. It never sees the truth.
        ensemble: (N, d) the initial ensemble.
        observations: (cycles, m) measurements, ``gap`` steps apart, the first after ``gap`` steps.
        gap: model steps between two measurements.
        truth_at_cycles: (cycles, d) the truth at measurement times, for CRPS and ranks only.
        torch_device: where to compute; None for numpy.
        saved_members: how many analysis members to keep, at most.
        covariance: whether to keep the covariance of each analysis.
    """
    cycles, d = len(observations), ensemble.shape[1]
    steps = cycles * gap

    def missing(*shape: int) -> np.ndarray:
        return np.full(shape, np.nan, dtype=np.float32)

    result = Trajectory(
        mean=missing(steps + 1, d), spread=missing(steps + 1, d),
        forecast_mean=missing(cycles, d), forecast_spread=missing(cycles, d),
        members=missing(0, cycles, d), crps=missing(cycles), crps_forecast=missing(cycles),
        ranks=missing(cycles, 0), ranks_forecast=missing(cycles, 0),
        wall_seconds=missing(cycles), cpu_seconds=missing(cycles),
        covariance=missing(cycles, d, d) if covariance else None,
    )  # fmt: skip

    def allocate(n: int) -> None:
        """Room for what depends on the number of members, which some filters choose themselves."""
        result.members = missing(min(saved_members, n), cycles, d)
        result.ranks, result.ranks_forecast = (missing(cycles, min(n, RANKED) + 1) for _ in range(2))

    allocate(len(ensemble))
    state = filter_.start(on_device(ensemble, torch_device))
    result.mean[0], result.spread[0] = map(to_numpy, filter_.moments(state))
    least_spread = COLLAPSED_SPREAD * float(np.mean(result.spread[0]))

    progress = progress_bar(range(cycles), desc="assimilate", unit="cycle")
    for k in progress:
        now, after = k * gap, (k + 1) * gap
        clock = _Clock()
        try:
            for i in range(now + 1, after + 1):
                with clock:
                    state = filter_.forecast(state)
                result.mean[i], result.spread[i] = map(to_numpy, filter_.moments(state))
            result.forecast_mean[k], result.forecast_spread[k] = result.mean[after], result.spread[after]
            _check(result, after, least_spread)
            forecast = to_numpy(filter_.members(state))
            if k == 0:
                allocate(len(forecast))
            result.crps_forecast[k] = fair_crps(forecast, truth_at_cycles[k])
            result.ranks_forecast[k] = rank_counts(forecast, truth_at_cycles[k])
            y = on_device(observations[k], torch_device)
            with clock:
                state = filter_.project(filter_.analyse(state, y))
            result.mean[after], result.spread[after] = map(to_numpy, filter_.moments(state))
            _check(result, after, least_spread)
            analysis = to_numpy(filter_.members(state))
        except (Diverged, FloatingPointError, np.linalg.LinAlgError) as error:
            return _cut(result, k, gap, str(error))
        except RuntimeError as error:
            # torch.linalg.LinAlgError is a RuntimeError; any other is a fault of the code, not of the filter.
            if type(error).__name__ not in {"LinAlgError", "_LinAlgError"}:
                raise
            return _cut(result, k, gap, str(error))
        result.wall_seconds[k], result.cpu_seconds[k] = clock.wall, clock.cpu
        result.crps[k] = fair_crps(analysis, truth_at_cycles[k])
        result.ranks[k] = rank_counts(analysis, truth_at_cycles[k])
        result.members[:, k] = analysis[:saved_members]
        if result.covariance is not None:
            result.covariance[k] = to_numpy(filter_.covariance(state))
        for name, value in filter_.diagnostics().items():
            result.diagnostics.setdefault(name, missing(cycles))[k] = value
    return result


def _check(result: Trajectory, i: int, least_spread: float) -> None:
    if not (np.all(np.isfinite(result.mean[i])) and np.all(np.isfinite(result.spread[i]))):
        raise Diverged("the ensemble is not finite")
    if float(np.mean(result.spread[i])) < least_spread:
        raise Diverged("the ensemble has lost its spread")


def _cut(result: Trajectory, k: int, gap: int, reason: str) -> Trajectory:
    """The result of a run that diverged in cycle k: nothing stands from that cycle on."""
    log.warning("diverged in cycle %d: %s", k + 1, reason)
    result.diverged_at = k
    result.mean[k * gap + 1 :] = np.nan
    result.spread[k * gap + 1 :] = np.nan
    for series in (
        result.forecast_mean, result.forecast_spread, result.crps, result.crps_forecast, result.ranks, result.ranks_forecast,
        result.wall_seconds, result.cpu_seconds,
    ):  # fmt: skip
        series[k:] = np.nan
    return result


def peak_memory_mib() -> float:
    """The most memory this process has held, in MiB; on a GPU, the most that torch has held there."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
