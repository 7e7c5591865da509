"""The local particle filter of DAPyr, by the group that it is from, as a command for masf.

Reads problem.nc and writes estimate.nc, see docs/adding-a-filter.md, and imports nothing of masf;
``make dapper`` installs DAPyr beside DAPPER. The analysis is DAPyr's ``DA.lpf_update`` (Poterjoy
2022) with DAPyr's Gaussian likelihood, untouched, with all of the likelihood taken in where the
iterations suffice, and without kernel density mapping. Ours are the loop over cycles, and inflation
after the analysis. Models and distances are DAPPER's, from dapper_filter.py. Parameters are named,
and mean, what they do in masf's own ``local_pf``, which differs in three things: it takes
measurements that are far apart at once, leaves out tapers below 1e-3, and leaves out of beta, too,
the measurements that DAPyr passes over in its loop because they tell members nothing.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
import time
from types import ModuleType

import dapper_filter
import numpy as np

METHOD = "dapyr_lpf"
VERSION = "1.0.0"
"""Of DAPyr. The same as in workflow/envs/dapyr-requirements.txt."""

PARAMETERS = {
    "inflation": 1.0,
    "localization_radius": None,
    "mixing": 0.3,
    "effective_share": 0.4,
    "iterations": 1,
}
MOST_ITERATIONS = 50
"""As in ``local_pf``."""

LEAST_TAPER = 1e-6
"""DAPyr divides by tapers, and where one is 0 it puts copies in place of members that the
measurement should not reach. Its own tapers are positive everywhere, and so are those it gets. On
one run (Lorenz-96, d 40, N 40, gap 5) the RMSE is 0.53 with zeros left in, and 0.26, 0.29 and 0.27
with a least taper of 1e-3, 1e-6 and 1e-12, which is scatter.
"""


def import_dapyr():
    """DAPyr's modules ``DA`` and ``OBS_ERRORS``, without its models, which need a compiler."""
    try:
        found = importlib.metadata.version("dapyr")
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"dapyr is not installed, expected {VERSION}: run make dapper again")
    if found != VERSION:
        sys.exit(f"dapyr {found} is installed, expected {VERSION}: run make dapper again")
    # The package's own __init__ imports the models.
    package = ModuleType("DAPyr")
    package.__path__ = list(importlib.util.find_spec("DAPyr").submodule_search_locations)
    sys.modules["DAPyr"] = package
    return importlib.import_module("DAPyr.DA"), importlib.import_module("DAPyr.OBS_ERRORS")


def tapers_of(dapper, problem, ring, radius):
    """Tapers (m, d) between measurements and components."""
    m, d = problem["observation"].shape[1], problem["initial_ensemble"].shape[1]
    if radius is None:
        return np.ones((m, d))
    distances = dapper_filter.ring_distances(dapper, problem, ring, radius)
    tapers = dapper.tools.localization.dist2coeff(
        distances, radius / dapper_filter.GASPARI_COHN, "GC"
    )
    return np.maximum(tapers, LEAST_TAPER)


def analysis_of(dapyr, problem, tapers, parameters):
    """A function of an ensemble (N, d) and a measurement (m,) that returns DAPyr's analysis, all
    NaN where DAPyr says that it failed.
    """
    filters, errors = dapyr
    n, d = problem["initial_ensemble"].shape
    m = len(tapers)
    indices, matrix = problem.get("H_indices"), problem.get("H")
    # DAPyr takes H for where the measurements are, only: for the tapers between them. Measurements
    # of several components have none, and so may be anywhere.
    places = np.eye(d)[np.zeros(m, dtype=int) if indices is None else indices]
    sigma = np.sqrt(problem["R_diagonal"])[:, None]
    likelihood = errors.get_likelihood(errors.GAUSSIAN, {"mu": 0.0, "sigma": sigma})
    size = parameters["effective_share"] * n
    if size <= 1:
        size = 0.5  # every effective number is above either, and at 1 DAPyr fails

    def analyse(ensemble, y):
        observed = ensemble[:, indices] if matrix is None else ensemble @ matrix.T
        rest, density_mapping, fault, flagged = 0.0, 0, 0, np.zeros(m)
        members, fault = filters.lpf_update(
            ensemble.T.copy(),
            observed.T.copy(),
            y,
            places,
            tapers,
            size,
            parameters["mixing"],
            rest,
            parameters["iterations"],
            density_mapping,
            fault,
            flagged,
            likelihood,
        )
        if fault:
            return np.full((n, d), np.nan)
        mean = members.T.mean(axis=0)
        return mean + parameters["inflation"] * (members.T - mean)

    return analyse


