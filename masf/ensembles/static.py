"""Static covariances, from the model's own climate: of a field on a periodic grid, and of some
states of the climate beside the members of an ensemble.

With the statistics the same at all points (chosen, also where the equation depends on place), the
covariance of fields f and g at two points is a function of their offset, and so a product in
Fourier space. With states u (..., P) on P points and their transforms u^,

    B v = F^(-1) [ sum_g S_fg(k) v^_g(k) ]     S_fg(k) = E[u^_f(k) conj(u^_g(k))] / P,

which costs a transform each way and keeps what is linear and the same everywhere in the states,
such as their being free of divergence.

Some of those states, centred, may also stand beside an ensemble's anomalies, as if they were
members that no measurement moves (Kretschmer, Hunt and Ott 2015). What takes a covariance from
anomalies takes the hybrid's then, and localises it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

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


@dataclass(frozen=True)
class StaticAnomalies:
    """States of the climate, for hybrid covariances (1 - share) P_e + share c B, with B their
    covariance and c = tr P_e / tr B.

    Attributes:
        anomalies: (K, d) those states less their mean.
        share: of the static covariance, between 0 and 1.
    """

    anomalies: Array
    share: float

    def beside(self, anomalies: Array) -> Array:
        """Anomalies (N + K, d), of mean zero, whose covariance is the hybrid of that of
        ``anomalies`` (N, d).
        """
        xp, n, k = array_namespace(anomalies), len(anomalies), len(self.anomalies)
        trace, static = (
            float(xp.sum(part**2)) / (len(part) - 1) for part in (anomalies, self.anomalies)
        )
        scale = self.share * trace / static if static else 0.0
        ours = math.sqrt((1 - self.share) * (n + k - 1) / (n - 1))
        theirs = math.sqrt(scale * (n + k - 1) / (k - 1))
        return xp.concat([ours * anomalies, theirs * xp.astype(self.anomalies, anomalies.dtype)])


def static_anomalies(states: Array, count: int, share: float) -> StaticAnomalies:
    """The anomalies of ``count`` of the states (n, d), evenly taken; of all if they are fewer."""
    xp, n = array_namespace(states), len(states)
    rows = np.unique(np.linspace(0, n - 1, min(count, n)).round().astype(int))
    chosen = states[xp.asarray(rows, device=device(states))]
    return StaticAnomalies(chosen - xp.mean(chosen, axis=0), share)


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
