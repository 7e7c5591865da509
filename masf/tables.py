"""Stage aggregate: all results in one table of scores, and tables for people."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from masf.comparison import BEST, COMPARED, CONFIDENCE, DIVERGED, INDISTINGUISHABLE, compare
from masf.dataset import read_cost, read_estimate
from masf.exactness import EXACTNESS, NEEDED, Analyses, Reference
from masf.files import FileFault, replacing
from masf.registry import system_class
from masf.scores import FLOW_SCORES, SCORES, SHOWN, score
from masf.study import Cell, ConfigFault, Study
from masf.tuned import Tuned, describe, in_force, tuned_for

log = logging.getLogger(__name__)

AXES = {"gap": "gap", "members": "N"}
"""Axes of an experiment that are no parameters of its system, and what tables call them."""


SMALL_LATEX = r"{\footnotesize\setlength{\tabcolsep}{3pt}\setlength{\LTcapwidth}{\linewidth}"


def diagnostics(cell: Cell, data: Any) -> dict[str, float]:
    """Mean after spin-up of each number that the filter tells of itself; empty if it diverged."""
    if data.attrs["diverged"]:
        return {}
    return {name: float(data[name].values[cell.spin_up_cycles :].mean()) for name in data if name.startswith("diagnostic_")}


def gather(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and costs, one row a cell and filter.

    Raises:
        FileFault: for a result that is missing, damaged, or of another cell than its place says.
        ConfigFault: where different versions of a filter's code made the results.
    """
    scores, costs = [], []
    versions: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    read = cache(tuned_for)  # many cells take what was tuned at one point
    for cell in study.cells.values():
        folder = Path(study.config.results) / cell.path
        needed = NEEDED if cell.reference else ()
        reference_data = read_estimate(folder / f"{cell.reference}.nc", *needed) if cell.reference else None
        reference = _reference(cell, reference_data)
        for name in cell.filters:
            path = folder / f"{name}.nc"
            known = reference_data if name == cell.reference else None
            data = read_estimate(path, *needed) if known is None else known
            if data.attrs["settings"] != cell.settings.to_json() or data.attrs["filter"] != name:
                raise FileFault(path, "was made with other settings than the study's", "remove it and run the workflow again")
            parameters, source = data.attrs.get("filter_parameters", "{}"), data.attrs.get("parameter_source", "")
            tuned = tuned_in(study, name, cell, read)
            expected, expected_source = in_force(study.default_parameters(name, cell), tuned, study.config.pinned.get(name))
            if json.loads(parameters) != json.loads(json.dumps(expected)):
                raise FileFault(path, "was made with other filter parameters than the study's", "run the workflow again")
            if source != expected_source:
                said = f"says that its parameters are {source!r}, and the study's are {expected_source!r}"
                raise FileFault(path, said, "run the workflow again")
            versions[name, cell.settings.system].setdefault(data.attrs["code_version"], path)
            keys = _keys(cell, name)
            made_by = {
                "filter_parameters": parameters,
                "parameter_source": source,
                "code_version": data.attrs["code_version"],
            }
            # The reference is not measured against itself.
            own = score(
                data,
                gap=cell.settings.gap,
                spin_up_cycles=cell.spin_up_cycles,
                reference=reference if name != cell.reference else None,
            )
            scores.append({**keys, **own, "diverged": bool(data.attrs["diverged"]), **diagnostics(cell, data), **made_by})
            costs.append({**keys, **_cost(folder / f"{name}.cost.json")})
    for (name, system), found in versions.items():
        if len(found) > 1 and not study.config.accept_mixed_versions:
            listed = ", ".join(f"{version} ({path})" for version, path in sorted(found.items()))
            raise ConfigFault(
                f"results of filter {name!r} on {system!r} come from different versions of its code: {listed}; "
                "run the workflow again, or set accept_mixed_versions: true"
            )
    return pd.DataFrame(scores), pd.DataFrame(costs)


def tuned_in(study: Study, name: str, cell: Cell, read: Callable[[str, str, Path], Tuned] = tuned_for) -> Tuned | None:
    """What tuning found for a filter in a cell, if it is tuned. Raises FileFault where its file is missing or damaged."""
    path = study.tuning_path(name, cell)
    return None if path is None else read(name, cell.settings.system, Path(study.config.results) / path)


