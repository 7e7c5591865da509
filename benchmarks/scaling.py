"""Seconds and memory of one cycle of each filter on Lorenz-96, against the dimension d and the ensemble size N.

    python benchmarks/scaling.py measure PRIOR.safetensors     # to benchmarks/results/scaling.csv
    python benchmarks/scaling.py plot                          # to docs/figures/scaling.png

A cycle is 20 model steps and an analysis, all components observed, with the parameters in config/filters. Each point is a process
of its own with one thread: processor seconds of the faster of two cycles after a first, and the peak of resident memory. A line
ends where a cycle would take longer than --limit, or the filter refuses. The prior may be of any dimension: its network is
convolutional.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import click
import pandas as pd
import yaml
from machine import machine

from masf.cli.options import THREAD_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
TABLE, FIGURE = ROOT / "benchmarks" / "results" / "scaling.csv", ROOT / "docs" / "figures" / "scaling.png"
FILTERS = ["masf", "masf_gaussian", "masf_mc", "ensf", "sf", "ssls", "enkf", "enkf_localized", "etkf", "letkf"]
DIMENSIONS, SIZES = [40, 100, 400, 1000, 4000, 10000], [25, 50, 100, 200, 400, 800]
GAP = 20


@click.group(help=__doc__)
def main() -> None:
    """See the module's docstring."""


@main.command()
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--filter", "filters", multiple=True, default=FILTERS)
@click.option("--limit", default=20.0, show_default=True, help="Seconds of a cycle, at most.")
@click.option("--output", type=click.Path(path_type=Path), default=TABLE)
def measure(prior: Path, filters: tuple[str, ...], limit: float, output: Path) -> None:
    """Measures all points, and writes the table."""
    rows = []
    for name in filters:
        for axis, cases in {"dimension": [(d, 100) for d in DIMENSIONS], "members": [(200, n) for n in SIZES]}.items():
            for d, n in cases:
                words = [sys.executable, __file__, "cell", name, str(d), str(n), str(prior), "--limit", str(limit)]
                # Set here, because numpy reads it when it is imported.
                one = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
                done = subprocess.run(words, capture_output=True, text=True, check=False, env=one)  # noqa: S603
                if done.returncode:
                    # A negative status is a signal, such as that of a system out of memory.
                    said = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
                    click.echo(f"{name}, d {d}, N {n}: {said[-1]}", err=True)
                    break
                found = json.loads(done.stdout)
                click.echo(f"{name}, d {d}, N {n}: {found}", err=True)
                rows.append({"axis": axis, "filter": name, "dimension": d, "members": n, **found})
                pd.DataFrame(rows).assign(**machine(1)).to_csv(output, index=False, float_format="%.4g")
                if found["seconds"] > limit / 2:
                    break


@main.command()
@click.argument("name")
@click.argument("dimension", type=int)
@click.argument("members", type=int)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--limit", default=20.0)
def cell(name: str, dimension: int, members: int, prior: Path, limit: float) -> None:
    """Measures one point, and prints it as JSON."""
    import numpy as np

    from masf.arrays import Stream, on_device
    from masf.cycle import peak_memory_mib
    from masf.filters.base import Setup
    from masf.observations import Observation
    from masf.registry import filter_class, make_system

    system, stream = make_system("lorenz96", {"dimension": dimension, "forcing": 8.0, "dt": 0.01}), Stream(0, "benchmark")
    cls = filter_class(name)
    definition = yaml.safe_load((ROOT / "config" / "filters" / f"{name}.yaml").read_text(encoding="utf-8"))
    parameters = cls.Parameters(**definition["parameters"])
    where = "cpu" if cls.needs_torch(parameters) else None
    truth = system.typical_state(stream)
    state = on_device(truth + 0.5 * stream.numpy.standard_normal((members, dimension)), where)
    observation = Observation(dimension, indices=np.arange(dimension), noise=1.0)
    setup = Setup(system, observation, on_device(truth, where), 0.5, stream, prior if cls.uses_prior else None)
    filter_, seconds = cls(parameters, setup), []
    for _ in range(3):
        for _ in range(GAP):
            truth = system.step(truth, stream)
        y = on_device(truth + stream.numpy.standard_normal(dimension), where)
        start = time.process_time()
        for _ in range(GAP):
            state = filter_.forecast(state)
        state = filter_.analyse(state, y)
        seconds.append(time.process_time() - start)
        if seconds[-1] > limit / 2:
            break
    click.echo(json.dumps({"seconds": min(seconds[1:] or seconds), "peak_memory_mib": peak_memory_mib()}))


@main.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True), default=TABLE)
@click.option("--output", type=click.Path(path_type=Path), default=FIGURE)
def plot(table: Path, output: Path) -> None:
    """Draws the table: each filter a line, in the colours of the study's figures."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.ticker import LogLocator, NullLocator

    from masf.figures.look import PAGE_WIDTH, STYLE, Look, label_ends, lettered
    from masf.study import load_study

    study, rows = load_study(ROOT / "config" / "config.yaml"), pd.read_csv(table)
    look = Look.of(study)
    names = {"dimension": ("dimension $d$", "$N$ = 100"), "members": ("ensemble size $N$", "$d$ = 200")}
    scores = {"seconds": ("processor seconds a cycle", (1,)), "peak_memory_mib": ("peak memory (MiB)", (1, 2, 5))}
    panels = list(product(scores.items(), names.items()))
    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH, 4.5), sharey="row", layout="constrained")
        drawn = []
        for i, (((score, (score_name, subs)), (axis, (axis_name, fixed))), ax) in enumerate(zip(panels, axes.flat, strict=True)):
            lines = {}
            for name, line in rows[rows["axis"] == axis].groupby("filter", sort=False):
                label = study.filters[name].label
                (lines[label],) = ax.plot(
                    line[axis], line[score], color=look.colours[label], marker=look.markers[label], dashes=look.pattern(label)
                )
            drawn.append(lines)
            ax.set(xscale="log", yscale="log", xlabel=axis_name)
            ticks = sorted(rows.loc[rows["axis"] == axis, axis].unique())
            ax.set_xticks(ticks, [f"{tick}" for tick in ticks])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_locator(LogLocator(subs=subs))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(NullLocator())
            lettered(ax, ascii_lowercase[i], fixed)
            if ax.get_subplotspec().is_first_col():
                ax.set_ylabel(score_name)
        figure.draw_without_rendering()  # panels have their sizes then
        for ax, lines in zip(axes[:, -1], drawn[1::2], strict=True):
            label_ends(ax, lines)
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
