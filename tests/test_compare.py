"""Runs that come with masf, and what is compared with them: masf compare, and studies with
``compare_with: published``.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
from click.testing import CliRunner, Result

from masf.api import run as run_filter
from masf.cli import commands
from masf.cli.options import THREAD_VARIABLES
from masf.files.truth import digest, truth_of
from masf.filters.registry import filter_names
from masf.report.rivals import beside, by_situation, welch_interval
from masf.scores.comparison import paired_interval
from masf.scores.run import score
from masf.stages.aggregate import aggregate
from masf.stages.page import write_page
from masf.stages.plot import draw
from masf.stages.simulate import simulate_in_memory
from masf.study.load import make_study
from masf.study.messages import ConfigFault
from masf.study.shipped import (
    SHIPPED,
    Run,
    pairing,
    read_runs,
    shipped_runs,
    situation,
    told_apart,
    write_runs,
)
from masf.study.study import Study

ROOT = Path(__file__).parent.parent
FIGURES = ("figure3", "figure4", "figure5")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # commands set them; this restores them


def call(*words: str) -> Result:
    return CliRunner().invoke(commands, list(words))


def table(result: Result) -> list[list[str]]:
    """The rows that a command printed, without the heading."""
    assert result.exit_code == 0, result.output
    return [line.split("\t") for line in result.output.splitlines() if "\t" in line][1:]


def a_run(**changes: Any) -> Run:
    """A shipped run of ETKF: Lorenz-96, d 20, gap 20, all observed, seed 0."""
    found = next(
        run
        for run in shipped_runs()
        if (run.source, run.filter, run.settings.seed) == ("figure4", "etkf", 0)
        and run.settings.parameters["dimension"] == 20
        and run.settings.observation["operator"] == "identity"
    )
    return replace(found, **changes)


def of_dimension(dimension: int, seed: int = 0, **changes: Any) -> Run:
    """The same run with another dimension and seed."""
    settings = a_run().settings
    parameters = {**settings.parameters, "dimension": float(dimension)}
    return a_run(settings=replace(settings, parameters=parameters, seed=seed), **changes)


# What is shipped


def test_every_run_of_figures_3_to_5_is_shipped_with_the_score_of_its_table() -> None:
    for name in FIGURES:
        kept = pd.read_csv(ROOT / "benchmarks" / "results" / f"{name}.csv")
        runs = [run for run in shipped_runs() if run.source == name]
        assert len(runs) == len(kept)
        assert [run.filter for run in runs] == kept["filter"].tolist()  # all with one pass
        of_model = kept["filter"] != "free_run"
        assert [run.model_runs == 1 for run in runs] == of_model.tolist()
        assert [run.settings.seed for run in runs] == kept["seed"].tolist()
        for key in ("rmse", "rmse_analysis", "crps"):
            np.testing.assert_array_equal([run.scores[key] for run in runs], kept[key])
        assert [run.diverged for run in runs] == kept["diverged"].tolist()
    assert SHIPPED.stat().st_size < 300_000


def test_what_a_shipped_filter_is_called_begins_with_its_module() -> None:
    modules = {told_apart(run.filter)[0] for run in shipped_runs()}
    assert modules <= set(filter_names())


def test_runs_with_passes_are_told_from_those_that_run_the_model_once() -> None:
    shipped = by_situation(shipped_runs())
    there = shipped[of_dimension(40).situation]
    found = {(run.source, run.filter): run.model_runs for run in there}
    assert found["figure4", "masf"] == found["gap_sweep", "masf_gaussian"] == 1
    # Eight passes, the last in the present, over three cycles: 22 once the window is full.
    with_passes = 1 + 7 * (1 + 2 + 3 * 108) / 110
    assert found["figure4_passes", "masf_passes"] == pytest.approx(with_passes, abs=5e-3)
    assert math.isnan(found["figure4_passes", "ienks"])
    assert math.isnan(found["iterative", "masf_passes"])
    there = shipped[of_dimension(1000).situation]
    assert {(run.source, run.filter) for run in there if run.filter.startswith("masf")} == {
        ("figure4_passes", "masf_passes"), ("figure4", "masf"), ("figure4", "masf_gaussian"),
    }  # fmt: skip


def test_a_shipped_run_is_what_masf_does_today_and_so_its_truth() -> None:
    # What pairing rests on: if this fails, truths of these settings are others than they were.
    shipped = a_run()
    truth = simulate_in_memory(shipped.settings)
    estimate, _ = run_filter(truth, "etkf", {}, prior=None, device="cpu")
    found = score(estimate, gap=shipped.settings.gap, spin_up_cycles=shipped.spin_up_cycles)
    assert found["rmse"] == pytest.approx(shipped.scores["rmse"], abs=1e-3)


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    numbers = dict.fromkeys(a_run().scores, 0.25)
    nothing = dict.fromkeys(numbers, math.nan)
    runs = [a_run(scores=numbers, truth="abc"), a_run(diverged=True, scores=nothing)]
    write_runs(tmp_path / "runs.csv.gz", runs)
    first, second = read_runs(tmp_path / "runs.csv.gz")
    assert first == runs[0]
    assert second.diverged
    assert math.isnan(second.scores["rmse"])
    content = (tmp_path / "runs.csv.gz").read_bytes()
    write_runs(tmp_path / "again.csv.gz", runs)
    assert (tmp_path / "again.csv.gz").read_bytes() == content


# Pairing


def test_a_situation_is_the_same_however_it_is_written() -> None:
    settings = a_run().settings
    without_defaults = {"dt": 0.01, "dimension": 20, "forcing": 8}
    other = replace(settings, seed=7, cycles=3, parameters=without_defaults,
                    observation={"operator": "identity", "noise": 1})  # fmt: skip
    assert situation(settings) == situation(other)
    for changes in ({"gap": 5}, {"members": 20}, {"initial_spread": 0.5}):
        assert situation(settings) != situation(replace(settings, **changes))


def test_runs_are_paired_by_checksum_or_else_by_settings_and_seed() -> None:
    run = a_run(truth="abc")
    assert pairing(run, a_run(truth="abc")) == "checksum"
    assert pairing(run, a_run(truth="abd")) is None
    assert pairing(run, a_run(truth="")) == "settings"
    assert pairing(run, a_run(truth="abc", spin_up_cycles=11)) is None
    longer = replace(run.settings, cycles=111)
    assert pairing(run, a_run(truth="abc", settings=longer)) is None
    assert pairing(run, a_run(truth="abc", settings=replace(run.settings, seed=1))) is None


def runs_of(name: str, values: list[float], first: int = 0, **changes: Any) -> list[Run]:
    return [
        a_run(
            filter=name, scores={"rmse": value}, truth=f"{seed}", source=changes.pop("source", ""),
            settings=replace(a_run().settings, seed=seed), **changes,
        )
        for seed, value in enumerate(values, first)
    ]  # fmt: skip


def test_differences_are_paired_by_seed_and_say_who_is_lower() -> None:
    own = runs_of("mine", [1.0, 2.0, 3.0, 4.0])
    lower, close = [0.8, 1.85, 2.75, 3.8], [1.1, 1.9, 3.1, 3.9]
    rivals = [
        replace(run, source="study") for run in [*runs_of("close", close), *runs_of("lower", lower)]
    ]
    mine, second, third = beside(own, rivals, "rmse")
    assert (mine.filter, mine.mean, mine.verdict) == ("mine", 2.5, "")
    assert (second.filter, second.verdict, second.how, second.pairs) == (
        "lower", "lower", "checksum", 4,
    )  # fmt: skip
    assert second.difference == pytest.approx(np.mean(np.subtract(lower, [1, 2, 3, 4])))
    differences = np.subtract(lower, [1.0, 2.0, 3.0, 4.0])
    assert (second.low, second.high) == pytest.approx(paired_interval(differences))
    assert (third.filter, third.verdict) == ("close", "not distinguishable")


def test_the_same_runs_are_not_told_apart_by_what_the_shipped_digits_leave_out() -> None:
    own = runs_of("mine", [1.00003, 1.20002, 0.90004, 1.10003])
    rivals = [replace(run, source="study") for run in runs_of("same", [1.0, 1.2, 0.9, 1.1])]
    _, same = beside(own, rivals, "rmse")
    assert (same.difference, same.verdict) == (0.0, "not distinguishable")


def test_other_truths_are_compared_unpaired_and_few_seeds_are_not_judged() -> None:
    own = runs_of("mine", [1.0, 1.1, 0.9, 1.05])
    theirs = [3.0, 3.1, 2.9, 3.2, 3.05]
    others = [replace(r, source="study", truth="x") for r in runs_of("other", theirs)]
    _, rival = beside(own, others, "rmse")
    assert (rival.how, rival.verdict, rival.pairs) == ("unpaired", "higher", 4)
    assert rival.difference == pytest.approx(np.mean(theirs) - 1.0125)
    low, high = welch_interval(np.array(theirs), np.array([1.0, 1.1, 0.9, 1.05]))
    assert (rival.low, rival.high) == (low, high)
    assert low < rival.difference < high
    _, few = beside(own[:3], others, "rmse")
    assert few.verdict == "too few seeds"


def test_runs_that_diverged_or_lost_track_are_counted_and_left_out() -> None:
    own = runs_of("mine", [1.0, 2.0, 3.0, 4.0, 5.0])
    own[0] = replace(own[0], lost=True, scores={"rmse": 50.0})
    rivals = [replace(r, source="s") for r in runs_of("other", [1.5, 2.5, 3.5, 4.5, 5.5])]
    rivals[1] = replace(rivals[1], diverged=True, scores={"rmse": math.nan})
    mine, rival = beside(own, rivals, "rmse")
    assert (mine.runs, mine.lost, mine.mean) == (5, 1, 3.5)
    assert (rival.diverged, rival.pairs, rival.difference) == (1, 3, pytest.approx(0.5))


def test_of_a_filter_that_several_studies_ran_the_one_with_most_pairs_counts() -> None:
    rivals = [replace(r, source=s) for s in ("one", "two") for r in runs_of("other", [1.0, 2.0])]
    found = beside(runs_of("mine", [1.0, 2.0]), rivals, "rmse")
    assert [(row.source, row.runs) for row in found[1:]] == [("one", 2)]
    found = beside(runs_of("mine", [1.0, 2.0]), rivals[1:], "rmse")
    assert [(row.source, row.runs) for row in found[1:]] == [("two", 2)]
    # One seed of a filter in a study of its own hides no other.
    own = [of_dimension(40, seed=seed, scores={"rmse": 1.0}, truth="") for seed in (0, 1)]
    there = by_situation(shipped_runs())[own[0].situation]
    found = {row.filter: row for row in beside(own, there, "rmse")}
    assert [run.source for run in there if run.filter == "ssls"][:2] == [
        "figure4_one_seed", "gap_sweep",
    ]  # fmt: skip
    assert (found["ssls"].source, found["ssls"].pairs) == ("gap_sweep", 2)


def test_means_are_of_the_seeds_that_are_paired_so_that_they_subtract() -> None:
    own = runs_of("mine", [1.0, 2.0, 3.0])
    own[2] = replace(own[2], diverged=True)
    rivals = [replace(r, source="s") for r in runs_of("other", [1.5, 2.1, 9.0, 9.0, 9.0])]
    mine, rival = beside(own, rivals, "rmse")
    assert (rival.runs, rival.pairs) == (3, 2)
    assert rival.mean - mine.mean == pytest.approx(rival.difference)
    (_, rival) = beside(own[2:], rivals, "rmse")
    assert (rival.mean, rival.pairs) == (9.0, 0)


# masf compare


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What masf run keeps of a filter in a shipped situation, seed 0."""
    folder = tmp_path_factory.mktemp("kept")
    words = "run -s lorenz96 -p dimension=20 --cycles 110 --spin-up-cycles 10 -f etkf"
    result = call(*words.split(), "-o", str(folder / "0"))
    assert result.exit_code == 0, result.output
    return folder / "0"


