"""Scores and tables from results whose scores are known."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray as xr
from synthetic import (
    LOST_ERROR,
    SPIN_UP_ERROR,
    error_of,
    exact_study,
    long_study,
    small_study,
    write_results,
)

import masf.stages.aggregate
from masf.atomic import FileFault
from masf.files.cost import mean_model_runs
from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.report.page import score_rows
from masf.report.tables import settings_in_use, write_tables
from masf.report.words import runs_in_words
from masf.scores.exactness import EXACTNESS
from masf.scores.metrics import rmse_over_components
from masf.scores.run import FLOW_SCORES, SCORES, score
from masf.stages.aggregate import gather
from masf.study.load import study_with
from masf.study.messages import ConfigFault
from masf.study.study import Study


@pytest.fixture(scope="module")
def frames(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    return gather(study)


@pytest.fixture(scope="module")
def tables(study: Study, frames: tuple[pd.DataFrame, pd.DataFrame]) -> Path:
    folder = Path(study.config.results)
    paths = {"scores_path": folder / "scores.parquet", "costs_path": folder / "costs.parquet"}
    write_tables(study, *frames, folder=folder / "tables", **paths)
    return folder / "tables"


def markdown(path: Path) -> pd.DataFrame:
    """The table of a Markdown file."""
    lines = [
        line.strip("|")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    table = pd.read_csv(io.StringIO("\n".join([lines[0], *lines[2:]])), sep="|", dtype=str)
    return table.rename(columns=str.strip).map(str.strip)


def test_scores_are_those_of_the_estimates_and_leave_spin_up_out(
    frames: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    scores = frames[0]
    assert len(scores) == 2 * (
        3 + 2
    )  # particle at gap 2 only; the cells of gap 2 once, though two experiments have them
    for _, row in scores[~scores["diverged"]].iterrows():
        error = error_of(row["filter"], row["gap"], row["seed"])
        found = row[list(SCORES)].astype(float)
        expected = {
            "rmse": error,
            "rmse_analysis": error,
            "rmse_forecast": 2 * error,
            "spread_skill": 0.5,
            "spread_skill_forecast": 0.5,
            "crps": error / 4,
            "crps_forecast": error / 2,
            **dict.fromkeys((*EXACTNESS, *FLOW_SCORES), np.nan),
        }
        np.testing.assert_allclose(found, [expected[name] for name in SCORES], rtol=1e-4)
        assert row["diagnostic_error"] == pytest.approx(error)
    assert scores[list(SCORES)].max(axis=None) < SPIN_UP_ERROR / 2


def test_rmse_is_the_root_of_the_mean_square_over_steps_and_components() -> None:
    mean, truth = (
        np.array([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]),
        np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 7.0]]),
    )
    one = ("cycle", np.ones(1))
    variables = dict.fromkeys(("crps", "crps_forecast", "rmse_forecast", "spread_forecast"), one)
    variables |= {
        "rmse": ("time", rmse_over_components(mean, truth)),
        "spread": (("time", "x"), np.ones((3, 2))),
    }
    found = score(xr.Dataset(variables, attrs={"diverged": 0}), gap=2, spin_up_cycles=0)
    # Squares 0, 4, 9, 9: the root of their mean, which is not the mean of the roots over time; the
    # initial state does not count.
    assert found["rmse"] == pytest.approx(np.sqrt(22 / 4))
    assert found["rmse_analysis"] == pytest.approx(3.0)


def test_diverged_runs_have_no_score_and_are_counted(
    frames: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    scores = frames[0]
    diverged = scores[scores["diverged"]]
    assert set(zip(diverged["filter"], diverged["gap"], diverged["seed"], strict=True)) == {
        ("free_run", 2, 1),
        ("free_run", 3, 0),
        ("free_run", 3, 1),
    }
    assert diverged[list(SCORES)].isna().all(axis=None)


def test_tables_of_a_flow_have_the_scores_of_its_vorticity(
    flows: Study, tables: Path, tmp_path: Path
) -> None:
    scores, costs = gather(flows)
    # Estimates miss the truth by a constant velocity after spin-up: their vorticity is right.
    np.testing.assert_allclose(scores.loc[~scores["diverged"], list(FLOW_SCORES)], 1, rtol=1e-4)
    write_tables(
        flows,
        scores,
        costs,
        folder=tmp_path,
        scores_path=tmp_path / "s.parquet",
        costs_path=tmp_path / "c.parquet",
    )
    table = markdown(tmp_path / "flow.md")
    assert table["SSIM of vorticity"].tolist() == ["1.000 ± 0.000", "1.000"] * 2
    assert table["CSI of vorticity"].tolist() == ["1.000 ± 0.000", "1.000"] * 2
    assert set(FLOW_SCORES.values()).isdisjoint(markdown(tables / "one_gap.md"))


def test_csv_has_mean_and_standard_deviation_over_seeds(tables: Path) -> None:
    table = pd.read_csv(tables / "gap_sweep.csv").set_index(["gap", "filter"])
    # Seeds 0 and 1 have errors e and 3 e.
    assert table.loc[(2, "enkf"), "rmse_mean"] == pytest.approx(2.0, rel=1e-4)
    assert table.loc[(2, "enkf"), "rmse_std"] == pytest.approx(np.sqrt(2), rel=1e-4)
    assert table.loc[(3, "enkf"), "rmse_analysis_mean"] == pytest.approx(3.0, rel=1e-4)
    assert table["runs"].tolist() == [2] * 4
    assert table["diverged"].to_dict() == {
        (2, "enkf"): 0,
        (2, "free_run"): 1,
        (3, "enkf"): 0,
        (3, "free_run"): 2,
    }
    assert table.loc[(2, "free_run"), "rmse_mean"] == pytest.approx(10.0, rel=1e-4)
    assert np.isnan(table.loc[(3, "free_run"), "rmse_mean"])


def test_markdown_is_for_people(tables: Path) -> None:
    table = markdown(tables / "gap_sweep.md")
    assert table["gap"].tolist() == ["2", "2", "3", "3"]
    assert table["filter"].tolist() == ["EnKF", "No assimilation"] * 2
    assert table["RMSE"].tolist() == [
        "**2.000 ± 1.414**",
        "10.000",
        "**3.000 ± 2.121**",
        "diverged",
    ]
    assert table["diverged"].tolist() == ["0 of 2", "1 of 2", "0 of 2", "2 of 2"]
    note = (tables / "gap_sweep.md").read_text(encoding="utf-8").splitlines()[0]
    for words in (
        "Gaps, 100% of them",
        "2 seeds",
        "runs that diverged or lost track left out",
        "3 cycles",
        "first 1 left out",
        "N = 4",
        "Too few seeds to judge",
    ):
        assert words in note


def test_latex_holds_the_same_numbers_and_escapes_what_it_must(tables: Path) -> None:
    text = (tables / "gap_sweep.tex").read_text(encoding="utf-8")
    # Filters by gap: both runs of the free run diverged at gap 3, and one at gap 2.
    assert r"EnKF & \textbf{2.000 $\pm$ 1.414} & \textbf{3.000 $\pm$ 2.121} \\" in text
    assert "No assimilation & 10.000 (1 div.) & diverged (2 div.)" in text
    assert text.count(r"\begin{table*}") == 3  # RMSE, RMSE of analyses, CRPS
    assert "Bold: the lowest mean" in text
    assert text.startswith("% Packages: booktabs, graphicx")
    assert r"100\% of them" in text
    assert r"\toprule" in text
    plain = re.sub(r"\\label\{.*?\}|\\[_%]|(?m:^%.*)", "", text)
    assert not set("_%") & set(plain)
    assert not set("±†") & set(text)
    assert "**" not in text


def test_latex_compiles(tables: Path, tmp_path: Path) -> None:
    compile_latex(tmp_path, *sorted(tables.glob("*.tex")))
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_long_latex_table_goes_on_over_pages_and_is_no_wider_than_one(
    tables: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.tex").write_text(
        lengthened((tables / "gap_sweep_paired.tex").read_text(encoding="utf-8")), encoding="utf-8"
    )
    said = compile_latex(tmp_path, tmp_path / "long.tex")
    assert int(re.search(r"\((\d+) page", said)[1]) > 1
    assert "Overfull" not in said


def lengthened(table: str) -> str:
    """A table with each of its rows thirty times."""
    return "\n".join(
        line
        for row in table.splitlines()
        for line in [row] * (30 if row.startswith(("2 &", "3 &")) else 1)
    )


def compile_latex(folder: Path, *inputs: Path) -> str:
    """Compiles a document of tables to all.pdf; what pdflatex said."""
    if (
        shutil.which("pdflatex") is None
        or not shutil.which("kpsewhich")
        or not run("kpsewhich", "booktabs.sty").stdout
    ):
        pytest.skip("no pdflatex with booktabs here: install texlive-latex-recommended")
    body = "".join(f"\\input{{{path}}}\n" for path in inputs)
    preamble = "\\documentclass{article}\n\\usepackage[margin=1in]{geometry}\n\\usepackage{booktabs,longtable,graphicx}\n"  # noqa: E501
    (folder / "all.tex").write_text(
        f"{preamble}\\begin{{document}}\n{body}\\end{{document}}\n", encoding="utf-8"
    )
    words = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        f"-output-directory={folder}",
        str(folder / "all.tex"),
    ]
    for _ in range(2):  # longtable measures its columns in the first
        done = run(*words)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, text=True, capture_output=True, check=False)  # noqa: S603


def test_latex_of_two_axes_has_blocks_and_of_one_point_has_scores(tmp_path: Path) -> None:
    observations = {
        name: {"operator": "identity", "noise": noise} for name, noise in (("a_b", 1), ("c", 2))
    }
    common = {
        "title": "Two", "system": "lorenz63", "parameters": {"dt": 0.01}, "members": 4, "cycles": 3,
        "spin_up_cycles": 1,
    }  # fmt: skip
    study = small_study(
        tmp_path,
        observations=observations,
        experiments={
            "two": {**common, "observations": ["a_b", "c"], "gaps": [2, 3]},
            "point": {**common, "observations": ["c"], "gaps": [2]},
        },
        figures={},
    )
    write_results(study)
    files = {"scores_path": tmp_path / "s", "costs_path": tmp_path / "c"}
    write_tables(study, *gather(study), folder=tmp_path / "tables", **files)
    text = (tmp_path / "tables" / "two.tex").read_text(encoding="utf-8")
    first = text.split(r"\end{table*}")[0]
    rows = [line for line in first.splitlines() if re.search(r"& \S.* & .*\d", line)]
    assert " & gap & 2 & 3" in first
    assert [row.split(" & ")[:2] for row in rows if "gap" not in row] == [
        ["a b", "Particle"], ["", "EnKF"], ["", "No assimilation"],
        ["c", "Particle"], ["", "EnKF"], ["", "No assimilation"],
    ]  # fmt: skip
    assert r"EnKF & 2.000 $\pm$ 1.414 & 3.000 $\pm$ 2.121" in rows[-2]
    point = (tmp_path / "tables" / "point.tex").read_text(encoding="utf-8")
    assert point.count(r"\begin{table*}") == 1
    assert "score & RMSE & analysis RMSE & CRPS" in point
    compile_latex(tmp_path, *(tmp_path / "tables" / f"{n}.tex" for n in ("two", "point")))


def test_settings_say_who_found_them(tmp_path: Path) -> None:
    study = small_study(tmp_path, pinned={"enkf": {"inflation": 1.1}})
    write_results(study)
    files = {"scores_path": tmp_path / "s", "costs_path": tmp_path / "c"}
    write_tables(study, *gather(study), folder=tmp_path / "tables", **files)
    table = pd.read_csv(tmp_path / "tables" / "settings.csv").set_index(["experiment", "filter"])
    enkf = table.loc[("Gaps, 100% of them", "EnKF")]
    assert enkf["where"] == "everywhere"
    assert "inflation 1.1" in enkf["parameters"]
    assert enkf["found"].endswith("pinned inflation")
    particle = table.loc[("One gap", "Particle"), "parameters"]
    assert "particles 100000" in particle
    note = (tmp_path / "tables" / "settings.md").read_text(encoding="utf-8").splitlines()[0]
    assert "Test seeds 0, 1; seed of training 0; tuning seeds of this study: none." in note


def test_settings_name_the_runs_that_found_them(tmp_path: Path) -> None:
    found = {"by": "hand", "seeds": [100, 101], "cycles": 30}
    tuned = {
        "enkf": {
            "settings": [
                {"when": {"gap": 2}, "parameters": {"inflation": 1.2}, "found": found},
            ]
        }
    }
    config = small_study(tmp_path).config.model_dump(exclude_defaults=True)
    definitions = {k: v.model_dump() for k, v in small_study(tmp_path).filters.items()}
    study = study_with(config, definitions, tuned)
    write_results(study)
    rows = settings_in_use(study, gather(study)[0]).set_index(["experiment", "filter", "where"])
    at = ("Gaps, 100% of them", "EnKF")
    assert rows.loc[(*at, "gap 2"), "found"] == "by hand, runs of 30 cycles, seeds 100, 101"
    assert rows.loc[(*at, "gap 2"), "parameters"] == "inflation 1.2"
    assert rows.loc[(*at, "gap 3"), "found"] == "default"


def test_scores_and_costs_are_in_csv_too(tables: Path) -> None:
    for name in ("scores", "costs"):
        parquet, csv = (
            read(tables.parent / f"{name}.{end}")
            for end, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv))
        )
        pd.testing.assert_frame_equal(csv, parquet, check_dtype=False)


def test_latex_escapes_labels(tmp_path: Path) -> None:
    labels = {"particle": "Particle", "enkf": "EnKF_2 & 5%", "free_run": "Free #1"}
    study = small_study(
        tmp_path, definitions={name: {"label": label} for name, label in labels.items()}
    )
    write_results(study)
    write_tables(
        study,
        *gather(study),
        scores_path=tmp_path / "s",
        costs_path=tmp_path / "c",
        folder=tmp_path / "tables",
    )
    for name in ("one_gap.tex", "one_gap_cost.tex"):
        text = (tmp_path / "tables" / name).read_text(encoding="utf-8")
        assert r"EnKF\_2 \& 5\% & " in text
        assert r"Free \#1 & " in text


def test_filters_keep_the_order_of_the_study(tables: Path) -> None:
    assert markdown(tables / "one_gap.md")["filter"].tolist() == [
        "Particle",
        "EnKF",
        "No assimilation",
    ]


def test_experiments_that_share_cells_show_the_same_numbers(tables: Path) -> None:
    one = pd.read_csv(tables / "one_gap.csv").set_index("filter")
    sweep = (
        pd.read_csv(tables / "gap_sweep.csv")
        .query("gap == 2")
        .set_index("filter")
        .drop(columns="gap")
    )
    pd.testing.assert_frame_equal(one.loc[["enkf", "free_run"]], sweep.loc[["enkf", "free_run"]])


def test_cost_leaves_out_the_first_cycle(tables: Path) -> None:
    table = pd.read_csv(tables / "one_gap_cost.csv").set_index("filter")
    assert table["seconds_per_cycle"].to_dict() == pytest.approx(
        dict.fromkeys(["particle", "enkf", "free_run"], 2.0)
    )
    assert table["cpu_seconds_per_cycle"].iloc[0] == pytest.approx(1.0)
    assert table["peak_memory_mib"].iloc[0] == pytest.approx(100.5)
    assert markdown(tables / "one_gap_cost.md")["seconds a cycle"].tolist() == ["2", "2", "2"]
    assert (tables / "one_gap_cost.tex").is_file()


def test_model_runs_are_those_of_the_files_and_unknown_ones_are_named(
    study: Study, tables: Path, frames: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    # A run that diverged in its first cycle finished none.
    runs = frames[1].set_index(["filter", "gap", "seed"])["model_runs_per_cycle"]
    assert runs.loc[("enkf", 2, 0)] == runs.loc[("particle", 2, 1)] == 4
    assert runs.loc[("free_run", 2, 1)] == 1
    table = pd.read_csv(tables / "one_gap_cost.csv").set_index("filter")
    assert table["model_runs_per_cycle"].to_dict() == {"particle": 4, "enkf": 4, "free_run": 1}
    assert markdown(tables / "one_gap_cost.md")["model runs"].tolist() == ["4", "4", "1"]
    assert "model runs" in (tables / "one_gap_cost.tex").read_text(encoding="utf-8")
    scores, costs = frames
    unknown = costs.assign(
        model_runs_per_cycle=costs["model_runs_per_cycle"].where(costs["filter"] != "enkf")
    )
    write_tables(
        study, scores, unknown, folder=tmp_path,
        scores_path=tmp_path / "s", costs_path=tmp_path / "c",
    )  # fmt: skip
    assert markdown(tmp_path / "one_gap_cost.md")["model runs"].tolist() == ["4", "unknown", "1"]
    shown = score_rows(study, scores, unknown).set_index(["filter", "gap"])["model runs"]
    assert shown.loc[("Particle", 2)] == 4
    assert np.isnan(shown.loc[("EnKF", 2)])


@pytest.mark.parametrize(
    ("by_cycle", "mean"), [([20, 40], 30), ([20, None], 20), ([np.nan, 3.0], 3), ([None], np.nan)]
)
def test_model_runs_are_averaged_over_the_cycles_that_are_known(
    by_cycle: list[float | None], mean: float
) -> None:
    assert mean_model_runs(by_cycle) == pytest.approx(mean, nan_ok=True)


@pytest.mark.parametrize(
    ("runs", "said"),
    [(100_000.0, "100000"), (561.333, "561.3"), (20.0, "20"), (float("nan"), "unknown")],
)
def test_model_runs_are_said_without_exponents(runs: float, said: str) -> None:
    assert runs_in_words(runs) == said


def test_parquet_holds_the_rows(
    study: Study, tables: Path, frames: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    assert tables.is_dir()
    for name, frame in zip(("scores", "costs"), frames, strict=True):
        pd.testing.assert_frame_equal(
            pd.read_parquet(Path(study.config.results) / f"{name}.parquet"), frame
        )


def test_tables_are_the_same_twice(study: Study, tables: Path, tmp_path: Path) -> None:
    paths = {"scores_path": tmp_path / "scores.parquet", "costs_path": tmp_path / "costs.parquet"}
    write_tables(study, *gather(study), folder=tmp_path / "tables", **paths)
    names = sorted(path.name for path in tables.iterdir())
    assert names == sorted(
        f"{name}.{suffix}" for name in study.tables for suffix in ("csv", "md", "tex")
    )
    for name in names:
        assert (tmp_path / "tables" / name).read_bytes() == (tables / name).read_bytes()


def test_one_seed_has_no_standard_deviation(tmp_path: Path) -> None:
    study = small_study(tmp_path, seeds={"test": [0]})
    write_results(study)
    write_tables(
        study,
        *gather(study),
        scores_path=tmp_path / "s",
        costs_path=tmp_path / "c",
        folder=tmp_path / "tables",
    )
    assert markdown(tmp_path / "tables" / "one_gap.md")["RMSE"].tolist() == [
        "**0.500**",
        "1.000",
        "10.000",
    ]
    assert markdown(tmp_path / "tables" / "one_gap_paired.md")["RMSE"].tolist() == [
        "**0.500**",
        "+0.500",
        "+9.500",
    ]
    assert (
        (tmp_path / "tables" / "one_gap.md")
        .read_text(encoding="utf-8")
        .startswith("One gap. One seed; 3 cycles")
    )
    for name in ("one_gap", "one_gap_paired"):
        assert "Too few seeds to judge whether others differ from it" in (
            tmp_path / "tables" / f"{name}.md"
        ).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of four seeds with results, in which the particle filter loses track on one, and the
    EnKF at gap 3 on all.
    """
    study = long_study(tmp_path_factory.mktemp("lost"))
    write_results(
        study,
        lost={("particle", 2, 1), *(("enkf", 3, seed) for seed in range(4))},
    )
    return study


