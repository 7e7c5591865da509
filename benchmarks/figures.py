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
from ship import STUDIES, belongs, laid_over, records

from masf.report.rows import axis_column
from masf.scores.run import SCORES
from masf.study.load import make_study, read_mapping
from masf.study.study import Study

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "docs" / "figures"


@dataclass(frozen=True)
class Shown:
    """What a figure is drawn from.

    Attributes:
        study: the config whose figure of that name it is, with what is laid over it.
        results: names in benchmarks/results; of a run that several have, that of the first.
        filters: what is shown, in the order of the legend.
    """

    study: list[str]
    results: list[str]
    filters: list[str]


FIGURES = {
    "figure4": Shown(
        STUDIES["figure4"],
        ["figure4_passes", "figure4"],
        ["masf", "masf_gaussian", "ensf", "enkf", "enkf_localized", "etkf", "letkf", "ienks"],
    ),
    "small_ensembles": Shown(
        ["small_ensembles.yaml"],
        ["small_ensembles"],
        ["masf", "masf_gaussian", "enkf_localized", "letkf", "ienks"],
    ),
}


def study_of(name: str) -> Study:
    """The study of a figure, with that figure alone and the filters that it shows."""
    config: Any = {}
    for file in FIGURES[name].study:
        config = laid_over(config, read_mapping(HERE / file))
    config |= {"filters": FIGURES[name].filters, "figures": {name: config["figures"][name]}}
    config.pop("pinned", None)  # of filters that are not shown, perhaps
    return make_study(config, root=HERE.parent)


def rows_of(name: str, study: Study) -> Iterator[dict[str, Any]]:
    """The rows that stage aggregate would have written of the runs. Raises ValueError for one that
    belongs to no cell of the study.
    """
    taken = set()
    for result in FIGURES[name].results:
        for row in records(pd.read_csv(HERE / "results" / f"{result}.csv")):
            if row["filter"] not in FIGURES[name].filters:
                continue
            cells = [cell for cell in study.cells.values() if belongs(row, cell)]
            if len(cells) != 1:
                raise ValueError(f"{result}.csv: {row} belongs to {len(cells)} cells of {name}")
            key = (cells[0].path, row["filter"])
            if key not in taken:
                taken.add(key)
                settings = cells[0].settings
                yield {
                    "cell": cells[0].path,
                    "gap": settings.gap,
                    "members": settings.members,
                    "seed": settings.seed,
                    **{axis_column(k): float(v) for k, v in settings.parameters.items()},
                    "filter": row["filter"],
                    **{score: row.get(score, float("nan")) for score in SCORES},
                    "diverged": bool(row["diverged"]),
                    "lost": bool(row.get("lost", False)),
                }


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(FIGURES)))
def main(names: tuple[str, ...]) -> None:
    """See the module's docstring."""
    from masf.stages.plot import draw

    for name in names or FIGURES:
        study = study_of(name)
        with TemporaryDirectory() as folder:
            scores = Path(folder) / "scores.parquet"
            pd.DataFrame(rows_of(name, study)).to_parquet(scores)
            draw(study, name, scores, [FOLDER / f"{name}.png"])
        click.echo(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
