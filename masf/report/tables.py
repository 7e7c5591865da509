"""Tables for people: summaries of scores and costs, each as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from masf.atomic import replacing
from masf.files.parameters import ParameterSource
from masf.report.latex import by_axis, long_table
from masf.report.published import note as published_note
from masf.report.published import published_for_people, published_rows
from masf.report.rows import axes, experiment_rows, on_track, tuning_rows
from masf.report.words import LOST_TRACK, number_or_text, runs_in_words, source_in_words
from masf.scores.comparison import (
    BEST,
    COMPARED,
    CONFIDENCE,
    DIVERGED,
    INDISTINGUISHABLE,
    LEAST_SEEDS,
    LOST,
    MISSING,
    NO_BEST,
    compare,
    lacking,
)
from masf.scores.exactness import EXACTNESS
from masf.scores.fields import FLOW_SCORES
from masf.scores.run import SCORES, SHOWN
from masf.study.literature import PUBLISHED
from masf.study.situations import situation_in_words
from masf.study.study import Study
from masf.study.tuned_values import Found
from masf.systems.registry import system_class

COST_HEADS = {
    "seconds_per_cycle": "seconds a cycle",
    "cpu_seconds_per_cycle": "CPU seconds a cycle",
    "model_runs_per_cycle": "model runs",
    "peak_memory_mib": "peak memory (MiB)",
}
"""What tables call the columns of costs."""

MODEL_RUNS = (
    "Model runs: forecasts of one member from one measurement to the next, in a cycle; unknown "
    "where nobody counted them."
)


SETTINGS_COLUMNS = "".join(rf"p{{{share}\linewidth}}" for share in (0.12, 0.12, 0.2, 0.28, 0.2))
"""Widths of the table of settings in LaTeX: experiment, filter, where, parameters, found."""


@dataclass(frozen=True)
class Shown:
    """A table as people read it.

    Attributes:
        cells: the text of its cells, without marks.
        verdicts: of the same shape: the verdict of masf.scores.comparison on a cell, "" where there
            is none. The best is shown in bold, and what is not distinguishable from it with a
            dagger.
    """

    cells: pd.DataFrame
    verdicts: pd.DataFrame

    @classmethod
    def of(cls, cells: pd.DataFrame, verdicts: Mapping[str, list[str]] | None = None) -> Shown:
        """A table with ``verdicts`` in some columns."""
        blank = pd.DataFrame("", index=cells.index, columns=cells.columns)
        return cls(cells, blank.assign(**(verdicts or {})))

    @property
    def with_daggers(self) -> pd.DataFrame:
        """The cells, what is not distinguishable from the best marked."""
        return self.cells.where(self.verdicts != INDISTINGUISHABLE, self.cells + " †")


def summarise(study: Study, name: str, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each score, of runs that neither diverged nor lost
    track; the numbers of these, and the mean RMSE of those that lost track; by axis and filter.
    """
    rows = experiment_rows(study, name, scores)
    rows = on_track(rows.assign(rmse_lost=rows["rmse"].where(rows["lost"])))
    by = [*axes(study, name), "filter"]
    grouped = rows.groupby(by, observed=True, sort=True)
    table = grouped[list(SCORES)].agg(["mean", "std"])
    table.columns = pd.Index(["_".join(column) for column in table.columns])
    table["runs"] = grouped.size()
    if "missing" in rows:
        table["missing"] = grouped["missing"].sum()
        table["runs"] -= table["missing"]
    table["diverged"] = grouped["diverged"].sum()
    table["lost"] = grouped["lost"].sum()
    table["rmse_lost"] = grouped["rmse_lost"].mean()
    table["parameter_source"] = grouped["parameter_source"].first()
    return table.reset_index()


def summarise_costs(study: Study, name: str, costs: pd.DataFrame) -> pd.DataFrame:
    """Seconds and model runs a cycle and peak memory, mean over seeds, by axis and filter."""
    rows = experiment_rows(study, name, costs)
    grouped = rows.groupby([*axes(study, name), "filter"], observed=True, sort=True)
    return grouped[list(COST_HEADS)].mean().reset_index()


