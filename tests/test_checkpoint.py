"""Training of a prior goes on where a killed one was, to the same file."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from masf.diffusion.prior_settings import PriorSettings
from masf.files import checkpoint as module
from masf.files.checkpoint import Checkpoint
from masf.observations.settings import observation_settings
from masf.stages.train_prior import train_prior_to_file

SETTINGS = {
    "network": {"kind": "conv1d", "width": 4, "blocks": 1, "kernel": 3},
    "gaps": [2], "worlds": 3, "cycles": 4, "spin_up_cycles": 1, "members": 6, "extra_members": 2,
    "localization_radii": [3.0], "sampler_steps": 1, "rounds": 2, "times_per_ensemble": 2,
    "states_per_time": 2, "climate_steps": 10, "steps": 12, "batch": 4,
}  # fmt: skip

KILLED = """
import os, signal, sys
from pathlib import Path
from masf.files.checkpoint import Checkpoint
sys.path.insert(0, sys.argv[3])
import test_checkpoint as here

stop = [int(word) for word in sys.argv[2].split(",")]
plain = Checkpoint.keep

def keep(self, state):
    plain(self, state)
    if [len(self.rounds), state().get("step")] == stop:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.keep = keep
here.train(Path(sys.argv[1]))
"""


def train(path: Path, **changes: object) -> None:
    module.EVERY_SECONDS = 0.0  # a checkpoint after each step
    train_prior_to_file(
        path, system="lorenz96", parameters={"dimension": 10, "dt": 0.05, "forcing": 8},
        observation=observation_settings({"operator": "stride", "stride": 2, "noise": 1.0}),
        settings=PriorSettings.model_validate(SETTINGS | changes), seed=1, device="cpu",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def kept_often(monkeypatch):
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "prior.safetensors"
    train(path)
    return path


@pytest.mark.parametrize("stop", ["0,7", "1,5"])
def test_a_killed_training_ends_as_if_it_had_not_been(stop, whole, tmp_path, caplog):
    path = tmp_path / "prior.safetensors"
    command = [sys.executable, "-c", KILLED, str(path), stop, str(Path(__file__).parent)]
    died = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = tmp_path / "prior.safetensors.checkpoint"
    assert left.is_file()
    assert not path.exists()
    with caplog.at_level("INFO"):
        train(path)
    done, step = (int(word) for word in stop.split(","))
    assert f"goes on from {left}: round {done + 1}, step {step}" in caplog.text
    assert path.read_bytes() == whole.read_bytes()
    assert not left.exists()


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_gone_on_from(tmp_path, caplog):
    path = tmp_path / "prior.safetensors.checkpoint"
    one = Checkpoint(path, "one")
    one.keep(lambda: {"step": 3})
    assert Checkpoint(path, "one").current == {"step": 3}
    other = Checkpoint(path, "another")
    assert other.current is None
    assert "is of another training; this one begins anew" in caplog.text
    path.write_bytes(path.read_bytes()[:50])
    assert Checkpoint(path, "one").current is None
    assert "cannot be read" in caplog.text
