"""Figures from results whose scores are known: files in both formats, the same twice, and a look
for every filter.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN
from PIL import Image
from synthetic import error_of, flow_study, small_study, write_results

from masf.atomic import FileFault
from masf.files.truth import read_truth
from masf.report.figures.kinds import DRAWINGS
from masf.report.figures.look import Look, rc_of, readable, spread, styled
from masf.report.figures.model_runs import model_runs, model_runs_data
from masf.report.figures.panels import log_ticks
from masf.report.figures.ranks import rank_histograms
from masf.report.figures.space_time import space_time
from masf.report.figures.spectra import spectra
from masf.report.figures.sweep import sweep, sweep_data
from masf.report.figures.trajectories import trajectories
from masf.report.figures.vorticity import Run, animation, vorticity
from masf.report.palette import OTHER_COLOURS, looks
from masf.scores.comparison import paired_interval
from masf.stages.aggregate import gather
from masf.stages.plot import draw
from masf.study.figures.kinds import Figure
from masf.study.figures.model_runs import ModelRunsFigure
from masf.study.figures.ranks import RankFigure
from masf.study.figures.spectra import SpectraFigure
from masf.study.figures.style import Style
from masf.study.figures.sweep import SweepFigure
from masf.study.figures.trajectories import TrajectoryFigure
from masf.study.figures.vorticity import AnimationFigure, VorticityFigure
from masf.study.filter_files import FilterDefinition, FilterLook
from masf.study.load import read_mapping
from masf.study.messages import ConfigFault
from masf.study.study import Study
from masf.systems import flow

GAP_SWEEP = {
    "title": "Gaps",
    "system": "lorenz63",
    "parameters": {"dt": 0.01},
    "observations": ["every_one"],
    "gaps": [2, 3],
    "members": 4,
    "cycles": 3,
}
SWEEP = {
    "kind": "sweep",
    "title": "Sweep",
    "panels": [{"experiment": "gap_sweep", "axis": "gap", "observation": "every_one"}],
}


@pytest.fixture(autouse=True)
def _usual_style() -> Iterator[None]:
    with plt.rc_context(rc_of(Style())):
        yield


@pytest.fixture(scope="module")
def scores(study: Study) -> Path:
    path = Path(study.config.results) / "scores.parquet"
    gather(study)[0].to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["sweep", "paths", "ranks"])
def test_figure_is_drawn_in_each_format_and_is_the_same_twice(
    name: str, study: Study, scores: Path, tmp_path: Path
) -> None:
    before = plt.get_fignums()
    for folder in ("one", "two"):
        draw(
            study,
            name,
            scores,
            [tmp_path / folder / f"{name}.{suffix}" for suffix in ("pdf", "svg", "png")],
        )
    for suffix, magic in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        content = (tmp_path / "one" / f"{name}.{suffix}").read_bytes()
        assert content.startswith(magic)
        assert len(content) > 5000
        assert (tmp_path / "two" / f"{name}.{suffix}").read_bytes() == content
    assert b"Software" not in content  # a PNG says by which version of Matplotlib it was drawn
    assert plt.get_fignums() == before


def test_what_a_sweep_plots_is_written_a_column_a_filter(
    study: Study, scores: Path, tmp_path: Path
) -> None:
    assert draw(study, "sweep", scores, [tmp_path / "s.csv"]) == [tmp_path / "s.csv"]
    table = pd.read_csv(tmp_path / "s.csv").set_index("gap")
    errors = {gap: [error_of("enkf", gap, seed) for seed in (0, 1)] for gap in (2, 3)}
    for gap, of_seeds in errors.items():
        np.testing.assert_allclose(table.loc[gap, "enkf"], np.mean(of_seeds), rtol=1e-4)
        bar = np.std(of_seeds, ddof=1)
        for end in ("minus", "plus"):
            np.testing.assert_allclose(table.loc[gap, f"enkf_{end}"], bar, rtol=1e-4)
    # One run of the free run diverged at gap 2, and both did at gap 3.
    assert np.isfinite(table.loc[2, "free_run"])
    assert np.isnan(table.loc[2, "free_run_plus"])
    assert np.isnan(table.loc[3, "free_run"])
    assert ",nan" in (tmp_path / "s.csv").read_text(encoding="utf-8")


def test_what_several_panels_plot_is_written_a_file_each(
    flows: Study, flow_scores: Path, sizes: Study, tmp_path: Path
) -> None:
    written = draw(flows, "scores", flow_scores, [tmp_path / "s.csv"])
    assert [path.name for path in written] == ["s_a.csv", "s_b.csv", "s_c.csv"]
    run = pd.read_csv(written[1])
    assert list(run) == ["model_time", "enkf", "free_run"]
    np.testing.assert_allclose(run["enkf"][-6:], [1, 2, 1, 1, 2, 1], rtol=1e-4)
    assert list(pd.read_csv(written[2])) == ["model_time", "enkf", "free_run"]
    costs = draw(sizes, "costs", sizes.results / "scores.parquet", [tmp_path / "c.csv"])
    of_gap = pd.read_csv(costs[0]).set_index("members")
    assert of_gap["enkf_runs"].to_dict() == {4: 4, 8: 8}
    mean = np.mean([error_of("enkf", 2, seed) for seed in (0, 1)])
    np.testing.assert_allclose(of_gap["enkf"], mean, rtol=1e-4)


def test_formats_that_a_figure_cannot_have_are_refused_before_anything_is_written(
    study: Study,
    scores: Path,
    flows: Study,
    flow_scores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = tmp_path / "good.png"
    for name, ending, said in (
        ("sweep", "jpg", "choose pdf, png, svg, pgf, csv, gif"),
        ("sweep", "gif", "does not move"),
        ("paths", "csv", "written of sweep, model_runs"),
    ):
        with pytest.raises(ConfigFault, match=rf"bad\.{ending}: .*{said}"):
            draw(study, name, scores, [good, tmp_path / f"bad.{ending}"])
    with pytest.raises(ConfigFault, match="made of pictures"):
        draw(flows, "fields", flow_scores, [good, tmp_path / "bad.pgf"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigFault, match="PGF needs one of pdflatex"):
        draw(study, "sweep", scores, [good, tmp_path / "bad.pgf"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="PGF needs a LaTeX")
def test_pgf_and_what_is_plotted_go_into_a_document(
    study: Study, scores: Path, tmp_path: Path
) -> None:
    draw(study, "sweep", scores, [tmp_path / "sweep.pgf", tmp_path / "sweep.csv"])
    plot = (
        "\\addplot+[error bars/.cd, y dir=both, y explicit] table [x=gap, y=free_run, "
        "y error minus=free_run_minus, y error plus=free_run_plus, col sep=comma] {sweep.csv};"
    )
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{pgfplots}\\pgfplotsset{compat=1.16}"
        "\\begin{document}\\input{sweep.pgf}"
        f"\\begin{{tikzpicture}}\\begin{{axis}}{plot}\\end{{axis}}\\end{{tikzpicture}}"
        "\\end{document}",
        encoding="utf-8",
    )
    done = subprocess.run(  # noqa: S603
        [str(shutil.which("pdflatex")), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if "pgfplots.sty' not found" in done.stdout:
        pytest.skip("no pgfplots here: install texlive-pictures")
    assert done.returncode == 0, done.stdout[-2000:]


def test_sweep_shows_means_and_leaves_diverged_points_out(study: Study, scores: Path) -> None:
    definition = study.config.figures["sweep"]
    assert isinstance(definition, SweepFigure)
    figure = sweep(study, definition, pd.read_parquet(scores))
    (ax,) = figure.axes
    lines = {
        tuple(line.get_xdata()): np.asarray(line.get_ydata(), dtype=float)
        for line in ax.lines
        if line.get_marker() not in {"None", "|", "_", "x"}
    }
    plt.close(figure)
    enkf = [np.mean([error_of("enkf", gap, seed) for seed in (0, 1)]) for gap in (2, 3)]
    np.testing.assert_allclose(lines[2, 3], enkf, rtol=1e-4)
    np.testing.assert_allclose(lines[2,], [error_of("free_run", 2, 0)], rtol=1e-4)
    assert ax.get_xlabel() == "measurement gap (steps)"
    assert ax.get_title(loc="left").startswith("(a) ")
    assert {text.get_text() for text in ax.texts} == {"EnKF", "No assimilation"}
    # One run of the free run diverged at gap 2, and both did at gap 3.
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[2, 3]]
    assert figure.get_supxlabel().endswith("×: some runs diverged")


def test_runs_that_lost_track_are_hollow_points_apart_from_the_mean(
    study: Study, scores: Path, sizes: Study
) -> None:
    table = pd.read_parquet(scores)
    table["lost"] = (table["filter"] == "enkf") & (table["seed"] == 1)
    figure = sweep(study, study.config.figures["sweep"], table)
    (ax,) = figure.axes
    hollow = [line.get_xydata() for line in ax.lines if line.get_markerfacecolor() == "none"]
    plt.close(figure)
    np.testing.assert_allclose(
        hollow[0], [(gap, error_of("enkf", gap, 1)) for gap in (2, 3)], rtol=1e-4
    )
    lines = [line.get_ydata() for line in ax.lines if line.get_linestyle() != "None"]
    first = [error_of("enkf", gap, 0) for gap in (2, 3)]
    assert any(len(y) == 2 and np.allclose(y, first, rtol=1e-4) for y in lines)
    assert "hollow: runs that lost track, left out of means" in figure.get_supxlabel()
    # The same of a figure of model runs, at the runs that they took.
    rows, costs = (
        pd.read_parquet(sizes.results / f"{name}.parquet") for name in ("scores", "costs")
    )
    rows["lost"] = (rows["filter"] == "enkf") & (rows["seed"] == 1)
    figure = model_runs(sizes, sizes.config.figures["costs"], rows, costs)
    hollow = [
        line.get_xydata()
        for line in figure.axes[0].lines
        if line.get_markerfacecolor() == "none" and line.get_linestyle() == "None"
    ]
    plt.close(figure)
    assert sorted(hollow[0].tolist()) == [
        pytest.approx([n, error_of("enkf", 2, 1)], rel=1e-4) for n in (4, 8)
    ]


def test_panel_over_time_says_that_the_run_lost_track(flows: Study, flow_scores: Path) -> None:
    table = pd.read_parquet(flow_scores)
    table["lost"] = table["filter"] == "enkf"
    figure = sweep(flows, flows.config.figures["scores"], table)
    said = {text.get_text() for text in figure.axes[1].texts}
    plt.close(figure)
    assert any(text.startswith("EnKF  ") and text.endswith(", lost track") for text in said)


def test_a_deviation_above_the_mean_does_not_stretch_a_logarithmic_axis(
    study: Study, scores: Path
) -> None:
    table = pd.read_parquet(scores)
    enkf = table["filter"] == "enkf"
    table.loc[enkf, "rmse"] = np.where(table.loc[enkf, "seed"] == 0, 0.1, 20.0)
    figure = sweep(study, study.config.figures["sweep"], table)
    low, _ = figure.axes[0].get_ylim()
    arrows = [line for line in figure.axes[0].lines if line.get_marker() == CARETDOWN]
    plt.close(figure)
    np.testing.assert_allclose(low, 0.09)
    # Both of its bars go on below the axis.
    assert [list(line.get_xdata()) for line in arrows] == [[2, 3]]
    assert "arrow at the border: the bar goes on" in figure.get_supxlabel()


def test_bars_are_inside_their_panel(study: Study, scores: Path) -> None:
    table = pd.read_parquet(scores)
    enkf = table["filter"] == "enkf"
    table.loc[enkf, "rmse"] = np.where(table.loc[enkf, "seed"] == 0, 1.0, 1.5)
    figure = sweep(study, study.config.figures["sweep"], table)
    low, high = figure.axes[0].get_ylim()
    plt.close(figure)
    bar = np.std([1.0, 1.5], ddof=1)
    assert low < 1.25 - bar < 1.25 + bar < high


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (0.3, 0.95, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.15, 4.5, [0.2, 0.5, 1, 2]),
        (0.15, 11, [0.2, 0.5, 1, 2, 5, 10]),
        (0.45, 2.2, [0.5, 0.7, 1, 2]),
        (0.22, 1.55, [0.3, 0.4, 0.6, 1, 1.5]),
        (0.9, 1.12, [0.9, 0.95, 1, 1.05, 1.1]),
        (1e-3, 1e3, [1e-3, 1e-2, 0.1, 1, 10, 100, 1e3]),
    ],
)
def test_logarithmic_axis_has_enough_round_numbers(
    low: float, high: float, numbers: list[float]
) -> None:
    found = log_ticks(low, high)
    assert 5 <= len(found) <= 9
    assert all(low <= tick <= high for tick in found)
    assert set(np.round(numbers, 9)) <= set(np.round(found, 9))


def test_panels_of_one_score_in_a_row_have_the_same_limits(study: Study, scores: Path) -> None:
    panel = {"experiment": "gap_sweep", "axis": "gap", "observation": "every_one"}
    one = {"experiment": "one_gap", "axis": "gap", "observation": "every_one"}
    panels = [panel, one, panel, {**panel, "score": "crps"}]
    figure = sweep(
        study, SweepFigure(kind="sweep", title="Four", panels=panels), pd.read_parquet(scores)
    )
    limits = [ax.get_ylim() for ax in figure.axes]
    plt.close(figure)
    assert limits[0] == limits[1] != limits[2]
    assert limits[2] != limits[3]


def many_filters(results: Path, count: int, **changes: object) -> tuple[Study, pd.DataFrame]:
    """A study of as many filters, and scores: the RMSE of filter i is 1 + i/10, of two seeds."""
    definitions = {f"f{i}": {"filter": "free_run", "label": f"Filter {i}"} for i in range(count)}
    study = small_study(
        results,
        filters=list(definitions),
        definitions=definitions,
        experiments={"gap_sweep": GAP_SWEEP},
        figures={"sweep": {**SWEEP, **changes}},
    )
    rows = [
        {
            "cell": path,
            "observation": "every_one",
            "gap": cell.settings.gap,
            "seed": cell.settings.seed,
            "filter": name,
            "lost": False,
            "diverged": False,
            "rmse": (1.0 + i / 10) * (1 + cell.settings.seed * (1 + i / 100)),
        }
        for path, cell in study.cells.items()
        for i, name in enumerate(definitions)
    ]
    return study, pd.DataFrame(rows)


def test_more_lines_than_can_be_told_apart_go_to_a_second_figure(tmp_path: Path) -> None:
    study, rows = many_filters(tmp_path, 11)
    assert list(study.figures) == ["sweep", "sweep_others"]
    # The best of all is the last of the study, and one diverged on all seeds at one of two gaps.
    rows.loc[rows["filter"] == "f10", "rmse"] = 0.5
    hopeless = (rows["filter"] == "f0") & (rows["gap"] == 2)
    rows.loc[hopeless, "rmse"], rows.loc[hopeless, "diverged"] = np.nan, True
    shown = []
    for definition in study.figures.values():
        figure = sweep(study, definition, rows)
        shown.append({text.get_text() for text in figure.axes[0].texts})
        plt.close(figure)
        assert "figure" in definition.explanation
    assert shown == [
        {f"Filter {i}" for i in (0, 1, 2, 3, 4, 5, 6, 10)},
        {f"Filter {i}" for i in (7, 8, 9)},
    ]
    assert study.figures["sweep_others"].title == "Sweep: the other filters"
    # Filters that are named are all shown.
    named, _ = many_filters(tmp_path, 11, filters=[f"f{i}" for i in range(10)])
    assert list(named.figures) == ["sweep"]


def test_companion_shows_ratios_paired_by_seed(tmp_path: Path) -> None:
    study, rows = many_filters(tmp_path, 3, relative_to="f1")
    assert list(study.figures) == ["sweep", "sweep_relative"]
    lost = (rows["filter"] == "f2") & (rows["gap"] == 3) & (rows["seed"] == 1)
    rows.loc[lost, "lost"] = True
    definition = study.figures["sweep_relative"]
    figure = sweep(study, definition, rows)
    (ax,) = figure.axes
    said, label, note = (
        {text.get_text() for text in ax.texts},
        ax.get_ylabel(),
        figure.get_supxlabel().replace("\n", " "),
    )
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    plt.close(figure)
    assert said == {"Filter 0", "Filter 1", "Filter 2"}
    assert label == "RMSE / that of Filter 1 (log scale)"
    assert "hollow: pairs with a run that diverged or lost track are left out" in note
    assert [list(line.get_xdata()) for line in hollow] == [[3]]
    (table,) = sweep_data(study, definition, rows)
    table = table.set_index("gap")
    np.testing.assert_allclose(table["f1"], 1)
    logs = np.log([1.0 / 1.1, 2.0 / (1.1 * 2.01)])
    low, high = paired_interval(logs)
    mean = np.exp(logs.mean())
    np.testing.assert_allclose(table["f0"], mean)
    np.testing.assert_allclose(table["f0_minus"], mean - np.exp(low))
    np.testing.assert_allclose(table["f0_plus"], np.exp(high) - mean)
    # One pair is left, and has no interval.
    np.testing.assert_allclose(table.loc[3, "f2"], 1.2 / 1.1)
    assert np.isnan(table.loc[3, "f2_plus"])


def test_companion_names_what_is_far_from_the_other_filter(tmp_path: Path) -> None:
    study, rows = many_filters(tmp_path, 3, relative_to="f0")
    rows.loc[rows["filter"] == "f2", "rmse"] *= 5
    figure = sweep(study, study.figures["sweep_relative"], rows)
    said, note = {text.get_text() for text in figure.axes[0].texts}, figure.get_supxlabel()
    plt.close(figure)
    assert said == {"Filter 0", "Filter 1"}
    assert "nowhere within a factor of 2 in (a): Filter 2" in note


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"relative_to": "f7"}, "figures.sweep.relative_to = 'f7'"),
        ({"relative_to": "f0", "score": "spread_skill"}, "no panel shows an error"),
    ],
)
def test_companion_of_what_is_not_there_is_refused(
    changes: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigFault, match=said):
        many_filters(tmp_path, 3, **changes)


def test_figure_that_would_take_another_s_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match=r"figures\.sweep: makes a figure 'sweep_relative'"):
        small_study(
            tmp_path,
            experiments={"gap_sweep": {**GAP_SWEEP, "leave_out_filters": ["particle"]}},
            figures={"sweep": {**SWEEP, "relative_to": "enkf"}, "sweep_relative": SWEEP},
        )


def styled_sweep(results: Path, style: dict[str, object], **changes: object) -> plt.Figure:
    study, rows = many_filters(results, 4, style=style, **changes)
    definition = study.figures["sweep"]
    with plt.rc_context(rc_of(definition.style)):
        figure = sweep(styled(study, definition.style), definition, rows)
        figure.draw_without_rendering()
    return figure


def test_style_changes_names_colours_order_limits_scale_and_size(tmp_path: Path) -> None:
    figure = styled_sweep(
        tmp_path,
        {
            "width": 90,
            "font": "serif",
            "font_size": 10,
            "labels": {"f1": "Ours", "f3": "Filter 2"},  # f2, which has this name, is not shown
            "colours": {"f1": "#CC0000"},
            "order": ["f3"],
            "limits": {"y": [0.5, 4.0], "x": [1.0, 4.0]},
            "scale": "linear",
            "legend": "above",
        },
        filters=["f1", "f3"],
    )
    (ax,), (legend,) = figure.axes, figure.legends
    colour = next(line for line in ax.lines if line.get_marker() not in {"None", "_"}).get_color()
    size, label = figure.get_size_inches(), ax.xaxis.label
    names = [text.get_text() for text in legend.get_texts()]
    limits, scale = (ax.get_xlim(), ax.get_ylim()), ax.get_yscale()
    plt.close(figure)
    np.testing.assert_allclose(size[0], 90 / 25.4)
    assert names == ["Filter 2", "Ours"]
    assert (label.get_family(), label.get_size()) == (["serif"], 10)
    assert limits == ((1.0, 4.0), (0.5, 4.0))
    assert scale == "linear"
    assert ax.get_ylabel() == "RMSE"
    assert colour != "#CC0000"  # that of f3, which comes first
    assert "#CC0000" in {line.get_color() for line in ax.lines}


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ({"labels": {"f9": "Ours"}}, r"style\.labels: 'f9'|style\.labels = 'f9'"),
        ({"labels": {"f1": "Filter 2"}}, "'f1' and 'f2' would both be called 'Filter 2'"),
        ({"limits": {"y": [2, 1]}}, "must be below the second"),
        ({"width": "half"}, "'single' or 'double'"),
        ({"colours": {"f1": "red"}}, "colours"),
    ],
)
def test_style_that_cannot_be_is_refused(
    style: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigFault, match=said):
        many_filters(tmp_path, 3, style=style)


def test_keys_of_scores_are_refused_for_figures_of_states(tmp_path: Path) -> None:
    paths = {"kind": "trajectories", "title": "Paths", "experiment": "one_gap", "seed": 0}
    with pytest.raises(ConfigFault, match=r"style\.scale: is for figures of scores"):
        small_study(tmp_path, figures={"paths": {**paths, "style": {"scale": "log"}}})


def test_error_beside_processor_seconds(sizes: Study) -> None:
    definition = ModelRunsFigure(
        kind="model_runs",
        title="Time",
        cost="cpu_seconds",
        panels=[{"experiment": "gap_sweep", "observation": "every_one", "where": {"gap": 2}}],
    )
    rows, costs = (
        pd.read_parquet(sizes.results / f"{name}.parquet") for name in ("scores", "costs")
    )
    figure = model_runs(sizes, definition, rows, costs)
    label, texts = figure.axes[0].get_xlabel(), {text.get_text() for text in figure.axes[0].texts}
    plt.close(figure)
    assert label == "processor seconds a cycle (log scale)"
    assert "Particle" in texts  # its seconds are known
    (table,) = model_runs_data(sizes, definition, rows, costs)
    np.testing.assert_allclose(table["enkf_cpu_seconds"], 1.0)  # 0.5 and 1.5 but for the first
    assert "Processor seconds" in definition.explanation


def test_panels_of_a_sweep_may_show_different_scores_and_a_guide(
    study: Study, scores: Path
) -> None:
    panel = {"experiment": "gap_sweep", "axis": "gap", "observation": "every_one"}
    panels = [panel, {**panel, "score": "crps", "guide": -0.5}]
    figure = sweep(
        study, SweepFigure(kind="sweep", title="Two", panels=panels), pd.read_parquet(scores)
    )
    labels, guide = (
        [ax.get_ylabel() for ax in figure.axes],
        next(line for line in figure.axes[1].lines if line.get_lw() == 3),
    )
    plt.close(figure)
    assert labels == ["RMSE (log scale)", "CRPS (log scale)"]
    x, y = (np.asarray(values) for values in guide.get_data())
    np.testing.assert_allclose(y[1] / y[0], (x[1] / x[0]) ** -0.5)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of two ensemble sizes with its scores and costs, whose free run diverges in one seed
    and whose particle filter does not say how often it ran the model.
    """
    experiment = {**GAP_SWEEP, "members": [8, 4], "spin_up_cycles": 1}
    panel = {"experiment": "gap_sweep", "observation": "every_one"}
    panels = [{**panel, "where": {"gap": gap}} for gap in (2, 3)]
    study = small_study(
        tmp_path_factory.mktemp("sizes"),
        experiments={"gap_sweep": experiment},
        figures={"costs": {"kind": "model_runs", "title": "Costs", "panels": panels}},
    )
    write_results(study, diverged={("free_run", 2, 1): 2})
    rows, costs = gather(study)
    costs.loc[costs["filter"] == "particle", "model_runs_per_cycle"] = np.nan
    rows.to_parquet(study.results / "scores.parquet")
    costs.to_parquet(study.results / "costs.parquet")
    return study


