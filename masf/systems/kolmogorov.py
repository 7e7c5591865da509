"""Kolmogorov flow: two-dimensional turbulence on a periodic box of side 2 pi, kept going by a
sinusoidal force.

    du/dt + (u . grad) u = -grad p + 1/Re Laplace u - drag u + amplitude sin(k_f y) e_x
    div u = 0

Solved for the vorticity w by a pseudo-spectral method (masf.systems.flow for the conventions). The
nonlinear term is formed from two products (Basdevant 1983, J. Comput. Phys. 50, 209), so that a
right-hand side costs two inverse and two forward real FFTs:

    dw/dt = L w + f + N(w)      N = (d_yy - d_xx)(u v) + d_xy (u^2 - v^2)
    L = 1/Re Laplace - drag

Dealiasing: the 2/3 rule in its isotropic form. Only wavenumbers |k| < n/3 are kept, in the state as
well, so that N has no aliasing errors and conserves energy and enstrophy; a step drops what a state
has beyond them, and its divergence.

Time: the integrating-factor (Lawson) scheme of the classical fourth-order Runge-Kutta method, for
the departure from the laminar solution -f/L. Viscosity, drag and force are then exact at any step,
the laminar solution is a fixed point, and only advection limits the inner step: the scheme is
stable on the imaginary axis up to h |k|max speed = sqrt(8). Each member takes the step that its own
maximum speed asks for, out of a ladder of few; members of one step go in one batch. So a member's
result does not depend on the others, and nothing but the speeds leaves a GPU, once an outer step.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field, ValidationInfo, field_validator

from masf.arrays import Array, Stream, to_numpy
from masf.systems import flow
from masf.systems.base import System, SystemParameters

COURANT_NUMBER = 2.2
"""h |k|max speed, with the speed at the start of an outer step; below sqrt(8) because flow speeds
up within one (chosen).
"""
SLOWEST, LADDER = 2.0, math.sqrt(2)
"""The ladder of speeds that inner steps are made for: its first, and the factor from one to the
next.
"""
SPIN_UP_STEPS = 50
INITIAL_SPEED = 3.0
INITIAL_WAVENUMBER = 4.0


class KolmogorovParameters(SystemParameters):
    dt: float = Field(0.2, gt=0, description="Time between two steps.")
    size: int = Field(
        ge=8, le=4096, multiple_of=2, description="Grid points n along each side of the box."
    )
    reynolds: float = Field(1000.0, gt=0, description="Reynolds number Re; the viscosity is 1/Re.")
    amplitude: float = Field(1.0, ge=0, description="Amplitude of the force.")
    forcing_wavenumber: int = Field(
        4, ge=1, validate_default=True, description="Wavenumber k_f of the force; below size/3."
    )
    drag: float = Field(0.1, ge=0, description="Linear drag.")
    max_speed: float = Field(
        30.0, gt=0, description="A member faster than this is lost and becomes NaN."
    )

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
    flow = True

    def __init__(self, parameters: KolmogorovParameters) -> None:
        super().__init__(parameters)
        p = parameters
        k = np.fft.fftfreq(p.size, 1 / p.size)
        self._kx, self._ky = k[: (p.size - 1) // 3 + 1, None], k[None, :]
        square = self._kx**2 + self._ky**2
        self._kept = square < (p.size / 3) ** 2
        self._fastest = math.sqrt(square[self._kept].max())
        self._coefficients: dict[tuple[object, ...], dict[str, Array]] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, *self.grid)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.parameters.size, self.parameters.size)

    @property
    def spacing(self) -> float:
        """The box has a side of 2 pi, whatever the grid: a radius is the same length on each."""
        return 2 * math.pi / self.parameters.size

    @property
    def positions(self) -> dict[str, np.ndarray]:
        points = self.spacing * np.arange(self.parameters.size)
        return {"y": points, "x": points}

    def step(self, x: Array, stream: Stream) -> Array:
        xp, rows = array_namespace(x), x.reshape(-1, self.dimension)
        speeds = (
            to_numpy(xp.max((rows.reshape(-1, 2, math.prod(self.grid)) ** 2).sum(1), axis=-1))
            ** 0.5
        )
        result = xp.full_like(rows, xp.nan)
        going = np.flatnonzero(speeds <= self.parameters.max_speed)
        counts = self.inner_steps(speeds[going])
        for count in np.unique(counts):
            members = going[counts == count]
            result[members] = self._advance(rows[members], int(count))
        return result.reshape(x.shape)

    def inner_steps(self, speeds: np.ndarray) -> np.ndarray:
        """How many inner steps an outer step takes, for members of these maximum speeds (N,)."""
        rungs = np.ceil(np.log(np.maximum(speeds, SLOWEST) / SLOWEST) / math.log(LADDER))
        return np.ceil(self.dt * self._fastest * SLOWEST * LADDER**rungs / COURANT_NUMBER).astype(
            int
        )

    def _advance(self, x: Array, count: int) -> Array:
        """States (N, d) one ``dt`` later, in ``count`` inner steps; with no step, their
        projection.
        """
        xp, c = array_namespace(x), self._coefficients_for(x, max(count, 1))
        # From members, components, y, x to the order of the solver: components, members, x, y.
        w = (c["curl"] * _spectrum(xp.permute_dims(x.reshape(-1, *self.shape), (1, 0, 3, 2)))).sum(
            0
        )
        for _ in range(count):
            w = _inner_step(w, c)
        return xp.permute_dims(_velocity(w, c), (1, 0, 3, 2)).reshape(x.shape)

    def project(self, x: Array) -> Array:
        """The part of states (..., d) that is free of divergence and keeps to |k| < n/3, as the
        states are that a step leaves.
        """
        return self._advance(x.reshape(-1, self.dimension), 0).reshape(x.shape)

    def perturbations(self, n: int, x: Array, stream: Stream) -> Array:
        """Divergence-free fields (n, d) with the expected spectrum of the random initial fields
        (chosen).

        The energy of white noise would be in the smallest eddies of the grid, where no forecast
        error of this flow has it.
        """
        noise = stream.normal((n, *self.grid), x)
        return smooth_velocity(noise).reshape(n, self.dimension)

    def pattern(self) -> np.ndarray:
        """The phase of the force, which is all that the equation knows of a place: sin(k_f y)
        beside u, cos(k_f y) beside v.
        """
        n = self.parameters.size
        phase = 2 * np.pi * self.parameters.forcing_wavenumber * np.arange(n) / n
        return np.repeat(np.stack([np.sin(phase), np.cos(phase)]), n).reshape(1, self.dimension)

    def typical_state(self, stream: Stream) -> np.ndarray:
        x = random_velocity(self.parameters.size, stream).reshape(-1)
        return self.advance(x, SPIN_UP_STEPS, stream)

    def _coefficients_for(self, x: Array, count: int) -> dict[str, Array]:
        """The coefficients of an inner step of dt/count with the namespace, precision and device of
        ``x``, each made once.
        """
        key = (count, array_namespace(x), x.dtype, device(x))
        if key not in self._coefficients:
            coefficients = _coefficients(
                self.parameters, self.dt / count, self._kx, self._ky, self._kept
            )
            self._coefficients[key] = {
                name: flow.spectral(value, x) for name, value in coefficients.items()
            }
        return self._coefficients[key]


# Inside a step, fields are (2, N, x, y) and spectra (..., kx, ky): the components first, so that
# their slices are contiguous, and y last, so that the FFTs along y and all products of coefficients
# are over kx < n/3 only.


def _spectrum(fields: Array) -> Array:
    """Coefficients (..., kx, ky) with 0 <= kx < n/3 of real fields (..., x, y)."""
    fft, n = flow.fft_of(fields), fields.shape[-1]
    return fft.fft(fft.rfft(fields, axis=-2)[..., : (n - 1) // 3 + 1, :], axis=-1)


def _fields(spectrum: Array) -> Array:
    """Real fields (..., x, y) of coefficients (..., kx, ky)."""
    fft, n = flow.fft_of(spectrum), spectrum.shape[-1]
    return fft.irfft(fft.ifft(spectrum, axis=-1), n=n, axis=-2)


def _coefficients(
    p: KolmogorovParameters, h: float, kx: np.ndarray, ky: np.ndarray, kept: np.ndarray
) -> dict[str, np.ndarray]:
    """What an inner step of length h multiplies by, zero at the wavenumbers that are not kept.

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
    laminar = np.zeros(p.size)
    # The force A sin(k y) on u has the vorticity -A k cos(k y), whose coefficients are -A k n^2/2
    # at kx = 0, ky = +-k.
    k = p.forcing_wavenumber
    laminar[[k, -k]] = p.amplitude * k * p.size**2 / 2 / linear[0, k]
    advection = np.stack([(kx**2 - ky**2) * kept, -kx * ky * kept])
    return {
        "curl": curl[:, None],
        "velocity": velocity[:, None],
        "half": half,
        "third of half": half / 3,
        "forced": -np.expm1(linear[0] * h / 2) * laminar,
        "first": (h / 2 * half * advection)[:, None],
        "second": (h / 2 * advection)[:, None],
        "third": (h / 3 * half * advection)[:, None],
        "fourth": (h / 6 * advection)[:, None],
    }