def tuning_rows(study: Study) -> pd.DataFrame:
    """What tuning found, one row a point and filter; points are numbered from 1 on, in the study's order."""
    rows = []
    for number, (point, (cell, *_)) in enumerate(study.points.items(), 1):
        for name in study.tuned_filters(point):
            found = tuned_in(study, name, cell)
            assert found is not None
            rows.append({
                "point": number,
                "situation": describe(cell.situation),
                "filter": name,
                "chosen": json.dumps(found.chosen),
                "default": json.dumps(found.default),
                "score": found.score,
                "default_score": float("nan") if found.default_score is None else found.default_score,
                "tuned_score": float("nan") if found.chosen_score is None else found.chosen_score,
                "trials": found.trials,
                "diverged": found.diverged,
            })  # fmt: skip
    return pd.DataFrame(rows)


def _reference(cell: Cell, data: Any) -> Reference | None:
    """What distances are measured to in this cell, whose reference's file holds ``data``; None without one, or if it diverged."""
    if data is None or data.attrs["diverged"]:
        return None
    return Reference(Analyses.of(data, cell.settings.gap, cell.spin_up_cycles))


def _keys(cell: Cell, name: str) -> dict[str, Any]:
    s = cell.settings
    return {
        "cell": cell.path,
        "system": s.system,
        **{f"parameter_{k}": float(v) for k, v in s.parameters.items()},
        "observation": cell.observation_name,
        "gap": s.gap,
        "seed": s.seed,
        "members": s.members,
        "filter": name,
    }


def _cost(path: Path) -> dict[str, Any]:
    cost = read_cost(path)

    def mean(values: list[float | None]) -> float:
        # The first cycle pays for warm-up.
        finite = [v for v in values if v is not None]
        return float(np.mean(finite[1:] or finite)) if finite else float("nan")

    return {
        "seconds_per_cycle": mean(cost["wall_seconds"]),
        "cpu_seconds_per_cycle": mean(cost["cpu_seconds"]),
        "peak_memory_mib": float(cost["peak_memory_mib"]),
        "device": cost.get("device", ""),
        "threads": cost.get("threads", 0),
    }


