"""All faults of a config are said at once, and nothing that only follows from another."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from masf.study.load import make_study, study_in, study_with
from masf.study.messages import ConfigFault

ROOT = Path(__file__).parent.parent
CONFIG = """
results: results/faults
seeds: {test: [0, 1], tuning: [7]}
filters: [enkf, etkf, masf]
observations:
  all: {operator: identity, noise: 1.0}
  other: {operator: identity, noise: 2.0}
priors:
  lorenz63: {gaps: [5], localization_radii: [null]}
  lorenz96: {gaps: [5]}
pinned: {enkf: {inflation: 1.1}}
experiments:
  points:
    {title: A, system: lorenz63, parameters: {dt: 0.01}, observations: [all], gaps: [5],
     members: 10, cycles: 4, seeds: [0]}
  rings:
    {title: B, system: lorenz96, parameters: {dt: 0.01, dimension: 12, forcing: 8},
     observations: [all, other], gaps: [5], members: 10, cycles: 4}
tuning: {trials: 2, points: [{experiment: rings}]}
figures:
  sweep:
    kind: sweep
    title: Sweep
    panels: [{experiment: rings, axis: gap, observation: other}]
  paths: {kind: trajectories, title: Paths, experiment: points, seed: 0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The filters' files."""
    (tmp_path / "filters").mkdir()
    for name in ("enkf", "etkf", "masf"):
        shutil.copy(ROOT / "config" / "filters" / f"{name}.yaml", tmp_path / "filters")
    return tmp_path / "filters"


def faults(config: dict[str, Any], folder: Path) -> list[str]:
    """What is said of a config, one line a fault."""
    with pytest.raises(ConfigFault) as fault:
        make_study(config | {"filters_directory": str(folder)})
    return str(fault.value).splitlines()


def enkf(**said: Any) -> Callable[[dict[str, Any], Path], None]:
    """Writes the file of filter enkf anew."""

    def change(_: dict[str, Any], folder: Path) -> None:
        (folder / "enkf.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")

    return change


def at(*place: str, value: Any) -> Callable[[dict[str, Any], Path], None]:
    def change(config: dict[str, Any], _: Path) -> None:
        for key in place[:-1]:
            config = config[key]
        config[place[-1]] = copy.deepcopy(value)

    return change


FAULTS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    # What pydantic finds.
    "saved_members = -1": at("saved_members", value=-1),
    "reslts: unknown key": at("reslts", value="a"),
    "seeds.test = [0, 0]": at("seeds", value={"test": [0, 0]}),
    "filters = [\"enkf\", \"etkf\", \"masf\", \"etkf\"]": at(
        "filters", value=["enkf", "etkf", "masf", "etkf"]
    ),
    "filters.3 = \"EnKF\"": at("filters", value=["enkf", "etkf", "masf", "EnKF"]),
    "observations.other.noise = -1": at("observations", "other", "noise", value=-1),
    "priors.lorenz96: gaps must be": at("priors", "lorenz96", "gaps", value=[-5]),
    "experiments.points.gaps.0 = -5": at("experiments", "points", "gaps", value=[-5]),
    "figures.paths.kind = \"path\"": at("figures", "paths", "kind", value="path"),
    "tuning.trials = 0": at("tuning", "trials", value=0),
    # Filters' files.
    "enkf.yaml: lable: unknown key": enkf(lable="EnKF", label="EnKF"),
    "filters = 'etkff': unknown filter": at("filters", value=["enkf", "masf", "etkff"]),
    "filter 'enkf': search = 'inflatoin'": enkf(label="EnKF", search={"inflatoin": [1]}),
    "filter 'enkf': settings.0.when.gap = \"1e1\"": enkf(
        label="EnKF", settings=[{"when": {"gap": "1e1"}, "parameters": {"inflation": 1.2}}]
    ),
    # Names of things that do not exist.
    "pinned = 'enfk'": at("pinned", value={"enfk": {"inflation": 1.1}}),
    "priors = 'lorenz97'": at("priors", "lorenz97", value={"gaps": [5]}),
    "experiments.points.system = 'lorenz64'": at("experiments", "points", "system",
                                                  value="lorenz64"),
    "experiments.rings.observations = 'al'": at("experiments", "rings", "observations",
                                                 value=["al", "other"]),
    "experiments.points.seeds = [5]": at("experiments", "points", "seeds", value=[5]),
    "figures.paths.experiment = 'point'": at("figures", "paths", "experiment", value="point"),
    "tuning.points.0.experiment = 'ring'": at("tuning", "points", value=[{"experiment": "ring"}]),
    # Parts that do not fit together.
    "filter 'enkf': inflation = 0.5": at("pinned", "enkf", value={"inflation": 0.5}),
    "experiments.rings.parameters.dimension = 2": at("experiments", "rings", "parameters",
                                                      "dimension", value=2),
    "experiments.points.parameters.rhoo": at("experiments", "points", "parameters", "rhoo",
                                              value=28),
}  # fmt: skip
"""Faults by how their lines begin."""


