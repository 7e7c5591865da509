"""System kolmogorov beside jax-cfd: seconds and memory of an outer step, and the statistics of the
flow.

    python -m venv jax && jax/bin/pip install jax jax-cfd
    python benchmarks/jax_cfd.py speed --jax jax/bin/python
    python benchmarks/jax_cfd.py statistics --jax jax/bin/python

Rivals (benchmarks/jax_cfd_solvers.py): jax-cfd's finite-volume solver, set up as public codes of
score-based assimilation do, and its spectral solver. All take the same initial fields and steps of
0.2, in float32, each in a process of its own.

``speed`` times one outer step of 10 members, the solvers in turn, round after round, so that what
else the machine does falls on all alike; it reports wall and processor seconds a step and member,
their ratio to ours round by round, and memory. ``statistics`` compares time means of energy,
enstrophy and spectrum after spin-up, with the standard error over members, which are independent;
and, at first, the velocity after 1 time unit from the same field, before chaos has parted the
solvers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import numpy as np
import pandas as pd

from masf.arrays import Stream
from masf.systems import flow
from masf.systems.kolmogorov import SPIN_UP_STEPS, random_velocity

SERVER = Path(__file__).with_name("jax_cfd_solvers.py")
SOLVERS = ("masf", "finite_volume", "spectral")
SHELLS = range(1, 16)
CORES = click.option(
    "--cores",
    default=2,
    show_default=True,
    help="Processor cores of each solver; 1 where others use them too.",
)


class Solver:
    """A running server of jax_cfd_solvers.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ask("")

    def ask(self, command: str) -> dict[str, float]:
        """Sends a command and waits for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if command:
            print(command, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(
                f"{self.process.args!r}: ended without an answer; its messages are above"
            )
        return json.loads(line)


@contextmanager
def running(name: str, jax: str, initial: Path, cores: int) -> Iterator[Solver]:
    """A solver started from the velocities in ``initial``."""
    python = sys.executable if name == "masf" else jax
    process = subprocess.Popen(  # noqa: S603
        [python, str(SERVER), name, str(initial), str(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Solver(process)
    finally:
        process.terminate()
        process.wait()


def initial_fields(n: int, members: int) -> np.ndarray:
    """Random velocities (members, 2, n, n) that differ from one another."""
    return np.stack([random_velocity(n, Stream(seed, "benchmark")) for seed in range(members)])


@click.group(help=__doc__)
def main() -> None:
    """See the module's docstring."""


@main.command()
@click.option("--jax", required=True, help="A Python that has jax-cfd.")
@click.option("--size", multiple=True, default=[64, 128])
@click.option("--members", default=10, show_default=True)
@CORES
@click.option("--rounds", default=30, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="benchmarks/results/kolmogorov_speed.csv",
    show_default=True,
)
def speed(
    jax: str, size: tuple[int, ...], members: int, cores: int, rounds: int, output: Path
) -> None:
    """Seconds of an outer step of one member, and memory."""
    rows = []
    for n in size:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            initial = Path(folder) / "initial.npy"
            np.save(initial, initial_fields(n, members))
            with running("masf", jax, initial, cores) as solver:
                # Our inner step depends on the speed: spun up, it is what it will be.
                solver.ask(f"step {SPIN_UP_STEPS}")
                solver.ask(f"save {initial}")
            solvers = {
                name: stack.enter_context(running(name, jax, initial, cores)) for name in SOLVERS
            }
            # Two steps to compile and to fill caches.
            mib = {name: solver.ask("step 2")["mib"] for name, solver in solvers.items()}
            answers = [
                {name: solver.ask("step 1") for name, solver in solvers.items()}
                for _ in range(rounds)
            ]
        for name in SOLVERS:
            row: dict[str, object] = {
                "size": n,
                "cores": cores,
                "solver": name,
                "peak_mib": mib[name],
            }
            for clock in ("wall", "cpu"):
                seconds = np.array([answer[name][clock] for answer in answers])
                ratio = np.quantile(
                    seconds / [answer["masf"][clock] for answer in answers], [0.25, 0.5, 0.75]
                )
                row |= {
                    f"{clock}_seconds": np.median(seconds) / members,
                    f"{clock}_least": seconds.min() / members,
                }
                row |= dict(
                    zip(
                        (f"{clock}_ratio_{q}" for q in ("quarter", "median", "three_quarters")),
                        ratio,
                        strict=True,
                    )
                )
            rows.append(row)
    _write(pd.DataFrame(rows), output)


@main.command()
@click.option("--jax", required=True, help="A Python that has jax-cfd.")
@click.option("--size", default=64, show_default=True)
@click.option("--members", default=24, show_default=True)
@CORES
@click.option("--samples", default=40, show_default=True)
@click.option("--every", default=5, show_default=True, help="Outer steps between two samples.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="benchmarks/results/kolmogorov_statistics.csv",
    show_default=True,
)
def statistics(
    jax: str, size: int, members: int, cores: int, samples: int, every: int, output: Path
) -> None:
    """Energy, enstrophy and spectrum of spun-up flow."""
    means, early = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        initial, saved = Path(folder) / "initial.npy", Path(folder) / "saved.npy"
        np.save(initial, initial_fields(size, members))
        for name in SOLVERS:
            with running(name, jax, initial, cores) as solver:

                def velocity(steps: int, solver: Solver = solver) -> np.ndarray:
                    solver.ask(f"step {steps}")
                    solver.ask(f"save {saved}")
                    return np.load(saved)

                early[name] = velocity(5)
                velocity(SPIN_UP_STEPS - 5)
                means[name] = np.mean(
                    [_statistics(velocity(every)) for _ in range(samples)], axis=0
                )
            click.echo(f"{name}: done")
    scale = np.sqrt((early["masf"] ** 2).mean())
    for name in SOLVERS[1:]:
        difference = np.sqrt(((early[name] - early["masf"]) ** 2).mean()) / scale
        click.echo(f"{name}: relative difference from masf after 1 time unit: {difference:.2e}")
    rows = []
    for i, statistic in enumerate(["energy", "enstrophy", *(f"spectrum_{k}" for k in SHELLS)]):
        ours = means["masf"][:, i]
        for name in SOLVERS:
            values = means[name][:, i]
            error = values.std(ddof=1) / np.sqrt(members)
            difference = values.mean() - ours.mean()
            spread = np.hypot(error, ours.std(ddof=1) / np.sqrt(members))
            rows.append(
                {
                    "statistic": statistic,
                    "solver": name,
                    "mean": values.mean(),
                    "standard_error": error,
                    "difference_in_standard_errors": difference / spread if name != "masf" else 0.0,
                }
            )
    _write(pd.DataFrame(rows), output)


def _statistics(velocity: np.ndarray) -> np.ndarray:
    """Energy, enstrophy and spectrum (members, 2 + shells)."""
    spectrum = flow.energy_spectrum(velocity.astype(np.float64))[:, SHELLS.start : SHELLS.stop]
    wide = velocity.astype(np.float64)
    return np.column_stack([flow.energy(wide), flow.enstrophy(wide), spectrum])


def _write(table: pd.DataFrame, output: Path) -> None:
    click.echo(table.to_string(index=False))
    table.to_csv(output, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()
