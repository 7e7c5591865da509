"""Whether the parts of an observation agree: what it measures, its matrix, adjoint and basis.

Filters take from an observation whichever of its parts serves them: ensemble transforms ``apply``,
the Kalman filter ``matrix``, MASF ``basis()``. A class that overrides one part and inherits the
others would be a different measurement to each of them. All parts say the same H if, for random
states x and measurements v,

    H (x + z) = H x + H z            <H x, v> = <x, H^T v>            V s^2/r V^T x = H^T R^(-1) H x

Of a measurement h(x) that is not linear, it is the derivative that has to agree with h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from masf.observations.base import Observation
from masf.observations.settings import observation_settings

Measure = Callable[[np.ndarray], np.ndarray]

RTOL = 1e-6
STEP, LOOSE = 1e-5, 1e-4
"""Of central differences, and how far they may be off."""
MOST_ENTRIES = 2**22
"""Entries of the largest H that is formed for the comparison."""


def consistency_faults(observation: Observation) -> list[str]:
    """What does not fit together in an observation, one sentence each; empty where all does."""
    name, d, m = type(observation).__name__, observation.dimension, observation.size
    rng = np.random.default_rng(0)
    x, z, v = rng.standard_normal(d), rng.standard_normal(d), rng.standard_normal(m)
    measured = np.asarray(observation.apply(x))
    if measured.shape != (m,):
        return [
            f"{name}.apply gives shape {measured.shape} of a state ({d},): expected ({m},), as "
            "many as the noise has"
        ]
    if not observation.linear:
        return _derivative_faults(observation, x, z, v)
    if not _close(observation.apply(x + z), measured + observation.apply(z)):
        return [f"{name}.apply is not linear: derive the class from masf.NonlinearObservation"]
    faults = []
    if not np.isclose(measured @ v, x @ observation.adjoint(v), rtol=RTOL, atol=RTOL * _size(x, v)):
        faults.append(f"{name}.adjoint is not that of {name}.apply: override both")
    rows = np.arange(0, m, 2)
    if not _close(observation.only(rows).apply(x), measured[rows]):
        faults.append(f"{name}.only differs from {name}.apply: override it, too")
    small = d * m <= MOST_ENTRIES
    if small and not _close(observation.matrix @ x, measured):
        faults.append(f"{name}.matrix x differs from {name}.apply(x): override matrix, too")
    arrays = observation.arrays() if small else {}
    if "H_indices" in arrays and not _close(x[arrays["H_indices"]], measured):
        faults.append(f"{name}.arrays() differs from {name}.apply(x): override arrays, too")
    if small and not faults:
        whiten, basis = observation.noise.whiten, observation.basis()
        information = observation.matrix.T @ whiten(whiten(observation.matrix @ x))
        if not _close(basis.apply(basis.s**2 / basis.r, x), information) or not _close(
            basis.apply(basis.s / basis.r, basis.lift(v)),
            observation.matrix.T @ whiten(whiten(v)),
        ):
            faults.append(f"{name}.basis() is not that of {name}.apply: override basis, too")
    return faults


def _derivative_faults(
    observation: Observation, x: np.ndarray, z: np.ndarray, v: np.ndarray
) -> list[str]:
    """Whether <J z, v> by a central difference is <z, J^T v>; a derivative that cannot be had is
    said by the filter that needs it.
    """
    try:
        found = z @ np.asarray(observation.pullback(x, v))
    except ValueError:
        return []
    ahead, behind = (np.asarray(observation.apply(x + step * z)) for step in (STEP, -STEP))
    expected = (ahead - behind) @ v / (2 * STEP)
    size = float(np.linalg.norm(ahead - behind) * np.linalg.norm(v)) / (2 * STEP)
    if np.isclose(found, expected, rtol=LOOSE, atol=LOOSE * size):
        return []
    name = type(observation).__name__
    return [
        f"the derivative of {name} ({found:.6g} along a random direction) is not that of what it "
        f"measures ({expected:.6g} by a difference): correct derivative, or pullback"
    ]


def rebuilds(observation: Observation, grid: tuple[int, ...] | None) -> bool:
    """Whether an observation's settings, which are all that a file keeps of it, build it again.

    An observation whose class is a user's own they do not, nor one that was changed afterwards.
    """
    try:
        again = observation_settings(observation.settings).build(observation.dimension, grid)
    except ValueError:
        return False
    x = np.random.default_rng(0).standard_normal((2, observation.dimension))
    mine, other = observation.noise.arrays(), again.noise.arrays()
    return (
        type(again) is type(observation)
        and type(again.noise) is type(observation.noise)
        and mine.keys() == other.keys()
        and all(np.allclose(mine[key], other[key]) for key in mine)
        and _same(again.apply, observation.apply, x)
    )


def _same(first: Measure, second: Measure, x: np.ndarray) -> bool:
    """Whether two observations measure the same of states x, be it NaN."""
    with np.errstate(all="ignore"):
        a, b = first(x), second(x)
    return np.shape(a) == np.shape(b) and np.allclose(a, b, equal_nan=True)


def recorded(observation: Observation, grid: tuple[int, ...] | None) -> dict[str, Any]:
    """What files keep of an observation: its settings; of one that these do not build again, the
    name of its class as the operator, so that it is never taken for another.
    """
    settings = dict(observation.settings)
    if rebuilds(observation, grid):
        return settings
    cls = type(observation)
    return {**settings, "operator": f"{cls.__module__}.{cls.__qualname__}"}


def _size(x: np.ndarray, v: np.ndarray) -> float:
    return float(np.linalg.norm(x) * np.linalg.norm(v))


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same up to rounding, relative to the largest value."""
    b = np.asarray(b)
    return np.allclose(a, b, rtol=RTOL, atol=RTOL * float(np.max(np.abs(b), initial=0.0)))
