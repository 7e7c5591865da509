"""What is shown of a study of which only some runs are done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from synthetic import long_study, small_study, write_results

from masf.stages.aggregate import aggregate, gather
from masf.stages.preview import write_preview
from masf.study.messages import ConfigFault
from masf.study.study import Study


def unmade(study: Study, missing: Callable[[tuple[str, int, int]], bool]) -> int:
    """Removes runs, which are told by filter, gap and seed; how many."""
    count = 0
    for cell in study.cells.values():
        for name in cell.filters:
            if missing((name, int(cell.settings.gap), cell.settings.seed)):
                (study.results / cell.estimate(name)).unlink()
                count += 1
    return count


def preview(study: Study) -> tuple[int, Path]:
    folder = study.results / "preview"
    return write_preview(study, folder), folder


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tables" / f"{name}.csv")


def test_tables_count_what_is_missing_and_average_the_rest(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    removed = unmade(study, lambda run: run == ("enkf", 2, 1))
    missing, folder = preview(study)
    assert missing == removed == 1
    rows = table(folder, "one_gap").set_index("filter")
    assert rows["missing"].to_dict() == {"particle": 0, "enkf": 1, "free_run": 0}
    assert rows.loc["enkf", "runs"] == 1
    assert rows.loc["enkf", "rmse_mean"] == pytest.approx(1.0, rel=1e-4)  # of seed 0
    text = (folder / "tables" / "one_gap.md").read_text(encoding="utf-8")
    assert "1 of 2" in next(line for line in text.splitlines() if "EnKF" in line)
    paired = (folder / "tables" / "one_gap_paired.md").read_text(encoding="utf-8")
    assert "missing: 1 of 2" in paired
    assert "(1 missing)" in (folder / "tables" / "one_gap.tex").read_text(encoding="utf-8")


def test_a_filter_of_which_a_run_is_missing_is_never_the_best(tmp_path: Path) -> None:
    study = long_study(tmp_path)
    write_results(study)
    unmade(study, lambda run: run[0] == "particle" and run[2] == 3)
    rows = table(preview(study)[1], "one_gap_paired")
    best = rows[rows["score"] == "rmse"].set_index("filter")
    assert best["best"].unique().tolist() == ["enkf"]
    assert best.loc["particle", "verdict"] == "missing"


def test_filters_without_any_run_and_points_without_any_are_named_missing(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    for cell in study.cells.values():
        if cell.settings.gap == 3:
            (study.results / cell.truth).unlink()
    unmade(study, lambda run: run[1] == 3 or run[0] == "particle")
    _, folder = preview(study)
    rows = table(folder, "gap_sweep")
    assert rows.loc[rows["gap"] == 3, "runs"].tolist() == [0, 0]
    assert rows.loc[rows["gap"] == 3, "rmse_mean"].isna().all()
    text = (folder / "tables" / "one_gap.md").read_text(encoding="utf-8")
    assert "missing" in next(line for line in text.splitlines() if "article" in line)
    assert "diverged" not in next(line for line in text.splitlines() if "| 2 of 2" in line)


def test_page_says_how_much_is_missing_and_shows_the_figures_that_can_be_drawn(
    tmp_path: Path,
) -> None:
    study = small_study(tmp_path)
    write_results(study)
    unmade(study, lambda run: run == ("enkf", 2, 0))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.nc")}
    _, folder = preview(study)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Not all is there: 1 of 10 runs are missing." in page
    # The trajectories need that run.
    assert {path.name for path in (folder / "figures").glob("*.png")} == {"sweep.png"}
    assert "Not drawn, because results are missing: Paths; Ranks." in page
    assert 'src="figures/sweep.png"' in page
    assert 'src="figures/paths.png"' not in page
    # Nothing of the study itself is changed, and no score of it is made.
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.nc")} == before
    assert not (tmp_path / "scores.parquet").exists()


@pytest.mark.filterwarnings("error")
def test_one_run_is_enough_for_tables_figures_and_page(tmp_path: Path) -> None:
    costs = {
        "kind": "model_runs",
        "title": "Costs",
        "panels": [{"experiment": "gap_sweep", "observation": "every_one", "where": {"gap": 3}}],
    }
    study = small_study(tmp_path)
    figures = {
        name: f.model_dump(exclude_defaults=True) for name, f in study.config.figures.items()
    }
    study = small_study(tmp_path, figures=figures | {"costs": costs})
    write_results(study)
    unmade(study, lambda run: run != ("enkf", 2, 0))
    missing, folder = preview(study)
    assert missing == 9
    assert {path.name for path in (folder / "figures").glob("*.png")} == {"sweep.png", "costs.png"}


def test_preview_of_all_results_has_the_scores_of_the_study(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    whole, _ = gather(study)
    missing, folder = preview(study)
    assert missing == 0
    shown = pd.read_parquet(folder / "scores.parquet")
    assert not shown["missing"].any()
    pd.testing.assert_frame_equal(shown.drop(columns="missing"), whole)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "missing" not in page.split("<header>", 1)[1].split('id="all-scores"', 1)[0]


def test_run_of_other_settings_is_missing_and_one_of_these_is_needed(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    other = small_study(tmp_path, pinned={"enkf": {"inflation": 1.5}})
    assert preview(other)[0] == 4  # at two gaps, on two seeds
    with pytest.raises(ConfigFault, match="no run of the study is done yet"):
        preview(small_study(tmp_path / "elsewhere"))


def test_aggregate_goes_on_without_a_run_only_where_this_is_asked_for(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    unmade(study, lambda run: run == ("enkf", 2, 1))
    files = {
        "scores": tmp_path / "scores.parquet",
        "costs": tmp_path / "costs.parquet",
        "tables": tmp_path / "tables",
    }
    with pytest.raises(ValueError, match=r"enkf\.nc"):
        aggregate(study, **files)
    assert not files["scores"].exists()
    assert aggregate(study, **files, allow_missing=True) == 1
    costs = pd.read_parquet(files["costs"])
    assert costs["missing"].sum() == 1


def test_reference_that_is_missing_leaves_no_distances(tmp_path: Path) -> None:
    study = small_study(
        tmp_path,
        experiments={
            "one_gap": json.loads(
                small_study(tmp_path)
                .config.experiments["one_gap"]
                .model_dump_json(exclude_defaults=True)
            )
            | {"reference": "enkf"}
        },
        figures={},
    )
    write_results(study)
    unmade(study, lambda run: run[0] == "enkf" and run[2] == 0)
    rows = pd.read_parquet(preview(study)[1] / "scores.parquet")
    distances = rows[rows["filter"] == "particle"].set_index("seed")["rmse_ratio"]
    assert distances.isna().to_dict() == {0: True, 1: False}
