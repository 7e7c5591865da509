"""Each part of masf beside what a user would take instead, in the same run: make bench.

    python benchmarks/bench.py --threads 2
    # all of it, to benchmarks/results/bench.csv
    python benchmarks/bench.py --only letkf --only forecast      # some

Contestants run in processes of their own (benchmarks/bench_contestants.py), in turn, round after
round, so that what else the machine does falls on all alike. A row is a rival's seconds over ours,
round by round: median and quartiles. Rivals are optional: DAPPER is looked for in .venv-dapper
(make dapper), jax-cfd in .venv-jax (jax_cfd.py says how to install it). What is missing is said,
and its rows are left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from bench_contestants import LETKF_RADIUS
from bench_dag import resolve
from machine import machine

from masf.cli.options import THREAD_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = {"masf": Path(sys.executable), "dapper": ROOT / ".venv-dapper" / "bin" / "python"}
JAX = ROOT / ".venv-jax" / "bin" / "python"
MEMBERS = 100


@dataclass(frozen=True)
class Contestant:
    """A process of bench_contestants.py, and what the table calls it."""

    name: str
    package: str
    task: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """Ours and its rivals on Lorenz-96 with ``dimension`` components, N 100, all observed."""

    name: str
    dimension: int
    ours: Contestant
    rivals: tuple[Contestant, ...]


def train_small_prior(path: Path) -> None:
    """A prior with the network of config/config.yaml, hardly trained: that costs the filter the
    same.
    """
    from masf.diffusion.prior_settings import PriorSettings
    from masf.files.trained_prior import save
    from masf.observations.settings import observation_settings
    from masf.stages.train_prior import train

    network = {"kind": "conv1d", "width": 24, "blocks": 3, "kernel": 5}
    settings = PriorSettings(
        gaps=[20], network=network, worlds=4, cycles=12, spin_up_cycles=4, rounds=1, steps=120
    )
    system = {"dimension": 40, "forcing": 8.0, "dt": 0.01}
    save(
        train(
            "lorenz96",
            system,
            observation_settings({"operator": "identity", "noise": 1.0}),
            settings,
            seed=0,
            device="cpu",
        ),
        path,
    )


def matches(prior: Path) -> list[Match]:
    """All of them, with the pretrained prior for masf."""
    found = []
    for d in (40, 1000):
        for task in ("forecast", "enkf", "etkf"):
            found.append(
                Match(
                    task,
                    d,
                    Contestant("masf", "masf", task),
                    (Contestant("dapper", "dapper", task),),
                )
            )
        # DAPPER's examples share a transform between two neighbours; our default is one for each.
        for name, block in {"letkf": 1, "letkf, 2 points a transform": 2}.items():
            ours = Contestant(
                "masf",
                "masf",
                "letkf",
                {"parameters": {"localization_radius": LETKF_RADIUS, "block": block}},
            )
            found.append(
                Match(name, d, ours, (Contestant("dapper", "dapper", "letkf", {"block": block}),))
            )
    # Budgets near the filters' defaults on Lorenz-96, and SSLS with the Langevin and training steps
    # of its authors.
    published = {"langevin_steps": 500, "training_steps": 200, "training_steps_per_cycle": 200}
    score_filters = {
        "ssls": ("ssls", {"langevin_steps": 60}),
        "ssls, published budget": ("ssls", published),
        "sf": ("sf", {"steps": 50}),
    }
    rivals = tuple(
        Contestant(name, "masf", task, {"parameters": p})
        for name, (task, p) in score_filters.items()
    )
    ours = Contestant(
        "masf", "masf", "masf", {"prior": str(prior.resolve()), "parameters": {"steps": 4}}
    )
    found.append(Match("score filters", 40, ours, rivals))
    return found


@contextmanager
def running(contestant: Contestant, problem: Path, threads: int) -> Iterator[subprocess.Popen[str]]:
    """A server of bench_contestants.py with this many threads."""
    words = [
        str(PYTHONS[contestant.package]),
        str(Path(__file__).with_name("bench_contestants.py")),
    ]
    process = subprocess.Popen(  # noqa: S603
        [*words, contestant.package, contestant.task, str(problem)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    """One timing. Raises ClickException, with what the process said, where it ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        print(file=process.stdin, flush=True)
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        raise click.ClickException(
            f"{process.args!r}: ended without an answer:\n{process.stderr.read()}"
        )
    return json.loads(line)


