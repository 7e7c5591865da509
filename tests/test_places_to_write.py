"""Places that are written at the end are checked at the start, or done without."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import xarray as xr
from click.testing import CliRunner

import masf
from masf.atomic import FileFault
from masf.cli import commands
from masf.cli.options import Output

CELL = '--system lorenz63 --parameters \'{"dt": 0.01}\' --observation \'{"operator": "identity"}\''
CALLS = {
    "run -o BLOCKED": "output",
    "run --plot BLOCKED.png": "figure",
    "study --config c.yaml -o BLOCKED": "output",
    f"simulate {CELL} --gap 1 --cycles 1 --members 2 --seed 0 -o BLOCKED": "outputs",
    f"train-prior {CELL} --settings '{{}}' -o BLOCKED": "output",
    "tune --filter a --search '{}' --situation '{}' --trials 1 --truth t --storage BLOCKED -o o":
    "storage",
    "tune --filter a --search '{}' --situation '{}' --trials 1 --truth t --storage s -o BLOCKED":
    "output",
    "assimilate --filter a --truth t -o BLOCKED": "outputs",
    "assimilate --filter a --truth t -o o --cost BLOCKED": "costs",
    "aggregate --study s --scores BLOCKED --costs c --tables t": "scores",
    "aggregate --study s --scores c --costs BLOCKED --tables t": "costs",
    "aggregate --study s --scores c --costs c --tables BLOCKED": "tables",
    "plot a --study s --scores c -o BLOCKED": "output",
    "plot a --study s --scores c --format pdf --folder BLOCKED": "folder",
    "page --study s --scores c --costs c --figures f --tables t -o BLOCKED": "output",
    "preview r -o BLOCKED": "output",
    "tuned-settings r -o BLOCKED": "output",
    "schema -o BLOCKED": "output",
}  # fmt: skip
"""A call of every command that writes, for each of its places; what it reads does not exist."""


def test_every_place_that_a_command_writes_is_called_here() -> None:
    known = {
        (name, parameter.name)
        for name, command in commands.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, Output)
    }
    assert {(words.split()[0], place) for words, place in CALLS.items()} == known
    # What is called an output is one.
    outputs = {
        (name, parameter.name)
        for name, command in commands.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and parameter.name == "output"
    }
    assert outputs <= known


@pytest.mark.parametrize("words", CALLS)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    done = CliRunner().invoke(commands, shlex.split(words.replace("BLOCKED", "a_file/below/x")))
    assert isinstance(done.exception, FileFault), done.output
    assert "a_file is no folder" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


# The cache of priors

SHORT: dict[str, Any] = {
    "network": {"width": 4, "blocks": 1}, "worlds": 2, "cycles": 2, "spin_up_cycles": 0,
    "members": 6, "steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    system = masf.make_system("lorenz96", dimension=12)
    observation = masf.make_observation(system, "identity", noise=1.0)
    return masf.simulate(system, observation, gap=5, cycles=2, members=8)


def test_a_prior_that_cannot_be_kept_is_trained_for_this_process(
    truth: xr.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = masf.train_prior(truth, settings=SHORT, device="cpu")
    assert "cannot keep a prior" in caplog.text
    assert "XDG_CACHE_HOME" in caplog.text
    estimate = masf.assimilate(truth, "masf", prior=path, device="cpu")
    assert json.loads(estimate.attrs["settings"])["cycles"] == 2
    # Not once for each filter of a call.
    content = path.read_bytes()
    monkeypatch.setattr(
        "masf.stages.train_prior.train", lambda *_, **__: pytest.fail("trained again")
    )
    assert masf.train_prior(truth, settings=SHORT, device="cpu") == path
    assert path.read_bytes() == content


def test_a_prior_s_own_path_is_checked_before_it_is_trained(
    truth: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setattr(
        "masf.stages.train_prior.train", lambda *_, **__: pytest.fail("trained for nothing")
    )
    with pytest.raises(FileFault, match="a_file is no folder"):
        masf.train_prior(truth, tmp_path / "a_file" / "prior.safetensors", SHORT, device="cpu")