def test_model_runs_make_a_line_a_filter_and_unknown_ones_are_named(sizes: Study) -> None:
    (figure,) = DRAWINGS["model_runs"](
        sizes, sizes.config.figures["costs"], sizes.results / "scores.parquet"
    )
    lines = [
        {
            tuple(map(float, line.get_xdata())): np.asarray(line.get_ydata(), dtype=float)
            for line in ax.lines
            if line.get_marker() not in {"None", "|", "_", "x"} and len(line.get_xdata()) < 3
        }
        for ax in figure.axes
    ]
    said = [{text.get_text() for text in ax.texts} for ax in figure.axes]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    labels = [ax.get_xlabel() for ax in figure.axes]
    plt.close(figure)
    # EnKF runs the model once a member, in each seed with its own error, however many members.
    for gap, drawn in zip((2, 3), lines, strict=True):
        mean = np.mean([error_of("enkf", gap, seed) for seed in (0, 1)])
        np.testing.assert_allclose(drawn[4.0, 8.0], [mean, mean], rtol=1e-4)
    # A free run is one run a cycle, whatever the size; the diverged seed is left out.
    np.testing.assert_allclose(lines[0][1.0, 1.0], error_of("free_run", 2, 0), rtol=1e-4)
    unknown = "model runs unknown:\nParticle"
    assert said == [{unknown}, {unknown, "EnKF", "No assimilation"}]
    assert titles == ["(a) every one observed, gap 2", "(b) every one observed, gap 3"]
    assert labels == ["model runs a cycle (log scale)"] * 2


