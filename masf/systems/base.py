"""What a dynamical system offers to the filters: a step, a typical state, and the geometry of its
components.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from masf.arrays import Array, Stream


class SystemParameters(BaseModel):
    """Parameters common to every system; each system adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dt: float = Field(gt=0, description="Time between two steps, in the system's time units.")


class System(ABC):
    """A dynamical system with states of shape (..., dimension), stepped in batches."""

    Parameters: ClassVar[type[SystemParameters]]
    space: ClassVar[tuple[str, ...]] = ("component",)
    """Names of the state's axes in files."""
    stochastic: bool = False
    """Whether a step draws model noise, so that the same state steps to another one each time."""
    translation_invariant: ClassVar[bool] = False
    """Whether the components sit on a periodic grid and all obey the same equation."""
    flow: ClassVar[bool] = False
    """Whether states are velocities (2, n, n) as in masf.systems.flow, which have a vorticity and
    an energy spectrum.
    """

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __repr__(self) -> str:
        """The parameters, and which are defaults: ``Lorenz96(dt=0.01, ...; by default: dt)``."""
        parts = [f"{key}={value!r}" for key, value in self.parameters]
        given = self.parameters.model_fields_set
        defaults = [k for k in type(self.parameters).model_fields if k not in given]
        said = f"; by default: {', '.join(defaults)}" if defaults else ""
        return f"{type(self).__name__}({', '.join(parts)}{said})"

    @property
    def dt(self) -> float:
        return self.parameters.dt

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Lengths of the state's axes; their product is the dimension."""

    @property
    def dimension(self) -> int:
        return int(np.prod(self.shape))

    @abstractmethod
    def step(self, x: Array, stream: Stream) -> Array:
        """States (..., d) one ``dt`` later. ``stream`` serves systems with model noise."""

    def advance(self, x: Array, steps: int, stream: Stream) -> Array:
        """States (..., d) ``steps`` steps later."""
        for _ in range(steps):
            x = self.step(x, stream)
        return x

    @abstractmethod
    def typical_state(self, stream: Stream) -> np.ndarray:
        """One state (d,) of the long-run distribution, in float64."""

    def perturbations(self, n: int, x: Array, stream: Stream) -> Array:
        """n draws (n, d) that ensembles start from: mean 0, and variance 1 in each component that
        is ``resolved``, with the namespace of ``x``.

        White noise, unless the system's states are smooth.
        """
        return stream.normal((n, self.dimension), x)

    def project(self, x: Array) -> Array:
        """The states that the model admits nearest to the states (..., d): every analysis ends with
        this.

        All states, unless the model constrains them.
        """
        return x

    def resolved(self, x: Array) -> Array:
        """Of states (..., d), what a model that knows of nothing finer has for its own: all of
        them, unless the system has parts that are finer.
        """
        return x

    def pattern(self) -> np.ndarray | None:
        """What tells networks on a grid of two axes the places apart, where the equation depends on
        place: (k, d), or None.
        """
        return None

    def component_name(self, i: int) -> str:
        """What figures call component i, in LaTeX."""
        return f"x_{{{i + 1}}}"

    @property
    def grid(self) -> tuple[int, ...] | None:
        """Lengths of the periodic grid that the components sit on; None where they have no place in
        space.

        The state is (fields, *grid), flattened: several fields may share the points of a grid.
        """
        return None

    @property
    def spacing(self) -> float:
        """Distance of neighbouring points of the grid, in the unit of length that localisation
        radii of this system have: grid points themselves, unless the system has a better one.
        """
        return 1.0

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """Where the points of an axis of ``space`` are, in the system's units of length; of the
        axes that are so measured.
        """
        return {}

    @property
    def ring(self) -> int | None:
        """Length of the ring that the components sit on, one at each point; None where they do
        not.
        """
        return self.dimension if self.grid == (self.dimension,) else None


def grid_shape(system: System, length: int | None = None) -> tuple[int, ...]:
    """The shape (fields, *grid) of states on the grid of a system, by default its own, of another
    ``length`` with further fields; (length,) where it has no grid, or they do not fill it.
    """
    length = system.dimension if length is None else length
    if system.grid is None or length % math.prod(system.grid):
        return (length,)
    return (length // math.prod(system.grid), *system.grid)
