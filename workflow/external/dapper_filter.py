"""Filters of DAPPER (Raanes, Chen and Grudzien 2024) as commands for masf: ``dapper_filter.py
etkf|letkf|lnetf|ienks|enkf_n ...``.

Reads problem.nc and writes estimate.nc, see docs/adding-a-filter.md, and imports nothing of masf:
``make dapper`` creates an environment of its own for it; dapyr_filter.py imports what it shares
with it from here. The methods are DAPPER's ``EnKF("Sqrt")``,
``LETKF``, ``LNETF``, ``iEnKS("Sqrt")`` and ``EnKF_N`` in its dual form, untouched, and so are its
models of Lorenz-63 and Lorenz-96 (RK4, as ours); linear_gaussian is written below. What DAPPER
would score against the truth is recorded instead: it shows each ensemble to a ``Stats`` object, and
gets one of ours.

iEnKS is a smoother: between measurements DAPPER shows ensembles that have seen the next
measurement. Recorded are, here, the forecast of its first iteration, which has not, and at
measurements the analysis, as in DAPPER's own filter score (rmse.a).
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import netCDF4
import numpy as np

VERSION = "1.7.1"
"""Of DAPPER: the code below leans on the names inside it. The same as in
workflow/envs/dapper-requirements.txt.
"""

COMMON = {"inflation": 1.0, "rotation": False}
PARAMETERS = {
    "etkf": COMMON,
    "letkf": COMMON | {"localization_radius": None},
    "lnetf": COMMON | {"localization_radius": None, "noise_factor": 1.0},
    "ienks": COMMON
    | {"lag": 1, "iterations": 10, "tolerance": 1e-5, "certainty": None, "mda": False},
    "enkf_n": COMMON | {"certainty": 1.0},
}
"""Parameters of each method, with defaults: ``inflation`` and ``localization_radius`` mean what
they mean in masf, ``rotation`` is DAPPER's random rotation of the anomalies after each analysis,
``lag`` the length of the window in cycles, ``mda`` its ``MDA``, ``certainty`` DAPPER's ``xN``, that
of the finite-size prior, ``noise_factor`` its ``Rs``.
"""

LIMITS = {
    "inflation": (lambda v: v >= 1, "of at least 1"),
    "lag": (lambda v: v >= 1, "of at least 1"),
    "iterations": (lambda v: v >= 1, "of at least 1"),
    "tolerance": (lambda v: v >= 0, "of at least 0"),
    "localization_radius": (lambda v: v >= 1, "of at least 1"),
    "certainty": (lambda v: v >= 0.01, "of at least 0.01"),
    "noise_factor": (lambda v: v >= 1, "of at least 1"),
    "mixing": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "effective_share": (lambda v: 0 < v < 1, "between 0 and 1"),
}
"""What numbers among the parameters must be, and how that is said."""

GASPARI_COHN = 1.82
"""DAPPER's localisation radius times this is half of the taper's support, which is masf's
radius.
"""


class NotFinite(Exception):
    """The ensemble is not finite any more: the filter has diverged."""


# The problem


def parser(description):
    """Of the options that masf gives every command."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--problem", required=True)
    options.add_argument("--parameters", type=json.loads, default={})
    options.add_argument("--output", required=True)
    return options


def checked(method, known, given):
    """All parameters of a method, those that are not given as in ``known``."""
    if unknown := sorted(given.keys() - known.keys()):
        sys.exit(
            f"{method}: unknown parameters {', '.join(unknown)}; allowed are {', '.join(known)}"
        )
    chosen = known | given
    for key, (within, limits) in LIMITS.items():
        if key not in known:
            continue
        value, whole = chosen[key], isinstance(known[key], int)
        fits = (
            isinstance(value, int if whole else (int, float))
            and not isinstance(value, bool)
            and within(value)
        )
        if not fits and not (value is None and known[key] is None):
            sys.exit(
                f"{method}: {key} = {value!r}: expected "
                f"{'a whole number' if whole else 'a number'} {limits}"
            )
    return chosen