def test_runs_that_lost_track_are_counted_and_averaged_apart(lost: Study) -> None:
    scores, costs = gather(lost)
    found = scores[scores["lost"]]
    assert set(zip(found["filter"], found["gap"], found["seed"], strict=True)) == {
        ("particle", 2, 1),
        *(("enkf", 3, seed) for seed in range(4)),
    }
    np.testing.assert_allclose(found["rmse"], LOST_ERROR, rtol=1e-4)  # their scores are kept
    folder = lost.results / "tables"
    write_tables(
        lost, scores, costs, folder=folder,
        scores_path=lost.results / "s", costs_path=lost.results / "c",
    )  # fmt: skip
    table = markdown(folder / "one_gap.md").set_index("filter")
    assert table["lost track"].tolist() == ["1 of 4: RMSE 80.000", "0 of 4", "0 of 4"]
    # Seeds 0, 2 and 3 of the particle filter are 0.5, 2.5 and 3.5; it is not the best.
    assert table["RMSE"].tolist()[0] == f"{6.5 / 3:.3f} ± {np.std([0.5, 2.5, 3.5], ddof=1):.3f}"
    assert table["RMSE"].tolist()[1].startswith("**4.000 ± ")
    numbers = pd.read_csv(folder / "gap_sweep.csv").set_index(["gap", "filter"])
    assert numbers.loc[(3, "enkf"), ["lost", "rmse_lost"]].tolist() == [4, pytest.approx(80)]
    assert np.isnan(numbers.loc[(3, "enkf"), "rmse_mean"])
    swept = markdown(folder / "gap_sweep.md").set_index(["gap", "filter"])
    assert swept.loc[("3", "EnKF"), "RMSE"] == "lost track"
    # Where no filter is left, a run without measurements is not the best.
    assert not swept.loc["3"].map(lambda text: "**" in text).any(axis=None)
    paired = markdown(folder / "one_gap_paired.md").set_index("filter")["RMSE"]
    assert paired.tolist()[:2] == ["lost track in 1 of 4", "**4.000**"]
    note = (folder / "one_gap.md").read_text(encoding="utf-8").splitlines()[0]
    assert "95% confidence interval" in note
    assert "5 analyses in a row are off by more than 0.7 of the free run's RMSE" in note


