"""Scores at each step or measurement that means and spreads give: what {filter}.nc holds of them.

What needs the whole ensemble, CRPS and ranks, the cycle computes while it has one; scores of
fields, which figures and tables need, are in :mod:`masf.scores.fields`, so that an edit to them
runs no filter again.
"""

from __future__ import annotations

import numpy as np

from masf.scores.metrics import mean_spread, rmse_over_components


def over_time(
    mean: np.ndarray,
    spread: np.ndarray,
    forecast_mean: np.ndarray,
    forecast_spread: np.ndarray,
    truth: np.ndarray,
    steps: np.ndarray,
) -> dict[str, np.ndarray]:
    """Errors and spreads over components, in float32.

    Args:
        mean: (times, d) ensemble mean; at a measurement time, of the analysis.
        spread: (times, d) ensemble standard deviation, the same.
        forecast_mean: (cycles, d) ensemble mean just before each analysis.
        forecast_spread: (cycles, d) ensemble standard deviation there.
        truth: (times, d)
        steps: (cycles,) the model steps at which measurements come.

    Returns:
        ``rmse`` and ``spread_skill``, which is spread over error, (times,); ``rmse_forecast`` and
        ``spread_forecast`` (cycles,).
    """
    rmse = rmse_over_components(mean, truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread_skill = mean_spread(spread) / rmse
    found = {
        "rmse": rmse,
        "spread_skill": spread_skill,
        "rmse_forecast": rmse_over_components(forecast_mean, truth[steps]),
        "spread_forecast": mean_spread(forecast_spread),
    }
    return {name: values.astype(np.float32) for name, values in found.items()}
