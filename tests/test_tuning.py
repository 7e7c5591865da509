"""Stage tune: what is searched, in which order, what is chosen, and that an interrupted search ends
as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pydantic import Field, ValidationError
from synthetic import ROOT, small_study, write_results

import masf.stages.tune
from masf.arrays import Stream
from masf.atomic import FileFault
from masf.cli import commands
from masf.files.cell import CellSettings
from masf.files.parameters import ParameterSource, TunedAt, in_force
from masf.files.truth import Truth
from masf.files.tuned import read_tuned, tuned_for
from masf.filters.base import Filter, FilterParameters
from masf.report.tables import write_tables
from masf.report.words import source_in_words
from masf.stages.aggregate import gather
from masf.stages.simulate import simulate
from masf.stages.tune import Space, Trial, evaluate, propose, tune, write_tuning
from masf.study.cells import Cell
from masf.study.conditions import alternatives, defaults, holds
from masf.study.load import read_tuned_values, study_in, update_tuned_values
from masf.study.messages import ConfigFault
from masf.study.search import Range, with_current
from masf.study.situations import distance, situation_in_words
from masf.study.study import Study
from masf.study.tuned_values import TunedSetting, TunedValues, file_text, from_search

SITUATION = {"system": "lorenz63", "observation": "all", "dt": 0.01, "gap": 5}
FILES = {
    "enkf": "{label: EnKF, parameters: {inflation: 1.1}, search: {inflation: {low: 1.0, high: "
    "1.5}}}",
    "particle": "{label: Particle, parameters: {particles: 50}, search: {bandwidth: [0.2, 0.3]}}",
    "free_run": "{label: No assimilation}",
}


class Scaled(Filter):
    """Multiplies the state by a factor, which diverges from 2 on."""

    class Parameters(FilterParameters):
        factor: float = Field(1.0, description="The factor.")
        other: str | None = Field("a", description="Nothing.")

    def analyse(self, state: Any, y: Any) -> Any:
        factor = self.parameters.factor
        return state * (float("nan") if factor >= 2 else factor)


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    def truth(seed: int) -> Truth:
        observation = {"operator": "identity", "noise": 1.0}
        return simulate(
            CellSettings(
                "lorenz63",
                {"dt": 0.01},
                observation,
                gap=5,
                cycles=4,
                members=8,
                initial_spread=1.0,
                seed=seed,
            )
        )

    return [truth(100), truth(101)]


@pytest.fixture
def search(
    truths: list[Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Tunes ``Scaled``; what its file would hold."""
    monkeypatch.setattr("masf.filters.free_run.filter", Scaled)

    def run(
        searched: dict[str, Any], trials: int, journal: str = "journal", **changes: Any
    ) -> dict[str, Any]:
        options = {
            "situation": SITUATION,
            "trials": trials,
            "score": "rmse",
            "spin_up_cycles": 1,
            "made_from": {"code_version": "1"},
            "storage": tmp_path / "a folder" / journal,
        }
        return tune(
            "free_run",
            "free_run",
            changes.pop("parameters", {}),
            searched,
            changes.pop("truths", truths),
            **options | changes,
        )

    return run


def tried(outcome: dict[str, Any], key: str = "factor") -> list[Any]:
    return [trial["parameters"][key] for trial in outcome["trials"]]


# What is searched


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"low": 2, "high": 1}, "low 2 must be less than high 1"),
        ({"low": 1, "high": 1}, "low 1 must be less than high 1"),
        ({"low": 0, "high": 1, "log": True}, "must be positive"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "exclude each other"),
        ({"low": 0, "high": 1, "step": 0.3}, "whole number of steps"),
        ({"low": 0, "high": 1, "step": 0}, "greater than 0"),
        ({"low": 0}, "high"),
    ],
)
def test_bad_interval_is_refused(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Range(**content)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        (Range(low=1.0, high=2.0), [1, 1.0, 1.33, 2.0], [0.99, 2.01, None, True, "1"]),
        (Range(low=1.0, high=1.3, step=0.1), [1.0, 1.1, 1.2, 1.3], [1.05, 1.4]),
        (Range(low=2, high=8), [2, 5, 8.0], [2.5, 9]),
        (Range(low=2, high=8, step=3), [2, 5, 8], [3]),
    ],
)
def test_interval_holds_what_it_says(
    interval: Range, inside: list[Any], outside: list[Any]
) -> None:
    assert [v for v in inside + outside if v in interval] == inside


