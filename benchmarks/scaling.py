"""Seconds and memory of one cycle of each filter against the size of the system and of the
ensemble.

    python benchmarks/scaling.py measure PRIOR.safetensors     # to benchmarks/results/scaling.csv
    python benchmarks/scaling.py plot                          # to docs/figures/scaling.png

Three sweeps: over the dimension d of Lorenz-96 with N = 100, over N with d = 200, and over the grid
of the Kolmogorov flow with N = 20. A cycle is 20 model steps and an analysis with all components
observed; on the flow five steps with every tenth point observed. Parameters are those of
config/filters. Each point is a process of its own with one thread: processor seconds of the faster
of two cycles after a first, and the peak of resident memory. A line ends where a cycle would take
longer than --limit, or the filter refuses. PRIOR is one of Lorenz-96, of any dimension; the flow's
networks are untrained, which costs the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING

import click
import pandas as pd
from machine import machine

from masf.cli.options import THREAD_VARIABLES

if TYPE_CHECKING:
    from masf.diffusion.prior_settings import PriorSettings
    from masf.systems.base import System

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
SWEEPS = {
    "dimension": [("lorenz96", d, 100) for d in (40, 100, 400, 1000, 4000, 10000)],
    "members": [("lorenz96", 200, n) for n in (25, 50, 100, 200, 400, 800)],
    "grid": [("kolmogorov", n, 20) for n in (32, 64, 128, 256)],
}
"""Points of each sweep: system, its dimension or the side of its grid, members."""
OBSERVATIONS = {
    "lorenz96": {"operator": "identity", "noise": 1.0},
    "kolmogorov": {"operator": "grid", "stride": 10, "noise": 0.1},
}
GAPS = {"lorenz96": 20, "kolmogorov": 5}


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
            for system, size, n in SWEEPS[sweep]:
                words = [
                    sys.executable,
                    __file__,
                    "cell",
                    name,
                    system,
                    str(size),
                    str(n),
                    str(prior),
                    "--limit",
                    str(limit),
                ]
                # Set here, because numpy reads it when it is imported.
                one = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
                done = subprocess.run(words, capture_output=True, text=True, check=False, env=one)  # noqa: S603
                if done.returncode:
                    # A negative status is a signal, such as that of a system out of memory.
                    said = done.stderr.strip().splitlines() or [
                        f"ended with status {done.returncode}"
                    ]
                    click.echo(f"{name}, {system} {size}, N {n}: {said[-1]}", err=True)
                    break
                found = json.loads(done.stdout)
                click.echo(f"{name}, {system} {size}, N {n}: {found}", err=True)
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
@click.argument("name")
@click.argument("system_name")
@click.argument("size", type=int)
@click.argument("members", type=int)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--limit", default=20.0)
def cell(name: str, system_name: str, size: int, members: int, prior: Path, limit: float) -> None:
    """Measures one point, and prints it as JSON."""
    import numpy as np

    from masf.arrays import Stream, on_device
    from masf.filters.base import Setup
    from masf.filters.registry import filter_class
    from masf.observations.settings import observation_settings
    from masf.stages.cycle import peak_memory_mib
    from masf.study.load import load_study
    from masf.systems.registry import make_system

    flow, gap = system_name == "kolmogorov", GAPS[system_name]
    system = make_system(
        system_name, {"size": size} if flow else {"dimension": size, "forcing": 8.0, "dt": 0.01}
    )
    study, cls, stream = (
        load_study(ROOT / "config" / "config.yaml"),
        filter_class(name),
        Stream(0, "benchmark"),
    )
    # The situation of the study that is most like this one; at a size that it lacks, batches are
    # those of another.
    likeness = {"system": system_name, "gap": gap, "dimension": size}
    like_it = max(
        study.cells.values(),
        key=lambda c: sum(c.situation.get(k) == v for k, v in likeness.items()),
    )
    parameters = cls.Parameters(**study.default_parameters(name, like_it))
    where = "cpu" if cls.needs_torch(parameters) else None
    truth = system.typical_state(stream)
    state = on_device(truth + 0.5 * system.perturbations(members, truth, stream), where)
    observation = observation_settings(OBSERVATIONS[system_name]).build(
        system.dimension, system.grid
    )
    with tempfile.TemporaryDirectory() as folder:
        if flow:
            prior = Path(folder) / "prior.safetensors"
            save_untrained(prior, study.config.priors[system_name], system)
        setup = Setup(
            system,
            observation,
            on_device(truth, where),
            0.5,
            stream,
            prior if cls.uses_prior else None,
        )
        filter_, seconds = cls(parameters, setup), []
    for _ in range(3):
        for _ in range(gap):
            truth = system.step(truth, stream)
        noise = stream.numpy.standard_normal(observation.size)
        y = on_device(observation.apply(truth) + np.sqrt(observation.noise.variance) * noise, where)
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


def save_untrained(path: Path, settings: PriorSettings, system: System) -> None:
    """A prior of the flow with a network as it starts, which costs a filter what a trained one
    does.
    """
    import numpy as np

    from masf.diffusion.denoisers.learned import Climate
    from masf.diffusion.denoisers.prior import Prior, make_network
    from masf.files.trained_prior import save

    metadata = {
        "system": "kolmogorov",
        "system_parameters": system.parameters.model_dump_json(),
        "settings": settings.model_dump_json(),
    }
    save(
        Prior(make_network(settings, system), Climate(np.zeros(1), np.ones(1)), settings, metadata),
        path,
    )


@main.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True), default=TABLE)
@click.option("--output", type=click.Path(path_type=Path), default=FIGURE)
def plot(table: Path, output: Path) -> None:
    """Draws the table: each filter a line, in the colours of the study's figures."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    from masf.report.figures.look import PAGE_WIDTH, STYLE, Look, label_ends, lettered
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
    with sns.axes_style("ticks"), plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, 3, figsize=(PAGE_WIDTH, 4.5), sharey="row", layout="constrained"
        )
        drawn = []
        for i, (((score, (score_name, subs)), (axis, (column, axis_name, fixed))), ax) in enumerate(
            zip(panels, axes.flat, strict=True)
        ):
            lines = {}
            for name, line in rows[rows["axis"] == axis].groupby("filter", sort=False):
                label = study.filters[name].label
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
