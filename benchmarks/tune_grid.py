r"""Grid search of a filter's declared values (``search`` in config/filters/NAME.yaml) on tuning seeds only.

    OMP_NUM_THREADS=1 python benchmarks/tune_grid.py config/config.yaml \
        --experiment lorenz96_gap --filter enkf_localized --gap 20 --observation all

Writes one row for each combination, best first, with mean and standard deviation over the tuning seeds, to the file
that --output names. Test seeds are never touched. The values in config/filters were chosen from such tables.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from masf.assimilation import run_filter
from masf.metrics import rmse_over_components, trajectory_rmse
from masf.simulate import simulate
from masf.study import Cell, load_study


def scores(name: str, parameters: dict, cell: Cell, prior: Path | None) -> tuple[float, float, bool]:
    """Trajectory and analysis RMSE of one run, spin-up left out, and whether it diverged."""
    truth = simulate(cell.settings)
    trajectory, _, _ = run_filter(name, parameters, truth, prior=prior, device="cpu")
    gap, spin_up = cell.settings.gap, cell.spin_up_cycles
    analyses = rmse_over_components(trajectory.mean, truth.truth)[(spin_up + 1) * gap :: gap]
    rmse = trajectory_rmse(trajectory.mean[spin_up * gap + 1 :], truth.truth[spin_up * gap + 1 :])
    return rmse, float(analyses.mean()), trajectory.diverged_at is not None


@click.command(help=__doc__)
@click.argument("config", type=click.Path(path_type=Path, exists=True))
@click.option("--experiment", required=True)
@click.option("--filter", "name", required=True)
@click.option("--observation", required=True)
@click.option("--gap", required=True, type=int)
@click.option("--where", default="{}", help='What the cell must have, as JSON, such as {"dimension": 40} or {"members": 100}.')
@click.option("--score", default="rmse", type=click.Choice(["rmse", "rmse_analysis"]), show_default=True)
@click.option("--prior", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path))
def main(
    config: Path,
    experiment: str,
    name: str,
    observation: str,
    gap: int,
    where: str,
    score: str,
    prior: Path | None,
    output: Path | None,
) -> None:
    """Runs the search; see the module's docstring."""
    study = load_study(config)
    wanted = json.loads(where).items()
    cell = next(
        c
        for c in study.cells.values()
        if experiment in c.experiments
        and (c.observation_name, c.settings.gap) == (observation, gap)
        and all(c.situation[k] == v for k, v in wanted)
    )
    definition = study.filters[name]
    rows = []
    grid = [dict(zip(definition.search, values, strict=True)) for values in itertools.product(*definition.search.values())]
    for chosen in tqdm(grid, disable=None):
        parameters = study.filter_parameters(name, cell) | chosen
        runs = []
        for seed in study.config.seeds.tuning:
            settings = dataclasses.replace(cell.settings, seed=seed)
            runs.append(scores(study.filter_module(name), parameters, dataclasses.replace(cell, settings=settings), prior))
        rmse, analysis, diverged = (np.array(x) for x in zip(*runs, strict=True))
        rows.append({
            "experiment": experiment, "observation": observation, "gap": gap, **dict(wanted), "filter": name, **chosen,
            "rmse": rmse.mean(), "rmse_std": rmse.std(ddof=1), "rmse_analysis": analysis.mean(),
            "rmse_analysis_std": analysis.std(ddof=1), "diverged": int(diverged.sum()), "seeds": len(runs),
        })  # fmt: skip
    table = pd.DataFrame(rows).sort_values(score, na_position="last")
    click.echo(table.head(5).to_string(index=False))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        header = not output.exists()
        table.to_csv(output, mode="a", header=header, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
