"""The Kuramoto-Sivashinsky equation: a flame front or a falling film, chaotic in space and time on
a ring of length L.

    du/dt = -u du/dx - d2u/dx2 - d4u/dx4

Waves longer than 2 pi grow, at most at a wavenumber of 1/sqrt(2), and shorter ones are damped. So a
cell is about 9 long whatever L is, and what localisation needs to know is a length.

Solved in Fourier space by ETDRK4, exponential time differencing with a Runge-Kutta scheme of fourth
order: Cox and Matthews (2002), with the coefficients by contour integrals of Kassam and Trefethen
(2005, SIAM J. Sci. Comput. 26, 1214). The linear part is exact at any step, so that a step of 0.25
is accurate and stable.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field

from masf.arrays import Array, Stream
from masf.systems import flow
from masf.systems.base import System, SystemParameters

SPIN_UP_TIME = 200.0
"""Time after which random fields are on the attractor (chosen; perturbations of 1 saturate in about
40).
"""
CONTOUR_POINTS = 64
"""Points on the circle of radius 1 around each value of the linear part, by which its functions are
averaged (32 in Kassam and Trefethen).
"""


class KuramotoSivashinskyParameters(SystemParameters):
    dt: float = Field(0.25, gt=0, description="Time between two steps.")
    dimension: int = Field(
        ge=16, le=100_000, multiple_of=2, description="Number of grid points d, even."
    )
    spacing: float = Field(
        np.pi / 4,
        gt=0,
        le=1.5,
        description="Distance of two grid points; the ring is d times as long.",
    )


class KuramotoSivashinsky(System):
    """u (..., d) at equally spaced points of a periodic ring."""

    Parameters = KuramotoSivashinskyParameters
    translation_invariant: ClassVar[bool] = True

    def __init__(self, parameters: KuramotoSivashinskyParameters) -> None:
        super().__init__(parameters)
        self._coefficients: dict[tuple[object, ...], dict[str, Array]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.parameters.dimension,)

    @property
    def grid(self) -> tuple[int, ...]:
        return self.shape

    @property
    def spacing(self) -> float:
        """Localisation radii are lengths: what is near a cell of the wave does not depend on the
        grid.
        """
        return self.parameters.spacing

    @property
    def positions(self) -> dict[str, np.ndarray]:
        return {"component": self.spacing * np.arange(self.dimension)}

    @property
    def wavenumbers(self) -> np.ndarray:
        """The wavenumbers k (d/2 + 1,) of the half spectrum, in radians a unit of length."""
        return 2 * np.pi * np.fft.rfftfreq(self.dimension, self.spacing)

    def step(self, x: Array, stream: Stream) -> Array:
        return self.advance(x, 1, stream)

    def advance(self, x: Array, steps: int, stream: Stream) -> Array:
        """States (..., d) ``steps`` steps later; between them, they stay in Fourier space."""
        fft, c = array_namespace(x).fft, self._coefficients_for(x)

        def nonlinear(v: Array) -> Array:
            u = fft.irfft(v, n=self.dimension, axis=-1)
            return c["advection"] * fft.rfft(u * u, axis=-1)

        v = fft.rfft(x, axis=-1)
        for _ in range(steps):
            n_v = nonlinear(v)
            half = c["half"] * v
            a = half + c["q"] * n_v
            n_a = nonlinear(a)
            n_b = nonlinear(half + c["q"] * n_a)
            n_c = nonlinear(c["half"] * a + c["q"] * (2 * n_b - n_v))
            v = c["whole"] * v + c["f1"] * n_v + c["f2"] * (n_a + n_b) + c["f3"] * n_c
        return fft.irfft(v, n=self.dimension, axis=-1)

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = self.perturbations(1, np.empty(0), stream)[0]
        return self.advance(x, int(np.ceil(SPIN_UP_TIME / self.dt)), stream)

    def perturbations(self, n: int, x: Array, stream: Stream) -> Array:
        """Smooth fields (n, d) of mean 0: Fourier coefficients are independent and normal, with
        an expected power of exp(-k^2) (chosen).

        White noise would be damped within a step, but for the small part of it in long waves. The
        mean is a constant of the motion, which forecasts do not get wrong.
        """
        noise = stream.normal((n, self.dimension), x)
        k = self.wavenumbers
        shape = np.exp(-(k**2) / 2)
        shape[0] = 0
        # Wavenumbers between 0 and the last stand for -k as well.
        variance = (2 * shape[1:-1] ** 2).sum() + shape[-1] ** 2
        shape *= np.sqrt(self.dimension / variance)
        fft = array_namespace(noise).fft
        spectrum = flow.spectral(shape, noise) * fft.rfft(noise, axis=-1)
        return fft.irfft(spectrum, n=self.dimension, axis=-1)

    def component_name(self, i: int) -> str:
        return f"u_{{{i + 1}}}"

    def _coefficients_for(self, x: Array) -> dict[str, Array]:
        """The coefficients of a step with the namespace, precision and device of ``x``, each made
        once.
        """
        key = (array_namespace(x), x.dtype, device(x))
        if key not in self._coefficients:
            values = etdrk4_coefficients(self.wavenumbers, self.dt)
            self._coefficients[key] = {
                name: flow.spectral(value, x) for name, value in values.items()
            }
        return self._coefficients[key]


def etdrk4_coefficients(k: np.ndarray, h: float) -> dict[str, np.ndarray]:
    """What a step of length h multiplies by, at wavenumbers k (n,) of which the last is d/2.

    The functions of the linear part L = k^2 - k^4, which lose all digits to cancellation near
    L = 0, are means over a circle around h L (Kassam and Trefethen 2005, section 2).
    """
    linear = h * (k**2 - k**4)
    circle = np.exp(1j * np.pi * (np.arange(CONTOUR_POINTS) + 0.5) / CONTOUR_POINTS)
    z = linear[:, None] + circle  # the upper half stands for the lower one, its conjugate
    e = np.exp(z)
    advection = -0.5j * k
    advection[-1] = 0  # the derivative of a wave that the grid sees at its nodes alone
    return {
        "whole": np.exp(linear),
        "half": np.exp(linear / 2),
        "q": h * ((np.exp(z / 2) - 1) / z).mean(1).real,
        "f1": h * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(1).real,
        "f2": h * 2 * ((2 + z + e * (z - 2)) / z**3).mean(1).real,
        "f3": h * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(1).real,
        "advection": advection,
    }


system = KuramotoSivashinsky
