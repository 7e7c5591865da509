"""One seed of Figure 5 on a GPU: seconds of each stage and cycle, memory, scores, and how far the
GPU agrees with the CPU.

    python benchmarks/gpu.py
    # gap 5, to benchmarks/results/gpu.csv and gpu_stages.csv
    python benchmarks/gpu.py --gap 25 --compared-cycles 0   # another gap; rows of other gaps stay

Cells, parameters and the prior are those of the config, Figure 5 at 128 x 128 without other word.
Each filter runs its cell on the GPU: the median of its cycles' seconds after the first, the most
memory that torch held there, its RMSE. Then it runs the first cycles once on the CPU and once on
the GPU, with the *same* random numbers, made on the CPU: the seconds of the CPU are from there, and
the largest difference of the two means at an analysis, over all components, in units of the
ensemble's mean spread. It grows over the cycles as any error does in this flow. Filters that train
a network in each cycle are not compared: torch draws their training's order on the device. Column
``seconds`` is of a filter's whole run; that of the first has in it what a process loads once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
import pandas as pd
from machine import machine

from masf.arrays import Array, Stream, like, on_device, resolve_device
from masf.cli.options import use_threads

if TYPE_CHECKING:
    from masf.files.trajectory import Trajectory
    from masf.files.truth import Truth
    from masf.study.cells import Cell
    from masf.study.study import Study

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FILTERS = [
    "masf",
    "masf_gaussian",
    "letkf",
    "enkf_localized",
    "enkf",
    "etkf",
    "ensf",
    "free_run",
    "masf_mc",
    "ssls",
    "sf",
]
NOT_COMPARED = {"ssls", "sf"}
T = TypeVar("T")


class SameNumbers(Stream):
    """Random numbers made on the CPU wherever they are used, so that two devices get the same."""

    def normal(self, shape: tuple[int, ...], x: Array) -> Array:
        return like(self.numpy.standard_normal(shape, dtype=np.float32), x)


@click.command(help=__doc__)
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    default=ROOT / "config" / "config.yaml",
)
@click.option("--experiment", default="kolmogorov", show_default=True)
@click.option("--gap", "gaps", multiple=True, type=int, default=[5], show_default=True)
@click.option("--filter", "filters", multiple=True, default=FILTERS, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--size", type=int, help="Points along each side of the grid; the config's without it."
)
@click.option("--cycles", type=int, help="Cycles on the GPU; the config's without it.")
@click.option(
    "--compared-cycles",
    default=3,
    show_default=True,
    help="Cycles on both devices; 0 compares nothing.",
)
@click.option("--threads", default=4, show_default=True, help="Of the CPU.")
@click.option(
    "--device",
    default="cuda",
    show_default=True,
    type=click.Choice(["cuda", "cpu"]),
    help="cpu tries the script out.",
)
@click.option(
    "--prior",
    type=click.Path(path_type=Path),
    help="Taken if it is there, else trained and left there.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    help="The folder of both tables.",
)
def main(
    config: Path,
    experiment: str,
    gaps: tuple[int, ...],
    filters: tuple[str, ...],
    seed: int,
    size: int | None,
    cycles: int | None,
    compared_cycles: int,
    threads: int,
    device: str,
    prior: Path | None,
    output: Path,
) -> None:
    """Runs the measurement; see the module's docstring."""
    use_threads(threads)
    from masf.stages.simulate import simulate
    from masf.study.load import load_study

    study = load_study(config, ROOT)
    fixed = {"experiment": experiment, "seed": seed, "device": device, **described(device, threads)}
    output.mkdir(parents=True, exist_ok=True)
    prior = prior or output / "gpu_prior.safetensors"
    for gap in gaps:
        cell = cell_of(study, experiment, gap, seed, size, cycles)
        parameters = cell.settings.parameters
        point = {
            "size": parameters.get("size"),
            "gap": gap,
            "members": cell.settings.members,
            "cycles": cell.settings.cycles,
        }
        truth, seconds, _ = measured(partial(simulate, cell.settings))
        keep(
            output / "gpu_stages.csv",
            {"stage": "simulate", **point, "seconds": seconds, **fixed | {"device": "cpu"}},
        )
        if not prior.exists() and any(study.needs_prior(name, cell) for name in filters):
            seconds, memory = train_prior(study, cell, device, prior)
            # Of all gaps of the experiment.
            stage = {
                "stage": "train-prior",
                "size": point["size"],
                "seconds": seconds,
                "peak_memory_mib": memory,
            }
            keep(output / "gpu_stages.csv", stage | fixed)
        for name in filters:
            row: dict[str, Any] = {
                "filter": name,
                **point,
                **run(study, name, cell, truth, prior, device),
            }
            if compared_cycles and name not in NOT_COMPARED:
                found = compare(study, name, cell, truth, prior, device, compared_cycles)
                row |= found | {
                    "cpu_over_gpu": found["cpu_seconds_per_cycle"] / row["seconds_per_cycle"]
                }
            keep(output / "gpu.csv", row | fixed)


