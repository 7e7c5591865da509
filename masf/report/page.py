"""What the page of a study holds: its table of scores, and parameters in words."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from masf.report.headline import Verdict
from masf.report.rows import on_track
from masf.report.tables import COST_HEADS
from masf.scores.run import SCORES, shown_scores
from masf.study.study import Study
from masf.systems.registry import make_system

CATEGORIES = ["filter", "system", "dimension", "parameters", "observed", "gap", "N"]
"""Columns of the table of scores that are filtered by their values."""


def difference_in_words(verdict: Verdict) -> str:
    """How far the next filter is behind the best one, with the interval where there is one."""
    text = f"+{verdict.difference:.3f} ({verdict.margin:.0%})"
    return (
        text if verdict.low != verdict.low else f"{text} [{verdict.low:+.3f}, {verdict.high:+.3f}]"
    )


def score_rows(study: Study, scores: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """The table of scores: one row a situation and filter, means over test seeds; one column for
    each thing to filter by.

    Of a system's parameters, those are named that differ from cell to cell.
    """
    dimension = cache(
        lambda system, parameters: make_system(system, json.loads(parameters)).dimension
    )
    values = defaultdict(set)
    for cell in study.cells.values():
        for key, value in cell.settings.parameters.items():
            values[cell.settings.system, key].add(value)
    points: dict[str, list[Any]] = {}
    for path, cell in study.cells.items():
        s = cell.settings
        varied = {
            k: v
            for k, v in s.parameters.items()
            if k not in {"dimension", "size"} and len(values[s.system, k]) > 1
        }
        words = [f"{k} {v:g}" for k, v in varied.items()]
        others = ", ".join([*words, *([f"model {cell.model_in_words}"] if s.model else [])])
        points[path] = [
            cell.point, s.system, dimension(s.system, json.dumps(s.parameters)), others,
            cell.observation_name.replace("_", " "), s.gap, s.members,
        ]  # fmt: skip
    keys = pd.DataFrame.from_dict(points, orient="index", columns=["point", *CATEGORIES[1:]])
    of_costs = {key: COST_HEADS[key] for key in ("seconds_per_cycle", "model_runs_per_cycle")}
    joined = scores.merge(costs[["cell", "filter", *of_costs]], on=["cell", "filter"], how="left")
    joined = joined.join(keys.drop(columns=["system", "gap"]), on="cell")
    joined["filter"] = pd.Categorical(joined["filter"], study.with_scores, ordered=True)
    joined = on_track(joined.assign(rmse_lost=joined["rmse"].where(joined["lost"])))
    grouped = joined.groupby(["point", "filter"], observed=True, sort=False)
    table = grouped[CATEGORIES[1:]].first().reset_index("filter").reset_index(drop=True)
    table["filter"] = [study.filters[str(name)].label for name in table["filter"]]
    table = table[CATEGORIES]
    for column, name in {
        **{key: SCORES[key] for key in shown_scores(joined)},
        **of_costs,
    }.items():
        table[name] = grouped[column].mean().to_numpy()
        if column == "rmse":
            table["±"] = grouped[column].std().to_numpy()
    table["diverged"] = grouped["diverged"].sum().to_numpy()
    table["lost track"] = grouped["lost"].sum().to_numpy()
    table["RMSE of the lost"] = grouped["rmse_lost"].mean().to_numpy()
    table["runs"] = grouped.size().to_numpy()
    if "missing" in joined:
        table["missing"] = grouped["missing"].sum().to_numpy()
        table["runs"] -= table["missing"]
    return table


def interactive_table(table: pd.DataFrame) -> Markup:
    """The table with DataTables, whose script and style are part of it."""
    import itables.options
    from itables import to_html_datatable
    from itables.javascript import generate_init_offline_itables_html

    # Columns that say nothing in this study would take the place of others.
    table = table.loc[:, [c for c in table if not (table[c].isna() | (table[c] == "")).all()]]
    categories = [c for c in CATEGORIES if c in table]
    numbers = list(range(len(categories), len(table.columns)))
    with pd.option_context("display.float_format", "{:.3f}".format):
        html = to_html_datatable(
            table.fillna(dict.fromkeys(table.select_dtypes("float"), np.inf)),  # sorted last
            table_id="scores",
            connected=False,
            showIndex=False,
            classes="compact",
            style="width:100%",
            maxBytes=0,
            maxColumns=0,
            lengthMenu=[25, 50, 100, 1000],
            order=[[column, "asc"] for column in range(1, len(categories) + 1)],
            columnDefs=[
                {"targets": list(range(len(categories))), "columnControl": [["searchList"]]},
                {"targets": numbers, "className": "dt-right"},
            ],
            layout={
                "topStart": "search",
                "topEnd": "pageLength",
                "bottomStart": "info",
                "bottomEnd": "paging",
            },
            text_in_header_can_be_selected=False,
        )
    html = html.replace(r"[\"inf\", ", r"[\"–\", ")
    return Markup(generate_init_offline_itables_html(itables.options.dt_bundle) + html)  # noqa: S704


def parameters_in_use(study: Study, scores: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """The parameters that each filter ran with, the most frequent first."""
    return [
        (
            study.filters[name].label,
            [
                _words(json.loads(text))
                for text in scores.loc[scores["filter"] == name, "filter_parameters"]
                .value_counts()
                .index
            ],
        )
        for name in study.all_filters
    ]


def _words(parameters: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{key} {json.dumps(value)}" for key, value in parameters.items()) or "defaults"
    )