def entry(line: str) -> str:
    """The part of a config that a fault is in, without which nothing is said of it."""
    words = line.replace("enkf.yaml", "enkf").replace("'", "").split(" = ")[0].split(".")
    found = ".".join(words[:2]).split(":")[0].removeprefix("filter ")
    whole = next((key for key in ("tuning", "filters") if found.startswith(key)), found)
    return {"pinned": "enkf"}.get(whole, whole)


HIDDEN = {
    # Which seeds there are.
    frozenset({"seeds.test = [0, 0]", "experiments.points.seeds = [5]"}),
    frozenset({"seeds.test = [0, 0]", "figures.paths.experiment = 'point'"}),
}
"""Pairs of which one cannot be said before the other is mended."""


@pytest.mark.parametrize("expected", FAULTS)
def test_a_fault_is_said_alone(expected: str, folder: Path) -> None:
    config = yaml.safe_load(CONFIG)
    FAULTS[expected](config, folder)
    said = faults(config, folder)
    assert all(expected in line for line in said), said


def test_faults_of_all_sections_are_said_at_once(folder: Path) -> None:
    config = yaml.safe_load(CONFIG)
    config["experiments"]["third"] = copy.deepcopy(config["experiments"]["points"])
    expected = [
        "saved_members = -1",
        "reslts: unknown key",
        "observations.other.noise = -1",
        "experiments.points.gaps.0 = -5",
        'figures.paths.kind = "path"',
        "enkf.yaml: lable: unknown key",
        "experiments.rings.parameters.dimension = 2",
        "priors = 'lorenz97'",
        "tuning.trials = 0",
    ]
    for line in expected:
        FAULTS[line](config, folder)
    config["experiments"]["third"]["system"] = "lorenz64"
    config["pinned"]["etkf"] = {"inflation": 0.5}
    config["experiments"]["fourth"] = copy.deepcopy(config["experiments"]["rings"]) | {
        "parameters": {"dt": 0.01, "dimension": 20, "forcing": 8}
    }
    (folder / "etkf.yaml").write_text("{label: ETKF, parameters: {infl: 1}}", encoding="utf-8")
    expected += [
        "experiments.third.system = 'lorenz64'",
        "filter 'etkf': infl: unknown key",
        "filter 'etkf': inflation = 0.5",
    ]
    said = faults(config, folder)
    for line in expected:
        assert any(line in found for found in said), (line, said)
    assert all(any(line in found for line in expected) for found in said), said


@pytest.mark.parametrize("first", FAULTS)
def test_no_fault_hides_one_of_another_entry_or_makes_one_up(first: str, folder: Path) -> None:
    for second in FAULTS:
        if entry(first) == entry(second) or frozenset({first, second}) in HIDDEN:
            continue
        for path in folder.iterdir():
            shutil.copy(ROOT / "config" / "filters" / path.name, folder)
        config = yaml.safe_load(CONFIG)
        FAULTS[first](config, folder)
        try:
            FAULTS[second](config, folder)
        except (KeyError, TypeError):
            continue
        said = faults(config, folder)
        assert any(first in line for line in said), (second, said)
        assert any(second in line for line in said), (second, said)
        unexpected = [line for line in said if first not in line and second not in line]
        assert not unexpected, (second, said)


def test_a_study_in_memory_says_all_faults_of_its_filters() -> None:
    config = yaml.safe_load(CONFIG)
    definitions = {
        "enkf": {"lable": "EnKF"},
        "etkf": {"label": "ETKF", "look": {"colour": "red", "marker": "o"}},
        "masf": {"label": "MASF", "parameters": {"stepps": 4}},
    }
    with pytest.raises(ConfigFault) as fault:
        study_with(config, definitions, {"masf": {"settings": [{"when": {}}]}})
    said = str(fault.value)
    for line in (
        "filter 'enkf': lable: unknown key",
        "filter 'enkf': label: this key is missing",
        "filter 'etkf': look.colour = \"red\"",
        "filter 'masf': stepps: unknown key",
        "tuned 'masf': settings.0.when",
    ):
        assert line in said


def test_a_study_json_says_all_faults(folder: Path) -> None:
    study = make_study(yaml.safe_load(CONFIG) | {"filters_directory": str(folder)})
    content = yaml.safe_load(study.to_json())
    content["config"]["experiments"]["points"]["system"] = "lorenz64"
    content["config"]["pinned"] = {"enkf": {"inflation": 0.5}}
    with pytest.raises(ConfigFault) as fault:
        study_in(content)
    assert "experiments.points.system = 'lorenz64'" in str(fault.value)
    assert "filter 'enkf': inflation = 0.5" in str(fault.value)
