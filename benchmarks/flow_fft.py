"""A step of the Kolmogorov flow beside its Fourier transforms alone, by grid and by arrays' kind:
processor seconds, and the memory that a batch takes besides itself.

    OMP_NUM_THREADS=1 python benchmarks/flow_fft.py --output benchmarks/results/flow_fft.csv

A step of 0.2 has as many inner steps as the fastest member's speed asks for; each takes four
right-hand sides, of two inverse and two forward transforms. The transforms alone are these, of the
same arrays, one after another. Both are timed in turn, and the ratio is the median over rounds.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from machine import machine

from masf.cli.options import use_threads


@click.command(help=__doc__)
@click.option("--size", "sizes", multiple=True, type=int, default=[64, 128, 256, 512])
@click.option("--members", default=4, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
def main(sizes: tuple[int, ...], members: int, rounds: int, output: Path) -> None:
    """Runs the measurement; see the module's docstring."""
    use_threads(1)
    rows = [
        {"size": size, "members": members, "arrays": kind, **measured(size, members, kind, rounds)}
        for size in sizes
        for kind in ("numpy", "torch")
    ]
    table = pd.DataFrame(rows).assign(**machine(1))
    table.to_csv(output, index=False, float_format="%.4g")
    click.echo(table.to_string())


def measured(size: int, members: int, kind: str, rounds: int) -> dict[str, Any]:
    """One row: of steps of one batch of random fields."""
    import torch

    from masf.arrays import Stream, to_numpy
    from masf.systems import kolmogorov

    system, stream = (
        kolmogorov.Kolmogorov(kolmogorov.KolmogorovParameters(size=size)),
        Stream(0, "benchmark"),
    )
    x: Any = 2 * system.perturbations(members, np.empty(0, np.float32), stream)
    if kind == "torch":
        x = torch.from_numpy(np.asarray(x))
    x = system.step(x, stream)  # makes coefficients, and plans of transforms
    speeds = (to_numpy(x).reshape(members, 2, -1) ** 2).sum(1).max(axis=-1) ** 0.5
    inner = int(system.inner_steps(speeds).max())
    fields = x.reshape(members, 2, size, size).swapaxes(0, 1)
    fields = np.ascontiguousarray(fields) if kind == "numpy" else fields.contiguous()
    whole, alone = [], []
    for _ in range(rounds):
        start = time.process_time()
        # All at the same number of inner steps.
        system._advance(x, inner)
        whole.append(time.process_time() - start)
        start = time.process_time()
        for _ in range(4 * inner + 1):
            kolmogorov._fields(kolmogorov._spectrum(fields))
        alone.append(time.process_time() - start)
    peak = float("nan")
    if kind == "numpy":  # torch's memory is not seen
        tracemalloc.start()
        system._advance(x, 1)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    return {
        "inner_steps": inner,
        "step_seconds": float(np.median(whole)),
        "transforms_seconds": float(np.median(alone)),
        "ratio": float(np.median(np.divide(whole, alone))),
        "batch_mib": 4 * members * system.dimension / 2**20,
        "peak_mib": peak,
    }


if __name__ == "__main__":
    main()
