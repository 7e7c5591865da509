"""docs/adding-a-filter.md, performed: its files are written, its studies run, and nothing else is
touched.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr
from test_workflow import Project

GUIDE = (Path(__file__).parent.parent / "docs" / "adding-a-filter.md").read_text(encoding="utf-8")
FILES = re.compile(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
EDITS = re.compile(r"^In `([^`\n]+)` now:\n\n```\w+\n((\w+:).*\n)```$", flags=re.MULTILINE)
RUNS = re.compile(r"^(make study .*)$", flags=re.MULTILINE)
TRIES = re.compile(r"^(masf run .*)$", flags=re.MULTILINE)
LABELS = {"enkf": "EnKF", "nudging": "Nudging", "persistence": "Persistence"}


def contents(root: Path) -> dict[str, bytes]:
    """All files of a copy of the project that a study does not write."""
    left_out = ("results", ".snakemake", "venv", ".make.lock")
    paths = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    found = {str(path.relative_to(root)): path for path in paths}
    return {
        name: path.read_bytes() for name, path in found.items() if not name.startswith(left_out)
    }


def perform(project: Project, part: str) -> str:
    """Writes a part's files, makes its edits and runs its study; what the run said."""
    for name, text in FILES.findall(part):
        path = project.root / name
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, line, key in EDITS.findall(part):
        path = project.root / name
        text, count = re.subn(
            rf"^{key}.*\n", line, path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        assert count == 1
        path.write_text(text, encoding="utf-8")
    (command,) = RUNS.findall(part)
    done = project.run(*command.replace("make ", "make VENV=venv ", 1).split())
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def performed(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Project, dict[str, bytes], list[str]]:
    """The project after both walks, what it held before, and what the runs said."""
    project = Project(tmp_path_factory.mktemp("project"))
    before = contents(project.root)
    ours, theirs = GUIDE.split("## A filter that is a command")
    return project, before, [perform(project, ours), perform(project, theirs)]


@pytest.fixture
def _at_the_project(performed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(performed[0].root)


def test_nothing_but_the_files_of_the_guide_was_written(performed: Any) -> None:
    project, before, _ = performed
    after = contents(project.root)
    assert {name: after.get(name) for name in before} == before
    assert after.keys() - before.keys() == {name for name, _ in FILES.findall(GUIDE)}
    assert len(FILES.findall(GUIDE)) == 2 + 1 + 2


def test_new_filter_can_be_tried_in_memory(performed: Any) -> None:
    command = TRIES.findall(GUIDE)[0]  # others come where it is part of studies
    done = performed[0].run(*command.split())
    assert done.returncode == 0, done.stdout
    # Messages and the table come together here.
    rows = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    rmse = {row[0]: float(row[1]) for row in rows[1:]}
    assert list(rmse) == ["enkf", "nudging", "nudging:gain=0.7"]
    assert len(set(rmse.values())) == 3


def test_second_run_made_only_what_is_new(performed: Any) -> None:
    first, second = performed[2]
    made = [
        {
            name
            for name in (
                "simulate",
                "assimilate_enkf",
                "assimilate_nudging",
                "assimilate_persistence",
            )
            if f" {name}:" in out
        }
        for out in (first, second)
    ]
    assert made == [
        {"simulate", "assimilate_enkf", "assimilate_nudging"},
        {"assimilate_persistence"},
    ]


@pytest.mark.usefixtures("_at_the_project")
def test_new_filters_are_in_the_tables() -> None:
    table = pd.read_csv("results/mine/tables/lorenz63.csv")
    for gap in (10, 20):
        rows = table[table["gap"] == gap].set_index("filter")
        assert list(rows.index) == list(LABELS)
        assert rows["runs"].tolist() == [2, 2, 2]
        assert rows["diverged"].tolist() == [0, 0, 0]
        # Each knows less than the one before it.
        assert rows["rmse_mean"].is_monotonic_increasing
    for name in ("lorenz63", "lorenz63_cost"):
        text = Path(f"results/mine/tables/{name}.md").read_text(encoding="utf-8")
        assert all(f"| {label} " in text for label in LABELS.values())
    costs = pd.read_parquet("results/mine/costs.parquet").groupby("filter")
    assert (costs["seconds_per_cycle"].min() > 0).all()
    assert (costs["peak_memory_mib"].min() > 10).all()


LABELLED = """
import json
from pathlib import Path
import pandas as pd
from masf.report.figures.sweep import sweep
from masf.report.figures.look import Look
from masf.study.load import load_study

study = load_study(Path("results/mine/study.json"))
scores = pd.read_parquet("results/mine/scores.parquet")
(ax,) = sweep(study, study.config.figures["gaps"], scores).axes
samples = [line for line in ax.lines if not line.get_clip_on()]
shown = zip([text.get_text() for text in ax.texts], samples, strict=True)
look = Look.of(study)
print(json.dumps({
    "shown": {label: [sample.get_color(), sample.get_marker()] for label, sample in shown},
    "look": {label: [colour, look.markers[label]] for label, colour in look.colours.items()},
}))
"""


@pytest.mark.usefixtures("_at_the_project")
def test_new_filters_are_in_the_figures_in_a_look_of_their_own(performed: Any) -> None:
    for suffix in ("pdf", "png"):
        assert Path(f"results/mine/figures/gaps.{suffix}").stat().st_size > 5000
    # By the copy's code, which knows the new filter.
    found = json.loads(performed[0].run("python", "-c", LABELLED).stdout)
    assert list(found["shown"]) == list(LABELS.values())
    assert found["shown"] == found["look"]
    colours, markers = zip(*found["look"].values(), strict=True)
    assert len({str(colour) for colour in colours}) == len(set(markers)) == 3


@pytest.mark.usefixtures("_at_the_project")
def test_parameters_of_the_guide_reached_the_filters() -> None:
    folder = Path("results/mine/lorenz63/dt~0.01/all/gap~10/members~50/seed~0")
    attributes = {
        name: xr.open_dataset(folder / f"{name}.nc").attrs for name in ("nudging", "persistence")
    }
    assert attributes["nudging"]["filter_parameters"] == '{"gain": 0.5}'
    assert attributes["persistence"]["filter_parameters"] == '{"variance": 4.0}'
    assert attributes["persistence"]["filter_command"] == "python my_filters/persistence.py"


def test_edit_of_a_command_s_file_reruns_it_alone(performed: Any) -> None:
    project, _, _ = performed
    with project.edited("my_filters/persistence.py", lambda text: f"{text}\n# An edit.\n"):
        assert project.planned("config/mine.yaml") == {
            "assimilate_persistence": 4,
            "aggregate": 1,
            "plot": 1,
            "page": 1,
            "all": 1,
        }


def test_bad_parameter_of_a_new_filter_is_refused(performed: Any) -> None:
    project, _, _ = performed
    with project.edited(
        "config/filters/nudging.yaml", lambda text: text.replace("gain: 0.5", "gain: 2")
    ):
        done = project.run("masf", "study", "--config", "config/mine.yaml")
    assert done.returncode != 0
    assert "filter 'nudging': gain = 2: input should be less than or equal to 1" in done.stdout


def test_observation_that_does_not_suit_a_new_filter_is_refused(performed: Any) -> None:
    project, _, _ = performed
    pooled = "{operator: matrix, matrix: [[0.5, 0.5, 0]], noise: 1.0}"
    with project.edited(
        "config/mine.yaml", lambda text: text.replace("{operator: identity, noise: 1.0}", pooled)
    ):
        done = project.run("masf", "study", "--config", "config/mine.yaml")
    assert done.returncode != 0
    assert "filter 'nudging': nudging needs an observation of single components" in done.stdout
    assert "(in experiments.lorenz63, system 'lorenz63', observation 'all')" in done.stdout
