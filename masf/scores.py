"""The scores of one estimate: one number each for a whole run, spin-up left out."""

from __future__ import annotations

from typing import Any

import numpy as np

from masf.metrics import mean_spread

SCORES = {
    "rmse": "RMSE",
    "rmse_analysis": "analysis RMSE",
    "rmse_forecast": "forecast RMSE",
    "spread_skill": "spread / error",
    "crps": "CRPS",
    "crps_forecast": "forecast CRPS",
}
"""Columns of scores.parquet that are scores, and what people call them."""


def score(data: Any, *, gap: int, spin_up_cycles: int) -> dict[str, float]:
    """The scores of one estimate, spin-up left out; NaN if it diverged.

    Args:
        data: the content of {filter}.nc, see masf.dataset.
        gap: model steps between two measurements.
        spin_up_cycles: how many of the first cycles to leave out.
    """
    if data.attrs["diverged"]:
        return dict.fromkeys(SCORES, float("nan"))
    rmse = data["rmse"].values.astype(np.float64)
    after, analyses = slice(spin_up_cycles * gap + 1, None), slice((spin_up_cycles + 1) * gap, None, gap)
    spread = data["spread"].values
    spread = mean_spread(spread.reshape(len(spread), -1)[analyses])
    return {
        "rmse": float(np.sqrt(np.mean(rmse[after] ** 2))),
        "rmse_analysis": float(np.mean(rmse[analyses])),
        "rmse_forecast": float(np.mean(data["rmse_forecast"].values[spin_up_cycles:])),
        "spread_skill": float(np.sqrt(np.mean(spread**2)) / np.sqrt(np.mean(rmse[analyses] ** 2))),
        "crps": float(np.mean(data["crps"].values[spin_up_cycles:])),
        "crps_forecast": float(np.mean(data["crps_forecast"].values[spin_up_cycles:])),
    }
