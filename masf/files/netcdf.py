"""The NetCDF files that pass between stages: truth.nc and {filter}.nc.

Every file is CF-style, in float32, and carries as global attributes all that is needed to make it
again. Files of the same config, seed, machine and number of threads are identical byte by byte;
what is not (seconds, memory) stands beside them in {filter}.cost.json.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from masf import __version__
from masf.atomic import UNLOCK, FileFault, made_again, refusal, replacing, unreadable
from masf.systems.base import System

CONVENTIONS = "CF-1.11"

TRUTH_FORMAT = "masf-truth-2"

ESTIMATE_FORMAT = "masf-estimate-5"

MAKER = {TRUTH_FORMAT: "simulate", ESTIMATE_FORMAT: "assimilate"}


MOST_AT_ONCE = 2**24
"""Bytes that NetCDF writes at a time, at most: a chunk."""


def variable(
    dims: tuple[str, ...], values: np.ndarray, long_name: str, units: str = "1"
) -> xr.Variable:
    """A variable with what CF wants said of it."""
    return xr.Variable(dims, values, {"long_name": long_name, "units": units})


def coordinates(system: System, steps: np.ndarray) -> dict[str, xr.Variable]:
    """The axes of a run's files: model time, the times of measurements, which come at ``steps``
    (cycles,), and places in space where there are some.
    """
    times = (np.arange(steps[-1] + 1) * system.dt).astype(np.float32)
    return {
        # Not "time", which to CF's readers is a date or in seconds.
        "model_time": variable(("model_time",), times, "model time since the start"),
        "cycle_time": variable(("cycle",), times[steps], "model time of each measurement"),
        **{
            name: variable((name,), x.astype(np.float32), f"position along {name}")
            for name, x in system.positions.items()
        },
    }


def with_conventions(variables: dict[str, xr.Variable], attributes: dict[str, Any]) -> xr.Dataset:
    """The variables as a dataset that says by which conventions, by which stage and with what it
    was made.
    """
    # No time of its making, for the same bytes each time.
    history = f"masf {__version__}, stage {MAKER[attributes['format']]}"
    return xr.Dataset(
        variables,
        attrs={
            "Conventions": CONVENTIONS,
            "history": history,
            **attributes,
            "masf_version": __version__,
        },
    )


def write(path: Path, dataset: xr.Dataset) -> None:
    """Writes the content of truth.nc or {filter}.nc, by way of a temporary name."""
    # CF has no fill values in coordinates, and ours has none elsewhere: NaN is written as it is.
    # The checksums tell a reader of bytes that changed on disk. Compression loses nothing; the
    # lowest level, since the mantissas of turbulence hardly compress further.
    kept = {"_FillValue": None, "fletcher32": True, "zlib": True, "complevel": 1, "shuffle": True}
    encoding = dict.fromkeys(dataset.variables, kept)
    with replacing(path) as temporary:
        try:
            dataset.to_netcdf(temporary, engine="netcdf4", encoding=encoding)
        except (OSError, RuntimeError) as error:
            raise unwritable(path, error, temporary, dataset.nbytes) from error


def unwritable(path: Path, error: Exception, temporary: Path, size: int) -> FileFault:
    """What to say of a file that could not be written: NetCDF itself does not say why.

    Args:
        path: the file.
        error: what NetCDF raised.
        temporary: what was written in its place.
        size: of the content before it is compressed, in bytes.
    """
    free, left = shutil.disk_usage(path.parent).free, size - temporary.stat().st_size
    # Much less than what is left may be asked for, as it is compressed; what fails is one chunk.
    if free < max(min(left, MOST_AT_ONCE), 2**20):
        return FileFault(
            path,
            f"cannot be written ({error}): its disk has {free / 2**20:.1f} MiB free",
            "make room there and run again",
        )
    refused = refusal(temporary)
    if refused is not None and refused.errno in (errno.ENOLCK, errno.EAGAIN):
        return FileFault(path, f"cannot be locked for writing ({refused.strerror})", UNLOCK)
    why = error if refused is None else refused.strerror
    return FileFault(
        path,
        f"cannot be written ({why}), though its disk has room",
        "see whether a quota or a limit on the size of files is reached, and run again",
    )


def read_whole(path: Path, expected: str) -> xr.Dataset:
    """Reads a whole file of the expected format into memory. Raises FileFault where it is not
    one.
    """
    stage = MAKER[expected]
    remedy = made_again(stage)
    with open_netcdf(path, remedy, missing=f"run stage {stage} first") as dataset:
        found = dataset.attrs.get("format")
        if found != expected:
            raise FileFault(path, f"has format {found!r}, expected {expected!r}", remedy)
        return dataset.load()


@contextmanager
def open_netcdf(path: Path, remedy: str, missing: str) -> Iterator[xr.Dataset]:
    """The content of a NetCDF file, for as long as the block lasts.

    Args:
        path: the file.
        remedy: what to do where its content is damaged.
        missing: what to do where it does not exist.

    Raises:
        FileFault: where it cannot be read, in the block, too.
    """
    try:
        # netCDF4 takes what does not exist for a fault of the content.
        Path(path).stat()
        with xr.open_dataset(path, engine="netcdf4", decode_times=False) as dataset:
            yield dataset
    except FileFault:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(
            path,
            error,
            fault="is truncated or no NetCDF file",
            remedy=remedy,
            missing=missing,
        ) from error
