"""Conditions of settings: those that can never hold are refused, and those that hold do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from test_input_files import Gained, save

from masf.cli import commands
from masf.study.checks import doubts
from masf.study.load import study_with
from masf.study.messages import ConfigFault
from masf.study.study import Study
from masf.systems.registry import system_class

CONFIG = """
results: results/conditions
seeds: {test: [0], tuning: [7]}
filters: [mine]
observations: {all: {operator: identity, noise: 1.0}}
experiments:
  rings:
    {title: A, system: lorenz96, parameters: {dt: 0.01, dimension: 40, forcing: 8},
     observations: [all], gaps: [10, 20], members: 10, cycles: 4}
  points:
    {title: B, system: lorenz63, parameters: {dt: 0.01}, observations: [all], gaps: [10],
     members: 10, cycles: 4}
"""
FOUND = {"by": "hand", "seeds": [7]}


def study(when: str, kind: str = "settings") -> Study:
    """Two systems, where a filter has an inflation of 1.5 under a condition, in one of the places
    that have conditions.
    """
    config = yaml.safe_load(CONFIG)
    condition = yaml.safe_load(when)
    definition: dict[str, Any] = {
        "filter": "enkf",
        "label": "Mine",
        "search": {"inflation": [1.0, 1.5]},
    }
    setting = {"when": condition, "parameters": {"inflation": 1.5}}
    tuned = {}
    if kind == "settings":
        definition["settings"] = [setting]
    elif kind == "tuned":
        tuned = {"mine": {"settings": [setting | {"found": FOUND}]}}
    else:
        config["tuning"] = {"trials": 2, "points": [{"experiment": "rings", "when": condition}]}
    return study_with(config, {"mine": definition}, tuned)


PLACES = {
    "settings": "filter 'mine': settings.0.when",
    "tuned": "tuned 'mine': settings.0.when",
    "points": "tuning.points.0.when",
}


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{dt: 1e-2}", '.dt = "1e-2": is text to YAML, which no number is equal to: write 0.01'),
        ("{gap: [10, 1e1]}", '.gap = "1e1": is text to YAML, which no number is equal to: write 1'),
        ("{members: '10'}", '.members = "10": is text to YAML'),
        ("{dt: 1e-9}", "write 1.0e-09"),
        ("{gap: ten}", ".gap = \"ten\": gap is 'ten': expected a number of steps"),
        ("{gap: 10.5}", ".gap = 10.5: gap is 10.5: expected a number of steps"),
        ("{gap: 0}", ".gap = 0: gap is 0: expected at least 1"),
        ("{members: 1}", ".members = 1: input should be greater than or equal to 2"),
        ("{members: true}", ".members = true: input should be a valid integer"),
        ("{gap: null}", ".gap = null: gap is None: expected a number of steps"),
        ("{gap: []}", ".gap = []: names no value, so that it never holds"),
        ("{gap: {low: 1, high: 5}}", "expected a value or a list of values, not a mapping"),
        ("{dimension: 4.5}", ".dimension = 4.5: input should be a valid integer"),
        ("{dt: -0.01}", ".dt = -0.01: input should be greater than 0"),
        ("{dt: .nan}", ".dt = NaN: input should be a finite number"),
        ("{system: lorenz97}", ".system = 'lorenz97': unknown system (did you mean 'lorenz96'?)"),
        ("{system: [lorenz96, 63]}", ".system = '63': unknown system"),
        ("{observation: 3}", ".observation = 3: input should be a valid string"),
        ("{dimensoin: 40}", "did you mean 'dimension'?"),
        ("{system: lorenz63, dimension: 40}", ".dimension: no parameter of 'lorenz63'"),
        ("{system: [lorenz63, lorenz96], size: 40}", ".size: no parameter of 'lorenz63', 'lorenz9"),
    ],
)
def test_conditions_that_can_never_hold_are_refused(when: str, said: str, kind: str) -> None:
    with pytest.raises(ConfigFault) as fault:
        study(when, kind)
    assert PLACES[kind] in str(fault.value)
    assert said in str(fault.value)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{system: lorenz96}", {("lorenz96", 10), ("lorenz96", 20)}),
        ("{gap: 10}", {("lorenz96", 10), ("lorenz63", 10)}),
        ("{gap: 10.0, system: lorenz96}", {("lorenz96", 10)}),
        ("{dt: 0.01, gap: [20, 30]}", {("lorenz96", 20)}),
        # At their defaults, which no experiment lists.
        ("{rho: 28}", {("lorenz63", 10)}),
        ("{rho: [27, 28.0], sigma: 10}", {("lorenz63", 10)}),
        ("{rho: 30}", set()),
        # What only other studies have.
        ("{system: kolmogorov}", set()),
        ("{observation: every_second}", set()),
        ("{reynolds: 1000}", set()),
    ],
)
def test_conditions_hold_where_they_say(when: str, expected: set[tuple[str, int]]) -> None:
    for kind in ("settings", "tuned"):
        found = study(when, kind)
        there = {
            (cell.settings.system, cell.settings.gap)
            for cell in found.cells.values()
            if found.filter_parameters("mine", cell).get("inflation") == 1.5
        }
        assert there == expected
        assert list(doubts(found)) == []


@pytest.mark.parametrize("kind", ["settings", "tuned"])
@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{observation: al}", "observation = 'al': no observation of this study (did you mean 'a"),
        (
            "{system: [lorenz96, lorenz63], dimension: 40}",
            "dimension: no parameter of 'lorenz63', where the setting never holds",
        ),
    ],
)
def test_what_is_not_certain_is_a_warning(when: str, said: str, kind: str) -> None:
    (doubt,) = doubts(study(when, kind))
    assert doubt.startswith(PLACES[kind])
    assert said in doubt


def test_a_text_that_names_a_file_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Untracked(Gained):
        class Parameters(Gained.Parameters):
            notes: str | None = None

    monkeypatch.setattr("masf.filters.free_run.filter", Untracked)
    save(tmp_path / "gain.npy", 0.3)
    parameters = {"weights": f"{tmp_path}/gain.npy", "notes": f"{tmp_path}/gain.npy"}
    definition = {"filter": "free_run", "label": "Mine", "parameters": parameters}
    assert list(doubts(study_with(yaml.safe_load(CONFIG), {"mine": definition}, {}))) == []
    (tmp_path / "notes.txt").touch()
    parameters["notes"] = f"{tmp_path}/notes.txt"
    (doubt, *_) = doubts(study_with(yaml.safe_load(CONFIG), {"mine": definition}, {}))
    assert "notes.txt': names a file, whose content nothing follows" in doubt
    assert "InputFile" in doubt


def test_the_check_of_a_config_says_its_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filters = tmp_path / "filters"
    filters.mkdir()
    setting = {"when": {"observation": "al"}, "parameters": {"inflation": 1.5}}
    content = {"filter": "enkf", "label": "Mine", "settings": [setting]}
    (filters / "mine.yaml").write_text(json.dumps(content), encoding="utf-8")
    config = yaml.safe_load(CONFIG) | {"filters_directory": str(filters)}
    done = CliRunner().invoke(commands, ["study", "--config", json.dumps(config)])
    assert done.exit_code == 0, done.output
    assert "did you mean 'all'?" in caplog.text


@pytest.mark.parametrize(
    ("name", "parameters", "key"),
    [
        ("letkf", {"localization_radius": None}, "localization_radius"),
        ("ienks", {}, "localization_radius"),
        ("masf_gaussian", {"localization_radius": None}, "localization_radius"),
        ("masf_mc", {"localization_radius": None, "weight_radius": None}, "localization_radius"),
        ("masf_gaussian", {"passes": 2, "passes_radius": None}, "passes_radius"),
        ("masf_gaussian", {"covariance": "ensemble", "localization_radius": None}, None),
        ("masf_gaussian", {"passes_radius": None}, None),
        ("letkf", {"localization_radius": 8.0}, None),
        ("letkf", {"localization_radius": 80.0}, "localization_radius = 80, where no points are "),
        ("letkf", {"localization_radius": 79.0}, None),
        ("etkf", {}, None),
    ],
)
def test_members_that_do_not_span_the_state_without_a_taper_are_a_warning(
    name: str, parameters: dict[str, Any], key: str | None
) -> None:
    definition = {"filter": name, "label": "Mine", "parameters": parameters}
    config = yaml.safe_load(CONFIG)
    del config["experiments"]["points"]
    said = list(doubts(study_with(config, {"mine": definition}, {})))
    if key is None:
        assert said == []
        return
    (doubt,) = said
    said = key if "=" in key else f"{key} = null: 10 members do not span 40 components"
    assert doubt.startswith(f"filter 'mine': {said}")
    assert doubt.endswith("and 1 times more)")
    config["experiments"]["rings"]["members"] = 20
    assert list(doubts(study_with(config, {"mine": definition}, {}))) == []


def test_a_search_of_members_that_do_not_span_the_state_is_a_warning() -> None:
    config = yaml.safe_load(CONFIG)
    del config["experiments"]["points"]

    def said(members: int, **parameters: Any) -> list[str]:
        config["experiments"]["rings"]["members"] = members
        definition = {"filter": "masf_gaussian", "label": "Mine", "parameters": parameters}
        return list(doubts(study_with(config, {"mine": definition}, {})))

    (doubt,) = said(40, passes=2, search=3)
    assert doubt.startswith("filter 'mine': search = 3: 40 members do not span 40 components")
    assert said(41, passes=2, search=3) == said(40, passes=2) == []


@pytest.mark.parametrize(("spacing", "radius"), [(1.0, 0.5), (100.0, 12.0)])
def test_a_taper_that_ends_before_the_next_point_is_a_warning(
    spacing: float, radius: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a radius in grid points, where radii are lengths."""
    monkeypatch.setattr(system_class("lorenz96"), "spacing", spacing)
    config = yaml.safe_load(CONFIG)
    del config["experiments"]["points"]

    def said(radius: float) -> list[str]:
        parameters = {"localization_radius": radius}
        definition = {"filter": "letkf", "label": "Mine", "parameters": parameters}
        return list(doubts(study_with(config, {"mine": definition}, {})))

    (doubt,) = said(radius)
    assert f"localization_radius = {radius:g}: the taper ends" in doubt
    assert f"the next grid point, which is {spacing:g} away" in doubt
    assert said(0.6 * spacing) == []