def test_figure_of_model_runs_is_the_same_twice_and_names_unreadable_costs(
    sizes: Study, tmp_path: Path
) -> None:
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for picture in pictures:
        draw(sizes, "costs", sizes.results / "scores.parquet", [picture])
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    elsewhere = small_study(
        tmp_path,
        experiments={"gap_sweep": GAP_SWEEP},
        figures={
            "costs": {
                "kind": "model_runs",
                "title": "Costs",
                "panels": [
                    {"experiment": "gap_sweep", "observation": "every_one", "where": {"gap": 2}}
                ],
            }
        },
    )
    alone = shutil.copy(sizes.results / "scores.parquet", tmp_path / "scores.parquet")
    with pytest.raises(FileFault, match=r"costs\.parquet: does not exist"):
        draw(elsewhere, "costs", alone, [tmp_path / "none.png"])


def test_rank_histograms_pool_a_seed_and_show_the_spread_over_seeds(study: Study) -> None:
    definition = study.config.figures["ranks"]
    assert isinstance(definition, RankFigure)
    figure = rank_histograms(study, definition)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes[:3]]
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes[:3]]
    plt.close(figure)
    assert titles == ["(a) Particle", "(b) EnKF", "(c) No assimilation"]
    # Counts are 0, 1, 2, 3, 4 in each cycle.
    np.testing.assert_allclose(heights, [[0, 0.5, 1, 1.5, 2]] * 3)
    assert texts == [[], [], ["diverged in 1 of 2"]]