def test_a_run_that_masf_keeps_is_paired_with_shipped_ones(kept: Path) -> None:
    rows = table(call("compare", str(kept), "--rival", "etkf", "--rival", "letkf"))
    names = [row[1] for row in rows]
    assert names == ["etkf (yours)", "etkf", "letkf"]
    assert [row[3] for row in rows] == ["1", "1", "1"]
    assert rows[1][5] == "+0.000"
    assert rows[1][8].startswith("1 seed, paired, the same truth")
    # A single estimate is enough, and says that nobody could look at its truth.
    moved = kept.parent / "mine.nc"
    shutil.copy(kept / "etkf.nc", moved)
    rows = table(call("compare", str(moved), "--rival", "letkf"))
    assert rows[0][1] == "mine (yours)"
    assert rows[1][8] == "1 seed, paired, the same truth by settings and seed"


def test_folders_in_a_folder_are_read_and_two_runs_on_one_seed_refused(
    kept: Path, tmp_path: Path
) -> None:
    shutil.copytree(kept, tmp_path / "all" / "seed~0")
    (tmp_path / "all" / ".hidden").mkdir()
    words = ("--rival", "letkf")
    assert table(call("compare", str(tmp_path / "all"), *words)) == table(
        call("compare", str(kept), *words)
    )
    twice = call("compare", str(tmp_path / "all"), str(kept), *words)
    assert twice.exit_code == 1
    assert "both have a run of etkf on seed 0" in twice.output