def _velocity(w: Array, c: dict[str, Array]) -> Array:
    """Velocity (2, N, x, y) of vorticity coefficients (N, kx, ky)."""
    spectrum = c["velocity"] * w
    # The mean flow is real.
    spectrum.imag[:, :, 0, 0] = 0
    return _fields(spectrum)


def _advection(w: Array, c: dict[str, Array], stage: str) -> Array:
    """N(w) times a stage's factors (N, kx, ky)."""
    velocity = _velocity(w, c)
    products = velocity * velocity
    products[1] = products[0] - products[1]
    products[0] = velocity[0] * velocity[1]
    spectrum = _spectrum(products)
    spectrum *= c[stage]
    spectrum[0] += spectrum[1]
    return spectrum[0]


def _inner_step(w: Array, c: dict[str, Array]) -> Array:
    """Vorticity coefficients (N, kx, ky) one inner step of length h later.

    With E = exp(L h/2) and the linear solution M after h/2 and W after h (the force acts on kx = 0
    only):

        k1 = h/2 E N(w)    k2 = h/2 N(M + k1)    k3 = h/3 E N(M + k2)    k4 = h/6 N(W + 3 k3)
        w' = W + E/3 (k1 + 2 k2) + k3 + k4
    """
    middle = c["half"] * w
    middle[:, 0] += c["forced"]
    end = c["half"] * middle
    end[:, 0] += c["forced"]
    k1 = _advection(w, c, "first")
    k2 = _advection(middle + k1, c, "second")
    k3 = _advection(middle + k2, c, "third")
    k2 *= 2
    k2 += k1
    k2 *= c["third of half"]
    k2 += k3
    k2 += end
    k3 *= 3
    k3 += end
    k2 += _advection(k3, c, "fourth")
    return k2