def test_trajectories_have_a_row_a_filter_with_its_error(study: Study) -> None:
    definition = study.config.figures["paths"]
    assert isinstance(definition, TrajectoryFigure)
    figure = trajectories(study, definition)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    plt.close(figure)
    assert titles == [
        "(a) Particle: RMSE 0.50",
        "(b) EnKF: RMSE 1.00",
        "(c) No assimilation: RMSE 10.00",
    ]


def test_trajectories_of_many_filters_are_two_figures_with_rows_that_are_tall_enough(
    study: Study,
) -> None:
    paths = {"kind": "trajectories", "title": "Paths", "experiment": "one_gap", "seed": 0}
    two = small_study(study.results, figures={"paths": {**paths, "most_filters": 2}})
    assert list(two.figures) == ["paths", "paths_others"]
    shown = []
    for definition in two.figures.values():
        figure = trajectories(two, definition)
        shown.append([t for ax in figure.axes if (t := ax.get_title(loc="left"))])
        heights = [ax.get_window_extent().height / figure.dpi for ax in figure.axes]
        samples = {line.get_color() for line in figure.legends[0].findobj(Line2D)}
        means = {ax.lines[1].get_color() for ax in figure.axes}
        plt.close(figure)
        assert min(heights) > 0.5
        assert means <= samples
    # Those with the lowest error in this run, in the study's order.
    assert shown == [
        ["(a) Particle: RMSE 0.50", "(b) EnKF: RMSE 1.00"],
        ["(a) No assimilation: RMSE 10.00"],
    ]


