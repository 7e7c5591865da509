"""Puts the runs of studies in results/ into the package: the rivals that masf compare sets beside a
newcomer's runs, so that nobody has to run them again.

    python benchmarks/ship.py            # writes masf/study/shipped_runs.csv.gz
    python benchmarks/ship.py --check 50 # and looks at 50 more truths

The tables in results/ do not keep the truths. A truth's digest is shipped where a simulation gives
today what the study ran on: where the EnKF, whose analyses need the measurements, too, has the
score again that the table has, to its four digits. Trajectories are chaotic, so that another truth,
or the same with other rounding, has another score. Cells where it has another score, and those of
which no table has a run of it, have no digest; their runs are paired by settings and seed. Digests
that are shipped already stay, so that a check may be done by parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import click
import pandas as pd
from record import MODEL_RUNS

from masf.api import run as run_filter
from masf.files.cell import build
from masf.files.truth import digest, truth_of
from masf.filters.passes import TemperedFilter, model_runs
from masf.filters.registry import FREE_RUN, filter_class
from masf.progress import progress_bar
from masf.scores.run import score
from masf.stages.simulate import simulate_in_memory
from masf.study.cells import Cell
from masf.study.load import make_study, read_mapping
from masf.study.search import is_number
from masf.study.shipped import SCORES, SHIPPED, Run, read_runs, variant, write_runs
from masf.study.study import Study

HERE = Path(__file__).resolve().parent
STUDIES = {
    "figure3": ["figure3.yaml"],
    "figure4_passes": ["figure4.yaml", "figure4_passes.yaml"],
    "figure4": ["figure4.yaml"],
    "figure4_one_seed": ["figure4.yaml", "figure4_one_seed.yaml"],
    "figure4_others": ["gap_sweep.yaml", "figure4_others.yaml"],
    "figure5": ["figure5.yaml"],
    "gap_sweep": ["gap_sweep.yaml"],
    "iterative": ["iterative.yaml"],
    "small_ensembles": ["small_ensembles.yaml"],
    "figure5_tuned": ["figure5_tuned.yaml"],
    "figure5_network": ["figure5_tuned.yaml", "figure5_network.yaml"],
    "figure5_128": ["figure5_128.yaml"],
    "published_runs": ["published.yaml"],
}
"""Results, and the configs that they were made from, later ones laid over earlier ones. Of a filter
that several ran in a situation on as many seeds, masf compare takes the first.
"""
ONE_PASS = {"figure4", "gap_sweep"}
"""Results of filters with one pass (masf.filters.passes), though config/tuned has several today."""
TUNED = {"iterative"}
"""Results of filters whose passes stage tune chose, mostly several, and nobody kept."""
UNCOUNTED = {"ienks"}
"""Filters that run the model as often as they need, which only tables with model runs say."""
CHECKED_BY = "enkf"
DIGITS = 1e-4
"""What the tables keep."""


def laid_over(below: Any, above: Any) -> Any:
    """A config with another laid over it, as Snakemake does."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: laid_over(below.get(key), value) for key, value in above.items()}


def config_of(files: Sequence[str]) -> dict[str, Any]:
    """The config of a study: the files of benchmarks/, later ones laid over earlier ones."""
    return reduce(laid_over, (read_mapping(HERE / file) for file in files))


def kept_runs(
    name: str, study: Study, filters: Collection[str]
) -> Iterator[tuple[dict[str, Any], Cell]]:
    """The rows of a table of results that are of some filters, each with its cell of the study.
    Raises ValueError for a row that belongs to no cell, or to several.
    """
    for row in records(pd.read_csv(HERE / "results" / f"{name}.csv")):
        if row["filter"] not in filters:
            continue
        cells = [cell for cell in study.cells.values() if belongs(row, cell)]
        if len(cells) != 1:
            raise ValueError(
                f"{name}.csv: {row} belongs to {len(cells)} cells of its study: record it anew"
            )
        yield row, cells[0]


def runs_of(name: str) -> Iterator[Run]:
    """The runs in a table of results, as :func:`kept_runs` finds them."""
    study = make_study({**config_of(STUDIES[name]), "figures": {}}, root=HERE.parent)
    for row, cell in kept_runs(name, study, study.all_filters):
        counted = row.get(MODEL_RUNS, math.nan) / cell.settings.members
        filter_name, taken = called_and_cost(name, study, str(row["filter"]), cell, counted)
        yield Run(
            cell.settings,
            filter_name,
            {k: float(row.get(k, float("nan"))) for k in SCORES},
            bool(row["diverged"]),
            bool(row.get("lost", False)),
            cell.spin_up_cycles,
            source=name,
            model_runs=taken,
        )


