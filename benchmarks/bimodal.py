"""One analysis of a posterior with two modes by every filter, beside quadrature.

    python benchmarks/bimodal.py measure     # to bimodal.csv and bimodal_distances.csv, in minutes
    python benchmarks/bimodal.py plot        # from bimodal.csv to docs/figures/bimodal.png

The state is one component x with the prior N(0, 1), and y = x^2 + eta, eta ~ N(0, 0.2^2), is 1: the
posterior has a mode near -1 and another near 1. The system is linear_gaussian with that prior as
its stationary law, so that what filters are given is what it forecasts; the network of masf and
masf_fresh is trained on its forecasts, long after their last measurement. Each filter has 2,000
members, no localisation and no inflation; its other parameters are those of its class, but for
PARAMETERS. bimodal.csv has the density of members in bins, and the quadrature's;
bimodal_distances.csv the Kolmogorov-Smirnov distance of the members to the posterior, and the share
of them in the upper mode.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

import masf
from masf.filters.base import linear_misfits
from masf.filters.registry import filter_class, filter_names
from masf.study.load import load_study

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "results" / "bimodal.csv"
DISTANCES = ROOT / "benchmarks" / "results" / "bimodal_distances.csv"
FIGURE = ROOT / "docs" / "figures" / "bimodal.png"
MEMBERS, NOISE, MEASURED = 2000, 0.2, 1.0
EDGES = np.linspace(-2, 2, 81)
STATIONARY = {"persistence": 0.9, "model_noise": float(np.sqrt(1 - 0.9**2))}
STILL = {"persistence": 1.0, "model_noise": 0.0}
"""The same forecast without noise of the model's own, which ienks runs several times."""
PARAMETERS: dict[str, dict[str, Any]] = {
    "masf": {"steps": 32, "passes_radius": None, "localization_radius": None},
    "masf_fresh": {"steps": 32, "localization_radius": None},
    "masf_guided": {"steps": 150, "network": False, "localization_radius": None},
    "masf_mc": {"steps": 32, "bandwidth": 0.05, "weight_radius": None},
    "particle": {"particles": 2000},
    "enff": {"steps": 200},  # with the 10 of its class it overflows, and with 100 so does sf
    "sf": {"steps": 400, "training_steps": 500},
}
"""Where the class's own are for other problems."""
PRIOR = {
    "network": {"kind": "mlp", "width": 64, "blocks": 3},
    "localization_radii": [None],
    "gaps": [60],  # after so many steps a forecast has forgotten its start
    "worlds": 16,
    "cycles": 40,
    "members": 500,
    "extra_members": 500,
    "inflation": 1.0,
    "rounds": 2,
    "steps": 4000,
    "states_per_time": 64,
}


def quadrature(points: int = 20_001) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, and the posterior's weight at each."""
    x = np.linspace(-5, 5, points)
    weight = np.exp(-(x**2) / 2 - (MEASURED - x**2) ** 2 / (2 * NOISE**2))
    return x, weight / weight.sum()


def distance(members: np.ndarray) -> float:
    """The Kolmogorov-Smirnov distance of members to the posterior."""
    x, weight = quadrature()
    found = np.searchsorted(np.sort(members), x, side="right") / len(members)
    return float(np.abs(found - weight.cumsum()).max())


def analysis(name: str, prior: Path, seed: int) -> np.ndarray:
    """The members (N,) that a filter makes of the measurement."""
    cls = filter_class(name)
    fields = cls.Parameters.model_fields
    usual = {"localization_radius": None, "inflation": 1.0}
    keys = {k: v for k, v in usual.items() if k in fields} | PARAMETERS.get(name, {})
    parameters = STILL if name == "ienks" else STATIONARY
    system = masf.make_system("linear_gaussian", dimension=1, **parameters)
    observation = masf.make_observation(system, "identity", noise=NOISE, transform="square")
    ensemble = np.random.default_rng(seed).standard_normal((MEMBERS, 1))
    problem = masf.make_problem(
        system, observation, np.array([[MEASURED]]), ensemble, gap=1, seed=seed
    )
    uses = cls.uses_prior and getattr(cls.Parameters(**keys), "network", False)
    found = masf.assimilate(
        problem, cls, keys, prior=prior if uses else None, saved_members=MEMBERS, device="cpu"
    )
    return found["member"].values[:, 0].reshape(-1).astype(np.float64)


