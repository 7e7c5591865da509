"""Seconds of one Lorenz-96 analysis of filter masf (N 100) against the dimension, with and without fine-tuning.

    python benchmarks/cycle_cost.py PRIOR.safetensors --threads 2 --dimension 40 --dimension 1000

The prior may be of any dimension: its network is convolutional. Prints the median over --cycles analyses, the forecast apart.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np

from masf.cli.options import use_threads


@click.command(help=__doc__)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--dimension", multiple=True, type=int, default=[40, 100, 200, 500, 1000])
@click.option("--finetune-steps", multiple=True, type=int, default=[0, 40])
@click.option("--cycles", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(prior: Path, dimension: tuple[int, ...], finetune_steps: tuple[int, ...], cycles: int, threads: int) -> None:
    """Runs the measurement; see the module's docstring."""
    use_threads(threads)
    from masf.arrays import Stream, on_device
    from masf.cell_settings import CellSettings
    from masf.cycle import peak_memory_mib
    from masf.filters.base import Setup
    from masf.registry import filter_class
    from masf.simulation import build, simulate

    for d in dimension:
        settings = CellSettings(
            "lorenz96",
            {"dimension": d, "forcing": 8, "dt": 0.01},
            {"operator": "identity", "noise": 1.0},
            20,
            cycles + 1,
            100,
            1.0,
            100,
        )
        truth, (system, observation) = simulate(settings), build(settings)
        for steps in finetune_steps:
            cls = filter_class("masf")
            mean = on_device(truth.initial_mean, "cpu")
            masf = cls(cls.Parameters(finetune_steps=steps), Setup(system, observation, mean, 1.0, Stream(0, "cost"), prior))
            state = on_device(truth.initial_ensemble, "cpu")
            seconds = []
            for y in truth.observation:
                for _ in range(settings.gap):
                    state = masf.forecast(state)
                start = time.perf_counter()
                state = masf.analyse(state, on_device(y, "cpu"))
                seconds.append(time.perf_counter() - start)
            cost = f"{np.median(seconds[1:]):.3f} s an analysis, peak memory {peak_memory_mib():.0f} MiB"
            click.echo(f"d {d}: fine-tuning steps {steps}: {cost}")


if __name__ == "__main__":
    main()
