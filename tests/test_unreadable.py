"""What is said of files that cannot be read or written: damage only where the content is damaged,
and room on the disk only where there is little.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors.numpy import save_file

from masf import atomic
from masf.atomic import FileFault
from masf.cli.show import show
from masf.files.cost import read_cost
from masf.files.netcdf import ESTIMATE_FORMAT, TRUTH_FORMAT, read_whole, write
from masf.files.prior import read_prior
from masf.files.tuned import read_tuned
from masf.report.rows import read_rows
from masf.study.costs import Measured
from masf.study.load import read_mapping
from masf.study.messages import ConfigFault

HARMFUL = ("remove", "truncated", "damaged:", "run stage", "make it again", "make room")
"""Advice that would lose a good file, and talk of damage."""


def netcdf(path: Path) -> None:
    data = xr.Dataset({"a": ("x", np.zeros(2000, dtype=np.float32))})
    write(path, data.assign_attrs(format=TRUTH_FORMAT))


def parquet(path: Path) -> None:
    pd.DataFrame({"rmse": range(9)}).to_parquet(path)


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "truth.nc": (netcdf, lambda path: read_whole(path, TRUTH_FORMAT)),
    "shown.nc": (netcdf, lambda path: show.callback(path, 0)),
    "prior.safetensors": (
        lambda path: save_file({"a": np.zeros(2)}, path),
        lambda path: read_prior(path, "np"),
    ),
    "etkf.cost.json": (lambda path: path.write_text("{}"), read_cost),
    "etkf.json": (lambda path: path.write_text("{}"), read_tuned),
    "scores.parquet": (parquet, partial(read_rows, what="scores")),
    "shown.parquet": (parquet, lambda path: show.callback(path, 0)),
    "config.yaml": (lambda path: path.write_text("a: 1"), read_mapping),
    "costs.csv": (lambda path: path.write_text("a"), Measured.read.__wrapped__),
}
"""Files that masf reads, how each is made here, and its reader."""


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "ask its owner for access"),
        (errno.ESTALE, "the file server has replaced or moved it"),
        (errno.EIO, "run again when its disk answers"),
        (errno.ENOLCK, "HDF5_USE_FILE_LOCKING=FALSE"),
    ],
)
def test_a_file_that_the_system_does_not_hand_over_is_not_called_damaged(
    name: str, number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    make, read = READERS[name]
    make(path)

    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    for owner, function in (
        (xr, "open_dataset"),
        (pd, "read_parquet"),
        (Path, "read_text"),
        (Path, "open"),
    ):
        monkeypatch.setattr(owner, function, refused)
    monkeypatch.setattr("masf.files.prior.safe_open", refused)
    cls: Any = Measured if name == "costs.csv" else None
    with pytest.raises((FileFault, ConfigFault)) as fault:
        read(path) if cls is None else read(cls, path)
    message = str(fault.value)
    assert message.startswith(f"{path}: ")
    assert os.strerror(number) in message
    if isinstance(fault.value, FileFault):
        assert said in message
    assert not [word for word in HARMFUL if word in message]
    assert path.exists()


def test_a_lock_that_hdf5_is_not_granted_is_called_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "truth.nc"
    netcdf(path)
    with path.open("rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(FileFault, match=r"cannot be locked.*HDF5_USE_FILE_LOCKING=FALSE"):
            read_whole(path, TRUTH_FORMAT)
    assert len(read_whole(path, TRUTH_FORMAT)["a"]) == 2000


def test_a_file_system_without_locks_is_told_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "truth.nc"
    netcdf(path)
    hdf5_says = OSError(-101, "NetCDF: HDF error")

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    advice = {"fault": "is truncated", "remedy": "remove it"}
    assert str(atomic.unreadable(path, hdf5_says, **advice)).endswith("remove it")
    monkeypatch.setattr(atomic, "fcntl", SimpleNamespace(LOCK_SH=1, LOCK_NB=4, flock=no_locks))
    said = str(atomic.unreadable(path, hdf5_says, **advice))
    assert "HDF5_USE_FILE_LOCKING=FALSE" in said
    assert "remove" not in said


@pytest.mark.parametrize("name", ["truth.nc", "prior.safetensors"])
def test_a_folder_in_place_of_a_file_is_called_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(FileFault, match="is a folder"):
        READERS[name][1](tmp_path / name)


@pytest.mark.parametrize("name", ["truth.nc", "etkf.cost.json", "etkf.json", "prior.safetensors"])
def test_a_file_that_is_not_there_is_called_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileFault, match=r"does not exist; run stage [\w-]+ first"):
        READERS[name][1](tmp_path / name)


@pytest.mark.parametrize("name", ["truth.nc", "shown.nc", "prior.safetensors", "scores.parquet"])
def test_a_file_that_is_cut_off_is_to_be_made_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    READERS[name][0](path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FileFault, match="again"):
        READERS[name][1](path)


@pytest.mark.parametrize(
    ("numbers", "free", "said", "not_said"),
    [
        (0, 2**30, "quota", "make room"),
        (0, 2**12, "0.0 MiB free; make room", "quota"),
        # 64 MiB, of which compression leaves less than the disk has, or more.
        (2**24, 2**25, "quota", "make room"),
        (2**24, 2**23, "8.0 MiB free; make room", "quota"),
    ],
)
def test_writing_speaks_of_room_only_where_there_is_little(
    numbers: int,
    free: int,
    said: str,
    not_said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fails)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    content = {"mean": ("model_time", np.zeros(numbers, dtype=np.float32))}
    with pytest.raises(FileFault, match=said) as fault:
        write(tmp_path / "etkf.nc", xr.Dataset(content, attrs={"format": ESTIMATE_FORMAT}))
    assert not_said not in str(fault.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cost_file_that_is_no_json_is_to_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "etkf.cost.json"
    path.write_text(json.dumps({"wall_seconds": []}))
    with pytest.raises(FileFault, match="remove it and run stage assimilate again"):
        read_cost(path)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_whole(path, TRUTH_FORMAT),
        lambda path: read_whole(path, ESTIMATE_FORMAT),
        lambda path: read_prior(path, "np"),
        read_tuned,
        read_cost,
    ],
)
def test_a_file_that_masf_did_not_write_is_not_to_be_removed(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = tmp_path / "README.md"
    path.write_text("# Mine\n")
    with pytest.raises(FileFault, match=r"if masf wrote it, remove .* if not, keep it: name anoth"):
        read(path)
    assert path.read_text() == "# Mine\n"
