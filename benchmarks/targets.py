"""MASF against the tuned baselines on test seeds, with the settings of a study and priors that it trained.

    OMP_NUM_THREADS=1 python benchmarks/targets.py config/config.yaml --output benchmarks/results/targets.csv

Takes the truths' settings, the filters' parameters and the priors of the study (in its results folder; Snakemake makes them, by
name), computes in memory, and prints each filter's scores. Cells: Lorenz-63 at gap 100; Lorenz-96 with d 40, F 8 at gaps 20 and
50 (all observed) and 40 (every second observed).
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

from masf.assimilation import run_filter
from masf.dataset import estimate
from masf.scores import score
from masf.simulation import simulate
from masf.study import Cell, load_study

CASES = [
    ("lorenz63", "all", 100, ["masf", "enkf", "particle"]),
    ("lorenz96", "all", 20, ["masf", "enkf", "enkf_localized"]),
    ("lorenz96", "all", 50, ["masf", "enkf", "enkf_localized"]),
    ("lorenz96", "every_second", 40, ["masf", "enkf", "enkf_localized"]),
]


def matches(cell: Cell, system: str, observation: str, gap: int) -> bool:
    """Whether a cell is one of a case's; Lorenz-96 with d 40 and F 8."""
    s = cell.settings
    ours = s.parameters.get("dimension", 40) == 40 and s.parameters.get("forcing", 8) == 8
    return (s.system, cell.observation_name, s.gap) == (system, observation, gap) and ours


@click.command(help=__doc__)
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--only", type=int, help="Run one case, counted from 0.")
@click.option("--output", type=click.Path(path_type=Path))
def main(config: Path, only: int | None, output: Path | None) -> None:
    """Runs the cases; see the module's docstring."""
    study = load_study(config)
    rows = []
    for system, observation, gap, filters in CASES if only is None else CASES[only : only + 1]:
        cells = [c for c in study.cells.values() if matches(c, system, observation, gap)]
        for name in filters:
            for cell in cells:
                prior = Path(study.config.results) / study.prior(cell).path
                parameters = study.filter_parameters(name, cell)
                truth = simulate(cell.settings)
                trajectory, made_in, _ = run_filter(study.filter_module(name), parameters, truth, prior=prior, device="cpu")
                data = estimate(trajectory, truth, made_in, {"filter": name})
                found = score(data, gap=gap, spin_up_cycles=cell.spin_up_cycles)
                rows.append({
                    "system": system, "observation": observation, "gap": gap, "filter": name, "seed": cell.settings.seed,
                    "rmse": found["rmse"], "rmse_analysis": found["rmse_analysis"], "diverged": bool(data.attrs["diverged"]),
                })  # fmt: skip
            shown = pd.DataFrame(rows).query(
                "filter == @name and system == @system and gap == @gap and observation == @observation"
            )
            click.echo(f"{system} {observation} gap {gap} {name}: {shown[['rmse', 'rmse_analysis']].mean().round(4).to_dict()}")
    table = pd.DataFrame(rows)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, mode="a", header=not output.exists(), index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