def test_a_shorter_run_is_compared_unpaired(tmp_path: Path) -> None:
    words = "run -s lorenz96 -p dimension=20 --cycles 20 --spin-up-cycles 10 -f free_run -q -o"
    assert call(*words.split(), str(tmp_path)).exit_code == 0
    rows = table(call("compare", str(tmp_path), "--rival", "letkf"))
    assert rows[1][8].endswith("unpaired")
    assert rows[1][7] == "too few seeds"


def test_what_cannot_be_compared_is_said(
    kept: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = call("compare", str(kept), "--filter", "letkff")
    assert result.exit_code == 2
    assert "--filter letkff: no run of it is there" in result.output
    result = call("compare", str(kept), "--rival", "letkff")
    assert "did you mean 'letkf'?" in result.output
    words = "run -s lorenz96 -p dimension=12 --cycles 4 --members 5 -f free_run -q -o"
    assert call(*words.split(), str(tmp_path)).exit_code == 0
    result = call("compare", str(tmp_path))
    assert result.exit_code == 1
    assert "dimension 12" in result.output
    nearest = "(the nearest that is there: dimension 40 in place of 12)"
    assert nearest in result.output
    with caplog.at_level(logging.WARNING):
        both = call("compare", str(tmp_path), str(kept))
    assert both.exit_code == 0
    assert "nothing that comes with masf is in this situation" in caplog.text
    (tmp_path / "empty").mkdir()
    fault = call("compare", str(tmp_path / "empty")).exception
    assert "holds no estimate; name a study's folder of results" in str(fault)


# Studies


def compared(results: Path, **changes: Any) -> Study:
    """Lorenz-96 at two gaps, as in Figure 4, on four of its seeds, compared with what is
    shipped.
    """
    config = {
        "results": str(results),
        "seeds": {"test": [0, 1, 2, 3]},
        "filters": ["particle", "free_run"],
        "compare_with": "published",
        "observations": {"everything": {"operator": "identity", "noise": 1.0}},
        "experiments": {
            "gaps": {
                "title": "Gaps", "system": "lorenz96", "gaps": [5, 10], "members": 100,
                "parameters": {"dt": 0.01, "dimension": 40, "forcing": 8},
                "observations": ["everything"], "cycles": 110, "spin_up_cycles": 10,
            },
        },
        "figures": {
            "sweep": {
                "kind": "sweep", "title": "Sweep", "relative_to": "letkf_shipped",
                "panels": [{"experiment": "gaps", "axis": "gap", "observation": "everything"}],
            },
        },
    }  # fmt: skip
    return make_study(config | changes, root=ROOT)


def written(study: Study) -> Path:
    """The folder of scores, tables, figures and page of a study."""
    folder = study.results
    scores, costs, tables = folder / "scores.parquet", folder / "costs.parquet", folder / "tables"
    aggregate(study, scores=scores, costs=costs, tables=tables)
    for name in study.figures:
        draw(study, name, scores, [folder / "figures" / f"{name}.png"])
    write_page(study, scores, costs, folder / "figures", tables, folder / "index.html")
    return folder


def test_a_study_shows_shipped_rivals_in_tables_figures_and_page(tmp_path: Path) -> None:
    study = compared(tmp_path)
    assert "letkf_shipped" in study.shipped_filters("gaps")
    assert "free_run_shipped" not in study.shipped_filters("gaps")  # it runs one itself
    assert study.all_filters == ["particle", "free_run"]  # no job runs a shipped one
    assert next(iter(study.cells.values())).filters == ("particle", "free_run")
    synthetic.write_results(study)
    folder = written(study)
    rows = pd.read_parquet(folder / "scores.parquet")
    own = rows[rows["filter"] == "letkf_shipped"]
    shipped = [
        run
        for run in shipped_runs()
        if (run.source, run.filter) == ("figure4", "letkf") and run.settings.seed < 4
        and run.situation in {situation(c.settings) for c in study.cells.values()}
    ]  # fmt: skip
    assert sorted(own["rmse"]) == sorted(run.scores["rmse"] for run in shipped)
    assert set(own["shipped"]) == {"figure4"}
    assert rows.loc[rows["filter"] == "particle", "shipped"].isna().all()
    assert rows.groupby("filter").size().unique().tolist() == [8]
    text = (folder / "tables" / "gaps.md").read_text(encoding="utf-8")
    assert "| LETKF (shipped)" in text
    paired = pd.read_csv(folder / "tables" / "gaps_paired.csv")
    assert set(paired.loc[paired["score"] == "rmse", "best"]) == {
        "ienks_shipped",
        "masf_gaussian_passes_shipped",
    }
    # What they cost stands beside what the study's own do, in the same unit.
    costs = pd.read_csv(folder / "costs.csv").set_index(["filter", "gap", "seed"])
    model_runs = costs["model_runs_per_cycle"].sort_index()
    assert (model_runs["masf_shipped"] == 100).all()
    assert model_runs["masf_gaussian_passes_shipped", 10, 0] == pytest.approx(1494, abs=1)
    assert model_runs["ienks_shipped"].isna().all()
    cost = (folder / "tables" / "gaps_cost.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"\| 10 +\| MASF \(Gaussian\) passes \(shipped\) .*\|", cost)
    assert [cell.strip() for cell in row.split("|")[3:7]] == [
        "unknown", "unknown", "1494", "unknown",
    ]  # fmt: skip
    assert "shipped" not in (folder / "tables" / "settings.md").read_text(encoding="utf-8")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "LETKF (shipped)" in page
    assert {"sweep", "sweep_others", "sweep_relative"} <= set(study.figures)


def test_a_study_with_passes_of_its_own_is_beside_the_filter_that_runs_the_model_once(
    tmp_path: Path,
) -> None:
    priors = {"lorenz96": {"network": {"kind": "conv1d", "width": 16}}}
    changes = {"filters": ["masf", "free_run"], "figures": {}, "priors": priors}
    once, several = (
        compared(tmp_path, **changes, pinned={"masf": {"passes": passes}}).shipped_filters("gaps")
        for passes in (1, 4)
    )
    variants = {"masf_shipped", "masf_passes_shipped"}
    assert variants & {*once} == {"masf_passes_shipped"}
    assert variants & {*several} == {"masf_shipped"}


def test_only_situations_with_all_seeds_have_shipped_rivals(tmp_path: Path) -> None:
    assert compared(tmp_path, seeds={"test": [0, 1, 77]}, figures={}).with_scores == [
        "particle", "free_run",
    ]  # fmt: skip


def test_shipped_runs_of_another_truth_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = tuple(
        replace(run, truth="another") if run.settings.gap == 5 else replace(run, truth="")
        for run in shipped_runs()
    )
    monkeypatch.setattr("masf.study.study.shipped_runs", lambda: other)
    study = compared(tmp_path, seeds={"test": [0]}, figures={})
    synthetic.write_results(study)
    with caplog.at_level(logging.WARNING):
        folder = written(study)
    assert "the truth is another one than that of shipped runs" in caplog.text
    rows = pd.read_parquet(folder / "scores.parquet")
    assert set(rows.loc[rows["filter"] == "letkf_shipped", "gap"]) == {10}


def test_compare_with_knows_one_word(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match=r"compare_with = .everything.: .*'published'"):
        compared(tmp_path, compare_with="everything")


def test_a_study_with_faults_is_told_them_all_the_same(tmp_path: Path) -> None:
    observed = {"others": {"operator": "identity", "noise": 1.0}}
    with pytest.raises(ConfigFault, match="observations = 'everything': unknown observation"):
        compared(tmp_path, observations=observed)


def test_the_results_of_a_study_are_compared_without_its_shipped_rows(tmp_path: Path) -> None:
    study = compared(tmp_path, figures={})
    synthetic.write_results(study)
    (tmp_path / "study.json").write_text(study.to_json(), encoding="utf-8")
    written(study)
    rows = table(call("compare", str(tmp_path), "--filter", "particle", "--rival", "letkf"))
    assert [row[1] for row in rows] == ["particle (yours)", "letkf"] * 2
    assert all(row[8].startswith("4 seeds, paired") for row in rows if row[1] == "letkf")
    assert {row[3] for row in rows} == {"1"}


def test_the_digest_of_a_truth_tells_it_from_others() -> None:
    settings = replace(a_run().settings, cycles=2)
    truth = truth_of(simulate_in_memory(settings))
    same, other = (truth_of(simulate_in_memory(replace(settings, seed=seed))) for seed in (0, 1))
    assert digest(truth) == digest(same) != digest(other)
    measured = truth.observation.copy()
    measured[0, 0] = np.nextafter(measured[0, 0], np.float32(9))
    assert digest(replace(truth, observation=measured)) != digest(truth)


def test_situations_hold_their_runs_together() -> None:
    groups = by_situation([a_run(), a_run(settings=replace(a_run().settings, seed=3))])
    assert [len(runs) for runs in groups.values()] == [2]


def test_a_filter_that_is_called_as_shipped_runs_are_is_refused(tmp_path: Path) -> None:
    filters = tmp_path / "filters"
    shutil.copytree(ROOT / "config" / "filters", filters)
    shutil.copy(filters / "free_run.yaml", filters / "letkf_shipped.yaml")
    text = (filters / "letkf_shipped.yaml").read_text(encoding="utf-8")
    named = text.replace("label: ", "filter: free_run\nlabel: My ", 1)
    (filters / "letkf_shipped.yaml").write_text(named, encoding="utf-8")
    with pytest.raises(ConfigFault, match=r"filter 'letkf_shipped': .*give yours another name"):
        compared(tmp_path, filters=["letkf_shipped"], filters_directory=str(filters), figures={})
