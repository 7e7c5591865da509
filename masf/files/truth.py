"""truth.nc: the truth of a cell, its measurements and its initial ensemble."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from masf.arrays import LARGEST
from masf.atomic import FileFault, made_again
from masf.files.cell import CellSettings
from masf.files.netcdf import (
    TRUTH_FORMAT,
    coordinates,
    read_whole,
    variable,
    with_conventions,
    write,
)
from masf.systems.base import System
from masf.systems.registry import make_system


@dataclass(frozen=True)
class Truth:
    """What stage simulate makes: float32, states flattened to (..., d)."""

    settings: CellSettings
    truth: np.ndarray
    """(times, d), from time 0 on, one row a model step."""
    observation: np.ndarray
    """(cycles, m) measurements, NaN where one is missing."""
    initial_mean: np.ndarray
    """(d,)"""
    initial_ensemble: np.ndarray
    """(N, d)"""


def digest(truth: Truth) -> str:
    """What tells a truth, its measurements and its initial ensemble from others, to the last bit:
    the first 16 digits of a SHA-256. It says nothing of who made them.
    """
    found = hashlib.sha256()
    for values in (truth.truth, truth.observation, truth.initial_ensemble):
        found.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    return found.hexdigest()[:16]


def write_truth(path: Path, truth: Truth, system: System, code_version: str) -> None:
    """Writes truth.nc."""
    write(path, truth_dataset(truth, system, code_version))


def truth_dataset(truth: Truth, system: System, code_version: str) -> xr.Dataset:
    """The content of truth.nc."""
    space, shape = system.space, system.shape
    variables = coordinates(system, truth.settings.steps) | {
        "truth": variable(("model_time", *space), truth.truth.reshape(-1, *shape), "true state"),
        "observation": variable(
            ("cycle", "obs"), truth.observation, "measurement, NaN where it is missing"
        ),
        "initial_mean": variable(
            space, truth.initial_mean.reshape(shape), "mean of the initial distribution"
        ),
        "initial_ensemble": variable(
            ("member", *space),
            truth.initial_ensemble.reshape(-1, *shape),
            "initial ensemble shared by all filters",
        ),
    }
    return with_conventions(variables, {
        "title": f"Truth, measurements and initial ensemble: {truth.settings.system}",
        "format": TRUTH_FORMAT,
        "settings": truth.settings.to_json(),
        "seed": truth.settings.seed,
        "code_version": code_version,
    })  # fmt: skip


def read_truth(path: Path) -> Truth:
    """Reads truth.nc.

    Raises:
        FileFault: if it is missing, damaged, foreign, of another format, not finite, or without a
            truth.
    """
    data = read_whole(path, TRUTH_FORMAT)
    if "truth" not in data:
        raise FileFault(
            path,
            "holds measurements whose truth is not known, as masf.make_problem makes them",
            "run filters on it in Python, by masf.assimilate of the dataset",
        )
    try:
        return truth_of(data)
    except ValueError as error:
        raise FileFault(path, str(error), made_again("simulate")) from error


def read_states(path: Path, settings: CellSettings) -> np.ndarray:
    """The truth (times, d) of a cell.

    Raises:
        FileFault: as ``read_truth``, or if it is of another cell.
    """
    truth = read_truth(path)
    if truth.settings != settings:
        raise FileFault(
            path,
            "was made with other settings than the study's",
            "remove it and run the workflow again",
        )
    return truth.truth


def read_velocities(path: Path, settings: CellSettings) -> np.ndarray:
    """The truth (times, 2, n, n) of a cell that is a flow. Raises FileFault as ``read_states``."""
    truth, model = read_states(path, settings), settings.forecast
    return truth.reshape(len(truth), *make_system(model.system, model.parameters).shape)


def truth_of(data: xr.Dataset) -> Truth:
    """The content of truth.nc as arrays. Raises ValueError where something is missing or not
    finite.
    """
    try:
        arrays = {
            name: data[name].values
            for name in ("truth", "observation", "initial_mean", "initial_ensemble")
        }
        settings = CellSettings(**json.loads(data.attrs["settings"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"lacks {error}") from error
    for name, values in arrays.items():
        missing = np.isnan(values) if name == "observation" else False
        if not np.all((np.abs(values) < LARGEST) | missing):
            raise ValueError(
                f"holds values of {name} that are not finite, or not below {LARGEST:g}"
            )
    steps, last = settings.steps, settings.steps[-1]
    if len(arrays["truth"]) != last + 1 or len(arrays["observation"]) != len(steps):
        raise ValueError(
            f"has {len(arrays['truth'])} times and {len(arrays['observation'])} measurements: its "
            f"settings say {last + 1} and {len(steps)}"
        )
    if {"model_time", "cycle_time"} <= set(data.variables) and not np.array_equal(
        data["model_time"].values[steps], data["cycle_time"].values
    ):
        raise ValueError(
            f"has a cycle_time other than its gap {settings.gap} says: for measurements at other "
            "times make a problem by masf.make_problem, with steps"
        )
    if np.all(np.isnan(arrays["observation"])):
        raise ValueError("holds no measurement: all of observation is NaN")
    return Truth(
        settings,
        arrays["truth"].reshape(len(arrays["truth"]), -1),
        arrays["observation"],
        arrays["initial_mean"].reshape(-1),
        arrays["initial_ensemble"].reshape(len(arrays["initial_ensemble"]), -1),
    )
