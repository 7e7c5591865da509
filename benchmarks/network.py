"""Whether the network of a prior gains by torch.compile, or by larger batches, as seeds side by
side would give it.

    python benchmarks/network.py PRIOR.safetensors

The prior is one for Lorenz-96. Prints the median processor time of a call, that for a state, and
the median over rounds of eager over compiled time, called in turn; the first call of each shape
compiles. On a CPU masf passes 2^15 components at a time at most.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import click

from masf.cli.options import use_threads


@click.command(help=__doc__)
@click.argument("prior", type=click.Path(path_type=Path, exists=True))
@click.option("--dimension", multiple=True, default=[40, 200], show_default=True)
@click.option("--states", multiple=True, default=[100, 200, 500], show_default=True)
@click.option("--rounds", default=40, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    prior: Path, dimension: tuple[int, ...], states: tuple[int, ...], rounds: int, threads: int
) -> None:
    """Measures; see the module's docstring."""
    use_threads(threads)
    import pandas as pd
    import torch

    from masf.files.trained_prior import load
    from masf.systems.registry import make_system

    network = load(
        prior,
        make_system("lorenz96", {"dimension": dimension[0], "dt": 0.01, "forcing": 8.0}),
        "cpu",
    ).network.eval()
    rows = []
    for d in dimension:
        for n in states:
            torch.compiler.reset()  # or it gives up after eight shapes, and runs as it was
            compiled = torch.compile(network, dynamic=False)
            features = torch.randn(n, network.get_parameter("first.weight").shape[1], d)
            seconds: dict[str, list[float]] = {"eager": [], "compiled": []}
            with torch.no_grad():
                start = time.perf_counter()
                compiled(features)
                compilation = time.perf_counter() - start
                for _ in range(rounds):
                    for name, call in (("eager", network), ("compiled", compiled)):
                        start = time.process_time()
                        call(features)
                        seconds[name].append(time.process_time() - start)
            eager = statistics.median(seconds["eager"])
            rows.append(
                {
                    "dimension": d,
                    "states": n,
                    "eager_ms": 1e3 * eager,
                    "eager_us_a_state": 1e6 * eager / n,
                    "eager_over_compiled": statistics.median(
                        a / b for a, b in zip(*seconds.values(), strict=True)
                    ),
                    "first_call_s": compilation,
                }
            )
    click.echo(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
