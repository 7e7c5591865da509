"""Paths as people write them, in a config and in a filter's command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from masf import places
from masf.programs import located, missing_program
from masf.study import paths
from masf.study.filter_files import FilterDefinition
from masf.study.load import make_study, study_with
from masf.study.messages import ConfigFault
from masf.study.study import Study

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOWHERE", raising=False)


def study(**keys: str) -> Study:
    config = yaml.safe_load((ROOT / "config" / "quick.yaml").read_text(encoding="utf-8"))
    return make_study(config | keys, root=ROOT)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/a", "{home}/a"),
        ("~", "{home}"),
        ("$SCRATCH/a", "{scratch}/a"),
        ("${SCRATCH}/a_$SCRATCH", "{scratch}/a_{scratch}"),
        ("./results/mine/", "results/mine"),
        ("results/../mine", "mine"),
        ("results/a study", "results/a study"),
        ("a~b", "a~b"),
        (".", "."),
    ],
)
def test_folders_are_read_as_a_shell_reads_them(written: str, meant: str, tmp_path: Path) -> None:
    expected = meant.format(home=tmp_path / "home", scratch=tmp_path / "scratch")
    assert study(results=written).config.results == expected
    # As study.json holds it, it is read again.
    assert places.folder(expected) == expected
    filters = tmp_path / "home" / "filters"
    filters.parent.mkdir()
    filters.symlink_to(ROOT / "config" / "filters")
    (tmp_path / "scratch").symlink_to(filters.parent)
    for folder in ("~/filters", "$SCRATCH/filters"):
        assert study(filters_directory=folder).all_filters == study().all_filters


@pytest.mark.parametrize("key", ["results", "filters_directory", "tuned_directory"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("$NOWHERE/a", "environment variable NOWHERE is not set"),
        ("${NOWHERE}/a", "environment variable NOWHERE is not set"),
        ("$EMPTY/a", "environment variable EMPTY is not set, or empty"),
        ("~nobody_of_this_name/a", "no home folder is known for ~nobody_of_this_name"),
        ("results/{study}", "has { and } in it"),
        ("results/a$", "has $ in it"),
        ("./~", "has ~ in it"),
        ("s3://bucket/a", "is an address: expected a folder of this machine"),
        ("file:///tmp/a", "is an address"),
    ],
)
def test_what_is_no_folder_here_is_refused_with_its_key(key: str, written: str, said: str) -> None:
    with pytest.raises(ConfigFault) as fault:
        study(**{key: written})
    assert f"{key} = {json.dumps(written)}: " in str(fault.value)
    assert said in str(fault.value)


@pytest.mark.parametrize("written", ["/", "//", "/.", "/a/.."])
def test_results_are_never_the_root(written: str) -> None:
    with pytest.raises(ConfigFault, match=r"results = .*: is the root of all folders"):
        study(results=written)


def test_filters_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigFault, match=r"filters_directory = 'nowhere': there is no such"):
        study(filters_directory="nowhere")


def test_results_in_the_working_directory_have_paths_of_one_way_to_say_them() -> None:
    assert paths.below(study(results=".").config.results, paths.SCORES) == "scores.parquet"
    assert paths.below("results/a", paths.SCORES) == "results/a/scores.parquet"


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("~/bin/run --x", ["{home}/bin/run", "--x"]),
        ("$SCRATCH/run ${SCRATCH}", ["{scratch}/run", "{scratch}"]),
        ('run "$SCRATCH/two words"', ["run", "{scratch}/two words"]),
        ("run '$SCRATCH' '~' \\$SCRATCH \\~", ["run", "$SCRATCH", "~", "$SCRATCH", "~"]),
        ('run "~/a" "it\'s $SCRATCH"', ["run", "~/a", "it's {scratch}"]),
        ("bash -c 'exec \"$@\"' --", ["bash", "-c", 'exec "$@"', "--"]),
        ("run --json '{{\"a\": 1}}'", ["run", "--json", '{{"a": 1}}']),
    ],
)
def test_commands_are_read_as_a_shell_reads_them(
    command: str, meant: list[str], tmp_path: Path
) -> None:
    command = command.replace("{{", "{").replace("}}", "}")
    expected = [word.format(home=tmp_path / "home", scratch=tmp_path / "scratch") for word in meant]
    assert places.words(command) == expected
    assert FilterDefinition(command=command, label="a").command == command


def test_a_program_in_the_home_folder_is_found(tmp_path: Path) -> None:
    program = tmp_path / "home" / "run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert located("~/run --x") == [str(program), "--x"]
    assert missing_program("~/run") is None
    assert missing_program("~/walk") == str(tmp_path / "home" / "walk")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("$NOWHERE/run", "environment variable NOWHERE is not set"),
        ("run ~nobody_of_this_name/a", "no home folder is known"),
        ("run $(nproc)", "is for a shell"),
        ("run $1", "is for a shell"),
    ],
)
def test_a_command_that_only_a_shell_can_read_is_refused(command: str, said: str) -> None:
    definition: dict[str, Any] = {"label": "a", "command": command}
    config = yaml.safe_load((ROOT / "config" / "quick.yaml").read_text(encoding="utf-8"))
    with pytest.raises(ConfigFault) as fault:
        study_with(config, {"mine": definition}, {})
    assert "filter 'mine': " in str(fault.value)
    assert command in str(fault.value)
    assert said in str(fault.value)


def test_expanding_leaves_other_text_alone() -> None:
    for text in ("a/b", "a b", "*.yaml", "a{b}", "a~"):
        assert places.expanded(text) == text
    assert Path(places.expanded("$SCRATCH")).name == "scratch"