def called_and_cost(
    result: str, study: Study, name: str, cell: Cell, counted: float
) -> tuple[str, float]:
    """What the run of a filter in a cell is called as a rival, and how many forecasts of one member
    from one measurement to the next a cycle took of it; NaN where that is not known.

    Args:
        result: the table that has the run.
        study: its study.
        name: what the study calls the filter.
        cell: the cell.
        counted: what the table says; NaN where it does not.
    """
    module = study.filter_module(name)
    plain = called(name, module, study.config.filters)
    if module in UNCOUNTED:
        return plain, counted
    if module == FREE_RUN:
        return plain, 1 / cell.settings.members
    cls: Any = filter_class(module)
    if not math.isnan(counted):
        return variant(plain, several=issubclass(cls, TemperedFilter) and counted > 1), counted
    if not issubclass(cls, TemperedFilter) or result in ONE_PASS:
        return plain, 1.0
    if result in TUNED:
        return variant(plain, several=True), math.nan
    parameters = cls.Parameters(**study.filter_parameters(name, cell))
    runs = model_runs(parameters, cell.settings.cycles)
    return variant(plain, several=parameters.passes > 1), runs


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table of results."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def called(name: str, module: str, own: list[str]) -> str:
    """What a filter is called as a rival: of a run of a setting, the module, which the situation
    tells from those of other settings, with a number where there are several in one.

    Args:
        name: what the study calls it.
        module: its module.
        own: the study's own filters, which have their plain names.
    """
    if name in own:
        return name
    number = re.search(r"_n\d+(_\d+)$", name)
    return f"{module}_2" if module in own else f"{module}{number[1] if number else ''}"


def belongs(row: dict[str, Any], cell: Cell) -> bool:
    """Whether a row of a table is of a run in a cell: what the table has of the cell's situation
    and seed is the cell's, to the digits that tables keep.
    """
    said = {**cell.conditions, "seed": cell.settings.seed}
    return str(row["filter"]) in cell.filters and all(
        math.isclose(row[key], value, abs_tol=DIGITS / 2) if is_number(value) else row[key] == value
        for key, value in said.items()
        if key in row and row[key] == row[key]  # another system's parameter is not a number here
    )


def unchecked(runs: list[Run], known: dict[str, str]) -> list[Run]:
    """Runs by which truths can be checked that have no digest yet, one a cell, the cheapest
    first.
    """
    found = {
        run.settings.to_json(): run
        for run in runs
        if run.filter == CHECKED_BY and run.settings.to_json() not in known
    }
    return sorted(found.values(), key=cost)


def cost(run: Run) -> float:
    """Numbers that a run of a filter steps through the model."""
    s = run.settings
    system, _ = build(s)
    return float(system.dimension * s.members * s.steps[-1])


def checked(runs: list[Run]) -> dict[str, str]:
    """Digests of the truths that are still those of the runs, by the settings of their cells."""
    found = {}
    for kept in progress_bar(runs, desc="check", unit="truth"):
        truth = simulate_in_memory(kept.settings)
        estimate, _ = run_filter(truth, CHECKED_BY, {}, prior=None, device="cpu")
        rmse = score(estimate, gap=kept.settings.gap, spin_up_cycles=kept.spin_up_cycles)["rmse"]
        if abs(rmse - kept.scores["rmse"]) < DIGITS:
            found[kept.settings.to_json()] = digest(truth_of(truth))
        else:
            click.echo(f"another truth: {rmse:.4f}, was {kept.scores['rmse']:.4f}: {kept.settings}")
    return found


@click.command(help=__doc__)
@click.option(
    "--check", default=0, show_default=True, help="How many truths without a digest to look at."
)
def main(check: int) -> None:
    """See the module's docstring."""
    runs = [run for name in STUDIES for run in runs_of(name)]
    shipped = read_runs(SHIPPED) if SHIPPED.is_file() else []
    known = {run.settings.to_json(): run.truth for run in shipped if run.truth}
    known |= checked(unchecked(runs, known)[:check])
    write_runs(SHIPPED, [replace(r, truth=known.get(r.settings.to_json(), "")) for r in runs])
    click.echo(
        f"{SHIPPED}: {len(runs)} runs, {SHIPPED.stat().st_size / 1000:.0f} kB; digests of "
        f"{len(known)} truths, {len(unchecked(runs, known))} to be checked"
    )


if __name__ == "__main__":
    main()
