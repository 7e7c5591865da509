"""Places that are written at the end are checked at the start, or done without."""

from __future__ import annotations

import errno
import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner

import masf
from masf.atomic import FileFault, require_writable
from masf.cli import commands
from masf.cli.options import Output

ROOT = Path(__file__).parent.parent
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
    "aggregate --study s --scores o --costs c --tables BLOCKED": "tables",
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


# Files that a command reads

READING = {
    "study --config FILE -o FILE",
    "study -o FILE --config FILE",
    f"simulate {CELL} --model @FILE --gap 1 --cycles 1 --members 2 --seed 0 -o FILE",
    f"train-prior {CELL} --settings @FILE -o FILE",
    "tune --filter a --search '{}' --situation '{}' --trials 1 --truth FILE --storage FILE -o o",
    "tune --filter a --search '{}' --situation '{}' --trials 1 --truth t --storage s -o FILE "
    "--prior FILE",
    "assimilate --filter a --truth FILE -o FILE",
    "assimilate --filter a --truth other --truth FILE -o o -o FILE",
    "assimilate --filter a --truth t --tuned FILE -o FILE",
    "assimilate --filter a --truth t --prior FILE -o o --cost FILE",
    "aggregate --study FILE --scores FILE --costs c --tables t",
    "plot a --study s --scores FILE -o FILE",
    "plot a --results r --style @FILE -o FILE",
    "page --study s --scores s --costs FILE --figures f --tables t -o FILE",
    "run --prior FILE --plot FILE",
}
WRITING_TWICE = {
    f"simulate {CELL} --gap 1 --cycles 1 --members 2 --seed 0 --seed 1 -o FILE -o FILE",
    "tune --filter a --search '{}' --situation '{}' --trials 1 --truth t --storage FILE -o FILE",
    "assimilate --filter a --truth t -o FILE --cost FILE",
    "aggregate --study s --scores FILE --costs FILE --tables t",
}


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("words", sorted(READING | WRITING_TWICE))
def test_no_command_writes_over_a_file_that_it_reads_or_writes(
    words: str, link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file.png").write_text("{}")
    Path("link.png").symlink_to("a_file.png")
    first, _, rest = words.partition("FILE")
    second = rest.replace("FILE", "./link.png" if link else "a_file.png")
    done = CliRunner().invoke(commands, shlex.split(f"{first}a_file.png{second}"))
    assert done.exit_code == 2, done.output
    assert "this file, and it would be lost: name another" in " ".join(done.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_file.png", "link.png"]
    assert Path("a_file.png").read_text() == "{}"


def test_what_is_read_twice_or_written_beside_it_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "page --study a --scores a --costs a --figures f --tables t -o b"
    done = CliRunner().invoke(commands, words.split())
    assert "a: there is no such file" in str(done.exception)


def test_a_preview_does_not_replace_the_results(tmp_path: Path) -> None:
    done = CliRunner().invoke(commands, ["preview", str(tmp_path), "-o", f"{tmp_path}/x/.."])
    assert done.exit_code == 2
    assert "name another folder" in " ".join(done.output.split())


def test_results_where_a_file_is_are_refused_by_the_check_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "tests" / "config" / "tiny.yaml").read_text(encoding="utf-8"))
    Path("README.md").touch()
    for results in ("README.md", "README.md/below"):
        content = json.dumps(config | {"results": results})
        done = CliRunner().invoke(
            commands, ["study", "--root", str(ROOT), "--config", content, "-o", "study.json"]
        )
        assert str(done.exception).startswith(f"config: results = '{results}': "), done.output
        assert "README.md is no folder; choose another" in str(done.exception)
    assert not Path("study.json").exists()


def test_a_place_that_takes_no_file_whatever_it_says_of_access_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("masf.atomic.tempfile.TemporaryFile", refused)
    takes_none = f"{tmp_path} takes no file .Read-only file system.; choose another"
    with pytest.raises(FileFault, match=takes_none):
        require_writable(tmp_path / "below" / "x")
    # A study's results are such a place.
    config = yaml.safe_load((ROOT / "config" / "quick.yaml").read_text(encoding="utf-8"))
    config["results"] = str(tmp_path / "results")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(commands, ["study", "--config", str(tmp_path / "config.yaml")])
    assert str(done.exception).startswith("config: results = "), done.output
    assert "takes no file" in str(done.exception)


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
