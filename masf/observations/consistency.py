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

from masf.arrays import require_states
from masf.faults import ContractFault
from masf.observations.base import (
    NonlinearObservation,
    Observation,
    checked_places,
    require_places,
)
from masf.observations.settings import observation_settings
from masf.systems.counting import ALONG_THE_LAST_AXIS

Measure = Callable[..., np.ndarray]

RTOL = 1e-6
STEP, LOOSE = 1e-5, 1e-4
"""Of central differences, and how far they may be off."""
MOST_ENTRIES = 2**22
"""Entries of the largest H that is formed for the comparison."""
READ_ONLY = ("output array is read-only", "assignment destination is read-only")
"""What numpy says where an array that may not be written is."""


def is_ours(observation: Observation) -> bool:
    """Whether masf has the class of an observation."""
    return type(observation).__module__.startswith("masf.")


def batch_faults(observation: Observation, *, any_state: bool = True) -> list[str]:
    """Whether m numbers are measured of each state for itself, in batches of any shape, and states
    are left as they are: what is cheap to know of an observation of one's own. Without
    ``any_state`` it may refuse a random state by a ValueError, such as a negative one, and then
    nothing is said.
    """
    states = np.random.default_rng(0).standard_normal((2, 3, observation.dimension))
    what = f"{type(observation).__name__}.apply"
    if not any_state:
        try:
            with np.errstate(all="ignore"):
                observation.apply(states[0, 0].copy())
        except (ValueError, ArithmeticError):
            return []
        except Exception:  # noqa: S110  # whatever code of one's own raises is said below
            pass
    return _batch_faults(what, observation.apply, (states,), observation.size)


def require_observation(observation: Observation) -> None:
    """Raises ContractFault for an observation of one's own that would give wrong numbers, or fail
    in the midst of a run.
    """
    if not is_ours(observation) and (faults := batch_faults(observation, any_state=False)):
        raise ContractFault("; ".join(faults))


def _batch_faults(
    what: str, call: Measure, given: tuple[np.ndarray, ...], length: int
) -> list[str]:
    """What a method does wrong that should make (..., length) of arrays (..., n), each state for
    itself; ``given`` are (2, 3, n), and are tried in parts of one, two and three axes.
    """
    before = None
    for part in ((0, 0), (0,), ()):
        arrays = tuple(values[part] for values in given)
        x = arrays[0]
        said = f"{what}, given shape {x.shape},"
        of_one = ", as many as the noise has" if what.endswith(".apply") else ""
        try:
            with np.errstate(all="ignore"):
                found, written = _answer(call, arrays)
            hint = ALONG_THE_LAST_AXIS if x.ndim > 1 else of_one
            require_states(said, found, x, (*x.shape[:-1], length), hint)
        except ContractFault as fault:
            return [str(fault)]
        except Exception as error:  # whatever code of one's own raises
            first = (str(error).splitlines() or [""])[0][:120]
            of_axes = x.ndim > 1 or isinstance(error, IndexError)
            hint = ALONG_THE_LAST_AXIS if of_axes else ""
            return [f"{said} fails ({type(error).__name__}: {first}){hint}"]
        if written:
            return [f"{what} changes the array that it is given: return a new one"]
        if before is not None and not _close(found[0], before, equal_nan=True):
            return [
                f"{said} gives other numbers for a state than for that state alone"
                f"{ALONG_THE_LAST_AXIS}"
            ]
        before = found
    return []


def _answer(call: Measure, given: tuple[np.ndarray, ...]) -> tuple[np.ndarray, bool]:
    """What ``call`` makes of arrays, and whether it writes into them."""
    locked = tuple(values.copy() for values in given)
    for values in locked:
        values.flags.writeable = False
    try:
        return call(*locked), False
    except ValueError as error:
        # Compiled code may want arrays that it could write into, and not do it.
        written = any(text in str(error) for text in READ_ONLY)
    handed = tuple(values.copy() for values in given)
    found = call(*handed)
    kept = all(np.array_equal(a, b) for a, b in zip(handed, given, strict=True))
    return found, written or not kept


def place_faults(observation: Observation, grid: tuple[int, ...] | None) -> list[str]:
    """Whether the ``places`` that a class of one's own defines are on the grid; one that raises
    ValueError has none, which a filter says that needs them.
    """
    if type(observation).places.__module__.startswith("masf."):
        return []
    try:
        if grid is None:
            _try_places(observation)
        else:
            checked_places(observation, grid)
    except ContractFault as fault:
        return [str(fault)]
    except ValueError:
        pass
    return []


def _try_places(observation: Observation) -> None:
    """Tries ``places`` where no grid is known: on one of d points along one axis, or two. Columns
    of what comes back are the axes that the class is made for, of at most d points each.
    """
    d = observation.dimension
    for grid in ((d,), (1, d)):
        try:
            found = observation.places(grid)
        except Exception:  # noqa: S112  # it may be made for another number of axes
            continue
        axes = np.shape(found)[1] if np.ndim(found) == 2 else len(grid)
        require_places(observation, found, (d,) * max(axes, 1))
        return


def consistency_faults(observation: Observation, grid: tuple[int, ...] | None = None) -> list[str]:
    """What does not fit together in an observation, one sentence each; empty where all does.
    ``grid`` is that of the system, where it is known.
    """
    if faults := [*batch_faults(observation), *place_faults(observation, grid)]:
        return faults
    name, d, m = type(observation).__name__, observation.dimension, observation.size
    rng = np.random.default_rng(0)
    x, z, v = rng.standard_normal(d), rng.standard_normal(d), rng.standard_normal(m)
    measured = np.asarray(observation.apply(x))
    if not observation.linear:
        return _derivative_faults(observation, x, z, v)
    if not _close(observation.apply(x + z), measured + observation.apply(z)):
        return [f"{name}.apply is not linear: derive the class from masf.NonlinearObservation"]
    several = rng.standard_normal((2, 3, m))
    if faults := _batch_faults(f"{name}.adjoint", observation.adjoint, (several,), d):
        return faults
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
    name = type(observation).__name__
    overridden = type(observation).pullback is not NonlinearObservation.pullback
    if overridden and not is_ours(observation):
        rng = np.random.default_rng(1)
        several = tuple(rng.standard_normal((2, 3, len(values))) for values in (x, v))
        what = f"{name}.pullback"
        if faults := _batch_faults(what, observation.pullback, several, len(x)):
            return faults
    try:
        found = z @ np.asarray(observation.pullback(x, v))
    except ValueError:
        return []
    ahead, behind = (np.asarray(observation.apply(x + step * z)) for step in (STEP, -STEP))
    expected = (ahead - behind) @ v / (2 * STEP)
    size = float(np.linalg.norm(ahead - behind) * np.linalg.norm(v)) / (2 * STEP)
    if np.isclose(found, expected, rtol=LOOSE, atol=LOOSE * size):
        return []
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


def _close(a: np.ndarray, b: np.ndarray, *, equal_nan: bool = False) -> bool:
    """Whether two arrays are the same up to rounding, relative to the largest number."""
    b = np.asarray(b)
    largest = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0))
    return np.allclose(a, b, rtol=RTOL, atol=RTOL * largest, equal_nan=equal_nan)