def forecast_of(problem, step, variance):
    """A function of an ensemble (N, d) that returns those of the steps to the next measurement
    (gap, N, d).
    """
    dt, gap = float(problem["dt"]), int(problem["gap"])
    rng = np.random.default_rng(int(problem["seed"]))

    def forecast(ensemble):
        path = np.empty((gap, *ensemble.shape))
        for i in range(gap):
            ensemble = step(ensemble, np.nan, dt)  # these models do not depend on the time
            if variance:
                ensemble = ensemble + np.sqrt(variance * dt) * rng.standard_normal(ensemble.shape)
            path[i] = ensemble
        return path

    return forecast


def assimilate(forecast, analyse, ensemble, observation, gap):
    """The arrays of estimate.nc, NaN from where the ensemble is not finite any more."""
    (cycles, _), (n, d) = observation.shape, ensemble.shape
    kept = {name: np.full((cycles * gap + 1, d), np.nan) for name in ("mean", "spread")}
    kept |= {name: np.full((cycles, n, d), np.nan, "f4") for name in ("forecast", "analysis")}
    costs = ("wall_seconds", "cpu_seconds", "model_runs")
    kept |= {name: np.full(cycles, np.nan) for name in costs}

    def moments(steps, ensembles):
        kept["mean"][steps] = ensembles.mean(axis=-2)
        kept["spread"][steps] = ensembles.std(axis=-2, ddof=1)

    moments(0, ensemble)
    for cycle, y in enumerate(observation):
        cpu, wall = time.process_time(), time.perf_counter()
        path = forecast(ensemble)
        if finite := bool(np.all(np.isfinite(path[-1]))):
            ensemble = analyse(path[-1], y)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        moments(slice(cycle * gap + 1, (cycle + 1) * gap + 1), path)
        kept["forecast"][cycle] = path[-1]
        if not finite or not np.all(np.isfinite(ensemble)):
            print(f"diverged in cycle {cycle}: the ensemble is not finite", file=sys.stderr)
            break
        moments((cycle + 1) * gap, ensemble)
        kept["analysis"][cycle] = ensemble
        kept["wall_seconds"][cycle], kept["cpu_seconds"][cycle] = spent
        kept["model_runs"][cycle] = n
    return kept


def main():
    """Problem in, estimate out."""
    arguments = dapper_filter.parser(__doc__.splitlines()[0]).parse_args()
    parameters = dapper_filter.checked(METHOD, PARAMETERS, arguments.parameters)
    if (most := parameters["iterations"]) > MOST_ITERATIONS:
        sys.exit(f"{METHOD}: iterations = {most}: expected at most {MOST_ITERATIONS}")
    problem = dapper_filter.problem_for(METHOD, arguments.problem)
    if "R" in problem:
        sys.exit(
            f"{METHOD}: errors of measurements are correlated, and DAPyr takes independent ones "
            "only; choose noise without correlations, or 'local_pf'"
        )
    dapper, dapyr = dapper_filter.import_dapper(), import_dapyr()
    step, variance, ring = dapper_filter.model_of(problem)
    tapers = tapers_of(dapper, problem, ring, parameters["localization_radius"])
    # An ensemble that diverges, or has no spread left, overflows or divides by 0 on its way.
    with np.errstate(all="ignore"):
        arrays = assimilate(
            forecast_of(problem, step, variance),
            analysis_of(dapyr, problem, tapers, parameters),
            problem["initial_ensemble"],
            problem["observation"],
            int(problem["gap"]),
        )
    dapper_filter.write_estimate(arguments.output, arrays)


if __name__ == "__main__":
    main()