def test_value_in_force_joins_a_list_and_must_lie_in_an_interval() -> None:
    assert with_current([3, 1], 2) == [1, 2, 3]
    assert with_current([3, 1], None) == [3, 1, None]
    assert with_current(["b", "a"], "a") == ["b", "a"]
    with pytest.raises(ValueError, match=r"3.*from 1 to 2.*widen the search"):
        with_current(Range(low=1.0, high=2.0), 3)


def test_finite_space_numbers_all_its_combinations() -> None:
    space = Space(
        {"a": [1, 2, None], "b": Range(low=0.0, high=0.4, step=0.1), "c": Range(low=3, high=4)}
    )
    assert space.shape == (3, 5, 2)
    combinations = [space.at(i) for i in range(30)]
    assert len({json.dumps(c) for c in combinations}) == 30
    assert all(space.decode(space.encode(c)) == c for c in combinations)
    assert all(
        space.distributions[k]._contains(v)
        for c in combinations
        for k, v in space.encode(c).items()
    )
    assert Space({"a": Range(low=0.0, high=1.0)}).shape is None


def test_proposal_is_a_function_of_the_trials_before_it() -> None:
    space = Space({"x": Range(low=0.0, high=1.0)})
    finished = [
        Trial({"x": x}, [x**2], x**2)
        for x in (0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.6, 0.4, 0.05, 0.15)
    ]
    assert propose(space, [], {"x": 0.5}, Stream(0, "a")) == {"x": 0.5}
    first, again, other = (
        propose(space, finished, {"x": 0.5}, Stream(0, word)) for word in ("a", "a", "b")
    )
    assert first == again != other
    # Past its random start the sampler looks where the score was small.
    suggested = [propose(space, finished, {"x": 0.5}, Stream(seed, "a"))["x"] for seed in range(20)]
    assert sorted(suggested)[10] < 0.3


# What is chosen


def test_default_is_the_first_trial_and_stands_if_nothing_is_better(search: Callable) -> None:
    outcome = search({"factor": [0.1, 0.5, 1.5]}, 10, parameters={"factor": 1.0})
    assert tried(outcome)[0] == 1.0
    assert sorted(tried(outcome)) == [0.1, 0.5, 1.0, 1.5]  # every combination once, then no more
    assert outcome["budget"] == {"trials": 10, "run": 4, "diverged": 0, "lost": 0}
    assert outcome["chosen"] == outcome["default"] == {"factor": 1.0}
    assert outcome["chosen_score"] == outcome["default_score"] == outcome["trials"][0]["score"]
    for trial in outcome["trials"]:
        assert trial["score"] == pytest.approx(sum(trial["scores"]) / 2)
        assert len(trial["scores"]) == len(outcome["seeds"]) == 2


def test_best_trial_is_chosen(search: Callable) -> None:
    outcome = search({"factor": [0.1, 1.0, 1.5]}, 4, parameters={"factor": 0.5})
    assert outcome["chosen"] == {"factor": 1.0}
    assert (
        outcome["chosen_score"]
        == min(trial["score"] for trial in outcome["trials"])
        < outcome["default_score"]
    )


def test_trial_that_diverges_scores_infinity_and_is_never_chosen(
    search: Callable, tmp_path: Path
) -> None:
    outcome = search({"factor": [1.0, 3.0]}, 5, parameters={"factor": 2.0})
    assert outcome["chosen"] == {"factor": 1.0}
    assert outcome["default_score"] is None
    assert outcome["budget"]["diverged"] == 2
    # The seeds after the first that diverged are not run.
    assert [t["scores"] for t in outcome["trials"] if t["parameters"]["factor"] > 1] == [
        [None],
        [None],
    ]
    write_tuning(tmp_path / "free_run.json", outcome)
    parameters, source = in_force(
        {"factor": 2.0}, read_tuned(tmp_path / "free_run.json"), {"other": "b"}
    )
    assert parameters == {"factor": 1.0, "other": "b"}
    assert source == ParameterSource(
        tuned=TunedAt(situation=SITUATION, trials=3, all_diverged=False), pinned=("other",)
    )
    assert ParameterSource.model_validate_json(source.model_dump_json()) == source
    assert (
        source_in_words(source)
        == "tuned at lorenz63, observation all, dt 0.01, gap 5; pinned other"
    )


class Astray(Scaled):
    """Goes where the truth never is, and is sure of it, unless the factor is 1."""

    def analyse(self, state: Any, y: Any) -> Any:
        return state if self.parameters.factor == 1 else 0.5 * state + 60


