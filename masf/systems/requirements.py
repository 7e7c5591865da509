"""What a system of one's own must be before it is run: the part of its contract that costs two
steps, for what would else give wrong numbers without a word. The whole is masf.contract.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from masf.arrays import Array, Stream, require_states, to_numpy
from masf.faults import ContractFault
from masf.systems.base import System, SystemParameters
from masf.systems.counting import ALONG_THE_LAST_AXIS

RTOL = 1e-3
"""How far two ways to the same float32 numbers may be apart, relative to the largest of them."""


def same_numbers(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are the same up to rounding, relative to the largest value."""
    scale = float(np.max(np.abs(b), initial=0.0))
    return bool(np.allclose(a, b, rtol=0, atol=RTOL * scale + 1e-30))


class Silent(Stream):
    """A stream without noise: what is left of a step is its deterministic part.

    Attributes:
        asked: whether anything was drawn that cannot be silenced.
    """

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        self._torch_seed, self._torch, self._made_of = 0, {}, ""
        self.asked = False

    @property
    def numpy(self) -> np.random.Generator:  # type: ignore[override]
        self.asked = True
        return self._generator

    def torch(self, torch_device: Any) -> Any:
        self.asked = True
        return super().torch(torch_device)

    def normal(self, shape: tuple[int, ...], x: Array) -> Array:
        return 0 * Stream(0, "shape alone").normal(shape, x)

    def uniform(self) -> float:
        return 0.5


def typical_state(system: System, stream: Stream) -> np.ndarray:
    """The system's typical state (d,), float64. Raises ContractFault where it is none."""
    what, expected = f"{type(system).__name__}.typical_state", (system.dimension,)
    found = system.typical_state(stream)
    try:
        state = to_numpy(found).astype(np.float64)
    except (TypeError, ValueError):
        raise ContractFault(
            f"{what} returned {type(found).__name__}: expected an array of shape {expected}"
        ) from None
    if state.shape != expected:
        raise ContractFault(f"{what} returned shape {state.shape}: expected {expected}")
    if np.any(bad := ~np.isfinite(state)):
        i = int(np.argmax(bad))
        raise ContractFault(f"{what}: component {i + 1} is {state[i]}: expected finite numbers")
    return state


def geometry_faults(system: System) -> Iterator[str]:
    """Parameters, shape, names of axes and grid that are no such things, or do not fit together."""
    name = type(system).__name__
    if not isinstance(parameters := getattr(system, "parameters", None), SystemParameters):
        yield (
            f"{name}.parameters is {type(parameters).__name__}: expected an object of a subclass "
            "of masf.SystemParameters; make the system by it, as Mine(Mine.Parameters(dt=0.1))"
        )
        return
    shape, space = system.shape, system.space
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
        yield f"{name}.shape is {shape!r}: expected a tuple of positive whole numbers, such as (3,)"
        return
    if not isinstance(space, tuple) or len(space) != len(shape):
        yield (
            f"{name}.space is {space!r}: expected a tuple with a name for each of the "
            f"{len(shape)} axes of the shape"
        )
    grid = system.grid
    if grid is not None and (
        not isinstance(grid, tuple) or math.prod(grid) < 1 or system.dimension % math.prod(grid)
    ):
        yield (
            f"{name}.grid is {grid!r}: expected None, or a tuple of lengths whose product divides "
            f"the dimension {system.dimension}"
        )
    spacing = system.spacing
    if not isinstance(spacing, (int, float)) or not 0 < spacing < math.inf:
        yield f"{name}.spacing is {spacing!r}: expected a positive number, such as 1.0"


def batch_faults(system: System, state: np.ndarray) -> Iterator[str]:
    """A step that is not that of each state for itself, whatever other states stand beside it;
    ``state`` (d,) is one that it can be tried on.
    """
    what = f"{type(system).__name__}.step"
    centre = state.astype(np.float32)
    states = centre + 0.1 * Stream(0, "check").normal((3, system.dimension), centre)
    silent = Silent()
    with np.errstate(all="ignore"):
        try:
            together = system.step(states.copy(), silent)
            require_states(what, together, states, hint=ALONG_THE_LAST_AXIS)
            alone = system.step(states[0].copy(), silent)
            require_states(what, alone, states[0], hint="; it is given one state (d,), too")
        except ContractFault as fault:
            yield str(fault)
            return
        again = system.step(states[0].copy(), silent)
    # Noise that cannot be silenced; what is not finite is said where it is met.
    if silent.asked or not np.array_equal(alone, again) or not np.all(np.isfinite(together)):
        return
    if not same_numbers(together[0], alone):
        i = int(np.argmax(np.abs(together[0] - alone)))
        yield (
            f"{what} of a state depends on the others in its batch: component {i + 1} is "
            f"{together[0, i]:.6g} among three states and {alone[i]:.6g} alone; compute along the "
            "last axis, x[..., i], and reduce over no other"
        )


def require_system(system: System, state: np.ndarray | None = None) -> None:
    """Raises ContractFault for a system of one's own that would give wrong numbers, as tried on a
    state (d,), by default a typical one.
    """
    if faults := list(geometry_faults(system)):
        raise ContractFault("; ".join(faults))
    if state is None:
        state = typical_state(system, Stream(0, "check"))
    if state.shape == (system.dimension,) and (faults := list(batch_faults(system, state))):
        raise ContractFault("; ".join(faults))