def suits(name: str) -> bool:
    """Whether a filter takes such a measurement, and is one of its own in one component."""
    system = masf.make_system("linear_gaussian", dimension=1, **STATIONARY)
    observation = masf.make_observation(system, "identity", noise=NOISE, transform="square")
    if name in {"free_run", "enkf_localized"}:  # the prior, and enkf again
        return False
    return name != "kalman" or not linear_misfits(observation)


@click.group(help=__doc__)
def main() -> None:
    """See the module's docstring."""


@main.command()
@click.option("--filter", "filters", multiple=True, help="Some filters; others stay.")
@click.option("--seed", default=0, show_default=True)
def measure(filters: tuple[str, ...], seed: int) -> None:
    """Runs the filters and keeps their densities and distances."""
    logging.getLogger("masf").setLevel(logging.ERROR)
    names = filters or tuple(name for name in filter_names() if suits(name))
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    x, weight = quadrature()
    width = EDGES[1] - EDGES[0]
    exact = np.histogram(x, EDGES, weights=weight)[0] / width
    densities, distances = {"quadrature": exact}, {}
    with tempfile.TemporaryDirectory() as folder:
        prior = Path(folder) / "prior.safetensors"
        if {"masf", "masf_fresh"} & {*names}:
            system = masf.make_system("linear_gaussian", dimension=1, **STATIONARY)
            keys = {"noise": NOISE, "transform": "square"}
            observation = masf.make_observation(system, "identity", **keys)
            problem = masf.simulate(system, observation, gap=60, cycles=1, members=10)
            masf.train_prior(problem, prior, PRIOR, seed=7, device="cpu")
        for name in names:
            members = analysis(name, prior, seed)
            densities[name] = np.histogram(members, EDGES)[0] / (len(members) * width)
            distances[name] = {
                "members": len(members),
                "distance": distance(members),
                "upper": float((members > 0).mean()),
            }
            click.echo(f"{name}: {distances[name]}", err=True)
    rows = pd.concat(
        [
            pd.DataFrame({"filter": name, "x": centres, "density": density})
            for name, density in densities.items()
        ]
    )
    table = pd.DataFrame([{"filter": name, **found} for name, found in distances.items()])
    if filters:
        rows, table = _merged(rows, TABLE), _merged(table, DISTANCES)
    rows, table = rows.sort_values(["filter", "x"]), table.sort_values("distance")
    rows.to_csv(TABLE, index=False, float_format="%.4f")
    table.to_csv(DISTANCES, index=False, float_format="%.4f")


def _merged(new: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A table with the rows of these filters in place of its own."""
    old = pd.read_csv(path)
    return pd.concat([old[~old["filter"].isin(new["filter"])], new])


@main.command()
def plot() -> None:
    """Draws the densities, a panel a filter, those nearest to the posterior first."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows, table = pd.read_csv(TABLE), pd.read_csv(DISTANCES).sort_values("distance")
    study = load_study(ROOT / "config" / "config.yaml")
    exact = rows[rows["filter"] == "quadrature"]
    columns = 5
    height = -(-len(table) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(9, 1.35 * height), sharex=True, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(table) :]:
        axis.set_axis_off()
    for axis, (_, row) in zip(axes.flat, table.iterrows(), strict=False):
        own, definition = rows[rows["filter"] == row["filter"]], study.filters[row["filter"]]
        colour = definition.look.colour if definition.look else "#555555"
        axis.bar(own["x"], own["density"], width=EDGES[1] - EDGES[0], color=colour, alpha=0.55)
        axis.plot(exact["x"], exact["density"], color="black", linewidth=0.8)
        axis.set_title(f"{definition.label}: {row['distance']:.3f}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.set_ylim(0, 3)
    figure.supxlabel("x", fontsize=9)
    figure.supylabel("density", fontsize=9)
    figure.savefig(FIGURE, dpi=150)


if __name__ == "__main__":
    main()
