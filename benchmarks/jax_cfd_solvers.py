"""A solver of the Kolmogorov flow in a process of its own, for benchmarks/jax_cfd.py, which
explains them.

    python benchmarks/jax_cfd_solvers.py SOLVER INITIAL.npy CORES

SOLVER is masf, finite_volume or spectral (the last two are jax-cfd's and need no masf). Velocities
(B, 2, n, n) are laid out as ours, axes (component, y, x). Commands are lines on standard input,
each answered by one line of JSON: ``step K`` takes K outer steps and answers wall and processor
seconds and peak resident memory; ``save PATH`` writes the velocities.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DT, REYNOLDS, DRAG, WAVENUMBER = 0.2, 1000.0, 0.1, 4

Solver = tuple[Callable[[np.ndarray], Any], Callable[[Any], Any], Callable[[Any], np.ndarray]]
"""Into the solver's own state, one outer step, and back."""


def masf(n: int) -> Solver:
    """This package, on torch tensors in float32."""
    import torch

    from masf.arrays import Stream
    from masf.systems.registry import make_system

    system, stream = make_system("kolmogorov", {"size": n}), Stream(0, "benchmark")
    return (
        lambda velocity: torch.as_tensor(velocity.reshape(len(velocity), -1), dtype=torch.float32),
        lambda x: system.step(x, stream),
        lambda x: x.numpy().reshape(-1, *system.shape),
    )


def _jax() -> tuple[Any, Any]:
    import jax

    if not hasattr(jax, "tree_map"):
        jax.tree_map = jax.tree_util.tree_map  # jax-cfd 0.2.1 is older than its removal
    import jax_cfd.base as cfd

    return jax, cfd


def finite_volume(n: int) -> Solver:
    """jax_cfd.base as in the public code of Rozet and Louppe's SDA: max_velocity 5, Courant number
    0.5.
    """
    jax, cfd = _jax()
    grid = cfd.grids.Grid((n, n), domain=((0, 2 * math.pi), (0, 2 * math.pi)))
    boundary = cfd.boundaries.periodic_boundary_conditions(2)
    forcing = cfd.forcings.simple_turbulence_forcing(
        grid=grid,
        constant_magnitude=1.0,
        constant_wavenumber=WAVENUMBER,
        linear_coefficient=-DRAG,
        forcing_type="kolmogorov",
    )
    stable = cfd.equations.stable_time_step(
        grid=grid,
        max_velocity=5.0,
        max_courant_number=0.5,
        viscosity=1 / REYNOLDS,
        implicit_diffusion=True,
    )
    steps = math.ceil(DT / stable)
    inner = cfd.equations.semi_implicit_navier_stokes(
        grid=grid, forcing=forcing, dt=DT / steps, density=1.0, viscosity=1 / REYNOLDS
    )
    repeated = cfd.funcutils.repeated(f=inner, steps=steps)

    def step(velocity: Any) -> Any:
        u, v = cfd.initial_conditions.wrap_variables(
            velocity, grid, (boundary, boundary), offsets=grid.cell_faces
        )
        return jax.numpy.stack([u.data for u in repeated((u, v))])

    return _transposed(jax), jax.jit(jax.vmap(step)), lambda x: np.asarray(x).swapaxes(-1, -2)


def spectral(n: int) -> Solver:
    """jax_cfd.spectral with its fourth-order Crank-Nicolson scheme, as many inner steps as ours; it
    has no mean flow.
    """
    jax, cfd = _jax()
    from jax_cfd import spectral as cfd_spectral

    grid = cfd.grids.Grid((n, n), domain=((0, 2 * math.pi), (0, 2 * math.pi)))
    equation = cfd_spectral.equations.NavierStokes2D(
        viscosity=1 / REYNOLDS,
        grid=grid,
        drag=DRAG,
        smooth=True,
        forcing_fn=lambda g: cfd.forcings.kolmogorov_forcing(
            g, k=WAVENUMBER, offsets=((0, 0), (0, 0))
        ),
    )
    steps = math.ceil(DT * n * 1.2)
    inner = cfd_spectral.time_stepping.crank_nicolson_rk4(equation, DT / steps)
    repeated = cfd.funcutils.repeated(inner, steps)
    to_velocity = cfd_spectral.utils.vorticity_to_velocity(grid)
    kx, ky = grid.rfft_mesh()

    def start(velocity: np.ndarray) -> Any:
        u, v = np.moveaxis(velocity.swapaxes(-1, -2), 1, 0)
        return jax.numpy.asarray(
            2j * np.pi * (kx * np.fft.rfftn(v, axes=(1, 2)) - ky * np.fft.rfftn(u, axes=(1, 2))),
            "complex64",
        )

    def velocity(w: Any) -> np.ndarray:
        return np.stack(
            [np.fft.irfftn(np.asarray(x), axes=(1, 2)).swapaxes(-1, -2) for x in to_velocity(w)],
            axis=1,
        )

    return start, jax.jit(jax.vmap(repeated)), velocity


def _transposed(jax: Any) -> Callable[[np.ndarray], Any]:
    return lambda velocity: jax.numpy.asarray(velocity.swapaxes(-1, -2), "float32")


def main() -> None:
    """Serves commands until the input ends."""
    solver, initial, cores = sys.argv[1:]
    # Before torch and jax count them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    os.environ["OMP_NUM_THREADS"] = cores
    velocity = np.load(initial)
    into, step, back = {"masf": masf, "finite_volume": finite_volume, "spectral": spectral}[solver](
        velocity.shape[-1]
    )
    state = into(velocity)
    print(json.dumps({"solver": solver}), flush=True)
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        if command == "save":
            np.save(Path(argument.strip()), back(state))
            print("{}", flush=True)
            continue
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(int(argument)):
            state = step(state)
        getattr(state, "block_until_ready", lambda: None)()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"wall": wall, "cpu": cpu, "mib": mib}), flush=True)


if __name__ == "__main__":
    main()