def test_trajectories_say_which_filter_diverged(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    write_results(study, diverged={("enkf", 2, 0): 1})
    figure = trajectories(study, study.config.figures["paths"])
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    plt.close(figure)
    assert "(b) EnKF: diverged" in titles


@pytest.fixture(scope="module")
def flow_scores(flows: Study) -> Path:
    path = Path(flows.config.results) / "scores.parquet"
    gather(flows)[0].to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["scores", "fields", "film", "spectra"])
def test_figure_of_a_flow_is_drawn_and_is_the_same_twice(
    name: str, flows: Study, flow_scores: Path, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        draw(
            flows,
            name,
            flow_scores,
            [tmp_path / folder / f"{name}.{suffix}" for suffix in ("pdf", "png")],
        )
    for suffix in ("pdf", "png"):
        assert len(content := (tmp_path / "one" / f"{name}.{suffix}").read_bytes()) > 5000
        assert (tmp_path / "two" / f"{name}.{suffix}").read_bytes() == content


def test_panel_over_time_shows_forecasts_and_analyses_and_the_score_of_the_run(
    flows: Study, flow_scores: Path
) -> None:
    definition = flows.config.figures["scores"]
    assert isinstance(definition, SweepFigure)
    figure = sweep(flows, definition, pd.read_parquet(flow_scores))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    line, names = (
        figure.axes[1].lines[1],  # the lower one, which is in front
        [{text.get_text() for text in ax.texts} for ax in figure.axes],
    )
    x, y = (np.asarray(values) for values in line.get_data())
    plt.close(figure)
    assert figure.legends == []
    assert titles == [
        "(a) every fourth observed",
        "(b) every fourth observed, gap 2, seed 0",
        "(c) every fourth observed, gap 2, seed 1",
    ]
    # The error of enkf is 1 after spin-up, that of its forecasts 2.
    assert names[0] == {"EnKF", "No assimilation"}
    assert names[1] == {"EnKF  1.000", "No assimilation  10.000", "time average"}
    # A list, in the order of what it says: the higher score on top.
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[1].texts}
    assert heights["time average"] > heights["No assimilation  10.000"] > heights["EnKF  1.000"]
    assert "No assimilation  diverged" in names[2]
    np.testing.assert_allclose(x, 0.2 * np.array([0, 1, 2, 2, 3, 4, 4, 5, 6, 6]), rtol=1e-6)
    np.testing.assert_allclose(y[-6:], [1, 2, 1, 1, 2, 1], rtol=1e-4)
    np.testing.assert_allclose(y[line.get_markevery()[1:]], [1, 1], rtol=1e-4)