def for_people(study: Study, name: str, table: pd.DataFrame, comparison: pd.DataFrame) -> Shown:
    """A summary with labels, mean +- std in one cell, and the verdicts on the scores that are
    compared.
    """
    out, verdicts = _points(study, name, table), {}
    is_flow = system_class(study.config.experiments[name].system).flow
    for key in (*SHOWN, *(FLOW_SCORES if is_flow else ())):
        out[SCORES[key]] = _mean_and_std(table, key)
        if key in COMPARED:
            # Both tables are in the order of points, then filters.
            verdicts[SCORES[key]] = comparison.loc[comparison["score"] == key, "verdict"].tolist()
    out["diverged"] = [f"{d} of {n}" for d, n in zip(table["diverged"], table["runs"], strict=True)]
    out["lost track"] = [
        f"{n} of {runs}" + (f": RMSE {rmse:.3f}" if n else "")
        for n, runs, rmse in zip(table["lost"], table["runs"], table["rmse_lost"], strict=True)
    ]
    if "missing" in table:
        out["missing"] = [
            f"{n} of {n + runs}" for n, runs in zip(table["missing"], table["runs"], strict=True)
        ]
    if study.points:
        out["parameters"] = _sources_in_words(table, point_number(study))
    return Shown.of(out, verdicts)


def _sources_in_words(
    table: pd.DataFrame, situation: Callable[[Mapping[str, Any]], str] = situation_in_words
) -> list[str]:
    """Where the parameters of each row of a summary come from; "" where every run is missing."""
    return [
        source_in_words(ParameterSource.model_validate_json(text), situation)
        if isinstance(text, str)
        else ""
        for text in table["parameter_source"]
    ]


def paired_for_people(study: Study, name: str, comparison: pd.DataFrame) -> Shown:
    """For each point and filter, the difference to the best filter in each score, with its
    interval.
    """
    first = comparison[comparison["score"] == COMPARED[0]].reset_index(drop=True)
    out, verdicts = _points(study, name, first), {}
    for key in COMPARED:
        rows = comparison[comparison["score"] == key]
        out[SCORES[key]] = [_difference(row) for row in rows.itertuples()]
        verdicts[SCORES[key]] = rows["verdict"].tolist()
    return Shown.of(out, verdicts)


def _difference(row: Any) -> str:
    if row.verdict == MISSING:
        return f"missing: {row.missing} of {row.runs}"
    if row.verdict == DIVERGED:
        return f"diverged in {row.diverged} of {row.runs}"
    if row.verdict == LOST:
        return f"lost track in {row.lost} of {row.runs}"
    if row.verdict in (BEST, NO_BEST):
        return f"{row.mean:.3f}"
    text = f"{row.difference:+.3f}"
    return text if np.isnan(row.low) else f"{text} [{row.low:+.3f}, {row.high:+.3f}]"


def exactness_for_people(study: Study, name: str, table: pd.DataFrame) -> Shown:
    """Distances to the reference, mean +- std, of all filters but the reference itself."""
    rows = table[table["filter"] != study.config.experiments[name].reference]
    out = _points(study, name, rows)
    for key in EXACTNESS:
        out[SCORES[key]] = _mean_and_std(rows, key)
    return Shown.of(out)


def costs_for_people(study: Study, name: str, table: pd.DataFrame) -> Shown:
    """Costs with labels, seconds with three digits."""
    out = _points(study, name, table)
    for key, head in COST_HEADS.items():
        if key == "model_runs_per_cycle":
            out[head] = table[key].map(runs_in_words)
            continue
        digits = "{:.3g}" if "seconds" in key else "{:g}"
        out[head] = ["unknown" if np.isnan(v) else digits.format(v) for v in table[key]]
    return Shown.of(out)