def described(device: str, threads: int) -> dict[str, Any]:
    """The card, and the machine around it."""
    import torch

    card = torch.cuda.get_device_name() if device == "cuda" else ""
    return {"card": card, "cuda": torch.version.cuda or "", **machine(threads)}


def cell_of(
    study: Study, experiment: str, gap: int, seed: int, size: int | None, cycles: int | None
) -> Cell:
    """The cell of an experiment at a gap and a seed, with another size or number of cycles where
    one is asked for.
    """
    found = [
        cell
        for cell in study.cells.values()
        if experiment in cell.experiments and (cell.settings.gap, cell.settings.seed) == (gap, seed)
    ]
    if not found:
        raise click.ClickException(f"experiment {experiment!r} has no gap {gap} with seed {seed}")
    cell = found[0]
    s = cell.settings
    changed = s.parameters | ({} if size is None else {"size": size})
    settings = replace(s, parameters=changed, cycles=cycles or s.cycles)
    return replace(
        cell, settings=settings, spin_up_cycles=min(cell.spin_up_cycles, settings.cycles - 1)
    )


def measured(work: Callable[[], T]) -> tuple[T, float, float]:
    """What ``work`` returns, its seconds, and the most memory in MiB that it took: on a GPU, what
    torch held there.
    """
    import torch

    from masf.stages.cycle import peak_memory_mib

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start, peak_memory_mib()


def train_prior(study: Study, cell: Cell, device: str, path: Path) -> tuple[float, float]:
    """Trains the prior of a cell and leaves it at ``path``; seconds, and memory in MiB."""
    from masf.files.trained_prior import save
    from masf.observations.settings import observation_settings
    from masf.stages.train_prior import train

    # Without a card this says so.
    on = resolve_device(device, needs_torch=True)
    assert on is not None
    wanted, seed = study.prior(cell), study.config.seeds.training
    observation = observation_settings(wanted.observation)
    prior, seconds, memory = measured(
        lambda: train(
            wanted.system, wanted.parameters, observation, wanted.settings, seed=seed, device=on
        )
    )
    losses = (prior.metadata[key] for key in ("held_out_loss", "held_out_loss_gaussian"))
    click.echo(
        "train-prior: {:.1f} s, {:.0f} MiB; held-out loss {}, Gaussian {}".format(
            seconds, memory, *losses
        ),
        err=True,
    )
    save(prior, path)
    return seconds, memory


