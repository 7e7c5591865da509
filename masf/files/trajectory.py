"""What a filter estimated in a run, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


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
        ranks: (cycles, K + 1) rank histogram of the truth in the analysis, over components; see masf.scores.metrics.
        ranks_forecast: (cycles, K + 1) the same of the forecast.
        covariance: (cycles, d, d) of the analysis, if it was asked for.
        diagnostics: each (cycles,), as the filter names them.
        wall_seconds: (cycles,) of the filter's forecast and analysis; scoring and bookkeeping are left out.
        cpu_seconds: (cycles,) the same in processor time.
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
    covariance: np.ndarray | None = None
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)
    diverged_at: int | None = None
    peak_memory_mib: float | None = None