def _points(study: Study, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The columns that say which point and filter a row is about, as people read them."""
    heads = axes(study, name)
    out = table[list(heads)].rename(columns=heads)
    for column in out.select_dtypes("number"):
        out[column] = out[column].map("{:g}".format)
    out["filter"] = [study.filters[str(f)].label for f in table["filter"]]
    return out


def point_number(study: Study) -> Callable[[Mapping[str, Any]], str]:
    """What tables call a situation in which filters were tuned: a point of the study by its number
    in the table of tuning.
    """
    points: list[Mapping[str, Any]] = [cell.situation for cell, *_ in study.points.values()]

    def name(situation: Mapping[str, Any]) -> str:
        return (
            f"point {points.index(situation) + 1}"
            if situation in points
            else situation_in_words(situation)
        )

    return name


def for_people_tuning(study: Study, rows: pd.DataFrame) -> Shown:
    """What tuning found, with labels; parameters that stayed as they were are given as well."""

    def words(values: str) -> str:
        return ", ".join(f"{k} {_number(v)}" for k, v in json.loads(str(values)).items())

    return Shown.of(pd.DataFrame({
        "point": rows["point"].astype(str),
        "situation": rows["situation"],
        "filter": [study.filters[name].label for name in rows["filter"]],
        "tuned": rows["chosen"].map(words),
        "default": rows["default"].map(words),
        "score of the default": rows["default_score"].map(_score_or_diverged),
        "tuned score": rows["tuned_score"].map(_score_or_diverged),
        "trials": rows["trials"].astype(str),
        "diverged": rows["diverged"].astype(str),
    }))  # fmt: skip


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _score_or_diverged(value: float) -> str:
    return "diverged" if np.isnan(value) else f"{value:.3f}"


def _mean_and_std(table: pd.DataFrame, key: str) -> list[str]:
    return [
        ("lost track" if lost else "diverged" if runs else "missing")
        if np.isnan(m)
        else f"{m:.3f}"
        if np.isnan(s)
        else f"{m:.3f} ± {s:.3f}"
        for m, s, lost, runs in zip(
            table[f"{key}_mean"], table[f"{key}_std"], table["lost"], table["runs"], strict=True
        )
    ]


def write_tables(
    study: Study,
    scores: pd.DataFrame,
    costs: pd.DataFrame,
    *,
    scores_path: Path,
    costs_path: Path,
    folder: Path,
) -> None:
    """Writes scores and costs (Parquet, and CSV beside it) and, for each experiment, tables of both
    (CSV, Markdown, LaTeX).
    """
    for rows, path in ((scores, scores_path), (costs, costs_path)):
        with replacing(path) as temporary:
            rows.to_parquet(temporary, index=False)
        with replacing(path.with_suffix(".csv")) as temporary:
            rows.to_csv(temporary, index=False)
    for name in study.config.experiments:
        _write_experiment(study, name, scores, costs, folder)
    seeds = study.config.seeds
    settings = Shown.of(settings_in_use(study, scores))
    said = (
        "Settings of each filter, and where they come from: who found them, on which seeds, in how "
        f"many trials. Test seeds {_listed(seeds.test)}; seed of training {seeds.training}; "
        f"tuning seeds of this study: {_listed(seeds.tuning) or 'none'}."
    )
    latex = long_table(settings.cells, settings.verdicts, said, "tab:settings", SETTINGS_COLUMNS)
    _write_table(folder / "settings", settings.cells, settings, said, latex)
    if (tuning := study.config.tuning) is not None:
        rows = tuning_rows(study, allow_missing="missing" in scores)
        listed = ", ".join(map(str, study.config.seeds.tuning))
        note = (
            f"Parameters tuned on seeds {listed}, which no other table reports on. Scores are "
            f"the mean {SCORES[tuning.score]} "
            f"over these seeds; at most {tuning.trials} trials of each filter at each point, "
            "the default first; trials that "
            "diverged on a seed are never chosen."
        )
        _write_table(folder / "tuning", rows, for_people_tuning(study, rows), note)
    if study.resolved.settings:
        rows = published_rows(study, scores)
        shown = Shown.of(published_for_people(rows))
        _write_table(folder / PUBLISHED, rows, shown, published_note(study))


def settings_in_use(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """The parameters that filters ran with, one row an experiment, filter and set of them: where
    they were used, and where they come from.
    """
    found = []
    for name, experiment in study.config.experiments.items():
        rows = experiment_rows(study, name, scores)
        rows = rows[~lacking(rows)]
        if "shipped" in rows:  # nobody kept theirs
            rows = rows[rows["shipped"].isna()]
        heads = axes(study, name)
        points = rows.drop_duplicates([*heads, "filter"])
        by = ["filter", "filter_parameters", "parameter_source"]
        for (filter_name, values, source), own in points.groupby(by, observed=True, sort=False):
            everywhere = len(own) == (points["filter"] == filter_name).sum()
            found.append(
                {
                    "experiment": experiment.title,
                    "filter": study.filters[str(filter_name)].label,
                    "where": "everywhere" if everywhere else "; ".join(_at(own, heads)),
                    "parameters": _parameters_in_words(json.loads(str(values))),
                    "found": _found_in_words(
                        study,
                        str(filter_name),
                        own["cell"],
                        ParameterSource.model_validate_json(str(source)),
                    ),
                }
            )
    return pd.DataFrame(found)


def _at(rows: pd.DataFrame, heads: Mapping[str, str]) -> list[str]:
    """The points of rows, in words."""
    return [
        ", ".join(
            f"{heads[column]} {number_or_text(value).replace('_', ' ')}"
            for column, value in zip(heads, values, strict=True)
        )
        for values in rows[list(heads)].itertuples(index=False)
    ]


def _parameters_in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_number(value)}" for key, value in values.items()) or "defaults"


def _found_in_words(study: Study, name: str, cells: Iterable[str], source: ParameterSource) -> str:
    """Where the parameters of a filter come from in some cells: this study's tuning, or what
    config/tuned says of who found them.
    """
    if source.tuned is not None:
        seeds = _listed(study.config.seeds.tuning)
        return f"{source_in_words(source)}: {source.tuned.trials} trials on seeds {seeds}"
    evidence = dict.fromkeys(
        _evidence(setting.found)
        for cell in cells
        for setting in study.tuned_settings(name, study.cells[cell])[-1:]
    )
    words = "; ".join(evidence) or "default"
    return f"{words}; pinned {', '.join(source.pinned)}" if source.pinned else words


def _evidence(found: Found) -> str:
    runs = [
        "by hand" if found.by == "hand" else found.by,
        *([] if found.trials is None else [f"{found.trials} trials"]),
        *([] if found.cycles is None else [f"runs of {found.cycles} cycles"]),
        f"seeds {_listed(found.seeds)}",
    ]
    return ", ".join(runs)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _write_experiment(
    study: Study, name: str, scores: pd.DataFrame, costs: pd.DataFrame, folder: Path
) -> None:
    """The tables of one experiment: scores, their paired comparison, distances to its reference,
    and costs.
    """
    experiment = study.config.experiments[name]
    summary = summarise(study, name, scores)
    comparison = compare(
        experiment_rows(study, name, scores), list(axes(study, name)), study.free_runs
    )
    sizes, seeds = ", ".join(map(str, experiment.sizes)), len(study.seeds(experiment))
    over_seeds = (
        f"Mean ± standard deviation over {seeds} seeds, runs that diverged or lost track left out"
    )
    note = (
        f"{experiment.title}. {'One seed' if seeds == 1 else over_seeds}; "
        f"{experiment.cycles} cycles, the first {experiment.spin_up_cycles} left out; N = {sizes}."
    )
    marks = _meaning_of_marks(seeds)
    sources = _sources_in_words(summary)
    shown = for_people(study, name, summary, comparison)
    _write_table(
        folder / name,
        summary.assign(parameter_source=sources),
        shown,
        f"{note} {marks} {LOST_TRACK}",
        _for_a_paper(study, name, summary, comparison, f"{note} {marks}"),
    )
    paired = (
        f"{experiment.title}. Mean difference to the best filter over seeds, whose own mean is in "
        f"bold. {marks}"
    )
    _write_table(
        folder / f"{name}_paired", comparison, paired_for_people(study, name, comparison), paired
    )
    if experiment.reference is not None:
        exact = (
            f"{note} Distances of the analyses to those of "
            f"{study.filters[experiment.reference].label}."
        )
        _write_table(
            folder / f"{name}_exactness", summary, exactness_for_people(study, name, summary), exact
        )
    cost = summarise_costs(study, name, costs)
    said = f"{experiment.title}: cost of a cycle, mean over seeds. {MODEL_RUNS}"
    _write_table(folder / f"{name}_cost", cost, costs_for_people(study, name, cost), said)


def _for_a_paper(
    study: Study, name: str, summary: pd.DataFrame, comparison: pd.DataFrame, note: str
) -> str:
    """The tables of an experiment in LaTeX, one a score that is compared: filters by the axis with
    the most values; of an experiment of one point, filters by score.
    """
    heads = axes(study, name)
    points = _points(study, name, summary)
    if "observed" in points:
        points["observed"] = points["observed"].str.replace("_", " ")
    left_out = [
        "".join(f" ({row[key]} {how})" for key, how in _LEFT_OUT.items() if row.get(key))
        for _, row in summary.iterrows()
    ]
    if any(left_out):
        marks = ", ".join(f"(n {_LEFT_OUT[key]})" for key in _LEFT_OUT if key in summary)
        meaning = " or ".join(
            ["lost track", "diverged", *(["are missing"] if "missing" in summary else [])]
        )
        note = f"{note} {marks}: how many runs {meaning}. {LOST_TRACK}"
    tables = {
        key: points.assign(
            text=[
                text + out for text, out in zip(_mean_and_std(summary, key), left_out, strict=True)
            ],
            verdict=comparison.loc[comparison["score"] == key, "verdict"].tolist(),
        )
        for key in COMPARED
    }
    if not heads:
        of_scores = [table.assign(score=SCORES[key]) for key, table in tables.items()]
        note = f"Filters by score. {note}"
        return by_axis(pd.concat(of_scores), "score", note, f"tab:{name}")
    axis = max(heads.values(), key=lambda head: (points[head].nunique(), head != "observed"))
    return "\n".join(
        by_axis(table, axis, f"{SCORES[key]} by {axis}. {note}", f"tab:{name}_{key}")
        for key, table in tables.items()
    )


_LEFT_OUT = {"lost": "lost", "diverged": "div.", "missing": "missing"}
"""Columns of a summary that count runs which have no score, and their marks in LaTeX."""


def _meaning_of_marks(seeds: int) -> str:
    best = "Bold: the lowest mean of filters of which no run diverged or lost track."
    if seeds < LEAST_SEEDS:
        return f"{best} Too few seeds to judge whether others differ from it."
    return (
        f"{best} †: not distinguishable from it, because the {CONFIDENCE:.0%} confidence "
        "interval of the difference, paired by "
        f"seed (Student's t, {seeds} seeds, no correction for multiple comparisons), holds 0."
    )


def _write_table(
    base: Path, numbers: pd.DataFrame, shown: Shown, note: str, latex: str | None = None
) -> None:
    label = f"tab:{base.name}"
    contents = {
        ".csv": numbers.to_csv(index=False),
        ".md": f"{note}\n\n{_markdown(shown)}\n",
        ".tex": latex or long_table(shown.cells, shown.verdicts, note, label),
    }
    for suffix, content in contents.items():
        with replacing(base.with_name(base.name + suffix)) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _markdown(shown: Shown) -> str:
    cells = shown.with_daggers
    return cells.where(shown.verdicts != BEST, "**" + cells + "**").to_markdown(
        index=False, disable_numparse=True
    )