def test_without_a_free_run_the_truth_s_own_spread_says_what_is_lost(tmp_path: Path) -> None:
    study = long_study(tmp_path, filters=["particle", "enkf"], figures={})
    assert set(study.scored_truths) == {cell.truth for cell in study.cells.values()}
    write_results(study, lost={("enkf", 2, 0)})
    scores, _ = gather(study)
    runs = scores.set_index(["filter", "gap", "seed"])
    for key, run in runs.iterrows():
        truth = read_truth(study.results / run["cell"] / "truth.nc").truth
        # Each estimate is off by a constant, and its spread is half of that.
        assert run["lost"] == (run["rmse"] > 0.7 * truth.std(axis=0).mean()), key
    assert runs.loc[("enkf", 2, 0), "lost"]
    assert not runs["lost"].all()


def test_paired_table_marks_the_best_and_what_is_not_distinguishable_from_it(
    tables: Path, tmp_path: Path
) -> None:
    study = long_study(tmp_path)
    write_results(study)
    write_tables(
        study, *gather(study), folder=tmp_path,
        scores_path=tmp_path / "s", costs_path=tmp_path / "c",
    )  # fmt: skip
    paired = markdown(tmp_path / "one_gap_paired.md").set_index("filter")
    # Errors of the particle filter are 0.5, 1.5, 2.5 and 3.5, those of the EnKF twice that.
    assert paired.loc["EnKF", "RMSE"] == "+2.000 [-0.054, +4.054] †"
    shown = markdown(tmp_path / "one_gap.md").set_index("filter")["CRPS"]
    assert shown["EnKF"].endswith(" †")

    # Of two seeds there is an interval, and no verdict. Errors of the particle filter are 0.5 and
    # 1.5, those of the EnKF 1 and 3: differences 0.5 and 1.5, t quantile 12.7.
    half = scipy.stats.t.ppf(0.975, 1) * 0.5
    paired = markdown(tables / "one_gap_paired.md").set_index("filter")
    assert paired.loc["Particle", "RMSE"] == "**1.000**"
    assert paired.loc["EnKF", "RMSE"] == f"+1.000 [{1 - half:+.3f}, {1 + half:+.3f}]"
    assert paired.loc["No assimilation", "RMSE"] == "diverged in 1 of 2"
    shown = markdown(tables / "one_gap.md").set_index("filter")["CRPS"]
    assert shown.tolist() == ["**0.250 ± 0.177**", "0.500 ± 0.354", "2.500"]
    numbers = pd.read_csv(tables / "one_gap_paired.csv").set_index(["score", "filter"])
    assert numbers.loc[("rmse", "enkf"), "low"] == pytest.approx(1 - half, rel=1e-4)
    assert numbers.loc[("rmse", "enkf"), "best"] == "particle"


