"""Whether the particle filter that stands for the Bayes optimum has converged: its RMSE and spread
against the number of particles and the bandwidth, in situations of benchmarks/bayes_optimum.yaml.

    OMP_NUM_THREADS=1 python benchmarks/bayes_convergence.py

Of each combination, test seeds 0 and 1. What the output has already is not done again.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
from ship import records

from masf.cli.options import use_threads

HERE = Path(__file__).resolve().parent
TABLE = HERE / "results" / "bayes_convergence.csv"
POINTS = [("all", 50), ("every_second", 50)]
"""Observation and gap."""
PARTICLES = (20_000, 60_000, 200_000)
BANDWIDTHS = (0.3, 0.5, 1.0)
USUAL = (200_000, 0.5)
"""Those of the study: of others, one of the two is varied at a time."""
SEEDS = (0, 1)
SCORES = ("rmse", "rmse_analysis", "spread_skill")


@click.command(help=__doc__)
@click.option("--threads", default=1, show_default=True)
def main(threads: int) -> None:
    """Runs the particle filter; see the module's docstring."""
    use_threads(threads)
    from masf.api import run
    from masf.progress import progress_bar
    from masf.scores.run import score
    from masf.stages.simulate import simulate_in_memory
    from masf.study.load import make_study, read_mapping

    study = make_study(
        read_mapping(HERE / "bayes_optimum.yaml") | {"figures": {}}, root=HERE.parent
    )
    cells = {
        (cell.observation_name, cell.settings.gap, cell.settings.seed): cell
        for cell in study.cells.values()
    }
    rows = records(pd.read_csv(TABLE)) if TABLE.is_file() else []
    keys = ("observation", "gap", "seed", "particles", "bandwidth")
    known = {tuple(row[key] for key in keys) for row in rows}
    wanted = [
        (*point, seed, particles, bandwidth)
        for point in POINTS
        for seed in SEEDS
        for particles in PARTICLES
        for bandwidth in BANDWIDTHS
        if particles == USUAL[0] or bandwidth == USUAL[1]
    ]
    for values in progress_bar([w for w in wanted if w not in known], desc="runs", unit="run"):
        row = dict(zip(keys, values, strict=True))
        cell = cells[values[:3]]
        estimate, _ = run(
            simulate_in_memory(cell.settings),
            "particle",
            {"particles": row["particles"], "bandwidth": row["bandwidth"]},
            prior=None,
            device="cpu",
        )
        found = score(estimate, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles)
        rows.append(row | {name: round(float(found[name]), 4) for name in SCORES})
        # After each, so that a run that is stopped has what it found.
        pd.DataFrame(rows).to_csv(TABLE, index=False)


if __name__ == "__main__":
    main()
