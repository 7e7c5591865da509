"""Seconds and peak memory in which Snakemake resolves the DAG of studies of many cells: a dry run,
nothing computed.

    python benchmarks/bench_dag.py --cells 1000 --cells 10000

A cell here is a truth and one filter's estimate of it, so two jobs; Lorenz-96 with ten dimensions,
ten forcings and as many seeds as it takes. Runs `snakemake --dry-run --quiet` from the repository's
root, and prints a row of CSV for each size.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import yaml

ROOT = Path(__file__).resolve().parent.parent


def study_of(cells: int, results: Path) -> dict:
    """A config with this many cells, a multiple of 100."""
    return {
        "results": str(results),
        "seeds": {"test": list(range(cells // 100))},
        "filters": ["enkf"],
        "observations": {"all": {"operator": "identity", "noise": 1.0}},
        "experiments": {
            "many": {
                "title": "Many cells",
                "system": "lorenz96",
                "parameters": {
                    "dt": 0.01,
                    "dimension": list(range(10, 20)),
                    "forcing": list(range(4, 14)),
                },
                "observations": ["all"],
                "gaps": [5],
                "members": 10,
                "cycles": 4,
            }
        },
    }


def resolve(cells: int) -> tuple[float, float]:
    """Seconds, and the peak memory in MiB of all child processes so far, for a study of this many
    cells.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "study.yaml"
        config.write_text(
            yaml.safe_dump(study_of(cells, Path(folder) / "results")), encoding="utf-8"
        )
        words = [
            sys.executable,
            "-m",
            "snakemake",
            "--dry-run",
            "--quiet",
            "--nolock",
            "--configfile",
            str(config),
        ]
        start = time.perf_counter()
        done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)  # noqa: S603
        seconds = time.perf_counter() - start
    if done.returncode:
        raise click.ClickException(done.stdout + done.stderr)
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@click.command(help=__doc__)
@click.option("--cells", multiple=True, type=int, default=[1000, 10000])
def main(cells: tuple[int, ...]) -> None:
    """Runs the measurement; see the module's docstring."""
    click.echo("cells,seconds,peak_memory_mib")
    # Peaks are of all children so far; sizes therefore grow.
    for count in sorted(cells):
        seconds, peak = resolve(count)
        click.echo(f"{count},{seconds:.1f},{peak:.0f}")


if __name__ == "__main__":
    main()