def test_exactness_is_the_distance_to_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = exact_study(tmp_path)
    write_results(study, diverged={("free_run", 2, 1): 2})
    reads: Counter[Path] = Counter()
    monkeypatch.setattr(
        masf.stages.aggregate,
        "read_estimate",
        lambda path, *names: reads.update([path]) or read_estimate(path, *names),
    )
    scores, costs = gather(study)
    assert set(reads.values()) == {1}
    rows = scores[scores["gap"] == 2].set_index(["filter", "seed"])
    # Estimates miss the truth by 1 (enkf), 10 and 0.5 in each of three components, times 1 and 3;
    # the spread is as large.
    assert rows.loc[("particle", 1), "mean_distance"] == pytest.approx(0.5, rel=1e-4)
    assert rows.loc[("particle", 1), "covariance_distance"] == pytest.approx(0.75, rel=1e-4)
    assert rows.loc[("particle", 1), "energy_distance"] == pytest.approx(
        np.sqrt(2 * np.sqrt(3) * 1.5), rel=1e-4
    )
    assert rows.loc["enkf", list(EXACTNESS)].isna().all(axis=None)
    assert rows.loc[("free_run", 1), list(EXACTNESS)].isna().all()
    assert scores.loc[scores["gap"] == 3, list(EXACTNESS)].isna().all(axis=None)
    write_tables(
        study,
        scores,
        costs,
        scores_path=tmp_path / "s",
        costs_path=tmp_path / "c",
        folder=tmp_path / "tables",
    )
    table = markdown(tmp_path / "tables" / "one_gap_exactness.md")
    assert table["filter"].tolist() == ["Particle", "No assimilation"]
    assert table["distance of means"].tolist() == ["0.500 ± 0.000", "9.000"]
    assert not (tmp_path / "tables" / "gap_sweep_exactness.md").exists()


