"""Lorenz (1963), Deterministic nonperiodic flow: three components, chaotic at the classical
parameters.

After each step N(0, q^2 I) is added, q = ``model_noise``, where that is positive.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, Stream
from masf.systems.base import System, SystemParameters
from masf.systems.integrators import rk4

SPIN_UP_STEPS = 2000


class Lorenz63Parameters(SystemParameters):
    sigma: float = Field(10.0, gt=0, description="Prandtl number.")
    rho: float = Field(28.0, description="Rayleigh number over its critical value.")
    beta: float = Field(8 / 3, gt=0, description="Aspect ratio of the convection cell.")
    model_noise: float = Field(
        0.0, ge=0, description="Standard deviation q of the noise that is added in each step."
    )


class Lorenz63(System):
    """dx = sigma (y - x), dy = x (rho - z) - y, dz = x y - beta z, by RK4."""

    Parameters = Lorenz63Parameters

    @property
    def shape(self) -> tuple[int, ...]:
        return (3,)

    def component_name(self, i: int) -> str:
        return "xyz"[i]

    def tendency(self, state: Array) -> Array:
        """Time derivative of states (..., 3)."""
        p = self.parameters
        x, y, z = state[..., 0], state[..., 1], state[..., 2]
        return array_namespace(state).stack(
            [p.sigma * (y - x), x * (p.rho - z) - y, x * y - p.beta * z], axis=-1
        )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.parameters.model_noise > 0

    def step(self, x: Array, stream: Stream) -> Array:
        x = rk4(self.tendency, x, self.dt)
        if self.stochastic:
            x = x + self.parameters.model_noise * stream.normal(tuple(x.shape), x)
        return x

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = np.array([1.0, 1.0, 25.0]) + stream.normal((3,), np.empty(0))
        for _ in range(SPIN_UP_STEPS):
            x = rk4(self.tendency, x, 0.01)
        return x


system = Lorenz63
