"""Kolmogorov flow: two-dimensional turbulence on a periodic box of side 2 pi, kept going by a sinusoidal force.

    du/dt + (u . grad) u = -grad p + 1/Re Laplace u - drag u + amplitude sin(k_f y) e_x      div u = 0

Solved for the vorticity w by a pseudo-spectral method (masf.flow for the conventions). The nonlinear term is formed from two
products (Basdevant 1983, J. Comput. Phys. 50, 209), so that a right-hand side costs two inverse and two forward real FFTs:

    dw/dt = L w + f + N(w)      N = (d_yy - d_xx)(u v) + d_xy (u^2 - v^2)      L = 1/Re Laplace - drag

Dealiasing: the 2/3 rule in its isotropic form. Only wavenumbers |k| < n/3 are kept, in the state as well, so that N has no
aliasing errors and conserves energy and enstrophy; a step drops what a state has beyond them, and its divergence.

Time: the integrating-factor (Lawson) scheme of the classical fourth-order Runge-Kutta method, for the departure from the
laminar solution -f/L. Viscosity, drag and force are then exact at any step, the laminar solution is a fixed point, and only
advection limits the inner step: h |k|max speed < sqrt(8), the scheme's stability limit on the imaginary axis. The inner step
comes from the parameter ``max_speed``, not from the states, so that a member's result does not depend on its batch and
nothing travels between devices; a member that moves faster comes back as NaN, which counts as divergence.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field, ValidationInfo, field_validator

from masf import flow
from masf.arrays import Array, Stream
from masf.systems.base import System, SystemParameters

STABILITY_LIMIT = math.sqrt(8)
"""Of the classical Runge-Kutta scheme, on the imaginary axis."""
SPIN_UP_STEPS = 50
INITIAL_SPEED = 3.0
INITIAL_WAVENUMBER = 4.0


class KolmogorovParameters(SystemParameters):
    dt: float = Field(0.2, gt=0, description="Time between two steps.")
    size: int = Field(ge=8, le=4096, multiple_of=2, description="Grid points n along each side of the box.")
    reynolds: float = Field(1000.0, gt=0, description="Reynolds number Re; the viscosity is 1/Re.")
    amplitude: float = Field(1.0, ge=0, description="Amplitude of the force.")
    forcing_wavenumber: int = Field(4, ge=1, validate_default=True, description="Wavenumber k_f of the force; below size/3.")
    drag: float = Field(0.1, ge=0, description="Linear drag.")
    max_speed: float = Field(8.0, gt=0, description="Speed up to which the inner step is stable; a faster member becomes NaN.")

    @field_validator("forcing_wavenumber")
    @classmethod
    def _on_the_grid(cls, value: int, info: ValidationInfo) -> int:
        if value >= info.data.get("size", math.inf) / 3:
            raise ValueError(f"forcing_wavenumber {value} needs a size above {3 * value}")
        return value


class Kolmogorov(System):
    """Velocity (u, v) on an n x n grid, flattened from (2, n, n)."""

    Parameters = KolmogorovParameters
    space = ("velocity", "y", "x")

    def __init__(self, parameters: KolmogorovParameters) -> None:
        super().__init__(parameters)
        p = parameters
        kx, ky = flow.wavenumbers(p.size)
        square = kx**2 + ky**2
        kept = square < (p.size / 3) ** 2
        self.inner_steps = math.ceil(self.dt * math.sqrt(square[kept].max()) * p.max_speed / STABILITY_LIMIT)
        self._coefficients = _coefficients(p, self.dt / self.inner_steps, kx, ky, kept)
        self._cast: dict[tuple[object, ...], dict[str, Array]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, *self.grid)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.parameters.size, self.parameters.size)

    def step(self, x: Array, stream: Stream) -> Array:
        velocity = x.reshape(-1, *self.shape)
        c = self._like(velocity)
        w = (c["curl"] * flow.fft2(velocity)).sum(-3)
        for _ in range(self.inner_steps):
            w = _inner_step(w, c)
        velocity = _velocity(w, c)
        xp = array_namespace(x)
        speed = xp.max((velocity**2).sum(0), axis=(-2, -1))[:, None] ** 0.5
        velocity = xp.stack([velocity[0], velocity[1]], axis=1).reshape(x.shape)
        # In this form a speed that is NaN gives NaN as well.
        return xp.where(speed <= self.parameters.max_speed, velocity, xp.nan)

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = random_velocity(self.parameters.size, stream).reshape(-1)
        for _ in range(SPIN_UP_STEPS):
            x = self.step(x, stream)
        return x

    def _like(self, x: Array) -> dict[str, Array]:
        """The coefficients with the namespace, precision and device of ``x``, each made once."""
        key = (array_namespace(x), x.dtype, device(x))
        if key not in self._cast:
            self._cast[key] = {name: flow.spectral(value, x) for name, value in self._coefficients.items()}
        return self._cast[key]


def _coefficients(p: KolmogorovParameters, h: float, kx: np.ndarray, ky: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
    """What an inner step of length h multiplies by, on the half spectrum, zero beyond the wavenumbers kept.

    The vorticity has no mean, so its place [0, 0] carries the mean flow, as <u> + i <v>.
    """
    square = kx**2 + ky**2
    inverse = np.divide(kept, square, out=np.zeros_like(square), where=square > 0)
    curl = np.stack([-1j * ky * kept, 1j * kx * kept])
    velocity = np.stack([1j * ky * inverse, -1j * kx * inverse])
    curl[:, 0, 0] = 1, 1j
    velocity[:, 0, 0] = 1, -1j
    linear = -square / p.reynolds - p.drag
    half = np.exp(linear * h / 2) * kept
    laminar = np.zeros(square.shape, dtype=complex)
    # The force A sin(k_f y) on u has the vorticity -A k_f cos(k_f y), whose coefficients are -A k_f n^2/2 at +-k_f.
    k = p.forcing_wavenumber
    laminar[[k, -k], 0] = p.amplitude * k * p.size**2 / 2 / linear[k, 0]
    advection = np.stack([(kx**2 - ky**2) * kept, -kx * ky * kept])
    return {
        "curl": curl,
        "velocity": velocity,
        "half": half,
        "forced": (1 - half) * laminar,
        "first": h / 2 * half * advection,
        "second": h / 2 * advection,
        "third": h * half * advection,
        "fourth": h / 6 * advection,
    }


def _velocity(w: Array, c: dict[str, Array]) -> Array:
    """Velocity (2, N, n, n) of vorticity coefficients (N, n, n/2 + 1); the field axis comes first, for contiguous slices."""
    hat = c["velocity"][:, None] * w
    # The mean flow is real.
    hat.imag[:, :, 0, 0] = 0
    return flow.ifft2(hat)


def _advection(w: Array, c: dict[str, Array], stage: str) -> Array:
    """N(w) times a stage's factors (N, n, n/2 + 1)."""
    velocity = _velocity(w, c)
    products = velocity * velocity
    products[1] = products[0] - products[1]
    products[0] = velocity[0] * velocity[1]
    hat = flow.fft2(products)
    hat *= c[stage][:, None]
    hat[0] += hat[1]
    return hat[0]


