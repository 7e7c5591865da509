"""A filter that is not ours, for tests: no assimilation. Options before masf's make it fail in one
way or another.
"""

import argparse
import json
import sys

import netCDF4
import numpy as np

from masf.systems.registry import make_system

parser = argparse.ArgumentParser()
parser.add_argument("--fail", action="store_true")
parser.add_argument("--write-nothing", action="store_true")
parser.add_argument(
    "--diverge-in", type=int, help="The cycle, from 0, that is not written, nor any later one."
)
parser.add_argument("--problem", required=True)
parser.add_argument("--parameters", type=json.loads, required=True)
parser.add_argument("--output", required=True)
arguments = parser.parse_args()

if arguments.fail:
    print("read the problem")
    sys.exit("and could make nothing of it")
if arguments.write_nothing:
    sys.exit()

with netCDF4.Dataset(arguments.problem) as problem:
    ensemble = problem["initial_ensemble"][:].filled()
    gap, cycles = int(problem.gap), int(problem.cycles)
    system = make_system(problem.system, json.loads(problem.parameters))
n, d = ensemble.shape
with netCDF4.Dataset(arguments.output, "w") as estimate:
    for name, length in {
        "model_time": cycles * gap + 1,
        "cycle": cycles,
        "member": n,
        "component": d,
    }.items():
        estimate.createDimension(name, length)
    moments = [
        estimate.createVariable(name, "f4", ("model_time", "component"))
        for name in ("mean", "spread")
    ]
    ensembles = [
        estimate.createVariable(name, "f4", ("cycle", "member", "component"))
        for name in ("forecast", "analysis")
    ]
    seconds = estimate.createVariable("wall_seconds", "f4", ("cycle",))
    model_runs = estimate.createVariable("model_runs", "f4", ("cycle",))
    twice = estimate.createVariable("diagnostic_twice", "f4", ("cycle",))
    for i in range(cycles * gap + 1):
        if i:
            ensemble = system.step(ensemble, None)
        if arguments.diverge_in is not None and i > arguments.diverge_in * gap:
            break
        moments[0][i], moments[1][i] = ensemble.mean(axis=0), ensemble.std(axis=0, ddof=1)
        if i % gap == 0 and i:
            cycle = i // gap - 1
            for variable in ensembles:
                variable[cycle] = ensemble
            seconds[cycle] = arguments.parameters.get("seconds", np.nan)
            model_runs[cycle] = n
            twice[cycle] = 2 * cycle
