"""Two-dimensional incompressible flow on a periodic box of side 2 pi: derivatives, projection and
statistics, by FFT.

Velocity fields have shape (..., 2, n, n) with axes (component, y, x): component 0 is u, along x,
and 1 is v, along y; n is even. With the streamfunction psi, u = d psi/dy, v = -d psi/dx, and the
vorticity is w = dv/dx - du/dy = -Laplace psi.

First derivatives take no part of the highest wavenumber n/2, whose derivative the grid cannot
represent, so that all functions here agree with one another: the divergence of :func:`project` is 0
up to rounding for any field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace, device, is_numpy_array

from masf.arrays import Array, to_numpy


def wavenumbers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """kx (1, n/2 + 1) and ky (n, 1) of the half spectrum of an n x n grid, in the order of
    ``rfftn``.
    """
    return np.fft.rfftfreq(n, 1 / n)[None, :], np.fft.fftfreq(n, 1 / n)[:, None]


def fft_of(x: Array) -> Any:
    """The Fourier transforms of the namespace of ``x``; of numpy's arrays scipy's, which take less
    than half the time because they transform several rows at once (measured: 128 x 128, float32).
    """
    return scipy.fft if is_numpy_array(x) else array_namespace(x).fft


def fft2(x: Array) -> Array:
    """Half spectrum (..., n, n/2 + 1) of real fields (..., n, n)."""
    return fft_of(x).rfftn(x, axes=(-2, -1))


def ifft2(x: Array) -> Array:
    """Real fields (..., n, n) of half spectra (..., n, n/2 + 1), n even."""
    return fft_of(x).irfftn(x, axes=(-2, -1))


def spectral(values: np.ndarray, x: Array) -> Array:
    """Complex ``values`` with the namespace, precision and device of the real array ``x``."""
    xp = array_namespace(x)
    return xp.asarray(
        np.asarray(values, np.complex128),
        dtype=xp.result_type(x.dtype, xp.complex64),
        device=device(x),
    )


def vorticity(velocity: Array) -> Array:
    """dv/dx - du/dy (..., n, n) of velocities (..., 2, n, n)."""
    ikx, iky = _derivatives(velocity)
    hat = fft2(velocity)
    return ifft2(ikx * hat[..., 1, :, :] - iky * hat[..., 0, :, :])


def divergence(velocity: Array) -> Array:
    """du/dx + dv/dy (..., n, n) of velocities (..., 2, n, n)."""
    ikx, iky = _derivatives(velocity)
    hat = fft2(velocity)
    return ifft2(ikx * hat[..., 0, :, :] + iky * hat[..., 1, :, :])


def velocity(vorticity: Array) -> Array:
    """The divergence-free velocity (..., 2, n, n) without mean flow that has this vorticity (...,
    n, n).
    """
    ikx, iky = _derivatives(vorticity)
    psi = fft2(vorticity) * spectral(_inverse_laplacian(vorticity.shape[-1]), vorticity)
    return ifft2(array_namespace(psi).stack([iky * psi, -ikx * psi], axis=-3))


def project(velocity: Array) -> Array:
    """The divergence-free part (..., 2, n, n) of velocities (..., 2, n, n): the Leray projection;
    keeps the mean flow.
    """
    ikx, iky = _derivatives(velocity)
    hat = fft2(velocity)
    inverse = spectral(_inverse_laplacian(velocity.shape[-1]), velocity)
    # -Laplace^(-1) of the divergence: minus the potential whose gradient is the part to be removed.
    potential = inverse * (ikx * hat[..., 0, :, :] + iky * hat[..., 1, :, :])
    return ifft2(hat + array_namespace(hat).stack([ikx * potential, iky * potential], axis=-3))


def energy(velocity: Array) -> Array:
    """Kinetic energy (...) of velocities (..., 2, n, n): the mean over the box of (u^2 + v^2)/2."""
    return 0.5 * array_namespace(velocity).mean((velocity**2).sum(-3), axis=(-2, -1))


def enstrophy(velocity: Array) -> Array:
    """Enstrophy (...) of velocities (..., 2, n, n): the mean over the box of w^2/2."""
    return 0.5 * array_namespace(velocity).mean(vorticity(velocity) ** 2, axis=(-2, -1))


def energy_spectrum(velocity: Array) -> np.ndarray:
    """Energy in shells |k| in [j - 1/2, j + 1/2), j = 0, 1, ..., round(n/sqrt(2)), of velocities
    (..., 2, n, n): (..., shells).

    In float64 on the CPU. The sum over the shells is the energy.
    """
    n = velocity.shape[-1]
    kx, ky = wavenumbers(n)
    power = to_numpy(array_namespace(velocity).abs(fft2(velocity))).astype(np.float64) ** 2
    # Wavenumbers 0 < kx < n/2 stand for -kx as well.
    power[..., 1:-1] *= 2
    density = power.sum(-3).reshape(*power.shape[:-3], -1) / (2 * n**4)
    shell = np.floor(np.sqrt(kx**2 + ky**2) + 0.5).ravel()
    order = np.argsort(shell, kind="stable")
    return np.add.reduceat(
        density[..., order], np.unique(shell[order], return_index=True)[1], axis=-1
    )


def _derivatives(x: Array) -> tuple[Any, Any]:
    """i kx and i ky for fields (..., n, n), without the wavenumber n/2."""
    n = x.shape[-1]
    kx, ky = wavenumbers(n)
    return spectral(1j * kx * (kx < n / 2), x), spectral(1j * ky * (ky > -n / 2), x)


def _inverse_laplacian(n: int) -> np.ndarray:
    """1/k^2 (n, n/2 + 1), with the k of :func:`_derivatives`; 0 where k is 0."""
    kx, ky = wavenumbers(n)
    square = (kx * (kx < n / 2)) ** 2 + (ky * (ky > -n / 2)) ** 2
    return np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
