"""The static covariance of a field on a periodic grid: that of the model's own climate.

With the statistics the same at all points (chosen, also where the equation depends on place), the
covariance of fields f and g at two points is a function of their offset, and so a product in
Fourier space. With states u (..., P) on P points and their transforms u^,

    B v = F^(-1) [ sum_g S_fg(k) v^_g(k) ]     S_fg(k) = E[u^_f(k) conj(u^_g(k))] / P,

which costs a transform each way and keeps what is linear and the same everywhere in the states,
such as their being free of divergence.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, to_numpy
from masf.systems import flow
from masf.systems.base import System


class StaticCovariance:
    """A homogeneous covariance of states (fields, *grid), flattened.

    Attributes:
        variance: mean of the variances of all components.
    """

    def __init__(self, states: Array, grid: tuple[int, ...]) -> None:
        """The covariance of ``states`` (n, d) about their mean at each point; n is 2 at least."""
        self._grid, self._axes = grid, tuple(range(-len(grid), 0))
        self._points, count = math.prod(grid), len(states)
        fields = to_numpy(states).astype(np.float64).reshape(count, -1, *grid)
        spectra = np.fft.rfftn(fields - fields.mean(axis=0), axes=self._axes)
        products = np.einsum("nf...,ng...->fg...", spectra, spectra.conj())
        products /= (count - 1) * self._points
        self.variance = float(((fields - fields.mean(axis=0)) ** 2).mean() * count / (count - 1))
        self._spectrum = flow.spectral(products, states)

    def times(self, x: Array) -> Array:
        """B x for x (n, d)."""
        fft, count = flow.fft_of(x), len(x)
        fields = x.reshape(count, 1, -1, *self._grid)
        spectrum = self._spectrum * fft.rfftn(fields, axes=self._axes)
        return fft.irfftn(spectrum.sum(2), s=self._grid, axes=self._axes).reshape(x.shape)


def climate_of(system: System, x: Array, steps: int, stream: Stream) -> Array:
    """States (n, d) of the model's climate: those of the trajectories from ``x`` (N, d) at ten
    times in the second half of so many steps (at all of them where there are fewer).

    Raises:
        ValueError: where a trajectory leaves the finite numbers.
    """
    xp, kept = array_namespace(x), []
    for i in range(1, steps + 1):
        x = system.step(x, stream)
        if i > steps // 2 and (steps - i) % max(1, steps // 20) == 0:
            kept.append(x)
    states = xp.concat(kept)
    if not bool(xp.all(xp.isfinite(states))):
        raise ValueError(
            f"the climate of {type(system).__name__} over {steps} steps is not finite: lower "
            "climate_steps, or the spread of the initial ensemble"
        )
    return states
