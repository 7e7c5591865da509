"""The scores of one run that {filter}.nc alone gives: averages over time, spin-up left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from masf.gaps import Gap, measurement_steps
from masf.scores.metrics import mean_spread

AVERAGES = {
    "rmse": "RMSE",
    "rmse_analysis": "analysis RMSE",
    "rmse_forecast": "forecast RMSE",
    "spread_skill": "spread / error",
    "spread_skill_forecast": "forecast spread / error",
    "crps": "CRPS",
    "crps_forecast": "forecast CRPS",
}
"""Columns of scores.parquet that are such averages, and what people call them."""


ERROR_OF_ANALYSIS = "rmse_analysis_error"
"""Column of scores.parquet: the standard error of ``rmse_analysis``, over time."""

BLOCKS = 10
"""Blocks of cycles in a run: long ones, so that their means are nearly independent."""


def error_of_analysis(data: Any, *, gap: Gap, spin_up_cycles: int) -> float:
    """The standard error of a run's ``rmse_analysis``, from the means of BLOCKS blocks of cycles:
    errors of neighbouring cycles are alike, and these means nearly independent if blocks are long.
    NaN for a run that diverged, or with fewer than two cycles a block.

    Args:
        data: the content of {filter}.nc, see masf.files.netcdf.
        gap: model steps between two measurements, or a pattern (masf.gaps).
        spin_up_cycles: how many of the first cycles to leave out.
    """
    analyses = measurement_steps(gap, len(data["crps"]))[spin_up_cycles:]
    if data.attrs["diverged"] or len(analyses) < 2 * BLOCKS:
        return float("nan")
    errors = data["rmse"].values[analyses].astype(np.float64)
    means = [block.mean() for block in np.array_split(errors, BLOCKS)]
    return float(np.std(means, ddof=1) / np.sqrt(BLOCKS))


def averages(data: Any, *, gap: Gap, spin_up_cycles: int) -> dict[str, float]:
    """The AVERAGES of one run; NaN if it diverged.

    Args:
        data: the content of {filter}.nc, see masf.files.netcdf.
        gap: model steps between two measurements, or a pattern (masf.gaps).
        spin_up_cycles: how many of the first cycles to leave out.
    """
    if data.attrs["diverged"]:
        return dict.fromkeys(AVERAGES, float("nan"))
    rmse = data["rmse"].values.astype(np.float64)
    steps = measurement_steps(gap, len(data["crps"]))
    analyses = steps[spin_up_cycles:]
    after = slice(steps[spin_up_cycles - 1] + 1 if spin_up_cycles else 1, None)
    spread = data["spread"].values
    spread = mean_spread(spread.reshape(len(spread), -1)[analyses])
    forecast_error, forecast_spread = (
        data[name].values[spin_up_cycles:] for name in ("rmse_forecast", "spread_forecast")
    )
    return {
        "rmse": float(np.sqrt(np.mean(rmse[after] ** 2))),
        "rmse_analysis": float(np.mean(rmse[analyses])),
        "rmse_forecast": float(np.mean(forecast_error)),
        "spread_skill": float(np.sqrt(np.mean(spread**2)) / np.sqrt(np.mean(rmse[analyses] ** 2))),
        "spread_skill_forecast": float(
            np.sqrt(np.mean(forecast_spread**2) / np.mean(forecast_error**2))
        ),
        "crps": float(np.mean(data["crps"].values[spin_up_cycles:])),
        "crps_forecast": float(np.mean(data["crps_forecast"].values[spin_up_cycles:])),
    }
