"""The table of a study of settings of the literature: its scores beside those that are
published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from masf.report.words import LOST_TRACK
from masf.scores.averages import ERROR_OF_ANALYSIS
from masf.scores.comparison import lacking
from masf.study.literature import variant_name
from masf.study.published import PublishedSetting
from masf.study.search import is_number
from masf.study.study import Study

FAR = 0.05
"""A score that differs from the published one by a greater share than this is marked."""

NOTE = (
    "RMSE of the ensemble mean at analyses, averaged over cycles and seeds, beside the published "
    "score. ±: standard error of ours, from the means of blocks of cycles; over: ours over the "
    f"published score, marked * where the two differ by more than {FAR:.0%}. Where nothing is "
    "published, the filter is one that the study sets beside the others. Runs that lost track for "
    "a while are counted, and in the mean all the same, as in the sources."
)

COLUMNS = [
    "setting", "filter", "members", "parameters", "published", "ours", "standard_error", "ratio",
    "runs", "diverged", "lost", "missing", "cycles", "spin_up_cycles", "seeds", "note",
]  # fmt: skip


def published_rows(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """One row for each run of each setting of the study, and for each of the study's own filters
    there.

    Args:
        study: a study with a section ``settings``.
        scores: the content of scores.parquet.

    Returns:
        Columns COLUMNS: ``ours``, the mean of the analysis RMSE over runs that did not diverge,
        with its ``standard_error``; numbers of ``runs``, and of those that ``diverged``, ``lost``
        track or are ``missing``; ``cycles``, of which the first ``spin_up_cycles`` are left out.
        What masf does not have has a published score alone.
    """
    rows = [
        row
        for name, setting in study.resolved.settings.items()
        for row in [*_of_source(study, name, setting, scores), *_beside(study, name, scores)]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_source(
    study: Study, name: str, setting: PublishedSetting, scores: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """The runs of a setting whose scores are published."""
    for run in setting.runs:
        said = {
            "setting": name,
            "members": run.members,
            "parameters": json.dumps(run.parameters) if run.parameters else "",
            "published": float("nan") if run.published is None else run.published,
            "note": run.note or "",
        }
        if run.filter is None:
            yield {**said, "filter": run.name, "runs": 0}
            continue
        own = scores[scores["filter"] == variant_name(name, setting.runs, run)]
        found = {**said, "filter": run.filter, **_ours(study, f"{name}_n{run.members}", own)}
        yield {**found, "ratio": found["ours"] / said["published"]}


def _beside(study: Study, name: str, scores: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The study's own filters in a setting."""
    experiment = study.config.experiments.get(name)
    if experiment is None:
        return
    cells = [cell.path for cell in study.cells.values() if name in cell.experiments]
    for filter_name in study.experiment_filters(experiment):
        own = scores[scores["cell"].isin(cells) & (scores["filter"] == filter_name)]
        yield {
            "setting": name,
            "filter": filter_name,
            "members": experiment.sizes[0],
            "parameters": "",
            "note": "",
            **_ours(study, name, own),
        }


def _ours(study: Study, name: str, rows: pd.DataFrame) -> dict[str, Any]:
    """The score of some runs of one filter in an experiment, and what is to be known of them."""
    experiment = study.config.experiments[name]
    # Those that lost track for a while count, as in the sources.
    counted = rows.dropna(subset=["rmse_analysis"])
    errors = counted[ERROR_OF_ANALYSIS].to_numpy() if len(counted) else np.full(1, np.nan)
    missing = int(lacking(rows).sum())
    return {
        "ours": counted["rmse_analysis"].mean(),
        # Runs are independent, so that the variance of their mean is the mean of theirs over n.
        "standard_error": float(np.sqrt(np.sum(errors**2)) / len(errors)),
        "runs": len(rows) - missing,
        "diverged": int(rows["diverged"].sum()),
        "lost": int(rows["lost"].sum()),
        "missing": missing,
        "cycles": experiment.cycles,
        "spin_up_cycles": experiment.spin_up_cycles,
        "seeds": ", ".join(map(str, study.seeds(experiment))),
    }


def published_for_people(rows: pd.DataFrame) -> pd.DataFrame:
    """The table as people read it."""

    def number(value: float, form: str = "{:#.3g}") -> str:
        return "" if np.isnan(value) else form.format(value)

    return pd.DataFrame({
        "setting": rows["setting"],
        "filter": rows["filter"],
        "N": rows["members"].astype(str),
        "published": rows["published"].map(lambda v: number(v, "{:g}")),
        "ours": rows["ours"].map(number),
        "±": rows["standard_error"].map(lambda v: number(v, "{:.2g}")),
        "over": [number(v, "{:.2f}") + ("*" if abs(v - 1) > FAR else "") for v in rows["ratio"]],
        "runs": [_runs(row) for row in rows.itertuples()],
        "parameters": [_parameters(text) for text in rows["parameters"]],
    })  # fmt: skip


def _parameters(text: str) -> str:
    """Parameters of a source, which are JSON, in words; empty of a filter that has its own."""
    said = json.loads(text) if text else {}
    return ", ".join(
        f"{key} {value:g}" if is_number(value) else f"{key} {json.dumps(value)}"
        for key, value in said.items()
    )


def _runs(row: Any) -> str:
    """How many runs of how many scored cycles there are, and what became of the others."""
    if not row.runs:
        return "missing" if row.missing > 0 else "not in masf"
    kinds = {"diverged": row.diverged, "lost track": row.lost, "missing": row.missing}
    counts = [f"{int(n)} {how}" for how, n in kinds.items() if n]
    said = f"{int(row.runs)} x {int(row.cycles - row.spin_up_cycles)}"
    return f"{said} ({', '.join(counts)})" if counts else said


def note(study: Study) -> str:
    """What is to be known of the table: how to read it, and where each setting is from."""
    sources = " ".join(
        f"{name}: {setting.source} Chosen by us: {setting.chosen}"
        for name, setting in study.resolved.settings.items()
    )
    return f"{NOTE} {LOST_TRACK} Sources. {sources}"