def run(
    study: Study, name: str, cell: Cell, truth: Truth, prior: Path, device: str
) -> dict[str, Any]:
    """A filter's run on the device, as stage assimilate makes it: its cost and its scores."""
    from masf.files.estimate import estimate
    from masf.scores.run import score
    from masf.stages.assimilate import run_filter

    def work() -> tuple[Trajectory, Any, str]:
        return run_filter(
            study.filter_module(name),
            study.filter_parameters(name, cell),
            truth,
            prior=prior if prior.exists() else None,
            device=device,
        )

    (trajectory, system, _), seconds, memory = measured(work)
    found = score(
        estimate(trajectory, truth, system, {"filter": name}),
        gap=truth.settings.gap,
        spin_up_cycles=cell.spin_up_cycles,
    )
    said = {key: values.round(3).tolist() for key, values in trajectory.diagnostics.items()}
    row = {
        "seconds": seconds,
        "first_cycle_seconds": float(trajectory.wall_seconds[0]),
        "seconds_per_cycle": usual_seconds(trajectory),
        "peak_memory_mib": memory,
        **{key: found[key] for key in ("rmse", "rmse_analysis", "spread_skill")},
        "diverged": trajectory.diverged_at is not None,
    }
    click.echo(f"{name}: {row} {said}", err=True)
    return row


def usual_seconds(trajectory: Trajectory) -> float:
    """The median of the cycles' seconds after the first, which prepares much for the others."""
    later = trajectory.wall_seconds[1:]
    return float(np.nanmedian(later)) if np.isfinite(later).any() else float("nan")


def compare(
    study: Study, name: str, cell: Cell, truth: Truth, prior: Path, device: str, cycles: int
) -> dict[str, float]:
    """The first cycles of a filter on the CPU and on the device with the same random numbers:
    seconds and differences.
    """
    from masf.filters.registry import filter_class

    cls = filter_class(study.filter_module(name))
    needs_torch = cls.needs_torch(cls.Parameters(**study.filter_parameters(name, cell)))
    on_cpu, on_card = (
        with_same_numbers(
            study, name, cell, truth, prior, resolve_device(where, needs_torch=needs_torch), cycles
        )
        for where in ("cpu", device)
    )
    after = slice(truth.settings.gap, None, truth.settings.gap)
    spread = np.sqrt(np.mean(on_cpu.spread[after].astype(float) ** 2, axis=-1))
    differences = (
        np.abs(on_cpu.mean[after].astype(float) - on_card.mean[after]).max(axis=-1) / spread
    )
    click.echo(f"{name}, {cycles} cycles on both: {differences}", err=True)
    return {
        "cpu_seconds_per_cycle": usual_seconds(on_cpu),
        "compared_cycles": cycles,
        "difference_first": float(differences[0]),
        "difference_last": float(differences[-1]),
    }


def with_same_numbers(
    study: Study,
    name: str,
    cell: Cell,
    truth: Truth,
    prior: Path,
    torch_device: str | None,
    cycles: int,
) -> Trajectory:
    """The first cycles of a filter on a device of torch's, or by numpy, with random numbers of the
    CPU.
    """
    from masf.files.cell import build
    from masf.filters.base import Setup
    from masf.filters.registry import filter_class
    from masf.stages.cycle import run_cycles

    cls = filter_class(study.filter_module(name))
    parameters = cls.Parameters(**study.filter_parameters(name, cell))
    system, observation = build(truth.settings)
    loaded = None
    if cls.uses_prior and torch_device is not None:
        from masf.files.trained_prior import load

        loaded = load(prior, system, torch_device)
    start, spread = on_device(truth.initial_mean, torch_device), truth.settings.initial_spread
    setup = Setup(
        system,
        observation,
        start,
        spread,
        SameNumbers(truth.settings.seed, f"filter {name}"),
        loaded,
    )
    gap = truth.settings.gap
    return run_cycles(
        cls(parameters, setup),
        truth.initial_ensemble,
        truth.observation[:cycles],
        gap=gap,
        truth_at_cycles=truth.truth[gap::gap][:cycles],
        torch_device=torch_device,
    )


def keep(path: Path, row: dict[str, Any]) -> None:
    """Writes a row to a table, over the one of the same stage or filter, experiment, size, gap and
    seed.
    """
    keys = [key for key in ("stage", "filter", "experiment", "size", "gap", "seed") if key in row]
    table = pd.DataFrame([row])
    if path.exists():
        old = pd.read_csv(path)
        table = pd.concat([old[~(old[keys] == table.loc[0, keys]).all(axis=1)], table])
    table.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
