"""One contestant of benchmarks/bench.py in a process of its own, with the packages of whatever
Python runs it.

    python benchmarks/bench_contestants.py PACKAGE TASK INPUT.npz

PACKAGE is masf or dapper. Each line on standard input runs the task, as often as fills a tenth of a
second, and is answered by a line of JSON: wall and processor seconds of one run. INPUT.npz holds an
ensemble (N, d), a measurement y (d,) with R = I, and settings as JSON.
"""

from __future__ import annotations

import json
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], Any]

STEPS = 20
"""Model steps in a forecast."""
LETKF_RADIUS = 12.0
"""Half of the taper's support; DAPPER's radius is that over 1.82."""


def masf(task: str, ensemble: np.ndarray, y: np.ndarray, settings: dict) -> Run:
    """Ours: "forecast" by STEPS steps, or one analysis of a filter with the given parameters."""
    from masf.arrays import Stream, on_device
    from masf.filters.base import Setup
    from masf.filters.registry import filter_class
    from masf.observations.mask import Mask
    from masf.systems.registry import make_system

    d = ensemble.shape[1]
    system = make_system("lorenz96", {"dimension": d, "forcing": 8.0, "dt": 0.01})
    stream = Stream(0, "benchmark")
    if task == "forecast":
        x = ensemble.astype(np.float32)

        def forecast() -> np.ndarray:
            state = x
            for _ in range(STEPS):
                state = system.step(state, stream)
            return state

        return forecast
    cls = filter_class(task)
    parameters = cls.Parameters(**settings.get("parameters", {}))
    where = "cpu" if cls.needs_torch(parameters) else None
    state, measured = on_device(ensemble, where), on_device(y, where)
    prior = None
    if "prior" in settings:
        from masf.files.trained_prior import load

        prior = load(Path(settings["prior"]), system, "cpu")
    observation = Mask(d, np.arange(d), noise=1.0)
    filter_ = cls(parameters, Setup(system, observation, state.mean(0), 1.0, stream, prior))
    started = filter_.start(state)
    return lambda: filter_.analyse(started, measured)


def dapper(task: str, ensemble: np.ndarray, y: np.ndarray, settings: dict) -> Run:
    """DAPPER's functions for the same; its LETKF shares a transform among ``settings["block"]``
    neighbours.
    """
    from dapper.da_methods.ensemble import EnKF_analysis, local_analyses
    from dapper.mods.Lorenz96 import step
    from dapper.tools.localization import nd_Id_localization
    from dapper.tools.matrices import CovMat
    from dapper.tools.randvars import GaussRV

    d = len(y)
    if task == "forecast":

        def forecast() -> np.ndarray:
            state = ensemble
            for _ in range(STEPS):
                state = step(state, 0.0, 0.01)
            return state

        return forecast
    noise = GaussRV(C=CovMat(np.ones(d), "diag"))
    if task == "letkf":
        localizer = nd_Id_localization((d,), (settings["block"],), np.arange(d), periodic=True)
        batches, taperer = localizer(LETKF_RADIUS / 1.82, "x2y", "GC")
        return lambda: local_analyses(ensemble.copy(), ensemble, noise.C, y, batches, taperer)
    kind = {"enkf": "PertObs", "etkf": "Sqrt"}[task]
    return lambda: EnKF_analysis(ensemble.copy(), ensemble, noise, y, kind)


def main() -> None:
    """Serves until standard input ends."""
    package, task, path = sys.argv[1:]
    # What libraries print must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    with np.load(path) as file:
        arguments = file["ensemble"], file["y"], json.loads(str(file["settings"]))
    run = {"masf": masf, "dapper": dapper}[package](task, *arguments)
    run()
    once = timeit.timeit(run, number=1)
    number = max(1, round(0.1 / once))
    for _ in sys.stdin:
        cpu, wall = time.process_time(), timeit.timeit(run, number=number)
        print(
            json.dumps({"wall": wall / number, "cpu": (time.process_time() - cpu) / number}),
            file=answers,
            flush=True,
        )


if __name__ == "__main__":
    main()