def experiment_rows(study: Study, name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one experiment, with its filters only, in the study's order."""
    experiment = study.config.experiments[name]
    cells = [c.path for c in study.cells.values() if name in c.experiments]
    filters = study.experiment_filters(experiment)
    chosen = rows[rows["cell"].isin(cells) & rows["filter"].isin(filters)].copy()
    chosen["filter"] = pd.Categorical(chosen["filter"], filters, ordered=True)
    return chosen


def axes(study: Study, name: str) -> dict[str, str]:
    """The columns in which an experiment's cells differ, seeds apart, and what people call them."""
    experiment = study.config.experiments[name]
    found = {"observation": "observed"} if len(experiment.observations) > 1 else {}
    return found | {axis_column(axis): AXES.get(axis, axis) for axis in experiment.varied}


def axis_column(axis: str) -> str:
    """The column of scores.parquet that holds an axis of an experiment."""
    return axis if axis in AXES else f"parameter_{axis}"


def summarise(study: Study, name: str, scores: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of each score, and the number of diverged runs, by axis and filter."""
    rows = experiment_rows(study, name, scores)
    by = [*axes(study, name), "filter"]
    grouped = rows.groupby(by, observed=True, sort=True)
    table = grouped[list(SCORES)].agg(["mean", "std"])
    table.columns = pd.Index(["_".join(column) for column in table.columns])
    table["runs"] = grouped.size()
    table["diverged"] = grouped["diverged"].sum()
    table["parameter_source"] = grouped["parameter_source"].first()
    return table.reset_index()


def summarise_costs(study: Study, name: str, costs: pd.DataFrame) -> pd.DataFrame:
    """Seconds a cycle and peak memory, mean over seeds, by axis and filter."""
    rows = experiment_rows(study, name, costs)
    grouped = rows.groupby([*axes(study, name), "filter"], observed=True, sort=True)
    return grouped[["seconds_per_cycle", "cpu_seconds_per_cycle", "peak_memory_mib"]].mean().reset_index()


def for_people(study: Study, name: str, table: pd.DataFrame, comparison: pd.DataFrame) -> pd.DataFrame:
    """A summary with labels, mean +- std in one cell, the best in bold and what is not distinguishable from it with a dagger."""
    out = _points(study, name, table)
    is_flow = system_class(study.config.experiments[name].system).flow
    for key in (*SHOWN, *(FLOW_SCORES if is_flow else ())):
        out[SCORES[key]] = _mean_and_std(table, key)
        if key in COMPARED:
            # Both tables are in the order of points, then filters.
            verdicts = comparison.loc[comparison["score"] == key, "verdict"]
            out[SCORES[key]] = [_marked(text, verdict) for text, verdict in zip(out[SCORES[key]], verdicts, strict=True)]
    out["diverged"] = [f"{d} of {n}" for d, n in zip(table["diverged"], table["runs"], strict=True)]
    if study.points:
        numbers = {describe(cell.situation): i for i, (cell, *_) in enumerate(study.points.values(), 1)}
        out["parameters"] = [_short_source(source, numbers) for source in table["parameter_source"]]
    return out


def paired_for_people(study: Study, name: str, comparison: pd.DataFrame) -> pd.DataFrame:
    """For each point and filter, the difference to the best filter in each score, with its interval."""
    first = comparison[comparison["score"] == COMPARED[0]].reset_index(drop=True)
    out = _points(study, name, first)
    for key in COMPARED:
        rows = comparison[comparison["score"] == key]
        out[SCORES[key]] = [_difference(row) for row in rows.itertuples()]
    return out


def _difference(row: Any) -> str:
    if row.verdict == DIVERGED:
        return f"diverged in {row.diverged} of {row.runs}"
    if row.verdict == BEST:
        return f"**{row.mean:.3f}**"
    text = f"{row.difference:+.3f}"
    return _marked(text if np.isnan(row.low) else f"{text} [{row.low:+.3f}, {row.high:+.3f}]", row.verdict)


def exactness_for_people(study: Study, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Distances to the reference, mean +- std, of all filters but the reference itself."""
    rows = table[table["filter"] != study.config.experiments[name].reference]
    out = _points(study, name, rows)
    for key in EXACTNESS:
        out[SCORES[key]] = _mean_and_std(rows, key)
    return out


def _points(study: Study, name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The columns that say which point and filter a row is about, as people read them."""
    heads = axes(study, name)
    out = table[list(heads)].rename(columns=heads)
    for column in out.select_dtypes("number"):
        out[column] = out[column].map("{:g}".format)
    out["filter"] = [study.filters[str(f)].label for f in table["filter"]]
    return out


def _short_source(source: str, numbers: dict[str, int]) -> str:
    """Where parameters come from, with the number of a point in place of its description."""
    for described, number in numbers.items():
        source = re.sub(rf"{re.escape(described)}(?=$|;| diverged)", f"point {number}", source)
    return source


def for_people_tuning(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """What tuning found, with labels; parameters that stayed as they were are given as well."""

    def words(values: str) -> str:
        return ", ".join(f"{k} {_number(v)}" for k, v in json.loads(values).items())

    return pd.DataFrame({
        "point": rows["point"].astype(str),
        "situation": rows["situation"],
        "filter": [study.filters[name].label for name in rows["filter"]],
        "tuned": rows["chosen"].map(words),
        "default": rows["default"].map(words),
        "score of the default": rows["default_score"].map(_score_or_diverged),
        "tuned score": rows["tuned_score"].map(_score_or_diverged),
        "trials": rows["trials"].astype(str),
        "diverged": rows["diverged"].astype(str),
    })  # fmt: skip


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def _score_or_diverged(value: float) -> str:
    return "diverged" if np.isnan(value) else f"{value:.3f}"


def _mean_and_std(table: pd.DataFrame, key: str) -> list[str]:
    return [
        "diverged" if np.isnan(m) else f"{m:.3f}" if np.isnan(s) else f"{m:.3f} ± {s:.3f}"
        for m, s in zip(table[f"{key}_mean"], table[f"{key}_std"], strict=True)
    ]


def _marked(text: str, verdict: str) -> str:
    return f"**{text}**" if verdict == BEST else f"{text} †" if verdict == INDISTINGUISHABLE else text


def write_tables(
    study: Study, scores: pd.DataFrame, costs: pd.DataFrame, *, scores_path: Path, costs_path: Path, folder: Path
) -> None:
    """Writes scores and costs (Parquet, and CSV beside it) and, for each experiment, tables of both (CSV, Markdown, LaTeX)."""
    for rows, path in ((scores, scores_path), (costs, costs_path)):
        with replacing(path) as temporary:
            rows.to_parquet(temporary, index=False)
        with replacing(path.with_suffix(".csv")) as temporary:
            rows.to_csv(temporary, index=False)
    for name, experiment in study.config.experiments.items():
        summary = summarise(study, name, scores)
        comparison = compare(experiment_rows(study, name, scores), list(axes(study, name)))
        sizes, seeds = ", ".join(map(str, experiment.sizes)), len(study.seeds(experiment))
        over_seeds = f"Mean ± standard deviation over {seeds} seeds, diverged runs left out"
        note = (
            f"{experiment.title}. {'One seed' if seeds == 1 else over_seeds}; "
            f"{experiment.cycles} cycles, the first {experiment.spin_up_cycles} left out; N = {sizes}."
        )
        marks = _meaning_of_marks(seeds)
        _write_table(folder / name, summary, for_people(study, name, summary, comparison), f"{note} {marks}")
        paired = f"{experiment.title}. Mean difference to the best filter over seeds, whose own mean is in bold. {marks}"
        _write_table(folder / f"{name}_paired", comparison, paired_for_people(study, name, comparison), paired)
        if experiment.reference is not None:
            exact = f"{note} Distances of the analyses to those of {study.filters[experiment.reference].label}."
            _write_table(folder / f"{name}_exactness", summary, exactness_for_people(study, name, summary), exact)
        cost = summarise_costs(study, name, costs)
        shown = cost.rename(columns=axes(study, name)).assign(filter=[study.filters[str(f)].label for f in cost["filter"]])
        shown = shown.rename(columns={
            "seconds_per_cycle": "seconds a cycle",
            "cpu_seconds_per_cycle": "CPU seconds a cycle",
            "peak_memory_mib": "peak memory (MiB)",
        })  # fmt: skip
        for column in shown.select_dtypes("number"):
            shown[column] = shown[column].map("{:.3g}".format if "seconds" in str(column) else "{:g}".format)
        _write_table(folder / f"{name}_cost", cost, shown, f"{experiment.title}: cost of a cycle, mean over seeds.")

    if (tuning := study.config.tuning) is not None:
        rows, listed = tuning_rows(study), ", ".join(map(str, study.config.seeds.tuning))
        note = (
            f"Parameters tuned on seeds {listed}, which no other table reports on. Scores are the mean {SCORES[tuning.score]} "
            f"over these seeds; at most {tuning.trials} trials of each filter at each point, the default first; trials that "
            "diverged on a seed are never chosen."
        )
        _write_table(folder / "tuning", rows, for_people_tuning(study, rows), note)


def _meaning_of_marks(seeds: int) -> str:
    best = "Bold: the lowest mean of filters without a diverged run."
    if seeds < 2:
        return f"{best} With one seed there is no interval, and nothing says whether others differ from it."
    return (
        f"{best} †: not distinguishable from it, because the {CONFIDENCE:.0%} confidence interval of the difference, paired by "
        f"seed (Student's t, {seeds} seeds, no correction for multiple comparisons), holds 0."
    )


def _write_table(base: Path, numbers: pd.DataFrame, shown: pd.DataFrame, note: str) -> None:
    contents = {
        ".csv": numbers.to_csv(index=False),
        ".md": f"{note}\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n",
        ".tex": _latex(shown, note, label=f"tab:{base.name}"),
    }
    for suffix, content in contents.items():
        with replacing(base.with_name(base.name + suffix)) as temporary:
            temporary.write_text(content, encoding="utf-8")


def _latex(shown: pd.DataFrame, note: str, label: str) -> str:
    """A table that goes on over pages, small enough for a page's width; it needs packages booktabs and longtable."""
    escaped = shown.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    caption = re.sub(r"([&%$#_])", r"\\\1", note)
    columns = "l" * len(shown.columns)
    latex = escaped.to_latex(environment="longtable", hrules=True, caption=caption, label=label, column_format=columns)
    latex = latex.replace(rf"\caption[]{{{caption}}}", r"\caption[]{(continued)}")
    latex = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", latex).replace("±", r"$\pm$").replace("†", r"$^\dagger$")
    return f"{SMALL_LATEX}\n{latex}}}\n"
