"""What a cycle costs where the measurement is not linear, over the linear case of the same size.

    python benchmarks/nonlinear_cost.py     # to benchmarks/results/nonlinear_cost.csv, in minutes

Lorenz-96, d 40, N 100, a measurement every 20 steps, of all or every second component, as it is or
through arctan. A cycle is 20 model steps and an analysis; both cases run in one process, in turn,
round after round, in processor seconds of one thread: seconds are the least of the rounds, the
ratio is the median over rounds. Parameters are those of config/filters. The network of masf and
masf_fresh is one with small random weights, which is made to serve in every cycle, as a trained one
does: it costs the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from machine import machine
from untrained import always_served, untrained_prior

import masf
from masf.arrays import Array, Stream, on_device
from masf.filters.base import Filter, Setup
from masf.filters.registry import filter_class
from masf.observations.settings import observation_settings
from masf.study.load import load_study
from masf.study.study import Study

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "results" / "nonlinear_cost.csv"
FILTERS = {"masf": 12, "masf_fresh": 12, "masf_gaussian": 100, "masf_mc": 30, "letkf": 12}
"""Filters, and rounds of each."""
OBSERVATIONS = {
    "all": {"operator": "identity", "noise": 1.0},
    "every_second": {"operator": "stride", "stride": 2, "noise": 1.0},
}
DIMENSION, MEMBERS, GAP = 40, 100, 20


@dataclass
class Case:
    """A filter with a forecast ensemble and a measurement that it is given again and again."""

    filter: Filter
    ensemble: Array
    y: Array

    def seconds(self) -> tuple[float, float]:
        """Of a cycle, and of its analysis."""
        state = self.filter.start(self.ensemble)
        start = time.process_time()
        for _ in range(GAP):
            state = self.filter.forecast(state)
        forecast = time.process_time()
        self.filter.analyse(state, self.y)
        end = time.process_time()
        return end - start, end - forecast


def case(study: Study, name: str, observed: dict[str, Any]) -> Case:
    """A filter on Lorenz-96, measured so."""
    system = masf.make_system("lorenz96", dimension=DIMENSION)
    observation = observation_settings(observed).build(DIMENSION, system.grid)
    cls = filter_class(name)
    like_it = next(
        c for c in study.cells.values()
        if c.settings.system == "lorenz96" and c.settings.gap == GAP
        and c.situation["dimension"] == DIMENSION
    )  # fmt: skip
    parameters = cls.Parameters(**study.default_parameters(name, like_it))
    stream, where = Stream(0, "benchmark"), "cpu" if cls.needs_torch(parameters) else None
    truth = system.typical_state(stream).astype(np.float32)
    ensemble = truth + 0.3 * stream.numpy.standard_normal((MEMBERS, DIMENSION)).astype(np.float32)
    after = system.advance(truth[None], GAP, stream)[0]
    y = observation.apply(after) + 0.1
    prior = None
    if where is not None:
        prior = untrained_prior(study.config.priors["lorenz96"], system, observation)
    setup = Setup(system, observation, on_device(truth, where), 0.3, stream, prior)
    return Case(cls(parameters, setup), on_device(ensemble, where), on_device(y, where))


@click.command(help=__doc__)
@click.option("--filter", "filters", multiple=True, default=[*FILTERS])
@click.option("--output", type=click.Path(path_type=Path), default=TABLE)
def main(filters: tuple[str, ...], output: Path) -> None:
    """See the module's docstring."""
    torch.set_num_threads(1)
    study, rows = load_study(ROOT / "config" / "config.yaml"), []
    with always_served():
        for name in filters:
            for observed, keys in OBSERVATIONS.items():
                pair = [case(study, name, k) for k in (keys, {**keys, "transform": "arctan"})]
                for each in pair:
                    each.seconds()
                found = np.array([[c.seconds() for c in pair] for _ in range(FILTERS[name])])
                ratios = found[:, 1] / found[:, 0]
                least = found.min(axis=0)
                rows.append({
                    "filter": name,
                    "observation": observed,
                    "linear_seconds": least[0, 0],
                    "nonlinear_seconds": least[1, 0],
                    "cycle_ratio": np.median(ratios[:, 0]),
                    "analysis_ratio": np.median(ratios[:, 1]),
                    "rounds": FILTERS[name],
                    **machine(1),
                })  # fmt: skip
                click.echo({**rows[-1], "parameters": str(pair[1].filter.parameters)}, err=True)
    pd.DataFrame(rows).to_csv(output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
