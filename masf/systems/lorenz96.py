"""Lorenz (1996), Predictability: a problem partly solved. A ring of d components, chaotic for a
forcing of about 4.5 and up.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, Stream
from masf.systems.base import System, SystemParameters
from masf.systems.integrators import rk4

SPIN_UP_STEPS = 2000


class Lorenz96Parameters(SystemParameters):
    dimension: int = Field(ge=4, le=1_000_000, description="Number of components d.")
    forcing: float = Field(description="Forcing F.")


class Lorenz96(System):
    """dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F on a ring, by RK4."""

    Parameters = Lorenz96Parameters
    translation_invariant = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.parameters.dimension,)

    @property
    def grid(self) -> tuple[int, ...]:
        return self.shape

    def tendency(self, x: Array) -> Array:
        """Time derivative of states (..., d)."""
        # One padded copy and slices of it cost less than three calls to roll.
        padded = array_namespace(x).concat([x[..., -2:], x, x[..., :1]], axis=-1)
        return (
            (padded[..., 3:] - padded[..., :-3]) * padded[..., 1:-2] - x + self.parameters.forcing
        )

    def step(self, x: Array, stream: Stream) -> Array:
        return rk4(self.tendency, x, self.dt)

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = self.parameters.forcing + stream.normal(self.shape, np.empty(0))
        for _ in range(SPIN_UP_STEPS):
            x = rk4(self.tendency, x, 0.01)
        return x


system = Lorenz96