def test_vorticity_has_a_row_a_time_and_the_similarity_of_each_analysis(flows: Study) -> None:
    definition = flows.config.figures["fields"]
    assert isinstance(definition, VorticityFigure)
    figure = vorticity(flows, definition)
    panels = [ax for ax in figure.axes[:-1] if ax.get_visible()]
    titles, times = (
        [ax.get_title() for ax in panels],
        [ax.get_ylabel() for ax in panels if ax.get_ylabel()],
    )
    images = [ax.images[0] for ax in panels if ax.images]
    numbers = [float(ax.texts[0].get_text().split("SSIM ")[1]) for ax in panels if ax.texts]
    arrows = [collection.N for ax in panels for collection in ax.collections]
    cell = flows.point_cells(definition, 0)[0]
    truth = (
        read_truth(Path(flows.config.results) / cell.path / "truth.nc")
        .truth[[2, 6]]
        .reshape(2, 2, 16, 16)
    )
    plt.close(figure)
    assert titles == ["truth", "measurement", "EnKF", "No assimilation", "", "", "", ""]
    assert times == ["$t = 0.4$", "$t = 1.2$"]
    np.testing.assert_array_equal(
        [images[0].get_array(), images[3].get_array()], flow.vorticity(truth)
    )
    assert len({image.get_clim() for image in images}) == 1
    low, high = images[0].get_clim()
    assert low == -high
    # Estimates are the truth plus a constant velocity after spin-up, so that their vorticity is
    # right.
    assert numbers[2:] == [1, 1]
    assert max(numbers[:2]) < 0.9
    assert arrows == [16, 16]