def test_a_search_of_what_changes_nothing_is_a_warning() -> None:
    config = yaml.safe_load(CONFIG) | {"tuning": {"trials": 2, "cycles": 4}}
    config["seeds"]["tuning"] = [100]
    del config["experiments"]["points"]
    search = {"passes": [1, 4], "lag": [1, 2], "inflation": [1.0, 1.1]}
    definition = {"filter": "masf_gaussian", "label": "Mine", "search": search}

    def said(**changed: Any) -> list[str]:
        return [
            d
            for d in doubts(study_with(config | changed, {"mine": definition}, {}))
            if "search" in d
        ]

    assert said() == []
    (doubt,) = said(pinned={"mine": {"passes": 1}})
    assert doubt.startswith(
        "filter 'mine': search.lag: changes nothing without passes above 1, which"
    )
    assert said(pinned={"mine": {"passes": 1, "lag": 1}}) == []
    assert said(pinned={"mine": {"passes": 1}}, tuning=None) == []


def test_what_is_pinned_and_changes_nothing_is_a_warning_and_what_files_say_is_none() -> None:
    said = {"passes": 1, "lag": 3, "pace": 4.0}
    definition = {"filter": "masf_gaussian", "label": "Mine", "parameters": said}
    config = yaml.safe_load(CONFIG) | {"pinned": {"mine": {"inflation": 1.1, "finish": "present"}}}
    del config["experiments"]["points"]
    assert list(doubts(study_with(config, {"mine": definition}, {}))) == []
    config["pinned"]["mine"] = {"lag": 3}
    (doubt,) = doubts(study_with(config, {"mine": definition}, {}))
    assert doubt.startswith(
        "filter 'mine': lag = 3: changes nothing without passes above 1: leave it out, or set "
        "that, too (lorenz96"
    )
