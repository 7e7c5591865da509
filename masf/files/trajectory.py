"""What a filter estimated in a run, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from masf.scores.innovations import INNOVATIONS
from masf.scores.metrics import RANKED


def missing(*shape: int) -> np.ndarray:
    """Values that are not known yet: NaN, in float32."""
    return np.full(shape, np.nan, dtype=np.float32)


@dataclass
class Trajectory:
    """What a filter estimated, all in float32 on the CPU; NaN from the divergence on.

    ``times`` counts model steps from 0 on; at a measurement time the analysis stands.

    Attributes:
        mean: (times, d) ensemble mean.
        spread: (times, d) ensemble standard deviation.
        forecast_mean: (cycles, d) ensemble mean just before each analysis.
        forecast_spread: (cycles, d) ensemble standard deviation there.
        members: (saved, cycles, d) the first few analysis members.
        crps: (cycles,) fair CRPS of the analysis, mean over components.
        crps_forecast: (cycles,) the same of the forecast that the analysis started from.
        ranks: (cycles, K + 1) rank histogram of the truth in the analysis, over components; see
            masf.scores.metrics.
        ranks_forecast: (cycles, K + 1) the same of the forecast.
        covariance: (cycles, d, d) of the analysis, if it was asked for.
        innovations: each (cycles, m), see masf.scores.innovations; NaN where a measurement is
            missing.
        diagnostics: each (cycles,), as the filter names them.
        wall_seconds: (cycles,) of the filter's forecast and analysis; scoring and bookkeeping are
            left out.
        cpu_seconds: (cycles,) the same in processor time.
        model_runs: (cycles,) how often the model was run from one measurement to the next, in
            members: a forecast of N members is N; NaN where it is not known.
        diverged_at: the cycle (from 0) at which the filter diverged, or None.
        peak_memory_mib: of the command that ran the filter, for external ones.
    """

    mean: np.ndarray
    spread: np.ndarray
    forecast_mean: np.ndarray
    forecast_spread: np.ndarray
    members: np.ndarray
    crps: np.ndarray
    crps_forecast: np.ndarray
    ranks: np.ndarray
    ranks_forecast: np.ndarray
    wall_seconds: np.ndarray
    cpu_seconds: np.ndarray
    model_runs: np.ndarray
    covariance: np.ndarray | None = None
    innovations: dict[str, np.ndarray] = field(default_factory=dict)
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)
    diverged_at: int | None = None
    peak_memory_mib: float | None = None

    @classmethod
    def missing(cls, cycles: int, steps: int, d: int, m: int, *, covariance: bool) -> Trajectory:
        """A run of so many model ``steps`` of which nothing is known yet, of states (d,) and
        measurements (m,), and no room yet for what depends on the number of members.
        """
        return cls(
            mean=missing(steps + 1, d), spread=missing(steps + 1, d),
            forecast_mean=missing(cycles, d), forecast_spread=missing(cycles, d),
            members=missing(0, cycles, d), crps=missing(cycles), crps_forecast=missing(cycles),
            ranks=missing(cycles, 0), ranks_forecast=missing(cycles, 0),
            wall_seconds=missing(cycles), cpu_seconds=missing(cycles),
            model_runs=missing(cycles),
            covariance=missing(cycles, d, d) if covariance else None,
            innovations={name: missing(cycles, m) for name in INNOVATIONS},
        )  # fmt: skip

    def make_room(self, n: int, saved_members: int) -> None:
        """Makes room for what depends on the number of members n: ranks, and the ``saved_members``
        that are kept at most.
        """
        cycles, d = self.forecast_mean.shape
        self.members = missing(min(saved_members, n), cycles, d)
        self.ranks, self.ranks_forecast = (missing(cycles, min(n, RANKED) + 1) for _ in range(2))

    def cut(self, k: int, began: int) -> None:
        """Records that the run diverged in cycle k, which ``began`` at that step: nothing after it
        stands.
        """
        self.diverged_at = k
        self.mean[began + 1 :] = np.nan
        self.spread[began + 1 :] = np.nan
        for series in (
            self.forecast_mean,
            self.forecast_spread,
            self.crps,
            self.crps_forecast,
            self.ranks,
            self.ranks_forecast,
            self.wall_seconds,
            self.cpu_seconds,
            self.model_runs,
            *self.innovations.values(),
        ):
            series[k:] = np.nan
