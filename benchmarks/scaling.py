"""Seconds and memory of one cycle of each filter against the size of the system and of the
ensemble.

    python benchmarks/scaling.py measure PRIOR.safetensors     # to benchmarks/results/scaling.csv
    python benchmarks/scaling.py plot                          # to docs/figures/scaling.png

Three sweeps that are drawn: over the dimension d of Lorenz-96 with N = 100, over N with d = 200,
and over the grid of the Kolmogorov flow with N = 20. A cycle is 20 model steps and an analysis with
all components observed; on the flow five steps with every tenth point observed. A fourth, "arctan",
goes up to a million components, all observed through arctan every ten steps, N = 20. Parameters are
those of config/filters. Each point is a process of its own with one thread: processor seconds of
the faster of two cycles after a first, and the peak of resident memory. A line ends where a cycle
would take longer than --limit, or the filter refuses. PRIOR is one of Lorenz-96 with linear
measurements, of any dimension; the networks of the flow and of arctan are untrained, and cost what
trained ones do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import click
import pandas as pd
from machine import machine

from masf.cli.options import THREAD_VARIABLES

if TYPE_CHECKING:
    from masf.diffusion.denoisers.prior import Prior

ROOT = Path(__file__).resolve().parent.parent
TABLE, FIGURE = (
    ROOT / "benchmarks" / "results" / "scaling.csv",
    ROOT / "docs" / "figures" / "scaling.png",
)
FILTERS = [
    "masf",
    "masf_gaussian",
    "masf_mc",
    "ensf",
    "sf",
    "ssls",
    "enkf",
    "enkf_localized",
    "etkf",
    "letkf",
]


@dataclass(frozen=True)
class Sweep:
    """Points that differ in their size, a dimension or the side of a grid, and in their members."""

    system: str
    observation: dict[str, Any]
    gap: int
    points: list[tuple[int, int]]
    """Size and members."""


EVERYTHING = {"operator": "identity", "noise": 1.0}
SWEEPS = {
    "dimension": Sweep(
        "lorenz96", EVERYTHING, 20, [(d, 100) for d in (40, 100, 400, 1000, 4000, 10000)]
    ),
    "members": Sweep("lorenz96", EVERYTHING, 20, [(200, n) for n in (25, 50, 100, 200, 400, 800)]),
    "grid": Sweep(
        "kolmogorov",
        {"operator": "grid", "stride": 10, "noise": 0.1},
        5,
        [(side, 20) for side in (32, 64, 128, 256, 512)],
    ),
    "arctan": Sweep(
        "lorenz96",
        {"operator": "identity", "noise": 0.05, "transform": "arctan"},
        10,
        [(d, 20) for d in (100, 10000, 1000000)],
    ),
}


@click.group(help=__doc__)
def main() -> None:
    """See the module's docstring."""


@main.command()
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--filter", "filters", multiple=True, default=FILTERS)
@click.option(
    "--sweep", "sweeps", multiple=True, type=click.Choice(list(SWEEPS)), default=list(SWEEPS)
)
@click.option("--limit", default=20.0, show_default=True, help="Seconds of a cycle, at most.")
@click.option("--output", type=click.Path(path_type=Path), default=TABLE)
def measure(
    prior: Path, filters: tuple[str, ...], sweeps: tuple[str, ...], limit: float, output: Path
) -> None:
    """Measures the points of these filters and sweeps; others in the table stay."""
    for name in filters:
        for sweep in sweeps:
            rows = []
            for size, n in SWEEPS[sweep].points:
                cell = [sweep, name, str(size), str(n), str(prior), "--limit", str(limit)]
                words = [sys.executable, __file__, "cell", *cell]
                # Set here, because numpy reads it when it is imported.
                one = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
                done = subprocess.run(words, capture_output=True, text=True, check=False, env=one)  # noqa: S603
                if done.returncode:
                    # A negative status is a signal, such as that of a system out of memory.
                    said = done.stderr.strip().splitlines() or [
                        f"ended with status {done.returncode}"
                    ]
                    click.echo(f"{name}, {sweep} {size}, N {n}: {said[-1]}", err=True)
                    break
                found = json.loads(done.stdout)
                click.echo(f"{name}, {sweep} {size}, N {n}: {found}", err=True)
                rows.append(
                    {
                        "axis": sweep,
                        "filter": name,
                        "size": size,
                        "members": n,
                        **found,
                        **machine(1),
                    }
                )
                if found["seconds"] > limit / 2:
                    break
            table = pd.DataFrame(rows)
            if output.exists():
                old = pd.read_csv(output)
                table = pd.concat([old[(old["axis"] != sweep) | (old["filter"] != name)], table])
            table.to_csv(output, index=False, float_format="%.4g")


