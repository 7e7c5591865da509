"""The NetCDF files that pass between stages: truth.nc and {filter}.nc.

Every file is CF-style, in float32, and carries as global attributes all that is needed to make it again. Files of the same
config, seed, machine and number of threads are identical byte by byte; what is not (seconds, memory) stands beside them in
{filter}.cost.json.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from masf import __version__, flow
from masf.cell_settings import CellSettings
from masf.files import FileFault, replacing
from masf.metrics import critical_success_index, mean_spread, rmse_over_components, structural_similarity
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.cycle import Trajectory

CONVENTIONS = "CF-1.11"
TRUTH_FORMAT = "masf-truth-2"
ESTIMATE_FORMAT = "masf-estimate-3"
SCORED = ("mean", "spread", "rmse", "rmse_forecast", "spread_forecast", "crps", "crps_forecast", "ranks", "ranks_forecast")
"""Variables of {filter}.nc that every estimate has."""
_MAKER = {TRUTH_FORMAT: "simulate", ESTIMATE_FORMAT: "assimilate"}


@dataclass(frozen=True)
class Truth:
    """What stage simulate makes: float32, states flattened to (..., d)."""

    settings: CellSettings
    truth: np.ndarray
    """(times, d), from time 0 on, one row a model step."""
    observation: np.ndarray
    """(cycles, m)"""
    initial_mean: np.ndarray
    """(d,)"""
    initial_ensemble: np.ndarray
    """(N, d)"""


def _variable(dims: tuple[str, ...], values: np.ndarray, long_name: str, units: str = "1") -> xr.Variable:
    return xr.Variable(dims, values, {"long_name": long_name, "units": units})


def _axes(system: System, cycles: int, gap: int) -> dict[str, xr.Variable]:
    times = (np.arange(cycles * gap + 1) * system.dt).astype(np.float32)
    return {
        # Not "time", which to CF's readers is a date or in seconds.
        "model_time": _variable(("model_time",), times, "model time since the start"),
        "cycle_time": _variable(("cycle",), times[gap::gap], "model time of each measurement"),
        **{name: _variable((name,), x.astype(np.float32), f"position along {name}") for name, x in system.positions.items()},
    }


def _dataset(variables: dict[str, xr.Variable], attributes: dict[str, Any]) -> xr.Dataset:
    # No time of its making, for the same bytes each time.
    history = f"masf {__version__}, stage {_MAKER[attributes['format']]}"
    return xr.Dataset(
        variables, attrs={"Conventions": CONVENTIONS, "history": history, **attributes, "masf_version": __version__}
    )


def write(path: Path, dataset: xr.Dataset) -> None:
    """Writes the content of truth.nc or {filter}.nc, by way of a temporary name."""
    # CF has no fill values in coordinates, and ours has none elsewhere: NaN is written as it is. The checksums tell a reader
    # of bytes that changed on disk.
    encoding = {name: {"_FillValue": None, "fletcher32": True} for name in dataset.variables}
    with replacing(path) as temporary:
        try:
            dataset.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
        except (OSError, RuntimeError) as error:
            # NetCDF does not say that a disk is full.
            free = shutil.disk_usage(path.parent).free / 2**20
            raise FileFault(
                path, f"cannot be written ({error}); its disk has {free:.1f} MiB free", "make room there and run again"
            ) from error


def _open(path: Path, expected: str) -> xr.Dataset:
    """Reads a whole file of the expected format into memory. Raises FileFault where it is not one."""
    remedy = f"remove it and run stage {_MAKER[expected]} again"
    if not Path(path).is_file():
        raise FileFault(path, "does not exist", f"run stage {_MAKER[expected]} first")
    try:
        with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
            found = dataset.attrs.get("format")
            if found != expected:
                raise FileFault(path, f"has format {found!r}, expected {expected!r}", remedy)
            return dataset.load()
    except (OSError, RuntimeError, ValueError) as error:
        raise FileFault(path, f"is truncated or no NetCDF file ({error})", remedy) from error


def write_truth(path: Path, truth: Truth, system: System, code_version: str) -> None:
    """Writes truth.nc."""
    write(path, truth_dataset(truth, system, code_version))


def truth_dataset(truth: Truth, system: System, code_version: str) -> xr.Dataset:
    """The content of truth.nc."""
    space, shape = system.space, system.shape
    variables = _axes(system, truth.settings.cycles, truth.settings.gap) | {
        "truth": _variable(("model_time", *space), truth.truth.reshape(-1, *shape), "true state"),
        "observation": _variable(("cycle", "obs"), truth.observation, "measurement"),
        "initial_mean": _variable(space, truth.initial_mean.reshape(shape), "mean of the initial distribution"),
        "initial_ensemble": _variable(
            ("member", *space), truth.initial_ensemble.reshape(-1, *shape), "initial ensemble shared by all filters"
        ),
    }
    return _dataset(variables, {
        "title": f"Truth, measurements and initial ensemble: {truth.settings.system}",
        "format": TRUTH_FORMAT,
        "settings": truth.settings.to_json(),
        "seed": truth.settings.seed,
        "code_version": code_version,
    })  # fmt: skip


def read_truth(path: Path) -> Truth:
    """Reads truth.nc.

    Raises:
        FileFault: if it is missing, damaged, foreign, of another format, or not finite.
    """
    data = _open(path, TRUTH_FORMAT)
    try:
        return truth_of(data)
    except ValueError as error:
        raise FileFault(path, str(error), "remove it and run stage simulate again") from error


def truth_of(data: xr.Dataset) -> Truth:
    """The content of truth.nc as arrays. Raises ValueError where something is missing or not finite."""
    try:
        arrays = {name: data[name].values for name in ("truth", "observation", "initial_mean", "initial_ensemble")}
        settings = CellSettings(**json.loads(data.attrs["settings"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"lacks {error}") from error
    for name, values in arrays.items():
        if not np.all(np.isfinite(values)):
            raise ValueError(f"holds non-finite values of {name}")
    return Truth(
        settings,
        arrays["truth"].reshape(len(arrays["truth"]), -1),
        arrays["observation"],
        arrays["initial_mean"].reshape(-1),
        arrays["initial_ensemble"].reshape(len(arrays["initial_ensemble"]), -1),
    )


def write_estimate(path: Path, trajectory: Trajectory, truth: Truth, system: System, attributes: dict[str, Any]) -> None:
    """Writes {filter}.nc: estimates and scores over time. ``attributes`` say which filter made it, and how."""
    write(path, estimate(trajectory, truth, system, attributes))


def estimate(trajectory: Trajectory, truth: Truth, system: System, attributes: dict[str, Any]) -> xr.Dataset:
    """The content of {filter}.nc."""
    space, shape = system.space, system.shape
    spread = mean_spread(trajectory.spread)
    rmse = rmse_over_components(trajectory.mean, truth.truth)
    at_cycles = slice(truth.settings.gap, None, truth.settings.gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spread / rmse
    variables = _axes(system, truth.settings.cycles, truth.settings.gap) | {
        "mean": _variable(("model_time", *space), trajectory.mean.reshape(-1, *shape), "ensemble mean"),
        "spread": _variable(("model_time", *space), trajectory.spread.reshape(-1, *shape), "ensemble standard deviation"),
        "member": _variable(
            ("saved_member", "cycle", *space),
            trajectory.members.reshape(*trajectory.members.shape[:2], *shape),
            "first members of the analysis ensemble",
        ),
        "rmse": _variable(("model_time",), rmse.astype(np.float32), "root mean square error of the ensemble mean"),
        "spread_skill": _variable(("model_time",), ratio.astype(np.float32), "ensemble spread over error"),
        "rmse_forecast": _variable(
            ("cycle",),
            rmse_over_components(trajectory.forecast_mean, truth.truth[at_cycles]).astype(np.float32),
            "error of the forecast just before each analysis",
        ),
        "spread_forecast": _variable(
            ("cycle",), mean_spread(trajectory.forecast_spread).astype(np.float32), "ensemble spread just before each analysis"
        ),
        "crps": _variable(("cycle",), trajectory.crps, "fair CRPS of the analysis"),
        "crps_forecast": _variable(("cycle",), trajectory.crps_forecast, "fair CRPS of the forecast before it"),
        "ranks": _variable(("cycle", "rank"), trajectory.ranks, "components whose truth has this rank in the analysis ensemble"),
        "ranks_forecast": _variable(("cycle", "rank"), trajectory.ranks_forecast, "the same in the forecast ensemble"),
    }
    if system.flow:
        variables |= _vorticity_scores(*(x[at_cycles].reshape(-1, *shape) for x in (trajectory.mean, truth.truth)))
    if trajectory.covariance is not None:
        variables["covariance"] = _variable(("cycle", "row", "column"), trajectory.covariance, "covariance of the analysis")
    for name, values in trajectory.diagnostics.items():
        variables[f"diagnostic_{name}"] = _variable(("cycle",), values, f"filter diagnostic {name}")
    return _dataset(variables, {
        "title": f"Estimate by filter {attributes['filter']}: {truth.settings.system}",
        "format": ESTIMATE_FORMAT,
        "settings": truth.settings.to_json(),
        "seed": truth.settings.seed,
        "diverged": int(trajectory.diverged_at is not None),
        "diverged_at_cycle": -1 if trajectory.diverged_at is None else trajectory.diverged_at + 1,
        **attributes,
    })  # fmt: skip


def _vorticity_scores(mean: np.ndarray, truth: np.ndarray) -> dict[str, xr.Variable]:
    """Scores of the vorticity at measurement times, of velocities (cycles, 2, n, n)."""
    fields = list(zip(flow.vorticity(mean), flow.vorticity(truth), strict=True))
    similarity, success = ([score(*pair) for pair in fields] for score in (structural_similarity, critical_success_index))
    return {
        "ssim": _variable(("cycle",), np.array(similarity, "f4"), "structural similarity of the mean's vorticity to the truth's"),
        "csi": _variable(("cycle",), np.array(success, "f4"), "critical success index of the mean's vorticity"),
    }


def read_estimate(path: Path, *needed: str) -> xr.Dataset:
    """Reads {filter}.nc, which must hold the variables SCORED and those that are ``needed`` besides.

    Raises:
        FileFault: if it is missing, damaged, foreign, of another format, or without a variable that it must hold.
    """
    data = _open(path, ESTIMATE_FORMAT)
    missing = [name for name in (*SCORED, *needed) if name not in data]
    missing += [name for name in ("settings", "filter", "code_version", "diverged") if name not in data.attrs]
    if missing:
        raise FileFault(path, f"lacks {', '.join(missing)}", "remove it and run stage assimilate again")
    return data


def write_cost(path: Path, trajectory: Trajectory, extra: dict[str, Any]) -> None:
    """Writes {filter}.cost.json: seconds of each cycle, and ``extra``."""
    content = {
        "wall_seconds": [None if np.isnan(v) else round(float(v), 6) for v in trajectory.wall_seconds],
        "cpu_seconds": [None if np.isnan(v) else round(float(v), 6) for v in trajectory.cpu_seconds],
        **extra,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_cost(path: Path) -> dict[str, Any]:
    """Reads {filter}.cost.json. Raises FileFault where it is missing or damaged."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"wall_seconds", "cpu_seconds", "peak_memory_mib"} <= content.keys():
            raise ValueError("keys are missing")
    except (OSError, ValueError) as error:
        raise FileFault(path, f"cannot be read as a cost file ({error})", "remove it and run stage assimilate again") from error
    return content