def test_lost_track_counts_in_the_score_with_its_whole_error_and_is_recorded(
    search: Callable, truths: list[Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masf.filters.free_run.filter", Astray)
    long = [simulate(replace(truth.settings, cycles=8)) for truth in truths]
    outcome = search({"factor": [0.5, 1.0]}, 2, parameters={"factor": 0.5}, truths=long)
    assert outcome["chosen"] == {"factor": 1.0}
    first, second = outcome["trials"]
    assert (first["lost"], second["lost"]) == (2, 0)
    assert first["score"] == pytest.approx(sum(first["scores"]) / 2) == outcome["default_score"]
    assert first["score"] > 30
    assert outcome["budget"]["lost"] == 1
    # On one seed of two, the mean is over both.
    trial = evaluate(lambda _, truth: (9.0, True) if truth is long[0] else (1.0, False), {}, long)
    assert (trial.score, trial.lost) == (5.0, 1)


def test_default_stands_where_every_trial_diverged(search: Callable, tmp_path: Path) -> None:
    outcome = search({"factor": [3.0, 4.0]}, 5, parameters={"factor": 2.0})
    assert outcome["chosen"] == {"factor": 2.0}
    assert outcome["chosen_score"] is None
    write_tuning(tmp_path / "free_run.json", outcome)
    parameters, source = in_force({"factor": 2.0}, read_tuned(tmp_path / "free_run.json"))
    assert parameters == {"factor": 2.0}
    assert source.tuned == TunedAt(situation=SITUATION, trials=3, all_diverged=True)
    assert (
        source_in_words(source)
        == "default (all 3 trials at lorenz63, observation all, dt 0.01, gap 5 diverged)"
    )


def test_values_of_all_kinds_are_searched(search: Callable) -> None:
    outcome = search({"factor": Range(low=0.5, high=1.5), "other": ["b", None]}, 12)
    assert set(tried(outcome, "other")) == {"a", "b", None}
    assert len(set(tried(outcome))) == 12
    assert all(0.5 <= factor <= 1.5 for factor in tried(outcome))


# Interrupted searches


class Killed(Exception):
    pass


def test_interrupted_search_ends_as_an_uninterrupted_one(
    search: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = {"factor": Range(low=0.2, high=1.8), "other": ["b", None]}
    whole = search(searched, 14, "whole")
    runs: list[float] = []
    run_filter = masf.stages.tune.run_filter

    def counted(module: str, parameters: dict[str, Any], *rest: Any, **more: Any) -> Any:
        if len(runs) == 25:  # in the middle of trial 13, after TPE's random start
            raise Killed
        runs.append(parameters.get("factor", 1.0))
        return run_filter(module, parameters, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr("masf.stages.tune.run_filter", counted)
        with pytest.raises(Killed):
            search(searched, 14, "killed")
        # Killed while it wrote: half a line is left.
        with (tmp_path / "a folder" / "killed").open("ab") as f:
            f.write(b'{"op_code":4,"worker_id"')
        runs.clear()
        assert search(searched, 14, "killed") == whole
        assert len(runs) == 2 * 2  # the two trials that were missing, on two seeds
        # Fewer trials are the first ones of it; more go on from it.
        runs.clear()
        assert search(searched, 5, "killed")["trials"] == whole["trials"][:5]
        assert runs == []
        more = search(searched, 16, "killed")
        assert more["trials"][:14] == whole["trials"]
        assert len(runs) == 2 * 2
    assert more == search(searched, 16, "from the start")


@pytest.mark.parametrize(
    "change",
    [
        {"score": "crps"},
        {"spin_up_cycles": 2},
        {"parameters": {"other": "b"}},
        {"made_from": {"code_version": "2"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_change_of_what_scores_depend_on_starts_anew(
    change: dict[str, Any], search: Callable
) -> None:
    searched = {"factor": [0.5, 1.0]}
    first = search(searched, 2)
    assert (
        search(searched, 2, **change) == search(searched, 2, "another journal", **change) != first
    )
    assert search(searched, 2) == first


@pytest.mark.parametrize(
    ("searched", "change", "said"),
    [
        ({"factr": [1.0]}, {}, r"no parameter factr; it has factor, other"),
        ({"factor": Range(low=1.5, high=1.8)}, {}, r"value in force, 1.0"),
        ({"factor": [1.0]}, {"spin_up_cycles": 4}, r"spin_up_cycles 4 leaves none of 4 cycles"),
        (
            {"factor": [1.0]},
            {"score": "spread_skill"},
            r"score 'spread_skill': choose one of rmse, ",
        ),
    ],
)
def test_unfit_search_is_refused(
    searched: dict[str, Any], change: dict[str, Any], said: str, search: Callable
) -> None:
    with pytest.raises(ValueError, match=said):
        search(searched, 2, **change)


def test_file_that_is_no_journal_is_named(search: Callable, tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "journal"
    path.parent.mkdir()
    for content in ("time,x\n0,1\n", '{"a": 1}\n'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(FileFault, match=rf"{path}: is no journal"):
            search({"factor": [1.0]}, 1)


def test_truths_must_differ_in_the_seed_alone(truths: list[Truth], tmp_path: Path) -> None:
    options = {
        "situation": SITUATION,
        "trials": 1,
        "score": "rmse",
        "spin_up_cycles": 0,
        "made_from": {},
        "storage": tmp_path / "j",
    }
    other = Truth(
        CellSettings(**vars(truths[0].settings) | {"gap": 10, "seed": 5}),
        *list(vars(truths[0]).values())[1:],
    )
    for pair, said in (
        ([truths[0], other], "seeds 100 and 5 differ in"),
        ([truths[0]] * 2, "the same seed"),
    ):
        with pytest.raises(ValueError, match=said):
            tune("enkf", "enkf", {}, {"inflation": [1.0]}, pair, **options)


# Where the tuned parameters are used


def test_distance_is_in_logarithms() -> None:
    assert distance({"gap": 20, "forcing": 8}, {"gap": 20, "forcing": 8}) == 0
    assert distance({"gap": 10, "forcing": 8}, {"gap": 20, "forcing": 4}) == pytest.approx(
        math.sqrt(2) * math.log(2)
    )
    assert distance({"gap": 10, "speed": 0}, {"gap": 10, "speed": 0.5}) == 0.5


def tuned_study(folder: Path, points: list[dict[str, Any]] | None, **changes: Any) -> Study:
    """The small study with gaps 2 and 3 and, in one experiment, 20; ``points`` is of its section
    tuning.
    """
    (folder / "filters").mkdir(exist_ok=True)
    for name, text in FILES.items():
        (folder / "filters" / f"{name}.yaml").write_text(text, encoding="utf-8")
    tuning = {
        "trials": 3,
        "cycles": 4,
        "spin_up_cycles": 2,
        **({} if points is None else {"points": points}),
    }
    common = {
        "system": "lorenz63",
        "observations": ["every_one"],
        "members": 4,
        "cycles": 3,
        "spin_up_cycles": 1,
    }
    experiments = {
        "gap_sweep": {"title": "Gaps", "parameters": {"dt": 0.01}, "gaps": [2, 3, 20], **common},
        "one_gap": {
            "title": "One gap",
            "parameters": {"dt": 0.01, "rho": [28, 14]},
            "gaps": [2],
            **common,
        },
    }
    seeds = {"test": [0], "tuning": [100, 101]}
    options = {
        "seeds": seeds,
        "tuning": tuning,
        "experiments": experiments,
        "figures": {},
        "filters_directory": str(folder / "filters"),
    }
    return small_study(folder, **options | changes)


def cell_at(study: Study, gap: int, **parameters: float) -> Cell:
    (cell,) = [
        c
        for c in study.cells.values()
        if c.settings.gap == gap and c.settings.parameters == {"dt": 0.01, **parameters}
    ]
    return cell


def test_cell_takes_what_was_tuned_at_the_nearest_point(tmp_path: Path) -> None:
    study = tuned_study(
        tmp_path,
        [
            {"experiment": "gap_sweep", "when": {"gap": [2, 20]}},
            {"experiment": "one_gap", "when": {"rho": 14}},
        ],
    )
    assert [cells[0].situation for cells in study.points.values()] == [
        {"system": "lorenz63", "observation": "every_one", "dt": 0.01, "members": 4, **more}
        for more in ({"gap": 2}, {"gap": 20}, {"gap": 2, "rho": 14})
    ]
    (first, second), *_ = study.points.values()
    assert (
        first.settings.seed,
        second.settings.seed,
        first.settings.cycles,
        first.spin_up_cycles,
    ) == (100, 101, 4, 2)
    expected = {
        (2, None): (2, None),
        (3, None): (2, None),
        (20, None): (20, None),
        (2, 14): (2, 14),
        (2, 28): (2, None),
    }
    for (gap, rho), (near, near_rho) in expected.items():
        # rho is 28 where it is not given, so that the cell with rho 28 lies where the one without
        # does.
        point = study.tuned_at("enkf", cell_at(study, gap, **({} if rho is None else {"rho": rho})))
        assert point is not None
        assert (point.settings.gap, point.settings.parameters.get("rho")) == (near, near_rho)
    assert study.tuned_at("free_run", cell_at(study, 2)) is None
    assert (
        study.tuning_path("enkf", cell_at(study, 3))
        == "lorenz63/dt~0.01/every_one/gap~2/members~4/tuning/enkf.json"
    )


def test_every_situation_is_a_point_by_default(tmp_path: Path) -> None:
    study = tuned_study(tmp_path, None)
    assert list(study.points) == [cell.point for cell in study.cells.values()]
    assert all(study.tuned_filters(point) == ["particle", "enkf"] for point in study.points)


def test_settings_replace_and_remove_what_is_searched_and_pinned_is_not_tuned(
    tmp_path: Path,
) -> None:
    def searched(study: Study, gap: int) -> dict[str, Any]:
        return study.search("enkf", cell_at(study, gap))

    study = tuned_study(tmp_path, None)
    text = (
        "{label: EnKF, search: {inflation: [1.0, 1.1]}, settings: "
        "[{when: {gap: 3}, search: {inflation: [1.2]}}, {when: {gap: 20}, search: {inflation: "
        "null}}]}"
    )
    definition = yaml.safe_load(text)
    changed = {name: yaml.safe_load(FILES[name]) for name in FILES} | {"enkf": definition}
    study = tuned_study(tmp_path, None, definitions=changed)
    assert searched(study, 2) == {"inflation": [1.0, 1.1]}
    assert searched(study, 3) == {"inflation": [1.2]}
    assert searched(study, 20) == {}
    assert study.tuned_at("enkf", cell_at(study, 20)) is None
    pinned = tuned_study(tmp_path, None, definitions=changed, pinned={"enkf": {"inflation": 1.3}})
    assert searched(pinned, 2) == {}
    assert pinned.tuned_filters(next(iter(pinned.points))) == ["particle"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": {"test": [0]}}, "seeds.tuning: this key is missing"),
        ({"tuning": {"trials": 0}}, "tuning.trials = 0"),
        ({"tuning": {"trials": 1, "score": "spread_skill"}}, "tuning.score"),
        (
            {"tuning": {"trials": 1, "spin_up_cycles": 3}},
            "spin_up_cycles 3 leaves none of 3 cycles",
        ),
        (
            {"tuning": {"trials": 1, "points": [{"experiment": "gap_swep"}]}},
            "did you mean 'gap_sweep'?",
        ),
        (
            {"tuning": {"trials": 1, "points": [{"experiment": "gap_sweep", "when": {"gapp": 2}}]}},
            "did you mean 'gap'?",
        ),
        (
            {"tuning": {"trials": 1, "points": [{"experiment": "gap_sweep", "when": {"gap": 7}}]}},
            "holds in no situation",
        ),
        ({"filters": ["free_run"]}, "no filter of the study declares a search"),
        (
            {
                "definitions": {
                    "enkf": {
                        "label": "E",
                        "parameters": {"inflation": 2},
                        "search": {"inflation": {"low": 1, "high": 1.5}},
                    },
                    "particle": {"label": "P"},
                    "free_run": {"label": "F"},
                }
            },
            "the value in force, 2.0, is not among those from 1 to 1.5",
        ),
    ],
)
def test_unfit_tuning_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigFault) as caught:
        tuned_study(tmp_path, None, **change)
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def tuned_results(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Results of a study that tunes at gap 2."""
    study = tuned_study(
        tmp_path_factory.mktemp("tuned"), [{"experiment": "gap_sweep", "when": {"gap": 2}}]
    )
    for point, cells in study.points.items():
        for name in study.tuned_filters(point):
            truths, parameters = (
                [simulate(c.settings) for c in cells],
                study.filter_parameters(name, cells[0]),
            )
            outcome = tune(
                name,
                name,
                parameters,
                study.search(name, cells[0]),
                truths,
                situation=cells[0].situation,
                trials=3,
                score="rmse",
                spin_up_cycles=cells[0].spin_up_cycles,
                storage=Path(study.config.results) / f"{name}.journal",
                made_from={},
            )
            write_tuning(Path(study.config.results) / point / "tuning" / f"{name}.json", outcome)
    return study


def test_tables_say_where_parameters_come_from(tuned_results: Study) -> None:
    study, folder = tuned_results, Path(tuned_results.config.results)
    write_results(study)
    scores, costs = gather(study)
    recorded = scores["parameter_source"].map(ParameterSource.model_validate_json)
    sources = recorded.map(source_in_words).groupby(scores["filter"]).unique().map(list).to_dict()
    point = "lorenz63, observation every_one, dt 0.01, gap 2, members 4"
    assert sources == {
        "enkf": [f"tuned at {point}"],
        "particle": [f"tuned at {point}"],
        "free_run": ["default"],
    }
    found = read_tuned(folder / study.tuning_path("enkf", cell_at(study, 20)))
    rows = scores[scores["filter"] == "enkf"]
    assert {json.loads(p)["inflation"] for p in rows["filter_parameters"]} == {
        found.chosen["inflation"]
    }

    write_tables(
        study,
        scores,
        costs,
        scores_path=folder / "s",
        costs_path=folder / "c",
        folder=folder / "tables",
    )
    table = pd.read_csv(folder / "tables" / "tuning.csv")
    assert table[["point", "filter", "trials", "diverged"]].values.tolist() == [
        [1, "particle", 2, 0],
        [1, "enkf", 3, 0],
    ]
    assert (table["tuned_score"] <= table["default_score"]).all()
    text = (folder / "tables" / "tuning.md").read_text(encoding="utf-8")
    for words in (point, "inflation 1.1 ", "seeds 100, 101", "at most 3 trials"):
        assert words in text
    assert (folder / "tables" / "tuning.tex").is_file()
    assert "| tuned at point 1 " in (folder / "tables" / "gap_sweep.md").read_text(encoding="utf-8")


def test_estimate_of_other_tuned_parameters_is_refused(tuned_results: Study) -> None:
    study = tuned_results
    write_results(study)
    path = Path(study.config.results) / str(study.tuning_path("enkf", cell_at(study, 2)))
    content = path.read_text(encoding="utf-8")
    try:
        path.write_text(
            json.dumps(json.loads(content) | {"chosen": {"inflation": 1.234}}), encoding="utf-8"
        )
        with pytest.raises(FileFault, match=r"enkf\.nc: was made with other filter parameters"):
            gather(study)
        path.write_text(
            json.dumps(json.loads(content) | {"situation": {**SITUATION, "gap": 7}}),
            encoding="utf-8",
        )
        with pytest.raises(
            FileFault, match=r"enkf\.nc: says that its parameters are .*gap 2.*gap 7"
        ):
            gather(study)
    finally:
        path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ('{"format": "masf-tuning-0"}', "has format 'masf-tuning-0', expected 'masf-tuning-1'"),
        ('{"format": "masf-tuning-1"}', "cannot be read"),
    ],
)
def test_damaged_result_is_named(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "enkf.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(FileFault, match=said) as caught:
        read_tuned(path)
    assert str(path) in str(caught.value)


def test_result_of_another_filter_is_refused(tuned_results: Study) -> None:
    path = Path(tuned_results.config.results) / str(
        tuned_results.tuning_path("enkf", cell_at(tuned_results, 2))
    )
    with pytest.raises(FileFault, match="was tuned for filter 'enkf' on 'lorenz63'"):
        tuned_for("particle", "lorenz63", path)


def test_tuned_values_say_where_and_how_they_were_found(tuned_results: Study) -> None:
    path = Path(tuned_results.config.results) / str(
        tuned_results.tuning_path("enkf", cell_at(tuned_results, 2))
    )
    found = read_tuned(path)
    (alone,) = from_search([found])["enkf"].settings
    assert (alone.when, alone.parameters) == ({"system": "lorenz63"}, found.chosen)
    assert alone.found.model_dump(exclude_defaults=True) == {
        "by": "masf tune", "seeds": [100, 101], "cycles": 4, "trials": 3, "score": "rmse",
        "value": found.chosen_score, "default_value": found.default_score,
        "at": {k: v for k, v in found.situation.items() if k != "system"},
    }  # fmt: skip
    (asked,) = from_search([found], ["observation"])["enkf"].settings
    assert asked.when == {"system": "lorenz63", "observation": found.situation["observation"]}
    assert "observation" not in asked.found.at
    with pytest.raises(ValueError, match=r"--when size: no key of a situation .* choose among"):
        from_search([found], ["size"])
    (pinned,) = from_search([replace(found, pinned={"members": 5})])["enkf"].settings
    assert pinned.parameters == {**found.chosen, "members": 5}
    assert pinned.found.note == "pinned: members"
    twin = replace(found, situation={**found.situation, "gap": 9})
    both = from_search([found, twin])["enkf"].settings
    assert [setting.when for setting in both] == [
        {"system": "lorenz63", "gap": gap} for gap in (2, 9)
    ]


def test_a_point_at_which_every_trial_diverged_has_no_tuned_values(tuned_results: Study) -> None:
    path = Path(tuned_results.config.results) / str(
        tuned_results.tuning_path("enkf", cell_at(tuned_results, 2))
    )
    found = read_tuned(path)
    lost = replace(found, chosen_score=None, default_score=None, diverged=found.trials)
    assert from_search([lost]) == {}


def by_hand(when: dict[str, Any], inflation: float) -> dict[str, Any]:
    return {
        "when": when,
        "parameters": {"inflation": inflation},
        "found": {"by": "hand", "seeds": [100]},
    }


def test_tuned_values_stand_over_the_filter_s_own_and_those_with_more_conditions_over_others(
    tmp_path: Path,
) -> None:
    content = [
        by_hand({"system": "lorenz63", "gap": 2, "members": 4}, 1.45),
        by_hand({"system": "lorenz63", "gap": [2, 3]}, 1.4),
        by_hand({"system": "lorenz63"}, 1.15),
        by_hand({"gap": 3, "system": "lorenz63"}, 1.3),
    ]
    study = tuned_study(tmp_path, None)
    own = {
        cell.path: study.default_parameters("enkf", cell)["inflation"]
        for cell in study.cells.values()
    }
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "enkf.yaml").write_text(
        yaml.safe_dump({"settings": content}), encoding="utf-8"
    )

    def in_force(**changes: Any) -> dict[int, float]:
        study = tuned_study(tmp_path, None, **changes)
        return {
            gap: study.filter_parameters("enkf", cell_at(study, gap))["inflation"]
            for gap in (2, 3, 20)
        }

    assert set(own.values()).isdisjoint({1.15, 1.3, 1.4, 1.45})
    assert in_force() == {2: 1.45, 3: 1.3, 20: 1.15}
    assert in_force(pinned={"enkf": {"inflation": 1.2}}) == {2: 1.2, 3: 1.2, 20: 1.2}
    # A folder that is named has its place.
    (tmp_path / "elsewhere").mkdir()
    assert in_force(tuned_directory=str(tmp_path / "elsewhere")) == dict.fromkeys(
        (2, 3, 20), *set(own.values())
    )
    # What was tuned is a part of study.json.
    again = study_in(json.loads(tuned_study(tmp_path, None).to_json()))
    assert again.filter_parameters("enkf", cell_at(again, 2))["inflation"] == 1.45


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            {"parameters": {"inflatoin": 1.1}},
            "tuned 'enkf': settings.0.parameters = 'inflatoin': unknown parameter",
        ),
        ({"when": {"gapp": 2}}, "tuned 'enkf': settings.0.when = 'gapp': unknown condition"),
        ({"parameters": {"inflation": 0.1}}, "filter 'enkf': inflation = 0.1"),
        ({"found": {"by": "hearsay", "seeds": [100]}}, 'settings.0.found.by = "hearsay"'),
        ({"found": {"by": "masf tune", "seeds": [100], "cycles": 3}}, "needs trials and cycles"),
    ],
)
def test_unfit_tuned_values_are_refused(setting: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    content = {"settings": [by_hand({"system": "lorenz63"}, 1.1) | setting]}
    (tmp_path / "tuned" / "enkf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigFault) as caught:
        tuned_study(tmp_path, None)
    assert said in str(caught.value)


def test_what_was_found_takes_the_place_of_values_for_the_same_conditions(tmp_path: Path) -> None:
    def values(*settings: dict[str, Any]) -> TunedValues:
        return TunedValues.model_validate({"settings": settings})

    old = values(
        by_hand({"system": "lorenz63", "gap": 2}, 1.1), by_hand({"system": "lorenz96"}, 1.2)
    )
    new = values(by_hand({"gap": 2, "system": "lorenz63"}, 1.3))
    update_tuned_values(tmp_path, {"enkf": old})
    (path,) = update_tuned_values(tmp_path, {"enkf": new})
    assert [s.parameters["inflation"] for s in read_tuned_values(path).settings] == [1.2, 1.3]
    assert "`masf tuned-settings` writes this file" in path.read_text(encoding="utf-8")


def test_what_was_found_elsewhere_is_not_lost_to_the_same_conditions(tmp_path: Path) -> None:
    def values(observation: str, inflation: float) -> dict[str, TunedValues]:
        setting = by_hand({"system": "lorenz63"}, inflation)
        at = {"dimension": 3 * inflation, "observation": observation, "gap": 2}
        setting["found"] = setting["found"] | {"at": at if observation else {}}
        return {name: TunedValues.model_validate({"settings": [setting]}) for name in names}

    names = ["enkf"]
    update_tuned_values(tmp_path, values("all", 1.1))
    names = ["etkf", "enkf"]
    with pytest.raises(
        ConfigFault, match=r"observation .all. and not .* --when dimension --when observation,"
    ):
        update_tuned_values(tmp_path, values("arctan", 1.2))
    assert [path.name for path in tmp_path.iterdir()] == ["enkf.yaml"]
    names = ["enkf"]
    (path,) = update_tuned_values(tmp_path, values("", 1.3))
    assert [s.parameters["inflation"] for s in read_tuned_values(path).settings] == [1.3]


def test_tuned_settings_are_printed_where_they_could_be_written(
    tuned_results: Study, tmp_path: Path
) -> None:
    results, folder = tmp_path / "results", tmp_path / "tuned"
    shutil.copytree(tuned_results.config.results, results)
    content = json.loads(tuned_results.to_json())
    content["config"]["tuned_directory"] = str(folder)
    (results / "study.json").write_text(json.dumps(content), encoding="utf-8")
    printed = CliRunner().invoke(commands, ["tuned-settings", str(results)])
    assert printed.exit_code == 0, printed.output
    words = ["tuned-settings", str(results), "--output", str(folder)]
    assert CliRunner().invoke(commands, words).exit_code == 0
    # What stands there now was found in these situations; not so in another's.
    file = folder / "enkf.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("observation: every_one", "observation: other"), encoding="utf-8")
    said = [CliRunner().invoke(commands, words[:n]).exception for n in (2, 4)]
    assert str(said[0]) == str(said[1])
    assert str(said[0]).startswith(f"{file}: has values for")
    assert "observation 'other' and not 'every_one'" in str(said[0])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "tuned").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_tuned_values_are_as_the_command_writes_them_and_saw_no_test_seed(
    path: Path,
) -> None:
    values = read_tuned_values(path)
    assert path.read_text(encoding="utf-8") == file_text(path.stem, values)
    assert not {seed for setting in values.settings for seed in setting.found.seeds} & set(
        range(100)
    )
    for setting in values.settings:
        assert setting.found.source is None or (ROOT / setting.found.source).is_file()


def test_situation_in_words() -> None:
    assert situation_in_words(SITUATION) == "lorenz63, observation all, dt 0.01, gap 5"


def test_tuning_study_measures_and_trains_as_the_whole_study() -> None:
    ours, whole = (
        yaml.safe_load((ROOT / "config" / name).read_text(encoding="utf-8"))
        for name in ("tuning.yaml", "config.yaml")
    )
    for key in ("observations", "priors"):
        assert ours[key].items() <= whole[key].items()
    assert set(ours["seeds"]["tuning"]) <= set(whole["seeds"]["tuning"])
    assert not set(ours["seeds"]["tuning"]) & set(whole["seeds"]["test"])
    assert set(ours["filters"]) == set(whole["filters"]) - {"free_run", "particle"}


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "config" / "tuned").glob("*.yaml"))
)
def test_what_tuning_found_is_in_force_where_it_was_found(name: str) -> None:
    """But for what is said of a part of those situations. The most conditions win: one more on a
    setting for all ensembles had put it before what was found for a few members.
    """
    tuned = read_tuned_values(ROOT / "config/tuned" / f"{name}.yaml")
    for setting in tuned.settings:
        if setting.found.by == "hand":
            continue
        at = dict(setting.found.at or {})
        there = {
            key: at[key] if at.get(key) in alternatives(value) else alternatives(value)[0]
            for key, value in setting.when.items()
        }
        situation = defaults(there["system"]) | {"members": 100} | at | there
        won: dict[str, TunedSetting] = {}
        for other in tuned.by_weight():
            if holds(other.when, situation):
                won |= dict.fromkeys(other.parameters, other)
        for key, value in setting.parameters.items():
            last = won[key]
            assert last.parameters[key] == value or last.when.keys() > setting.when.keys(), (
                f"{key} = {value!r}, found {setting.when}, gives way to {last.when}"
            )