def problem_for(method, path):
    """What ``read_problem`` reads, of a problem that has every measurement, at regular times."""
    problem = read_problem(path)
    if np.any(np.isnan(problem["observation"])):
        sys.exit(f"{method}: some measurements are missing (NaN), which it cannot do")
    if isinstance(problem["gap"], str):
        sys.exit(f"{method}: measurements come at irregular times, which it cannot do")
    return problem


def read_problem(path):
    """Variables and attributes of problem.nc in one mapping; arrays in float64."""
    with netCDF4.Dataset(path) as data:
        content = {name: data[name][:].filled() for name in data.variables}
        attributes = {name: data.getncattr(name) for name in data.ncattrs()}
    # The measurements, not their settings in the config, which have the same name.
    content = attributes | {
        k: v if v.dtype.kind == "i" else v.astype(float) for k, v in content.items()
    }
    return content | {"parameters": json.loads(attributes["parameters"])}


def import_dapper():
    """DAPPER, without the folder that it makes in the home directory and without the settings that
    it finds there.
    """
    if (found := importlib.metadata.version("dapper")) != VERSION:
        sys.exit(f"dapper {found} is installed, expected {VERSION}: run make dapper again")
    home = os.environ.get("HOME")
    os.environ.setdefault("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser()))
    os.environ["MPLBACKEND"] = "Agg"
    # It says on import that nobody is looking at its figures.
    with tempfile.TemporaryDirectory() as empty, contextlib.redirect_stdout(None):
        os.environ["HOME"] = empty
        import dapper
        import dapper.da_methods
        import dapper.mods
        import dapper.tools.progressbar
    os.environ.pop("HOME") if home is None else os.environ.update(HOME=home)
    dapper.tools.progressbar.disable_progbar = dapper.tools.progressbar.disable_user_interaction = (
        True
    )
    return dapper


# The hidden Markov model


def lorenz63(parameters):
    """DAPPER's own."""
    from dapper.mods import Lorenz63

    Lorenz63.sig, Lorenz63.rho, Lorenz63.beta = (
        parameters[key] for key in ("sigma", "rho", "beta")
    )
    return Lorenz63.step, parameters["model_noise"] ** 2 / parameters["dt"], False


def lorenz96(parameters):
    """DAPPER's own."""
    from dapper.mods import Lorenz96

    Lorenz96.Force = parameters["forcing"]
    return Lorenz96.step, 0, True


def linear_gaussian(parameters):
    """As in masf/systems/linear_gaussian.py."""
    d = parameters["dimension"]
    k = 2 * np.pi * np.fft.rfftfreq(d)
    response = parameters["persistence"] * np.exp(
        -1j * k * parameters["speed"] - parameters["diffusion"] * k**2
    )
    matrix = np.fft.irfft(np.fft.rfft(np.eye(d), axis=0) * response[:, None], d, axis=0)
    return (lambda x, *_: x @ matrix.T), parameters["model_noise"] ** 2 / parameters["dt"], True


SYSTEMS = {"lorenz63": lorenz63, "lorenz96": lorenz96, "linear_gaussian": linear_gaussian}
"""By name: the model step, the variance of the model noise, which in DAPPER is for each unit of
time and in masf for each step, and whether the components sit on a ring.
"""


def model_of(problem):
    """What SYSTEMS says of the problem's system."""
    if problem["system"] not in SYSTEMS:
        sys.exit(f"system {problem['system']!r}: this filter knows {', '.join(SYSTEMS)} only")
    return SYSTEMS[problem["system"]](problem["parameters"])


def ring_distances(dapper, problem, ring, radius):
    """Distances (m, d) of measurements from components, which sit on a ring or nowhere; ``radius``
    is what needs them.
    """
    indices, d = problem.get("H_indices"), problem["initial_ensemble"].shape[1]
    if not ring or indices is None:
        what = (
            "components without distances"
            if not ring
            else "measurements of more than one component"
        )
        sys.exit(f"localization_radius = {radius}: there are {what}; set it to null")
    return dapper.tools.localization.pairwise_distances(
        indices[:, None], np.arange(d)[:, None], domain=(d,)
    )


def hidden_markov_model(dapper, problem, radius):
    """DAPPER's description of the problem; its model remembers the last ``gap`` ensembles that it
    made.
    """
    step, noise, ring = model_of(problem)
    ensemble, gap = problem["initial_ensemble"], int(problem["gap"])
    d, m = ensemble.shape[1], problem["observation"].shape[1]
    recent, steps = deque(maxlen=gap), {"taken": 0}

    def model(x, t, dt):
        with np.errstate(over="ignore", invalid="ignore"):
            x = step(x, t, dt)
        if not np.all(np.isfinite(x)):
            raise NotFinite
        recent.append(x)
        steps["taken"] += len(np.atleast_2d(x))
        return x

    indices, matrix = problem.get("H_indices"), problem.get("H")
    dynamics = {"M": d, "model": model, "noise": noise}
    observed = {
        "M": m,
        "model": (lambda x: x[..., indices]) if matrix is None else (lambda x: x @ matrix.T),
        "noise": dapper.mods.GaussRV(
            M=m, C=np.diag(problem["R_diagonal"]) if "R" not in problem else problem["R"]
        ),
        "localizer": dapper.tools.localization.no_localization(d, m),
    }
    if radius is not None:
        distances = ring_distances(dapper, problem, ring, radius)
        observed["localizer"] = dapper.tools.localization.localization_setup(
            lambda: distances, np.arange(d)[:, None]
        )
    localizer = observed["localizer"]
    # LNETF of this version hands over the time, too, which no localizer takes.
    observed["localizer"] = lambda radius, direction, *tag: localizer(radius, direction, *tag[-1:])
    hmm = dapper.mods.HiddenMarkovModel(
        dynamics,
        observed,
        dapper.mods.Chronology(
            dt=float(problem["dt"]), dko=gap, K=gap * len(problem["observation"])
        ),
        dapper.mods.RV(M=d, func=lambda n: ensemble[:n].copy()),
        name="masf",
    )
    hmm.recent, hmm.steps = recent, steps
    return hmm


# What is recorded


def recorder(stats_class):
    """A class of DAPPER's ``Stats`` that records the ensembles it is shown, and the seconds between
    them.
    """

    class Recorder(stats_class):
        def __init__(self, xp, HMM, xx, yy, **options):
            super().__init__(xp, HMM, xx, yy, **options)
            cycles, n, d = len(yy), xp.N, HMM.Nx
            self.smoother = hasattr(xp, "Lag")
            self.kept = {
                "mean": np.full((len(xx), d), np.nan),
                "spread": np.full((len(xx), d), np.nan),
                "forecast": np.full((cycles, n, d), np.nan, "f4"),
                "analysis": np.full((cycles, n, d), np.nan, "f4"),
                "wall_seconds": np.full(cycles, np.nan),
                "cpu_seconds": np.full(cycles, np.nan),
                "model_runs": np.full(cycles, np.nan),
            }
            self.moments(0, HMM.X0.sample(n))
            self.spent = np.zeros(2)
            self.begin()

        def begin(self):
            """Starts the clocks; the one that is slow to read is read outside of the other."""
            cpu = time.process_time()
            self.last = np.array([time.perf_counter(), cpu])

        def moments(self, k, ensemble):
            self.kept["mean"][k], self.kept["spread"][k] = (
                ensemble.mean(axis=0),
                ensemble.std(axis=0, ddof=1),
            )

        def tick(self, cycle):
            """Ends what a cycle cost, and begins the next one's."""
            self.kept["wall_seconds"][cycle], self.kept["cpu_seconds"][cycle] = self.spent
            self.spent = np.zeros(2)
            self.kept["model_runs"][cycle] = self.HMM.steps["taken"] / self.HMM.tseq.dko
            self.HMM.steps["taken"] = 0

        def assess(self, k, ko=None, faus=None, E=None, **_):
            self.spent += np.array([time.perf_counter(), time.process_time()]) - self.last
            if not np.all(np.isfinite(E)):
                raise NotFinite
            if faus == "f":
                self.kept["forecast"][ko] = E
                if self.smoother:
                    for i, ensemble in enumerate(self.HMM.recent, start=k - self.HMM.tseq.dko + 1):
                        self.moments(i, ensemble)
            elif ko is not None and faus in (None, "a"):
                self.kept["analysis"][ko] = E
                self.moments(k, E)
                self.tick(ko)
            elif not self.smoother:
                self.moments(k, E)
            self.begin()

    return Recorder


def assimilate(dapper, method, problem, parameters):
    """The arrays of estimate.nc."""
    hmm = hidden_markov_model(dapper, problem, parameters.get("localization_radius"))
    n = len(problem["initial_ensemble"])
    common = {"N": n, "infl": parameters["inflation"], "rot": parameters["rotation"]}
    if method == "etkf":
        xp = dapper.da_methods.EnKF("Sqrt", **common)
    elif method in ("letkf", "lnetf"):
        radius = parameters["localization_radius"]
        local = common | {"loc_rad": None if radius is None else radius / GASPARI_COHN}
        if method == "letkf":
            xp = dapper.da_methods.LETKF(**local)
        else:
            xp = dapper.da_methods.LNETF(Rs=parameters["noise_factor"], **local)
    elif method == "enkf_n":
        xp = dapper.da_methods.EnKF_N(dual=True, xN=parameters["certainty"], **common)
    else:
        if hmm.Dyn.noise.C != 0:
            sys.exit("ienks: DAPPER's iEnKS is for systems without model noise")
        iterations = {"nIter": parameters["iterations"], "wtol": parameters["tolerance"]}
        window = {
            "Lag": parameters["lag"],
            "xN": parameters["certainty"],
            "MDA": parameters["mda"],
        }
        xp = dapper.da_methods.iEnKS("Sqrt", **window, **iterations, **common)
    dapper.stats.Stats = recorder(dapper.stats.Stats)
    dapper.tools.seeding.set_seed(int(problem["seed"]))
    # There is no truth; DAPPER asks for one to score by, and our recorder does not look at it.
    no_truth = np.broadcast_to(np.nan, (hmm.tseq.K + 1, hmm.Nx))
    try:
        xp.assimilate(hmm, no_truth, problem["observation"])
    except (NotFinite, FloatingPointError, np.linalg.LinAlgError) as error:
        print(f"diverged: {error or 'the ensemble is not finite'}", file=sys.stderr)
    if method == "ienks":
        xp.stats.kept["diagnostic_iterations"] = np.asarray(xp.stats.iters, float)
    return xp.stats.kept


def write_estimate(path, arrays):
    """Writes estimate.nc; what is NaN was not reached."""
    dims = {
        "mean": ("model_time", "component"), "spread": ("model_time", "component"),
        "forecast": ("cycle", "member", "component"), "analysis": ("cycle", "member", "component"),
    }  # fmt: skip
    cycles, n, d = arrays["forecast"].shape
    with netCDF4.Dataset(path, "w") as data:
        for name, length in {
            "model_time": len(arrays["mean"]),
            "cycle": cycles,
            "member": n,
            "component": d,
        }.items():
            data.createDimension(name, length)
        for name, values in arrays.items():
            data.createVariable(name, "f4", dims.get(name, ("cycle",)))[:] = values


def main():
    """Problem in, estimate out."""
    options = parser(__doc__.splitlines()[0])
    options.add_argument("method", choices=PARAMETERS)
    arguments = options.parse_args()
    method = arguments.method
    parameters = checked(method, PARAMETERS[method], arguments.parameters)
    problem = problem_for(method, arguments.problem)
    write_estimate(arguments.output, assimilate(import_dapper(), method, problem, parameters))


if __name__ == "__main__":
    main()