def test_vorticity_shows_no_measurements_that_are_not_velocities(
    flows: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = flows.config.figures["fields"]
    assert isinstance(definition, VorticityFigure)
    speeds = replace(Run.read(flows, definition), velocities=False)
    monkeypatch.setattr(Run, "read", lambda *_: speeds)
    figure = vorticity(flows, definition)
    titles = [ax.get_title() for ax in figure.axes[:3]]
    plt.close(figure)
    assert titles == ["truth", "EnKF", "No assimilation"]


def test_animation_has_a_picture_a_step_and_similarities_at_measurements(
    flows: Study, flow_scores: Path, tmp_path: Path
) -> None:
    definition = flows.config.figures["film"]
    assert isinstance(definition, AnimationFigure)
    figures = list(animation(flows, definition))
    titles = [figure.get_suptitle() for figure in figures]
    numbers = [sum(len(ax.texts) for ax in figure.axes) for figure in figures]
    plt.close("all")
    assert titles.pop(0) == "model time 0.00: initial ensemble"
    assert titles == [
        f"model time {0.2 * i:.2f}: {'analysis' if i in (2, 4) else 'forecast'}"
        for i in range(1, 5)
    ]
    assert numbers == [1, 1, 2, 0, 2]  # "none yet" at first, then similarities
    outputs = [tmp_path / f"film.{suffix}" for suffix in ("png", "gif", "pdf")]
    draw(flows, "film", flow_scores, outputs)
    for output in outputs[:2]:
        with Image.open(output) as picture:
            # A PNG has the last picture before them, for who cannot show one that moves.
            assert picture.n_frames == (6 if output.suffix == ".png" else 5)
            assert getattr(picture, "default_image", False) == (output.suffix == ".png")
            assert picture.info["loop"] == 0
    assert outputs[2].read_bytes().startswith(b"%PDF")


RING = {
    "title": "Ring",
    "system": "lorenz96",
    "parameters": {"dt": 0.05, "dimension": 8, "forcing": 8},
    "observations": ["every_one"],
    "gaps": [2],
    "members": 4,
    "cycles": 4,
    "spin_up_cycles": 1,
}
ON_RING = {
    "kind": "space_time",
    "title": "Ring",
    "experiment": "ring",
    "observation": "every_one",
    "seed": 1,
    "cycles": 2,
}


def test_space_and_time_show_the_truth_and_the_errors_of_filters(tmp_path: Path) -> None:
    study = small_study(
        tmp_path,
        experiments={"ring": RING},
        figures={"ring": {**ON_RING, "most_filters": 2}},
    )
    write_results(study, diverged={("free_run", 2, 1): 3})
    assert list(study.figures) == ["ring", "ring_others"]
    definition = study.figures["ring"]
    figure = space_time(study, definition)
    panels = [ax for ax in figure.axes if ax.images]
    titles = [ax.get_title(loc="left") for ax in panels]
    truth, *errors = [np.asarray(ax.images[0].get_array()) for ax in panels]
    limits = {ax.images[0].get_clim() for ax in panels[1:]}
    labels = {ax.get_ylabel() for ax in figure.axes} - {""}
    extent = panels[0].images[0].get_extent()
    marks = panels[0].xaxis.get_minor_locator().locs
    plt.close(figure)
    # Of seed 1 the errors are three times those of seed 0.
    assert titles == ["(a) truth", "(b) Particle: RMSE 1.50", "(c) EnKF: RMSE 3.00"]
    (cell,) = study.point_cells(definition, 1)
    np.testing.assert_array_equal(truth, read_truth(study.results / cell.truth).truth[4:].T)
    for values, expected in zip(errors, (1.5, 3.0), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-4)
    np.testing.assert_allclose(sorted(*limits), [-3.0, 3.0], rtol=1e-4)
    assert labels == {"component", "truth", "error (mean − truth)"}
    dt = RING["parameters"]["dt"]
    np.testing.assert_allclose(extent, [4 * dt, 8 * dt, 0.5, 8.5], rtol=1e-6)
    np.testing.assert_allclose(marks, np.array([4, 6, 8]) * dt, rtol=1e-6)
    figure = space_time(study, study.figures["ring_others"])
    assert figure.axes[1].get_title(loc="left") == "(b) No assimilation: diverged"
    plt.close(figure)
    for folder in ("one", "two"):
        draw(study, "ring", tmp_path / "none.parquet", [tmp_path / folder / "ring.png"])
    one, two = ((tmp_path / folder / "ring.png").read_bytes() for folder in ("one", "two"))
    assert one == two


def test_space_and_time_are_for_rings(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="figure 'space_time' is for components on a ring"):
        small_study(
            tmp_path,
            experiments={"ring": {**RING, "system": "lorenz63", "parameters": {"dt": 0.01}}},
            figures={"ring": ON_RING},
        )
    with pytest.raises(ConfigFault, match=r"figures\.ring\.seed = 7"):
        small_study(tmp_path, experiments={"ring": RING}, figures={"ring": {**ON_RING, "seed": 7}})


def test_spectra_are_those_of_the_analyses_after_spin_up(flows: Study) -> None:
    definition = flows.config.figures["spectra"]
    assert isinstance(definition, SpectraFigure)
    figure = spectra(flows, definition)
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[1].lines}
    labels = [line.get_label() for line in figure.axes[0].lines]
    plt.close(figure)
    assert labels == list(lines) == ["truth", "EnKF", "No assimilation"]
    truths = [
        read_truth(Path(flows.config.results) / cell.path / "truth.nc")
        .truth[4::2]
        .reshape(-1, 2, 16, 16)
        for cell in flows.point_cells(definition)
    ]
    expected = flow.energy_spectrum(np.concatenate(truths)).mean(axis=0)
    # Shells that the model does not resolve are not shown.
    np.testing.assert_allclose(lines["truth"], expected[1 : len(lines["truth"]) + 1], rtol=1e-10)
    assert [len(line) for line in lines.values()] == 3 * [
        np.sum(expected[1:] > 1e-10 * expected.max())
    ]
    # A constant velocity adds to shell 0 only, which is not shown. free_run has one seed that did
    # not diverge.
    np.testing.assert_allclose(lines["EnKF"][:4], expected[1:5], rtol=1e-4)
    np.testing.assert_allclose(
        lines["No assimilation"][:4], flow.energy_spectrum(truths[0]).mean(axis=0)[1:5], rtol=1e-4
    )


def test_figure_shows_the_filters_that_it_names(flows: Study) -> None:
    figures = {
        k: v.model_dump(exclude_defaults=True) | {"filters": ["enkf"]}
        for k, v in flows.config.figures.items()
    }
    study = flow_study(Path(flows.config.results), figures=figures)
    for name, files in (("scores", 3), ("fields", 2), ("film", 2), ("spectra", 4)):
        assert len(study.figure_files(name)) == files
        assert all(Path(file).name in {"enkf.nc", "truth.nc"} for file in study.figure_files(name))
    figure = spectra(study, study.config.figures["spectra"])
    assert [line.get_label() for line in figure.axes[0].lines] == ["truth", "EnKF"]
    plt.close(figure)


def test_every_filter_looks_different_and_a_new_one_changes_no_other(
    study: Study, tmp_path: Path
) -> None:
    before = Look.of(study)
    assert list(before.colours) == ["Particle", "EnKF", "No assimilation"]
    extra = [f"new_{i}" for i in range(20)]
    definitions = study.filters | {
        name: FilterDefinition(filter="enkf", label=f"New {name}") for name in extra
    }
    after = Look.of(
        small_study(
            tmp_path,
            filters=[*study.config.filters, *extra],
            definitions={k: v.model_dump() for k, v in definitions.items()},
        )
    )
    for label in before.colours:
        assert after.colours[label] == before.colours[label]
        assert after.markers[label] == before.markers[label]
    own = {
        (after.colours[label], after.markers[label], after.dashes[label]) for label in after.colours
    }
    assert len(own) == len(after.colours) == 23


