"""How little work masf can do: its accuracy against the training steps of each cycle, and against
reverse steps, on tuning seeds.

    python benchmarks/budgets.py PRIOR.safetensors --output benchmarks/results/budgets.csv

The prior is the one of config/config.yaml for Lorenz-96, d 40, F 8, all components observed. Cells:
gaps 20 and 50, N 100. Prints trajectory RMSE, mean over tuning seeds, and its ratio to the first
row's; a difference seed by seed says more than two means.
"""

from __future__ import annotations

from pathlib import Path

import click

from masf.cli.options import use_threads

CONFIG = {"steps": 4, "inflation": 1.0}
"""As config/filters/masf.yaml had them when results/budgets.csv was made: without less
perturbation.
"""


@click.command(help=__doc__)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--gap", multiple=True, default=[20, 50])
@click.option("--seed", multiple=True, default=[100, 101])
@click.option("--finetune-steps", multiple=True, default=[0, 10, 50, 200])
@click.option("--reverse-steps", multiple=True, default=[8, 6, 4, 3, 2, 1])
@click.option("--cycles", default=40, show_default=True)
@click.option("--spin-up-cycles", default=5, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path))
def main(
    prior: Path,
    gap: tuple[int, ...],
    seed: tuple[int, ...],
    finetune_steps: tuple[int, ...],
    reverse_steps: tuple[int, ...],
    cycles: int,
    spin_up_cycles: int,
    threads: int,
    output: Path | None,
) -> None:
    """Runs the study; see the module's docstring."""
    use_threads(threads)
    import numpy as np
    import pandas as pd

    from masf.files.cell import CellSettings
    from masf.files.estimate import estimate
    from masf.scores.run import score
    from masf.stages.assimilate import run_filter
    from masf.stages.simulate import simulate

    budgets = [("steps", n, CONFIG | {"steps": n}) for n in reverse_steps]
    budgets += [("finetune_steps", n, CONFIG | {"finetune_steps": n}) for n in finetune_steps]
    rows = []
    for budget, value, parameters in budgets:
        for length in gap:
            for one in seed:
                cell = CellSettings(
                    system="lorenz96", parameters={"dimension": 40, "dt": 0.01, "forcing": 8.0},
                    observation={"operator": "identity", "noise": 1.0},
                    gap=length, cycles=cycles, members=100, initial_spread=1.0, seed=one,
                )  # fmt: skip
                truth = simulate(cell)
                trajectory, system, _ = run_filter(
                    "masf", parameters, truth, prior=prior, device="cpu", saved_members=1
                )
                found = score(
                    estimate(trajectory, truth, system, {"filter": "masf"}),
                    gap=length,
                    spin_up_cycles=spin_up_cycles,
                )
                rows.append(
                    {
                        "budget": budget,
                        "value": value,
                        "gap": length,
                        "seed": one,
                        "rmse": found["rmse"],
                        "rmse_analysis": found["rmse_analysis"],
                        "cpu_seconds_per_cycle": float(np.nanmedian(trajectory.cpu_seconds)),
                    }
                )
                click.echo(str(rows[-1]), err=True)
        table = pd.DataFrame(rows)
        if output is not None:
            table.to_csv(output, index=False, float_format="%.5g")
    means = table.groupby(["budget", "gap", "value"], sort=False)[
        ["rmse", "rmse_analysis", "cpu_seconds_per_cycle"]
    ].mean()
    means["ratio"] = means["rmse"] / means.groupby(["budget", "gap"], sort=False)["rmse"].transform(
        "first"
    )
    click.echo(means.reset_index().to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
