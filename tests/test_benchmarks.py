"""The benchmark scripts still fit the package: they are run by hand only, and would break in
silence.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import torch

from masf.stages.simulate import simulate
from masf.study.load import make_study, read_mapping

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ELSEWHERE = {"dapper_analyses"}
"""Scripts for another environment, which import what is not installed here."""
README = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
MADE_BY = re.findall(r"^\| `(\w+\.csv)` \| `([\w/]+\.(?:py|yaml))` \|", README, flags=re.MULTILINE)
"""Results, and the script or study that makes each, as the page says."""


def test_each_result_has_one_generator_that_exists_and_whose_name_it_begins_with() -> None:
    results = [result for result, _ in MADE_BY]
    assert sorted(results) == sorted(path.name for path in (BENCHMARKS / "results").iterdir())
    for result, generator in MADE_BY:
        path = BENCHMARKS.parent / generator if "/" in generator else BENCHMARKS / generator
        assert path.is_file(), result
        assert re.fullmatch(rf"{path.stem}(_\w+)?\.csv", result), (result, generator)


def test_each_script_and_study_is_on_the_page() -> None:
    files = [path.name for path in BENCHMARKS.iterdir() if path.suffix in {".py", ".yaml"}]
    assert [name for name in files if f"`{name}`" not in README] == []


def laid_over_each_other(study: str) -> list[str]:
    """The study files of the command that a study says at its head that it is run by, lowest first;
    itself alone where that is make study.
    """
    text = (BENCHMARKS / study).read_text(encoding="utf-8")
    command = re.search(r"^#   snakemake .*--configfile (.+)$", text, flags=re.MULTILINE)
    return re.findall(r"benchmarks/(\S+)", command[1]) if command else [study]


@pytest.mark.parametrize(
    ("result", "study"),
    [
        (r, s)
        for r, s in MADE_BY
        if s.endswith(".yaml") and r == f"{Path(s).stem}.csv" and "/" not in s
    ],
)
def test_a_result_has_the_filters_and_seeds_of_its_study(scripts, result: str, study: str) -> None:
    content = scripts("ship").config_of(laid_over_each_other(study))
    rows = pd.read_csv(BENCHMARKS / "results" / result)
    assert set(rows["filter"]) == set(content["filters"])
    assert set(rows["seed"]) == set(content["seeds"]["test"])
    assert rows["rmse"].isna().equals(rows["diverged"])
    assert not rows.drop(columns=[c for c in rows if rows[c].dtype == float]).duplicated().any()


def test_figures_of_scores_are_drawn_from_a_run_of_each_filter_in_each_cell(scripts) -> None:
    figures = scripts("figures")
    for name in figures.FIGURES:
        study = figures.study_of(name)
        rows = pd.DataFrame(figures.rows_of(name, study))
        assert not rows.duplicated(["cell", "filter"]).any()
        assert set(zip(rows["cell"], rows["filter"], strict=True)) == {
            (cell.path, shown) for cell in study.cells.values() for shown in cell.filters
        }
        assert (figures.FOLDER / f"{name}.png").is_file()


def test_results_beneath_each_other_share_columns_and_have_no_run_twice(scripts) -> None:
    tables = scripts("tables")
    both = tables.read(["window_network.csv", "window.csv"])
    assert set(both["filter"]) == {"masf", "masf_gaussian", "letkf", "ienks"}
    with pytest.raises(click.ClickException, match=r"figure4.csv: its points are named by"):
        tables.read(["window_network.csv", "figure4.csv"])
    with pytest.raises(click.ClickException, match="have the same run"):
        tables.read(["figure4_passes.csv", "figure4.csv"])


def test_documents_have_the_tables_that_their_results_give(scripts):
    tables = scripts("tables")
    documents = [path for pattern in tables.DOCUMENTS for path in tables.ROOT.glob(pattern)]
    found = {path: path.read_text(encoding="utf-8") for path in documents}
    assert sum(len(tables.TABLE.findall(text)) for text in found.values()) > 20
    for path, text in found.items():
        assert text.count("<!-- table: ") == len(tables.TABLE.findall(text)), path
        assert tables.filled(text) == text, f"{path}: python benchmarks/tables.py"
    # A figure that is typed by hand is put right.
    page = found[tables.ROOT / "docs" / "results" / "figure-3.md"]
    assert tables.filled(page.replace("2.661", "1.661")) == page


def test_tables_of_scores_count_diverged_runs_and_mark_the_best_of_the_others(scripts):
    tables = scripts("tables")
    rows = pd.DataFrame({
        "filter": ["masf", "masf", "letkf", "letkf", "ensf", "ensf"], "gap": 5, "seed": [0, 1] * 3,
        "rmse": [1.0, 2.0, 3.0, 4.5, 0.5, np.nan], "diverged": [False] * 5 + [True],
        "lost": False,
    })  # fmt: skip
    assert tables.sweep(rows, "gap").to_dict("list") == {
        "filter": ["MASF", "EnSF", "LETKF"],
        5: ["**1.500 ± 0.707**", "0.500 (1 of 2 diverged)", "3.750 ± 1.061"],
    }
    rows.loc[4, ["rmse", "lost"]] = [3.9, True]
    assert tables.sweep(rows, "gap")[5].tolist()[1:] == [
        "1 of 2 diverged, 1 of 2 lost",
        "3.750 ± 1.061",
    ]
    rows.loc[4, ["rmse", "lost"]] = [0.5, False]
    (point,) = tables.points_of(rows, ["gap"])
    assert (point["rival"], point["difference"], point["lowest"]) == ("letkf", 2.25, "masf")


def test_a_score_over_that_of_a_reference_is_paired_by_seed(scripts):
    rows = pd.DataFrame({
        "filter": ["masf", "masf", "particle", "particle"], "gap": 5, "seed": [0, 1, 1, 0],
        "rmse": [1.0, 4.0, 2.0, 1.0], "diverged": False, "lost": False,
    })  # fmt: skip
    tables = scripts("tables")
    found = tables.relative(rows, "gap", to="particle")
    assert found.to_dict("list") == {"filter": ["MASF"], 5: ["**1.500 ± 0.707**"]}
    with pytest.raises(pd.errors.MergeError):  # whose reference is not one run
        tables.relative(pd.concat([rows, rows[2:]]), "gap", to="particle")
    with pytest.raises(click.ClickException, match=r"particle has no run beside .*'seed': 0"):
        tables.relative(rows[:3], "gap", to="particle")


def test_scores_are_kept_with_what_varies(scripts):
    scores = pd.DataFrame(
        {
            "parameter_dt": 0.01,
            "parameter_dimension": [20.0, 40.0],
            "observation": "all",
            "gap": 5,
            "members": 10,
            "filter": "enkf",
            "seed": 0,
            "rmse": [0.1, np.nan],
            "ssim": np.nan,
            "diverged": [False, True],
            "lost": [False, False],
        }
    )
    # No parameter of a system, for all its name.
    scores["parameter_source"] = [f"source {i}" for i in range(len(scores))]
    kept = scripts("record").recorded(scores)
    assert list(kept) == ["dimension", "filter", "seed", "rmse", "diverged", "lost"]
    assert kept["dimension"].tolist() == [20, 40]


@pytest.mark.parametrize("name", ["figure4", "gap_sweep"])
def test_studies_of_figure_4_measure_and_train_as_the_whole_study(name: str) -> None:
    part, whole = (
        read_mapping(BENCHMARKS.parent / path)
        for path in (f"benchmarks/{name}.yaml", "config/config.yaml")
    )
    make_study(part, root=BENCHMARKS.parent)
    for key in ("seeds", "observations", "priors"):
        assert part[key].items() <= whole[key].items()
    for title, experiment in part["experiments"].items():
        of_whole = {
            key: value
            for key, value in whole["experiments"][title].items()
            if key != "leave_out_filters"
        }
        assert experiment | {"observations": None} == of_whole | {"observations": None}
        assert set(experiment["observations"]) <= set(of_whole["observations"])
    if name == "figure4":
        assert part["figures"]["figure4"] == whole["figures"]["figure4"]


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return importlib.import_module


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in BENCHMARKS.glob("*.py")} - ELSEWHERE)
)
def test_scripts_find_what_they_import(name, scripts):
    scripts(name)


def test_a_match_is_a_row_for_each_rival_that_is_installed(scripts, tmp_path, capfd, monkeypatch):
    bench = scripts("bench")
    (match,) = [m for m in bench.matches(tmp_path) if (m.name, m.dimension) == ("letkf", 40)]
    monkeypatch.setitem(bench.PYTHONS, "dapper", tmp_path / "python")
    assert bench.play(match, 1, 1) == []
    assert "letkf: dapper is not installed (make dapper); left out" in capfd.readouterr().err
    ours = bench.Contestant("another", "masf", "etkf")
    (row,) = bench.play(bench.Match("letkf", 40, match.ours, (ours,)), 2, 1)
    assert (row["rival"], row["rounds"]) == ("another", 2)
    assert row["ratio_median"] > 0


def test_ratios_are_the_rivals_seconds_over_ours(scripts):
    row = scripts("bench").row(
        "task",
        "case",
        "rival",
        np.array([1.0, 2.0]),
        np.array([3.0, 6.0]),
        np.ones(2),
        np.full(2, 5.0),
    )
    assert (row["ratio_quarter"], row["ratio_median"], row["cpu_ratio_median"]) == (3.0, 3.0, 5.0)


@pytest.mark.parametrize("name", ["letkf", "masf_gaussian", "ensf", "masf_mc"])
def test_filters_agree_between_numpy_and_torch_on_each_device_with_the_same_numbers(
    name, scripts, tmp_path
):
    gpu = scripts("gpu")
    study = make_study(
        read_mapping(BENCHMARKS.parent / "config" / "config.yaml"), root=BENCHMARKS.parent
    )
    cell = gpu.cell_of(study, "kolmogorov", gap=5, seed=0, size=16, cycles=2)
    truth, prior = simulate(cell.settings), tmp_path / "none"
    expected = gpu.with_same_numbers(study, name, cell, truth, prior, None, 2)
    assert np.ptp(expected.mean[-1]) > 1
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found = gpu.with_same_numbers(study, name, cell, truth, prior, device, 2)
        assert np.abs(found.mean - expected.mean).max() < 1e-3 * expected.spread.mean(), device


def test_the_measurement_on_a_gpu_leaves_a_row_for_each_stage_and_filter(tmp_path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    words = [
        "--size",
        "16",
        "--cycles",
        "2",
        "--compared-cycles",
        "2",
        "--threads",
        "1",
        "--filter",
        "letkf",
        "--filter",
        "ssls",
    ]
    for _ in range(2):
        command = [
            sys.executable,
            str(BENCHMARKS / "gpu.py"),
            *words,
            "--device",
            device,
            "--output",
            str(tmp_path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr
    rows, stages = (pd.read_csv(tmp_path / name) for name in ("gpu.csv", "gpu_stages.csv"))
    assert stages["stage"].tolist() == ["simulate"]
    rows = rows.set_index("filter")
    assert sorted(rows.index) == ["letkf", "ssls"]
    assert rows["rmse"].notna().all()
    assert 0 <= rows.loc["letkf", "difference_last"] < 1e-3
    assert np.isnan(rows.loc["ssls", "difference_last"])