def test_filter_looks_the_same_whatever_else_a_study_runs(study: Study, tmp_path: Path) -> None:
    definitions = study.filters | {
        name: FilterDefinition(filter="enkf", label=name) for name in ("mine", "yours")
    }
    content = {name: definition.model_dump() for name, definition in definitions.items()}

    def of(filters: list[str]) -> dict[str, FilterLook]:
        one_gap = {**GAP_SWEEP, "leave_out_filters": []}
        figures = {"sweep": SWEEP}
        return looks(
            small_study(
                tmp_path,
                filters=filters,
                definitions=content,
                experiments={"gap_sweep": one_gap},
                figures=figures,
            )
        )

    everyone = of(["particle", "enkf", "mine", "yours", "free_run"])
    for filters in (["mine", "enkf"], ["free_run", "mine"], ["enkf"]):
        assert of(filters) == {name: everyone[name] for name in filters}
    assert everyone["mine"].colour != everyone["yours"].colour
    assert everyone["mine"].marker != everyone["yours"].marker


def shipped_looks() -> dict[str, FilterLook]:
    files = Path(__file__).parent.parent.glob("config/filters/*.yaml")
    return {path.stem: FilterDefinition.model_validate(read_mapping(path)).look for path in files}


def test_shipped_filters_of_one_colour_differ_in_marker_and_line() -> None:
    own = {name: look for name, look in shipped_looks().items() if look is not None}
    assert len(own) >= 18
    for (a, one), (b, other) in combinations(own.items(), 2):
        if one.colour == other.colour:
            assert one.marker != other.marker, (a, b)
            assert one.line != other.line, (a, b)
    assert not {look.colour for look in own.values()} & set(OTHER_COLOURS)


@pytest.mark.parametrize("vision", [None, "deuteranomaly", "protanomaly", "tritanomaly"])
def test_colours_are_told_apart_with_each_kind_of_vision(vision: str | None) -> None:
    colours = sorted(
        {look.colour for look in shipped_looks().values() if look is not None} | set(OTHER_COLOURS)
    )
    seen = to_rgba_array(colours)[:, :3]
    if vision is not None:
        seen = np.clip(
            cspace_convert(
                seen, {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}, "sRGB1"
            ),
            0,
            1,
        )
    # Distances in CAM02-UCS, in which a just noticeable difference is about 1.
    distances = {
        (a, b): deltaE(seen[i], seen[j]) for (i, a), (j, b) in combinations(enumerate(colours), 2)
    }
    assert min(distances.values()) > 10, min(distances, key=distances.__getitem__)


@pytest.mark.parametrize("count", [1, 7, 12, 25])
def test_labels_fit_the_page_and_do_not_overlap(count: int, tmp_path: Path) -> None:
    # The longest labels that there may be.
    definitions = {
        f"f{i}": {"filter": "free_run", "label": f"Filter of a long name {i:02d}"}
        for i in range(count)
    }
    study = small_study(
        tmp_path,
        filters=list(definitions),
        definitions=definitions,
        experiments={"gap_sweep": GAP_SWEEP},
        figures={"sweep": SWEEP},
    )
    rows = [
        {
            "cell": path,
            "observation": "every_one",
            "gap": cell.settings.gap,
            "filter": name,
            "lost": False,
            "diverged": False,
            "rmse": 1.0 + i,
        }
        for path, cell in study.cells.items()
        for i, name in enumerate(definitions)
    ]
    figure = sweep(study, study.config.figures["sweep"], pd.DataFrame(rows))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes, panel = (
        sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0),
        ax.get_window_extent(),
    )
    plt.close(figure)
    assert len(boxes) == count
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
    for box in boxes:
        assert panel.x1 < box.x0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height
    assert panel.height / figure.dpi > 1.3


def test_labels_are_spread_as_little_as_can_be_and_keep_their_order() -> None:
    np.testing.assert_allclose(spread([0.9, 0.1, 0.5], 0.1, 0, 1), [0.9, 0.1, 0.5])
    np.testing.assert_allclose(spread([0.5, 0.5, 0.9], 0.2, 0, 1), [0.4, 0.6, 0.9])
    np.testing.assert_allclose(spread([1.0, 1.0, 1.0], 0.2, 0, 1), [0.6, 0.8, 1.0])
    np.testing.assert_allclose(spread([0.0, 0.0], 0.2, 0, 1), [0.0, 0.2])


@pytest.mark.parametrize("name", sorted(shipped_looks()))
def test_colour_of_a_label_is_the_line_s_and_can_be_read(name: str) -> None:
    look = shipped_looks()[name]
    line, text = np.array(to_rgba_array(look.colour)[0, :3]), np.array(readable(look.colour))
    linear = np.where(text <= 0.04045, text / 12.92, ((text + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5
    np.testing.assert_allclose(np.cross(line, text), 0, atol=1e-12)


def test_unknown_figure_and_unreadable_scores_are_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match=r"'swep'.*sweep, paths, ranks"):
        draw(study, "swep", tmp_path / "scores.parquet", [tmp_path / "a.pdf"])
    damaged = tmp_path / "scores.parquet"
    damaged.write_bytes(b"PAR1 not quite")
    with pytest.raises(FileFault, match=r"scores\.parquet: cannot be read as scores"):
        draw(study, "sweep", damaged, [tmp_path / "a.pdf"])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_every_kind_of_figure_is_drawn_and_says_what_it_shows() -> None:
    (union, _) = get_args(Figure)
    (*kinds,) = get_args(union)
    assert [get_args(kind.model_fields["kind"].annotation) for kind in kinds] == [
        (name,) for name in DRAWINGS
    ]
    assert all(kind.shows.endswith(".") for kind in kinds)
