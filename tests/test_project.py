"""What the files at the root promise one another."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from masf import __version__
from masf.cli import commands
from masf.filters.registry import filter_class, filter_names
from masf.study.load import json_schemas
from masf.systems.registry import system_class, system_names

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch"}
NOT_ON_CONDA = {"scoringrules"}

ABSOLUTE_PATH = re.compile(
    r"(?<![\w.~:/)}-])/(?:home|root|work|workspace|builds|tmp|mnt|private|Users)/\w"
)
REGISTRY = re.compile(
    r"py[p]i\.(?:org|python)|pythonhoste[d]|anacond[a]\.org|artifactor[y]|(?:extra-)?index-ur[l]|simple\.pyp[i]"
)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements(*groups: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for, by normalised name: the dependencies and these optional
    groups.
    """
    content = project()
    lines = [
        *content["dependencies"],
        *(line for group in groups for line in content["optional-dependencies"][group]),
    ]
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(operator for _, operator, _ in split)
    return {canonicalize_name(name): Version(version) for name, _, version in split}


def text_files() -> dict[str, str]:
    """All files that git has or would take, but binary ones."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    found = {}
    for name in done.stdout.splitlines():
        try:
            found[name] = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    return found


def code_in(markdown: str) -> list[str]:
    """Lines of code blocks and inline code."""
    fence = re.compile(r"^```.*?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
    blocks = [line.strip() for block in fence.findall(markdown) for line in block.splitlines()]
    return blocks + re.findall(r"`([^`\n]+)`", fence.sub("", markdown))


def markdown_files() -> dict[str, str]:
    return {name: text for name, text in text_files().items() if name.endswith(".md")}


# Dependencies


def test_conda_environment_asks_for_what_pyproject_asks_for() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    expected = requirements("slurm", "test")
    assert set(expected) >= NOT_ON_CONDA

    def asked(lines: list[str]) -> dict[str, str]:
        parsed = [Requirement(line) for line in lines]
        return {canonicalize_name(r.name): str(r.specifier) for r in parsed}

    assert asked(pip) == {name: str(expected[name].specifier) for name in NOT_ON_CONDA}
    assert asked(conda) == {
        "python": project()["requires-python"],
        "pip": "",
        **{
            CONDA_NAMES.get(name, name): str(r.specifier)
            for name, r in expected.items()
            if name not in NOT_ON_CONDA
        },
    }


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    pinned = pins()
    for name, requirement in requirements("slurm", "lsf", "test", "lint", "docs").items():
        assert name in pinned, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pinned[name]), (
            f"constraints.txt: {name}=={pinned[name]} is not {requirement}"
        )


# Documents


def test_commands_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    made, called = set(), set()
    for text in markdown_files().values():
        for line in code_in(text):
            if match := re.match(r"(make|masf) ([a-z][\w|-]*)", line):
                (made if match[1] == "make" else called).update(match[2].split("|"))
    assert {"quick", "test", "full"} <= made <= targets
    assert {"simulate", "assimilate"} <= called <= set(commands.commands)


def test_every_make_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))


def test_readme_links_lead_somewhere() -> None:
    for name, text in markdown_files().items():
        for target in re.findall(r"\]\(([^)#]+)", text):
            if not target.startswith("https://"):
                assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_page_of_keys_names_every_key_and_says_what_it_means() -> None:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = hooks.keys()
    keys = {
        key
        for schema in json_schemas().values()
        for part in (schema, *schema["$defs"].values())
        for key in part.get("properties", {})
    }
    keys |= {key for name in filter_names() for key in filter_class(name).Parameters.model_fields}
    keys |= {key for name in system_names() for key in system_class(name).Parameters.model_fields}
    assert len(keys) > 60
    assert sorted(key for key in keys if f"| `{key}` | " not in text) == []
    assert [
        line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")
    ] == []
    assert {
        "seeds",
        "observations",
        "experiments",
        "priors",
        "tuning",
        "figures",
        "pinned",
        "filters",
    } <= {
        key
        for key in keys
        if f"`{key}`" in (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    }


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == __version__
    assert citation["license"] == project()["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


# Hygiene


def test_no_file_holds_a_path_of_one_machine_or_the_address_of_a_registry() -> None:
    files = text_files()
    assert "masf/cli/stages.py" in files
    for name, text in files.items():
        for pattern in (ABSOLUTE_PATH, REGISTRY):
            found = pattern.search(text)
            assert found is None, f"{name}: {found and found[0]}"
        assert str(ROOT) + "/" not in text, name


@pytest.mark.parametrize("failing", ["", "lint", "test"])
def test_ci_runs_lint_and_tests_and_fails_where_either_does(failing: str, tmp_path: Path) -> None:
    """By a make that only says what it was asked for, and fails at one target."""
    (tmp_path / "make").write_text(
        f'#!/bin/sh\necho "$1"\n[ "$1" != "{failing}" ]\n', encoding="utf-8"
    )
    (tmp_path / "make").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(  # noqa: S603
        [ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["lint", "test"]
    assert (done.returncode == 0) == (failing == "")