def test_reference_that_diverged_leaves_no_distances(tmp_path: Path) -> None:
    study = exact_study(tmp_path)
    write_results(study, diverged={("enkf", 2, 0): 1})
    scores, _ = gather(study)
    known = scores.set_index(["gap", "filter", "seed"])["mean_distance"].notna()
    assert set(known[known].index) == {(2, "particle", 1), (2, "free_run", 1)}


def test_file_without_what_distances_need_is_named(tmp_path: Path) -> None:
    write_results(small_study(tmp_path))
    with pytest.raises(
        FileFault, match=r"gap~2.*\.nc: lacks covariance; remove it and run stage assimilate again"
    ):
        gather(exact_study(tmp_path))


def test_mixed_code_versions_are_refused_and_named_unless_accepted(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study, versions={("enkf", 3, 1): "v2"})
    with pytest.raises(ConfigFault) as caught:
        gather(study)
    message = str(caught.value)
    for words in (
        "'enkf'",
        "v1",
        "v2",
        "gap~3/members~4/seed~1/enkf.nc",
        "gap~2/members~4/seed~0/enkf.nc",
        "accept_mixed_versions: true",
    ):
        assert words in message
    assert "free_run" not in message
    scores, _ = gather(small_study(tmp_path, accept_mixed_versions=True))
    assert set(scores["code_version"]) == {"v1", "v2"}


def test_estimate_of_other_parameters_than_the_study_s_is_refused_and_named(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study)
    edited = small_study(tmp_path, pinned={"enkf": {"inflation": 1.5}})
    with pytest.raises(
        FileFault, match=r"enkf\.nc: was made with other filter parameters than the study's"
    ):
        gather(edited)