def write_problem(path: Path, dimension: int, settings: dict[str, Any]) -> None:
    """A forecast ensemble on the attractor and a measurement of one more state like it."""
    from masf.arrays import Stream
    from masf.systems.registry import make_system

    system, stream = (
        make_system("lorenz96", {"dimension": dimension, "forcing": 8.0, "dt": 0.01}),
        Stream(0, "benchmark"),
    )
    x = system.typical_state(stream) + 0.5 * stream.numpy.standard_normal((MEMBERS + 1, dimension))
    for _ in range(20):
        x = system.step(x, stream)
    y = x[0] + stream.numpy.standard_normal(dimension)
    np.savez(path, ensemble=x[1:], y=y, settings=np.array(json.dumps(settings)))


def play(match: Match, rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row for each rival that is installed."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {}
        for i, contestant in enumerate((match.ours, *match.rivals)):
            if not PYTHONS[contestant.package].exists():
                click.echo(
                    f"{match.name}: {contestant.package} is not installed (make "
                    f"{contestant.package}); left out",
                    err=True,
                )
                continue
            problem = Path(folder) / f"{i}.npz"
            write_problem(problem, match.dimension, contestant.settings)
            servers[contestant.name] = stack.enter_context(running(contestant, problem, threads))
        answers: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for _ in range(rounds + 1):
            for name, server in servers.items():
                answers[name].append(ask(server))
    # The first round fills caches.
    seconds = {
        name: {
            clock: np.array([answer[clock] for answer in given[1:]]) for clock in ("wall", "cpu")
        }
        for name, given in answers.items()
    }
    ours = seconds.pop(match.ours.name)
    return [
        row(
            match.name,
            f"d {match.dimension}, N {MEMBERS}",
            name,
            ours["wall"],
            theirs["wall"],
            ours["cpu"],
            theirs["cpu"],
        )
        for name, theirs in seconds.items()
    ]


def row(
    name: str, case: str, rival: str, ours: np.ndarray, theirs: np.ndarray, *cpu: np.ndarray
) -> dict[str, Any]:
    """A row of the table from wall seconds, and processor seconds, round by round."""
    ratio = np.quantile(theirs / ours, [0.25, 0.5, 0.75])
    return {
        "benchmark": name,
        "case": case,
        "rival": rival,
        "seconds": np.median(ours),
        "rival_seconds": np.median(theirs),
        "ratio_quarter": ratio[0],
        "ratio_median": ratio[1],
        "ratio_three_quarters": ratio[2],
        "cpu_ratio_median": np.median(cpu[1] / cpu[0]) if cpu else np.nan,
        "rounds": len(ours),
    }


def ienks(rounds: int) -> list[dict[str, Any]]:
    """Rows of whole cycles of the IEnKS, forecasts and all, with a window of one and two cycles."""
    if not PYTHONS["dapper"].exists():
        click.echo("ienks: dapper is not installed (make dapper); left out", err=True)
        return []
    import masf
    from masf.api import run

    system = masf.make_system("lorenz96", dimension=40, forcing=8.0, dt=0.01)
    observed = masf.make_observation(system, "identity", noise=1.0)
    problem = masf.simulate(system, observed, gap=20, cycles=40, members=MEMBERS)
    rows = []
    for lag in (1, 2):
        ours = {"lag": lag, "certainty": 1.0, "rotation": False}
        theirs = ours | {"inflation": 1.0}
        seconds: dict[str, list[np.ndarray]] = {"ienks": [], "dapper_ienks": []}
        for _ in range(rounds):
            for name, parameters in (("ienks", ours), ("dapper_ienks", theirs)):
                _, trajectory = run(problem, name, parameters)
                clocks = trajectory.wall_seconds, trajectory.cpu_seconds
                seconds[name].append(np.array([clock[1:].mean() for clock in clocks]))
        (wall, cpu), (their_wall, their_cpu) = (np.array(of).T for of in seconds.values())
        case = f"lag {lag}, d 40, N {MEMBERS}"
        rows.append(row("ienks cycle", case, "dapper", wall, their_wall, cpu, their_cpu))
    return rows


def kolmogorov(rounds: int, threads: int) -> list[dict[str, Any]]:
    """Rows from jax_cfd.py."""
    if not JAX.exists():
        click.echo(
            "kolmogorov: jax-cfd is not installed in .venv-jax (see jax_cfd.py); left out", err=True
        )
        return []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "speed.csv"
        script = Path(__file__).with_name("jax_cfd.py")
        words = [
            sys.executable,
            str(script),
            "speed",
            "--jax",
            str(JAX),
            "--rounds",
            str(rounds),
            "--cores",
            str(threads),
        ]
        subprocess.run([*words, "--output", str(table)], check=True, stdout=sys.stderr)  # noqa: S603
        speed = pd.read_csv(table)
    ours = speed[speed["solver"] == "masf"].set_index("size")["wall_seconds"]
    return [
        {
            "benchmark": "kolmogorov step",
            "case": f"{r['size']} x {r['size']}",
            "rival": f"jax-cfd, {r['solver']}",
            "seconds": ours[r["size"]],
            "rival_seconds": r["wall_seconds"],
            **{
                key: r[f"wall_{key}"]
                for key in ("ratio_quarter", "ratio_median", "ratio_three_quarters")
            },
            "cpu_ratio_median": r["cpu_ratio_median"],
            "rounds": rounds,
        }
        for _, r in speed[speed["solver"] != "masf"].iterrows()
    ]


def dag() -> list[dict[str, Any]]:
    """Seconds in which Snakemake resolves a study."""
    return [
        {"benchmark": "DAG resolution", "case": f"{n} cells", "seconds": resolve(n)[0], "rounds": 1}
        for n in (1000, 10000)
    ]


def quick_study() -> list[dict[str, Any]]:
    """Seconds of the whole quick study, from nothing, on all cores."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable,
            "-m",
            "snakemake",
            "--profile",
            "local",
            "--nolock",
            "--configfile",
            "config/quick.yaml",
        ]
        start = time.perf_counter()
        subprocess.run(  # noqa: S603
            [*words, "--config", f"results={folder}"], cwd=ROOT, check=True, stdout=sys.stderr
        )
        return [
            {
                "benchmark": "quick study",
                "case": "make quick",
                "seconds": time.perf_counter() - start,
                "rounds": 1,
            }
        ]


@click.command(help=__doc__)
@click.option("--only", multiple=True, help="Run the benchmarks of this name; all without it.")
@click.option(
    "--prior",
    type=click.Path(path_type=Path, exists=True),
    help="Prior of masf; trained, briefly, without this.",
)
@click.option("--with-quick-study", is_flag=True, help="Time the whole quick study, too: minutes.")
@click.option("--rounds", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Threads of each process.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(__file__).parent / "results" / "bench.csv",
)
def main(
    only: tuple[str, ...],
    prior: Path | None,
    with_quick_study: bool,
    rounds: int,
    threads: int,
    output: Path,
) -> None:
    """Runs the benchmarks; see the module's docstring."""

    def wanted(name: str) -> bool:
        return not only or name in only

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        if prior is None:
            prior = Path(folder) / "prior.safetensors"
            if wanted("score filters"):
                train_small_prior(prior)
        for match in matches(prior):
            if wanted(match.name):
                rows += play(match, rounds, threads)
                click.echo(f"{match.name}, d {match.dimension}: done", err=True)
    rows += ienks(rounds) if wanted("ienks") else []
    rows += kolmogorov(rounds, threads) if wanted("kolmogorov") else []
    rows += dag() if wanted("dag") else []
    rows += quick_study() if with_quick_study else []
    if not rows:
        raise click.ClickException("nothing was measured: see above")
    table = pd.DataFrame(rows)
    click.echo(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
    table.assign(**machine(threads)).to_csv(output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
