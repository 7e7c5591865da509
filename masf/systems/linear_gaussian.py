"""A linear system with Gaussian model noise, for which the Kalman filter gives the exact posterior.

x_{n+1} = M x_n + q xi_n on a ring, where M moves the field by ``speed`` grid points, spreads it and
damps it: in Fourier space M_k = persistence exp(-i k speed - diffusion k^2). The settings are ours.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from masf.arrays import Array, Stream, like
from masf.systems.base import System, SystemParameters

SPIN_UP_STEPS = 500


class LinearGaussianParameters(SystemParameters):
    dt: float = Field(1.0, gt=0, description="Time between two steps; only labels the time axis.")
    dimension: int = Field(ge=1, le=5_000, description="Number of components d.")
    speed: float = Field(0.3, description="Grid points that the field moves in a step.")
    diffusion: float = Field(0.05, ge=0, description="Diffusion in grid points squared a step.")
    persistence: float = Field(
        0.99, gt=0, le=1, description="Factor by which the field is damped in a step."
    )
    model_noise: float = Field(
        0.3, ge=0, description="Standard deviation q of the noise added in each step."
    )


class LinearGaussian(System):
    """x_{n+1} = M x_n + q xi_n with M as in the module's docstring."""

    Parameters = LinearGaussianParameters
    translation_invariant = True

    def __init__(self, parameters: LinearGaussianParameters) -> None:
        super().__init__(parameters)
        p = parameters
        k = 2 * np.pi * np.fft.rfftfreq(p.dimension)
        response = p.persistence * np.exp(-1j * k * p.speed - p.diffusion * k**2)
        self.matrix = np.fft.irfft(
            np.fft.rfft(np.eye(p.dimension), axis=0) * response[:, None], p.dimension, axis=0
        )

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.parameters.model_noise > 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.parameters.dimension,)

    @property
    def grid(self) -> tuple[int, ...]:
        return self.shape

    def step(self, x: Array, stream: Stream) -> Array:
        return x @ like(self.matrix.T, x) + self.parameters.model_noise * stream.normal(
            tuple(x.shape), x
        )

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = stream.normal(self.shape, np.empty(0))
        return self.advance(x, SPIN_UP_STEPS, stream)


system = LinearGaussian
