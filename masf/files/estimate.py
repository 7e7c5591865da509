"""{filter}.nc: what a filter estimated in a cell, and its scores over time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from masf.atomic import FileFault
from masf.files.netcdf import (
    ESTIMATE_FORMAT,
    coordinates,
    read_whole,
    variable,
    with_conventions,
    write,
)
from masf.files.truth import Truth
from masf.scores.innovations import INNOVATIONS
from masf.scores.over_time import over_time
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.files.trajectory import Trajectory


SCORED = (
    "mean",
    "spread",
    "rmse",
    "rmse_forecast",
    "spread_forecast",
    "crps",
    "crps_forecast",
    "ranks",
    "ranks_forecast",
    "model_runs",
)
"""Variables of {filter}.nc that readers count on."""

NEED_TRUTH = {*SCORED, "spread_skill"} - {"mean", "spread", "spread_forecast", "model_runs"}
"""Variables that an estimate lacks whose truth is not known."""

ATTRIBUTES = (
    "settings",
    "filter",
    "filter_parameters",
    "parameter_source",
    "code_version",
    "diverged",
)
"""Attributes that every estimate has."""

SPIN_UP = "spin_up_cycles"
"""Attribute of an estimate outside of studies: how many of the first cycles its scores left out.
Studies keep it in their config, so that a change of it runs no filter again.
"""


def write_estimate(
    path: Path, trajectory: Trajectory, truth: Truth, system: System, attributes: dict[str, Any]
) -> None:
    """Writes {filter}.nc: estimates and scores over time. ``attributes`` say which filter made it,
    and how.
    """
    write(path, estimate(trajectory, truth, system, attributes))


def kept(times: int, measured: np.ndarray, saved_steps: int) -> np.ndarray:
    """At which of so many model times (times,), from the start on, means and spreads are kept:
    every ``saved_steps`` steps, none of these where that is 0, and at the steps ``measured``.
    """
    chosen = np.zeros(times, dtype=bool)
    if saved_steps:
        chosen[::saved_steps] = True
    chosen[measured] = True
    return chosen


def estimate(
    trajectory: Trajectory,
    truth: Truth,
    system: System,
    attributes: dict[str, Any],
    saved_steps: int = 1,
) -> xr.Dataset:
    """The content of {filter}.nc. Means and spreads are NaN where they are not ``kept``, which
    takes no room in a compressed file, and leaves each time where it was; scores over time are
    those of all times.
    """
    space, shape = system.space, system.shape
    scores = over_time(
        trajectory.mean,
        trajectory.spread,
        trajectory.forecast_mean,
        trajectory.forecast_spread,
        truth.truth,
        truth.settings.steps,
    )
    if saved_steps != 1:
        left_out = ~kept(len(trajectory.mean), truth.settings.steps, saved_steps)
        mean, spread = trajectory.mean.copy(), trajectory.spread.copy()
        mean[left_out] = spread[left_out] = np.nan
        trajectory = replace(trajectory, mean=mean, spread=spread)
        attributes = {**attributes, "saved_steps": saved_steps}
    variables = coordinates(system, truth.settings.steps) | {
        "mean": variable(
            ("model_time", *space), trajectory.mean.reshape(-1, *shape), "ensemble mean"
        ),
        "spread": variable(
            ("model_time", *space),
            trajectory.spread.reshape(-1, *shape),
            "ensemble standard deviation",
        ),
        "member": variable(
            ("saved_member", "cycle", *space),
            trajectory.members.reshape(*trajectory.members.shape[:2], *shape),
            "first members of the analysis ensemble",
        ),
        "rmse": variable(
            ("model_time",), scores["rmse"], "root mean square error of the ensemble mean"
        ),
        "spread_skill": variable(
            ("model_time",), scores["spread_skill"], "ensemble spread over error"
        ),
        "rmse_forecast": variable(
            ("cycle",), scores["rmse_forecast"], "error of the forecast just before each analysis"
        ),
        "spread_forecast": variable(
            ("cycle",), scores["spread_forecast"], "ensemble spread just before each analysis"
        ),
        "crps": variable(("cycle",), trajectory.crps, "fair CRPS of the analysis"),
        "crps_forecast": variable(
            ("cycle",), trajectory.crps_forecast, "fair CRPS of the forecast before it"
        ),
        "ranks": variable(
            ("cycle", "rank"),
            trajectory.ranks,
            "components whose truth has this rank in the analysis ensemble",
        ),
        "ranks_forecast": variable(
            ("cycle", "rank"), trajectory.ranks_forecast, "the same in the forecast ensemble"
        ),
        "model_runs": variable(
            ("cycle",), trajectory.model_runs, "member forecasts of a gap that the cycle took"
        ),
    }
    variables |= {
        name: variable(("cycle", "obs"), values, INNOVATIONS[name])
        for name, values in trajectory.innovations.items()
    }
    if "innovation_rank" in variables:
        # CF's word, in the variable's type: the members that were ranked among.
        ranked = np.float32(trajectory.ranks.shape[1] - 1)
        variables["innovation_rank"].attrs["valid_max"] = ranked
    if trajectory.covariance is not None:
        variables["covariance"] = variable(
            ("cycle", "row", "column"), trajectory.covariance, "covariance of the analysis"
        )
    for name, values in trajectory.diagnostics.items():
        variables[f"diagnostic_{name}"] = variable(("cycle",), values, f"filter diagnostic {name}")
    return with_conventions(variables, {
        "title": f"Estimate by filter {attributes['filter']}: {truth.settings.system}",
        "format": ESTIMATE_FORMAT,
        "settings": truth.settings.to_json(),
        "seed": truth.settings.seed,
        "diverged": int(trajectory.diverged_at is not None),
        "diverged_at_cycle": -1 if trajectory.diverged_at is None else trajectory.diverged_at + 1,
        **attributes,
    })  # fmt: skip


def read_estimate(
    path: Path, *needed: str, truth_known: bool = True, every_step: bool = False
) -> xr.Dataset:
    """Reads {filter}.nc, which must hold the variables SCORED and those that are ``needed``
    besides; of SCORED only what a run has of which the truth need not be known, if ``truth_known``
    is false; and means and spreads at all steps, if ``every_step``.

    Raises:
        FileFault: if it is missing, damaged, foreign, of another format, or without a variable or
            the steps that it must hold.
    """
    data = read_whole(path, ESTIMATE_FORMAT)
    expected = [name for name in SCORED if truth_known or name not in NEED_TRUTH]
    missing = [name for name in (*expected, *needed) if name not in data]
    missing += [name for name in ATTRIBUTES if name not in data.attrs]
    if missing:
        raise FileFault(
            path, f"lacks {', '.join(missing)}", "remove it and run stage assimilate again"
        )
    if every_step and (steps := int(data.attrs.get("saved_steps", 1))) != 1:
        held = f"every {steps} steps and analyses" if steps else "analyses alone"
        raise FileFault(
            path,
            f"holds means and spreads at {held}, and all steps are needed",
            "run stage assimilate again with saved_steps: 1",
        )
    return data
