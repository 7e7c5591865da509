"""config/run.yaml: what is said of one system is of no matter to another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import masf
from masf.cli import commands
from masf.files.cell import CellSettings
from masf.study import defaults
from masf.study.messages import ConfigFault

ROOT = Path(__file__).parent.parent
GOOD = {
    "title": "Added", "system": "lorenz63", "parameters": {"dt": 0.02}, "observations": ["all"],
    "gaps": [5], "members": 10, "cycles": 4,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder of configs that stands in for ours."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.setattr(defaults, "config_folder", lambda: tmp_path / "config")
    defaults._content.cache_clear()
    defaults._entry.cache_clear()
    yield tmp_path / "config"
    defaults._content.cache_clear()
    defaults._entry.cache_clear()


def change(folder: Path, section: str, name: str, said: Any) -> None:
    path = folder / "run.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content[section][name] = said
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        # Filters of run.yaml localise, and need a prior: neither fits a system that was just added.
        ("experiments", GOOD | {"parameters": {"dt": 0.02, "rho": 20}}),
        ("experiments", GOOD | {"gaps": [-5]}),
        ("experiments", GOOD | {"parameters": {"dtt": 1}}),
        ("experiments", GOOD | {"observations": ["grid"]}),
        ("experiments", GOOD | {"cycles": 2, "spin_up_cycles": 3}),
        ("experiments", {"title": "Not done yet"}),
        ("experiments", None),
        ("priors", {"gaps": [-5]}),
        ("priors", {"gaps": [5], "network": {"kind": "unet2d"}}),
    ],
)
def test_what_is_said_of_a_system_breaks_no_other(
    section: str, said: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masf.filters.masf_gaussian.filter.misfits", no_lorenz63)
    change(folder, section, "lorenz63", said)
    assert masf.make_system("lorenz96").parameters.forcing == 8
    words = ["run", "--cycles", "2", "--members", "6", "-f", "enkf"]
    done = CliRunner().invoke(commands, [*words, "--system", "lorenz96"])
    assert done.exit_code == 0, done.output
    cell = CellSettings(
        "lorenz96",
        {"dt": 0.01, "dimension": 8, "forcing": 8.0},
        {"operator": "identity", "noise": 1.0},
        gap=5,
        cycles=4,
        members=10,
        initial_spread=1.0,
        seed=0,
    )
    assert defaults.filter_in_cell("masf", cell, {}).needs_prior


def no_lorenz63(_: Any, system: Any, __: Any) -> list[str]:
    return [f"{type(system).__name__} does not suit"] if system.dimension == 3 else []


@pytest.mark.usefixtures("folder")
def test_a_fault_is_said_where_it_is_asked_for(folder: Path) -> None:
    change(folder, "experiments", "lorenz63", GOOD | {"gaps": [-5]})
    with pytest.raises(ConfigFault, match=r"run\.yaml: experiments\.lorenz63\.gaps\.0 = -5"):
        masf.make_system("lorenz63")
    done = CliRunner().invoke(commands, ["run", "--system", "lorenz63", "-f", "enkf"])
    assert isinstance(done.exception, ConfigFault)


def test_an_added_system_is_taken_as_it_is_said(folder: Path) -> None:
    change(folder, "experiments", "lorenz63", GOOD)
    assert masf.make_system("lorenz63").parameters.dt == 0.02
    assert defaults.experiment("lorenz63").gaps == [5]
    assert defaults.experiment(None).system == "lorenz96"
    assert defaults.usual_filters(defaults.experiment("lorenz63")) == [
        "letkf", "masf_gaussian", "masf",
    ]  # fmt: skip


def test_a_key_that_no_config_has_is_named(folder: Path) -> None:
    with (folder / "run.yaml").open("a", encoding="utf-8") as f:
        f.write(json.dumps("experimnets") + ": {}\n")
    with pytest.raises(ConfigFault, match=r"'experimnets'.*did you mean 'experiments'"):
        masf.make_system("lorenz96")