@main.command()
@click.argument("sweep_name")
@click.argument("name")
@click.argument("size", type=int)
@click.argument("members", type=int)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--limit", default=20.0)
def cell(sweep_name: str, name: str, size: int, members: int, prior: Path, limit: float) -> None:
    """Measures one point, and prints it as JSON."""
    import numpy as np

    from masf.arrays import Stream, on_device
    from masf.filters.base import Setup
    from masf.filters.registry import filter_class
    from masf.observations.settings import observation_settings
    from masf.stages.cycle import peak_memory_mib
    from masf.study.load import load_study
    from masf.systems.registry import make_system

    sweep = SWEEPS[sweep_name]
    flow, gap = sweep.system == "kolmogorov", sweep.gap
    system = make_system(
        sweep.system, {"size": size} if flow else {"dimension": size, "forcing": 8.0, "dt": 0.01}
    )
    study, cls, stream = (
        load_study(ROOT / "config" / "config.yaml"),
        filter_class(name),
        Stream(0, "benchmark"),
    )
    # The situation of the study that is most like this one; at a size that it lacks, batches are
    # those of another.
    likeness = {"system": sweep.system, "gap": gap, "dimension": size}
    like_it = max(
        study.cells.values(),
        key=lambda c: sum(c.situation.get(k) == v for k, v in likeness.items()),
    )
    parameters = cls.Parameters(**study.default_parameters(name, like_it))
    where = "cpu" if cls.needs_torch(parameters) else None
    truth = system.typical_state(stream)
    state = on_device(truth + 0.5 * system.perturbations(members, truth, stream), where)
    observation = observation_settings(sweep.observation).build(system.dimension, system.grid)
    of_prior: Prior | None = None
    serving: AbstractContextManager[Any] = nullcontext()
    if cls.uses_prior:  # only here, for other filters import no torch
        from untrained import always_served, untrained_prior

        from masf.files.trained_prior import load

        if sweep.observation == EVERYTHING:
            of_prior = load(prior, system, "cpu")
        else:
            of_prior = untrained_prior(study.config.priors[sweep.system], system, observation)
            serving = always_served()
    setup = Setup(system, observation, on_device(truth, where), 0.5, stream, of_prior)
    filter_, seconds = cls(parameters, setup), []
    state = filter_.start(state)
    with serving:
        for _ in range(3):
            truth = system.advance(truth[None], gap, stream)[0]
            noise = stream.numpy.standard_normal(observation.size)
            measured = observation.apply(truth) + np.sqrt(observation.noise.variance) * noise
            y = on_device(measured, where)
            start = time.process_time()
            for _ in range(gap):
                state = filter_.forecast(state)
            state = filter_.project(filter_.analyse(state, y))
            seconds.append(time.process_time() - start)
            if seconds[-1] > limit / 2:
                break
    click.echo(
        json.dumps({"seconds": min(seconds[1:] or seconds), "peak_memory_mib": peak_memory_mib()})
    )


@main.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True), default=TABLE)
@click.option("--output", type=click.Path(path_type=Path), default=FIGURE)
def plot(table: Path, output: Path) -> None:
    """Draws the table: each filter a line, in the colours of the study's figures."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    from masf.report.figures.look import Look, label_ends, lettered, page_width, rc_of
    from masf.study.figures.style import Style
    from masf.study.load import load_study

    study, rows = load_study(ROOT / "config" / "config.yaml"), pd.read_csv(table)
    look = Look.of(study)
    names = {
        "dimension": ("size", "dimension $d$", "Lorenz-96, $N$ = 100"),
        "members": ("members", "ensemble size $N$", "Lorenz-96, $d$ = 200"),
        "grid": ("size", "side of the grid", "Kolmogorov flow, $N$ = 20"),
    }
    scores = {
        "seconds": ("processor seconds a cycle", (1,)),
        "peak_memory_mib": ("peak memory (MiB)", (1, 2, 5)),
    }
    panels = list(product(scores.items(), names.items()))
    with sns.axes_style("ticks"), plt.rc_context(rc_of(Style())):
        figure, axes = plt.subplots(
            2, 3, figsize=(page_width(), 4.5), sharey="row", layout="constrained"
        )
        drawn = []
        for i, (((score, (score_name, subs)), (axis, (column, axis_name, fixed))), ax) in enumerate(
            zip(panels, axes.flat, strict=True)
        ):
            lines = {}
            for name, line in rows[rows["axis"] == axis].groupby("filter", sort=False):
                label = study.filters[str(name)].label
                (lines[label],) = ax.plot(
                    line[column],
                    line[score],
                    color=look.colours[label],
                    marker=look.markers[label],
                    dashes=look.pattern(label),
                )
            drawn.append(lines)
            ax.set(xscale="log", yscale="log", xlabel=axis_name)
            ax.set_xticks(sorted(rows.loc[rows["axis"] == axis, column].unique()))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_locator(LogLocator(subs=subs))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_locator(NullLocator())
            lettered(ax, ascii_lowercase[i], fixed)
            if ax.get_subplotspec().is_first_col():
                ax.set_ylabel(score_name)
        figure.draw_without_rendering()  # panels have their sizes then
        for ax, *row in zip(axes[:, -1], drawn[::3], drawn[1::3], drawn[2::3], strict=True):
            label_ends(ax, {label: line for lines in row for label, line in lines.items()})
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
