"""Code versions: an edit to a filter's code changes that filter's version, and an edit to its words
none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from masf.files.provenance import code_version
from masf.filters.registry import filter_names

ROOT = Path(__file__).parent.parent
MASF_FAMILY = {"masf", "masf_fresh", "masf_gaussian", "masf_guided", "masf_mc"}
OTHERS = {
    "enff",
    "enkf",
    "enkf_hybrid",
    "enkf_localized",
    "enkf_n",
    "ensf",
    "etkf",
    "free_run",
    "ienks",
    "kalman",
    "letkf",
    "lnetf",
    "local_pf",
    "particle",
    "rhf",
    "sf",
    "ssls",
}

VERSIONS = """
import json
from masf.files.provenance import assimilate_version, simulate_version, train_prior_version
from masf.systems.registry import system_names
from masf.filters.registry import filter_names
versions = {f"assimilate {name}": assimilate_version(name, "lorenz96") for name in filter_names()}
for system in system_names():
    versions[f"simulate {system}"] = simulate_version(system)
    versions[f"prior {system}"] = train_prior_version(system)
print(json.dumps(versions))
"""


SCORING_VERSIONS = """
import json
from masf.files.provenance import assimilate_version, code_version, tune_version
versions = {stage: code_version(f"stages.{stage}") for stage in ("aggregate", "plot")}
for system in ("lorenz96", "kolmogorov"):
    versions[f"assimilate {system}"] = assimilate_version("letkf", system)
    versions[f"tune {system}"] = tune_version("letkf", system)
print(json.dumps(versions))
"""


def versions(copy: Path, script: str = VERSIONS) -> dict[str, str]:
    """The code versions of a copy of the package that a script prints, by a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=copy,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "masf", copy / "masf", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def before(original: Path) -> dict[str, str]:
    return versions(original)


@pytest.fixture
def changed(
    original: Path, before: dict[str, str]
) -> Callable[[str, Callable[[str], str]], set[str]]:
    """Edits a module, and says which versions that changes."""

    def edit(module: str, change: Callable[[str], str]) -> set[str]:
        path = original / "masf" / module
        text = path.read_text(encoding="utf-8")
        edited = change(text)
        assert edited != text
        path.write_text(edited, encoding="utf-8")
        try:
            after = versions(original)
        finally:
            path.write_text(text, encoding="utf-8")
        assert after.keys() == before.keys()
        return {name for name in after if after[name] != before[name]}

    return edit


def add_code(text: str) -> str:
    return f"{text}\n_ADDED = 1\n"


def assimilations(filters: set[str]) -> set[str]:
    return {f"assimilate {name}" for name in filters}


def test_all_filters_are_known_here() -> None:
    assert set(filter_names()) == MASF_FAMILY | OTHERS


@pytest.mark.parametrize("name", ["free_run", "particle", "masf_guided"])
def test_edit_of_a_filter_changes_its_own_version_only(name: str, changed: Callable) -> None:
    assert changed(f"filters/{name}.py", add_code) == assimilations({name})


def test_edit_of_what_filters_share_changes_those_filters_only(changed: Callable) -> None:
    assert changed("filters/process_filter.py", add_code) == assimilations(MASF_FAMILY)


def test_edit_of_the_networks_leaves_filters_without_one_alone(changed: Callable) -> None:
    found = changed("diffusion/denoisers/validated.py", add_code)
    assert found == assimilations({"masf", "masf_fresh", "masf_guided"})


def test_edit_of_the_forward_process_changes_what_diffuses_and_nothing_else(
    changed: Callable,
) -> None:
    found = changed("diffusion/process.py", add_code)
    assert found >= assimilations(MASF_FAMILY) | {"prior lorenz63", "prior lorenz96"}
    assert not found & assimilations(OTHERS)
    assert not {name for name in found if name.startswith("simulate")}


def test_edit_of_a_system_changes_that_system_only(changed: Callable) -> None:
    found = changed("systems/lorenz63.py", add_code)
    assert found == {"simulate lorenz63", "prior lorenz63"}  # the filters here run on lorenz96


def test_edit_of_the_cycle_changes_every_filter(changed: Callable) -> None:
    found = changed("stages/cycle.py", add_code)
    assert found >= assimilations(MASF_FAMILY | OTHERS)


def test_edit_of_the_scores_of_fields_runs_no_filter_again(original: Path) -> None:
    path = original / "masf" / "scores" / "fields.py"
    text = path.read_text(encoding="utf-8")
    before = versions(original, SCORING_VERSIONS)
    path.write_text(add_code(text), encoding="utf-8")
    try:
        after = versions(original, SCORING_VERSIONS)
    finally:
        path.write_text(text, encoding="utf-8")
    assert {name for name in before if before[name] != after[name]} == {"aggregate", "plot"}


@pytest.mark.parametrize(
    "module",
    [
        "report/tables.py",
        "report/figures/sweep.py",
        "cli/stages.py",
        "study/study.py",
        "stages/external.py",
    ],
)
def test_edit_of_later_stages_changes_no_version_of_an_earlier_one(
    module: str, changed: Callable
) -> None:
    assert changed(module, add_code) == set()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + "\n# A comment.\n", id="comment"),
        pytest.param(
            lambda text: text.replace('"""', '"""Rewritten. ', 1), id="docstring of the module"
        ),
        pytest.param(
            lambda text: text.replace('    """', '    """Rewritten. ', 1),
            id="docstring of a function",
        ),
        pytest.param(
            lambda text: text + '\n"""Words about the name above."""\n',
            id="docstring of an attribute",
        ),
        pytest.param(lambda text: text.replace("\n\n\n", "\n\n\n\n\n"), id="layout"),
    ],
)
def test_words_and_layout_change_no_version(
    change: Callable[[str], str], changed: Callable
) -> None:
    assert changed("filters/enkf.py", change) == set()


def test_unknown_module_is_named() -> None:
    with pytest.raises(ValueError, match=r"masf\.filters\.enfk"):
        code_version("filters.enfk")
