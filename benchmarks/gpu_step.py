"""Milliseconds of a step of the Kolmogorov flow on a GPU, against grid and members; and of an inner
step, as a CUDA graph.

    python benchmarks/gpu_step.py    # to benchmarks/results/gpu_step.csv

Fields are random, with a standard deviation of 1.5, so that members take inner steps of several
lengths (see masf.systems). A step is the mean of five, an inner step of fifty, after a few others;
a step by numpy is one. ``difference`` is the largest between the two, over the largest velocity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from machine import machine

from masf.arrays import Stream, on_device, resolve_device
from masf.systems import kolmogorov
from masf.systems.registry import make_system

TABLE = Path(__file__).resolve().parent / "results" / "gpu_step.csv"
POINTS = [
    (64, 20),
    (64, 200),
    (64, 1000),
    (128, 20),
    (128, 200),
    (128, 1000),
    (256, 20),
    (256, 200),
    (512, 20),
]
"""Sides of the grid and members of the steps."""
INNER = [(128, 20), (128, 200)]
"""The same of the inner steps."""
LARGEST_COMPARED = 128
"""Up to this side, steps of the fewest members are made on the CPU, too."""


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=TABLE)
def main(output: Path) -> None:
    """Runs the measurement; see the module's docstring."""
    resolve_device("cuda", needs_torch=True)
    described = {
        "card": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        **machine(torch.get_num_threads()),
    }
    found = [step(size, members) for size, members in POINTS] + [
        inner_step(size, members) for size, members in INNER
    ]
    pd.DataFrame([row | described for row in found]).to_csv(
        output, index=False, float_format="%.4g"
    )


def fields(size: int, members: int) -> tuple[Any, np.ndarray]:
    """The system, and random states (members, d) of it: twenty, again and again."""
    system = make_system("kolmogorov", {"size": size})
    drawn = 1.5 * system.perturbations(20, np.zeros(1, np.float32), Stream(0, "x"))
    return system, np.resize(drawn, (members, system.dimension)).astype(np.float32)


def milliseconds(work: Callable[[], object], *, first: int, count: int) -> float:
    """Of a call on the card: the mean of ``count``, after ``first`` others."""
    for _ in range(first):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        work()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / count


def step(size: int, members: int) -> dict[str, Any]:
    """An outer step of all members, on the card and by numpy."""
    system, states = fields(size, members)
    x, stream = on_device(states, "cuda"), Stream(0, "x")
    torch.cuda.reset_peak_memory_stats()
    spent = milliseconds(lambda: system.step(x, stream), first=2, count=5)
    row = {"part": "step", "size": size, "members": members, "milliseconds": spent}
    row["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    if size <= LARGEST_COMPARED and members == min(n for _, n in POINTS):
        system.step(states, stream)
        start = time.perf_counter()
        expected = system.step(states, stream)
        row["numpy_milliseconds"] = 1e3 * (time.perf_counter() - start)
        row["difference"] = (
            np.abs(system.step(x, stream).cpu().numpy() - expected).max() / np.abs(expected).max()
        )
    return row


def inner_step(size: int, members: int) -> dict[str, Any]:
    """An inner step of all members as it is, and recorded as a CUDA graph."""
    system, states = fields(size, members)
    x = on_device(states, "cuda")
    c = system._coefficients_for(x, 22)
    w = (c["curl"] * kolmogorov._spectrum(x.reshape(-1, *system.shape).permute(1, 0, 3, 2))).sum(0)
    spent = milliseconds(lambda: kolmogorov._inner_step(w, c), first=5, count=50)
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(aside):
        for _ in range(3):
            kolmogorov._inner_step(w, c)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kolmogorov._inner_step(w, c)
    recorded = milliseconds(graph.replay, first=5, count=50)
    return {
        "part": "inner step",
        "size": size,
        "members": members,
        "milliseconds": spent,
        "graph_milliseconds": recorded,
    }


if __name__ == "__main__":
    main()