def _inner_step(w: Array, c: dict[str, Array]) -> Array:
    """Vorticity coefficients (N, n, n/2 + 1) one inner step later.

    With E = exp(L h/2) and G the force's effect over h/2, the stages are E w + G + h/2 E N(w), ..., and
    the last line is the classical w + h/6 (k1 + 2 k2 + 2 k3 + k4) written in them.
    """
    half, forced = c["half"], c["forced"]
    middle = half * w + forced
    end = half * middle + forced
    second = _advection(w, c, "first")
    second += middle
    third = _advection(second, c, "second")
    third += middle
    fourth = _advection(third, c, "third")
    fourth += end
    last = _advection(fourth, c, "fourth")
    third *= 2
    third += second
    third *= half
    third += fourth
    third -= end
    third /= 3
    third += last
    third += forced
    return third


def random_velocity(n: int, stream: Stream) -> np.ndarray:
    """A random divergence-free velocity (2, n, n), in float64: energy peaked at wavenumber 4 and maximum speed 3.

    Fourier coefficients are independent and normal, with the expected energy in a shell of wavenumber k proportional to
    k^4 exp(-2 (k/4)^2) (chosen).
    """
    kx, ky = flow.wavenumbers(n)
    k = np.sqrt(kx**2 + ky**2)
    # Energy in a shell goes as k |w|^2 / k^2, and w is white noise times this.
    noise = flow.fft2(stream.normal((n, n), np.empty(0)))
    velocity = flow.velocity(flow.ifft2(noise * k**2.5 * np.exp(-((k / INITIAL_WAVENUMBER) ** 2))))
    return velocity * (INITIAL_SPEED / np.sqrt((velocity**2).sum(0).max()))


system = Kolmogorov
