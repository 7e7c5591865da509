"""Studies of settings of the literature: section ``settings`` of a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import yaml

from masf.report.published import published_for_people
from masf.stages.aggregate import aggregate
from masf.study.defaults import published_setting
from masf.study.load import load_study, make_study
from masf.study.messages import ConfigFault
from masf.study.study import Study

ROOT = Path(__file__).parent.parent
SETTING: dict[str, Any] = {
    "title": "Lorenz-63, all",
    "source": "Somebody (2001). Scores are those of Table 1.",
    "chosen": "cycles.",
    "system": "lorenz63",
    "parameters": {"dt": 0.01},
    "observation": {"operator": "identity", "noise": 2.0},
    "gap": 2,
    "initial_spread": 1.0,
    "cycles": 60,
    "spin_up_cycles": 10,
    "members": 6,
    "runs": [
        {"filter": "enkf", "members": 4, "parameters": {"inflation": 1.1}, "published": 1.0},
        {"filter": "etkf", "members": 4, "parameters": {"inflation": 1.2}, "published": 1.5},
        {"filter": "etkf", "members": 4, "parameters": {"inflation": 1.3}, "published": 2.0},
        {"label": "Secret filter", "members": 4, "published": 0.1},
    ],
}


def study_of(folder: Path, section: Any, **changes: Any) -> Study:
    """A study of the setting ``somebody2001``."""
    settings = folder / "settings"
    settings.mkdir(exist_ok=True)
    (settings / "somebody2001.yaml").write_text(yaml.safe_dump(SETTING), encoding="utf-8")
    config = {
        "results": str(folder / "results"),
        "seeds": {"test": [0, 1, 2]},
        "filters": ["free_run"],
        "settings": section,
        "settings_directory": str(settings),
        **changes,
    }
    return make_study(config, root=ROOT)


def test_each_run_of_a_setting_is_a_filter_with_the_parameters_of_the_source(
    tmp_path: Path,
) -> None:
    study = study_of(tmp_path, {"somebody2001": {"cycles": 40, "seeds": [0, 1]}})
    experiments = study.config.experiments
    assert list(experiments) == ["somebody2001", "somebody2001_n4"]
    of_source, beside = experiments["somebody2001_n4"], experiments["somebody2001"]
    names = ["somebody2001_enkf_n4", "somebody2001_etkf_n4_1", "somebody2001_etkf_n4_2"]
    assert study.experiment_filters(of_source) == names
    assert (of_source.members, of_source.cycles, of_source.spin_up_cycles) == (4, 40, 10)
    assert study.experiment_filters(beside) == ["free_run"]
    assert (beside.members, study.seeds(beside), study.seeds(of_source)) == (6, [0, 1], [0, 1])
    (cell,) = study.point_cells(_point("somebody2001_n4"), seed=1)
    assert cell.settings.to_json() == published_like(cell.settings.seed)
    inflations = [study.filter_parameters(name, cell)["inflation"] for name in names]
    assert inflations == [1.1, 1.2, 1.3]
    assert [study.filter_module(name) for name in names] == ["enkf", "etkf", "etkf"]
    labels = [study.filters[name].label for name in names]
    assert len(set(labels)) == 3
    assert all("somebody2001" in label for label in labels)


def _point(experiment: str) -> Any:
    from masf.study.figures.base import PointOfExperiment

    return PointOfExperiment(experiment=experiment, observation="somebody2001")


def published_like(seed: int) -> str:
    from masf.study.published import PublishedSetting

    setting = PublishedSetting.model_validate(SETTING)
    return setting.cell(members=4, seed=seed, cycles=40).to_json()


def test_the_studys_own_filters_may_run_shorter_on_seeds_of_their_own(tmp_path: Path) -> None:
    beside = {"seeds": [2], "cycles": 30, "spin_up_cycles": 5}
    study = study_of(tmp_path, {"somebody2001": {"seeds": [0, 1], "beside": beside}})
    of_source, own = (study.config.experiments[f"somebody2001{end}"] for end in ("_n4", ""))
    assert (study.seeds(of_source), of_source.cycles, of_source.spin_up_cycles) == ([0, 1], 60, 10)
    assert (study.seeds(own), own.cycles, own.spin_up_cycles) == ([2], 30, 5)


def test_an_observation_goes_by_the_name_that_filters_files_know(tmp_path: Path) -> None:
    known = {"all_twice": {"operator": "identity", "noise": 2.0}}
    study = study_of(tmp_path, {"somebody2001": {}}, observations=known)
    assert {cell.observation_name for cell in study.cells.values()} == {"all_twice"}


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        ({"somebody2011": {}}, {}, ["settings = 'somebody2011'", "did you mean 'somebody2001'?"]),
        (["somebody2001"], {}, ["settings = ['somebody2001']", "expected a mapping"]),
        ({"somebody2001": {"cicles": 3}}, {}, ["settings.somebody2001.cicles: unknown key"]),
        ({"somebody2001": {"cycles": 0}}, {}, ["settings.somebody2001.cycles = 0"]),
        ({"somebody2001": {"seeds": [7]}}, {}, ["seeds = [7]", "no test seeds"]),
        (
            {"somebody2001": {"cycles": 20, "beside": {"cycles": 10}}},
            {"filters": ["free_run"], "settings_members": 4},
            ["settings_members: unknown key"],
        ),
        (
            {},
            {"observations": {"all": {"operator": "identity", "noise": 1.0}}},
            ["experiments: none is there; add one, or a section settings"],
        ),
    ],
)
def test_faults_of_the_section_name_key_and_remedy(
    tmp_path: Path, section: Any, changes: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ConfigFault) as caught:
        study_of(tmp_path, section, **changes)
    assert all(words in str(caught.value) for words in said), caught.value


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    experiment = {
        "title": "Mine", "system": "lorenz63", "parameters": {"dt": 0.01}, "gaps": [2],
        "observations": ["all"], "members": 4, "cycles": 3,
    }  # fmt: skip
    observed = {"all": {"operator": "identity", "noise": 1.0}}
    for name in ("published", "somebody2001_n4"):
        with pytest.raises(ConfigFault, match=rf"experiments.{name}: the name is taken"):
            study_of(
                tmp_path,
                {"somebody2001": {}},
                experiments={name: experiment},
                observations=observed,
            )


def test_scores_stand_beside_the_published_ones_and_far_ones_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {"enkf": 1.02, "etkf_n4_1": 3.0, "etkf_n4_2": 2.0, "free_run": 10.0}

    def error_of(name: str, _: int, seed: int) -> float:
        return next(error for end, error in errors.items() if end in name) + 0.001 * seed

    monkeypatch.setattr(synthetic, "error_of", error_of)
    study = study_of(tmp_path, {"somebody2001": {"cycles": 40}})
    synthetic.write_results(study, diverged={("somebody2001_etkf_n4_2", 2, 1): 20})
    folder = tmp_path / "out"
    aggregate(
        study, scores=folder / "scores.parquet", costs=folder / "costs.parquet",
        tables=folder / "tables",
    )  # fmt: skip
    rows = pd.read_csv(folder / "tables" / "published.csv").fillna({"parameters": ""})
    assert rows["filter"].tolist() == ["enkf", "etkf", "etkf", "Secret filter", "free_run"]
    assert rows["published"].tolist()[:4] == [1.0, 1.5, 2.0, 0.1]
    assert rows["ours"].tolist()[:3] == pytest.approx([1.021, 3.001, 2.001], abs=1e-3)
    assert rows["ratio"].tolist()[:2] == pytest.approx([1.021, 2.0], abs=1e-3)
    assert rows["diverged"].tolist()[:3] == [0, 0, 1]
    assert rows["standard_error"].max() < 0.01  # errors are the same in all cycles
    assert json.loads(rows["parameters"][1]) == {"inflation": 1.2}
    text = (folder / "tables" / "published.md").read_text(encoding="utf-8")
    assert "Somebody (2001). Scores are those of Table 1. Chosen by us: cycles." in text
    shown = published_for_people(rows)
    assert shown["over"].tolist()[:3] == ["1.02", "2.00*", "1.00"]
    assert shown["parameters"].tolist()[1:4] == ["inflation 1.2", "inflation 1.3", ""]
    assert shown["runs"].tolist()[2:4] == ["3 x 30 (1 diverged)", "not in masf"]
    # The results say it themselves, where no config/settings is.
    (study.results / "study.json").write_text(study.to_json(), encoding="utf-8")
    again = load_study(study.results / "study.json")
    assert again.resolved.settings["somebody2001"].source == SETTING["source"]
    assert "published" in again.tables


def test_priors_take_the_gaps_of_their_cells_where_none_are_said(tmp_path: Path) -> None:
    common = {
        "title": "Lorenz-63", "system": "lorenz63", "observations": ["all"], "members": 4,
        "cycles": 3,
    }  # fmt: skip
    experiments = {
        "short": common | {"parameters": {"dt": 0.01}, "gaps": [4, "2-6"]},
        "other": common | {"parameters": {"dt": 0.02}, "gaps": [9]},
    }
    observed = {"all": {"operator": "identity", "noise": 1.0}}
    prior = {"localization_radii": [None]}
    config = {
        "results": str(tmp_path), "seeds": {"test": [0]}, "filters": ["masf"],
        "observations": observed, "experiments": experiments,
    }  # fmt: skip
    study = make_study({**config, "priors": {"lorenz63": prior}}, root=ROOT)
    gaps = {p.parameters["dt"]: p.settings.gaps for p in study.priors.values()}
    assert gaps == {0.01: [2, 4, 6], 0.02: [9]}
    said = make_study({**config, "priors": {"lorenz63": prior | {"gaps": [3]}}}, root=ROOT)
    assert {tuple(p.settings.gaps) for p in said.priors.values()} == {(3,)}
    with pytest.raises(ConfigFault, match=r"priors.lorenz63.gaps = \[\]: .*at least 1 item"):
        make_study({**config, "priors": {"lorenz63": prior | {"gaps": []}}}, root=ROOT)


def test_the_study_of_settings_runs_each_published_filter_that_masf_has() -> None:
    study = load_study(ROOT / "benchmarks" / "published.yaml", root=ROOT)
    assert len(study.resolved.settings) >= 10
    for name in study.resolved.settings:
        for run in published_setting(name).runs:
            if run.filter is not None:
                own = study.experiment_filters(study.config.experiments[f"{name}_n{run.members}"])
                assert any(run.parameters == study.config.pinned[f] for f in own)