def smooth_velocity(noise: Array) -> Array:
    """Random divergence-free velocities (..., 2, n, n) from white noise (..., n, n): energy peaked
    at wavenumber 4.

    Fourier coefficients are independent and normal, with the expected energy in a shell of
    wavenumber k proportional to k^4 exp(-2 (k/4)^2) up to n/3 (chosen), and the expected square of
    both components is 1.
    """
    n = noise.shape[-1]
    kx, ky = flow.wavenumbers(n)
    k = np.sqrt(kx**2 + ky**2)
    # Energy in a shell goes as k |w|^2 / k^2, and w is white noise times this.
    shape = k**2.5 * np.exp(-((k / INITIAL_WAVENUMBER) ** 2)) * (k < n / 3)
    square = np.divide(shape, k, out=np.zeros_like(k), where=k > 0) ** 2
    square[:, 1:-1] *= 2  # wavenumbers 0 < kx < n/2 stand for -kx as well
    shape *= n * np.sqrt(2 / square.sum())
    return flow.velocity(flow.ifft2(flow.fft2(noise) * flow.spectral(shape, noise)))


def random_velocity(n: int, stream: Stream) -> np.ndarray:
    """A random field of :func:`smooth_velocity` (2, n, n), in float64, at a maximum speed of 3."""
    velocity = smooth_velocity(stream.normal((n, n), np.empty(0)))
    return velocity * (INITIAL_SPEED / np.sqrt((velocity**2).sum(0).max()))


system = Kolmogorov
