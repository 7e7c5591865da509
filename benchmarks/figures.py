"""Figures of documents that show scores alone, drawn from the results: what took hours to run is
drawn again in seconds.

    python benchmarks/figures.py                     # all of them
    python benchmarks/figures.py small_ensembles

Figures that show states are copied from the studies that drew them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pandas as pd
from record import MODEL_RUNS
from ship import STUDIES, config_of, kept_runs

from masf.scores.run import SCORES
from masf.stages.aggregate import run_keys
from masf.study import paths
from masf.study.load import make_study
from masf.study.study import Study

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "docs" / "figures"
COST = "model_runs_per_cycle"
"""The column of costs.parquet that is drawn."""


@dataclass(frozen=True)
class Shown:
    """What a figure is drawn from.

    Attributes:
        study: the config whose figure of that name it is, with what is laid over it.
        results: the name in benchmarks/results from which each filter is taken, in the order of
            the legend.
    """

    study: list[str]
    results: dict[str, str]


FIGURES = {
    "figure4": Shown(
        STUDIES["figure4"],
        {
            "masf": "figure4_passes",
            **dict.fromkeys(
                ["masf_gaussian", "ensf", "enkf", "enkf_localized", "etkf", "letkf"], "figure4"
            ),
            "ienks": "figure4_passes",
        },
    ),
    **{
        name: Shown(
            ["small_ensembles.yaml"],
            dict.fromkeys(["masf_gaussian", "enkf_localized", "letkf", "ienks"], "small_ensembles"),
        )
        for name in ("small_ensembles", "small_ensembles_model_runs")
    },
}


def study_of(name: str) -> Study:
    """The study of a figure, with that figure alone and the filters that it shows."""
    config = config_of(FIGURES[name].study)
    config |= {"filters": list(FIGURES[name].results), "figures": {name: config["figures"][name]}}
    config.pop("pinned", None)  # of filters that are not shown, perhaps
    return make_study(config, root=HERE.parent)


def rows_of(name: str, study: Study) -> Iterator[dict[str, Any]]:
    """The rows that stage aggregate would have written of the runs, scores and costs in one. Raises
    ValueError for one that belongs to no cell of the study.
    """
    results = FIGURES[name].results
    for result in dict.fromkeys(results.values()):
        filters = [shown for shown, taken_from in results.items() if taken_from == result]
        for row, cell in kept_runs(result, study, filters):
            yield run_keys(cell, row["filter"]) | {
                **{score: row.get(score, float("nan")) for score in SCORES},
                "diverged": bool(row["diverged"]),
                "lost": bool(row.get("lost", False)),
                COST: row.get(MODEL_RUNS, float("nan")),
            }


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(FIGURES)))
def main(names: tuple[str, ...]) -> None:
    """See the module's docstring."""
    from masf.stages.plot import draw

    for name in names or FIGURES:
        study = study_of(name)
        rows = pd.DataFrame(rows_of(name, study))
        with TemporaryDirectory() as folder:
            scores = Path(folder) / paths.SCORES
            rows.drop(columns=COST).to_parquet(scores)
            rows[["cell", "filter", COST]].to_parquet(scores.with_name(paths.COSTS))
            draw(study, name, scores, [FOLDER / f"{name}.png"])
        click.echo(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
