"""What a cycle of masf_gaussian costs against passes, lag and dimension.

    python benchmarks/passes_cost.py     # to benchmarks/results/passes_cost.csv, in a minute or two

Lorenz-96, N 100, a measurement of all components every 20 steps: model steps, analysis and the
model runs of its passes, in processor seconds of one thread, the least of several cycles; memory is
the peak of a process of its own. One pass is the filter that runs the model once.
"""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from machine import machine

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "results" / "passes_cost.csv"
DIMENSIONS = [40, 200, 1000]
PASSES = [(1, 1), (2, 1), (4, 1), (8, 1), (8, 3)]
"""Passes, and cycles in the window."""
MEMBERS, GAP = 100, 20
WARM, CYCLES = 3, 8


def measure(dimension: int, passes: int, lag: int) -> dict[str, float]:
    """Seconds and model runs of a cycle, and the peak of memory in MiB."""
    import masf
    from masf.arrays import Stream
    from masf.filters.base import Setup
    from masf.filters.masf_gaussian import GaussianMASF
    from masf.observations.settings import observation_settings
    from masf.stages.cycle import peak_memory_mib
    from masf.systems.counting import counted_steps

    system, stream = masf.make_system("lorenz96", dimension=dimension), Stream(0, "cost")
    observation = observation_settings({"operator": "identity", "noise": 1.0}).build(
        dimension, system.grid
    )
    truth = system.typical_state(stream).astype(np.float32)[None]
    state = truth + 0.3 * stream.numpy.standard_normal((MEMBERS, dimension)).astype(np.float32)
    parameters = GaussianMASF.Parameters(passes=passes, lag=lag, passes_radius=40)
    filter_ = GaussianMASF(parameters, Setup(system, observation, truth[0], 0.3, stream))
    state, seconds, runs = filter_.start(state), [], []
    for _ in range(WARM + CYCLES):
        truth = system.advance(truth, GAP, stream)
        y = observation.apply(truth)[0] + stream.numpy.standard_normal(dimension)
        with counted_steps(system) as steps:
            start = time.process_time()
            for _ in range(GAP):
                state = filter_.forecast(state)
            state = filter_.project(filter_.analyse(state, y.astype(np.float32)))
            seconds.append(time.process_time() - start)
        runs.append(steps.taken / GAP / MEMBERS)
    return {
        "seconds": min(seconds[WARM:]),
        "model_runs": float(np.mean(runs[WARM:])),
        "peak_memory_mib": peak_memory_mib(),
    }


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), default=TABLE)
def main(output: Path) -> None:
    """See the module's docstring."""
    rows = []
    for dimension in DIMENSIONS:
        once = None
        for passes, lag in PASSES:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measure, (dimension, passes, lag))
            once = once or found["seconds"]
            rows.append({
                "dimension": dimension, "passes": passes, "lag": lag, **found,
                "over_one_pass": found["seconds"] / once, **machine(1),
            })  # fmt: skip
            click.echo(rows[-1], err=True)
    pd.DataFrame(rows).to_csv(output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
