"""Rank histogram filter (Anderson 2010): each measurement changes what members would measure by the
quantiles of a posterior that need not be Gaussian, and the state by regression on that.

For one measurement y = h + eta, eta ~ N(0, 1) after whitening, with the members' h - y in rising
order:

- The prior has the mass 1 / (N + 1) in each of the N + 1 intervals that they cut the line in. It is
  uniform between two of them, and in the tails normal, with the ensemble's variance, and a mean by
  which the tail has its mass.
- The likelihood between two members is the mean of theirs. In the tails it is its own Gaussian
  (``tails: gaussian``), or that of the outermost member (``flat``).
- The k-th member goes to the quantile k / (N + 1) of the posterior.

A component x of the state moves by rho cov(x, h) / var(h) times the increment of h, and so does
what members would measure elsewhere, rho being the Gaspari-Cohn taper of the distance.
Measurements are taken one after another (masf.ensembles.serial). Quantities with bounds, of the
later quantile-conserving filters (Anderson 2022), are none of this package's.

Chosen: the order of the measurements; inflation and rotation of the analysis, as everywhere here.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array
from pydantic import Field

from masf.arrays import Array, centred, softmax
from masf.ensembles.inflation import inflate
from masf.ensembles.rotation import rotate
from masf.ensembles.serial import joined
from masf.filters.base import LocalizedParameters, RotatedParameters
from masf.filters.serial import SerialFilter

Tails = Literal["gaussian", "flat"]


class RHFParameters(RotatedParameters, LocalizedParameters):
    tails: Tails = Field(
        "gaussian",
        description="The likelihood beyond the outermost members: its own, or theirs.",
    )


def special(x: Array) -> Any:
    """The library of special functions for the arrays of x's kind."""
    if is_torch_array(x):
        return sys.modules["torch"].special
    import scipy.special

    return scipy.special


def rank_histogram_increments(departures: Array, tails: Tails) -> Array:
    """Increments (b, N) of b scalars, each measured with error variance 1.

    Args:
        departures: (b, N) of the members from the measurement, in float64; where all are equal,
            the increments are 0.
        tails: of the likelihood.
    """
    xp, functions, n = array_namespace(departures), special(departures), departures.shape[-1]
    order = xp.argsort(departures, axis=-1)
    x = xp.take_along_axis(departures, order, axis=-1)
    anomalies = centred(x.mT)[1].mT
    spread = xp.sqrt(xp.sum(anomalies**2, axis=-1, keepdims=True) / (n - 1))
    known = spread > 0
    spread = xp.where(known, spread, xp.ones_like(spread))
    log_likelihood = -0.5 * x**2
    between = xp.maximum(log_likelihood[:, 1:], log_likelihood[:, :-1])
    between = between + xp.log(
        (xp.exp(log_likelihood[:, 1:] - between) + xp.exp(log_likelihood[:, :-1] - between)) / 2
    )
    # The tails, both as a left one: x_1 and the reflected -x_N. Their normal has the mean
    # ``middle``, and all of the mass that it has to have for 1 / (N + 1) in the tail is in
    # ``log_height``, in units of an interval's.
    ends = xp.concat([x[:, :1], -x[:, -1:]], axis=-1)
    middle = ends - spread * float(special(np.zeros(1)).ndtri(1 / (n + 1)))
    deviation = spread + xp.zeros_like(ends)
    if tails == "gaussian":
        precision = 1 + spread**2
        log_height = np.log(n + 1) - 0.5 * (xp.log(precision) + middle**2 / precision)
        middle, deviation = middle / precision, deviation / xp.sqrt(precision)
    else:
        log_height = np.log(n + 1) - 0.5 * ends**2
    tail = log_height + functions.log_ndtr((ends - middle) / deviation)
    masses = softmax(xp.concat([tail[:, :1], between, tail[:, 1:]], axis=-1))
    log_total = _log_sum_exp(xp.concat([tail, between], axis=-1))
    cumulated = xp.cumulative_sum(masses, axis=-1)[:, :-1]  # to the left of each member
    quantiles = xp.arange(1, n + 1, dtype=x.dtype, device=device(x)) / (n + 1)
    wanted = quantiles + xp.zeros_like(x)
    # Between two members, linear in the mass.
    left = xp.sum(xp.astype(cumulated[:, None, :] <= wanted[:, :, None], xp.int64), axis=-1) - 1
    left = xp.clip(left, 0, n - 2)
    low, high = (xp.take_along_axis(cumulated, left + i, axis=-1) for i in (0, 1))
    start, end = (xp.take_along_axis(x, left + i, axis=-1) for i in (0, 1))
    width = xp.where(high > low, high - low, xp.ones_like(high))
    moved = start + (end - start) * xp.clip((wanted - low) / width, 0.0, 1.0)
    # In the tails, a quantile of the normal there.
    for side, sign, mass in ((0, 1.0, wanted), (1, -1.0, 1 - wanted)):
        scale = xp.exp(log_height[:, side : side + 1] - log_total)
        inside = mass < (masses[:, :1] if side == 0 else masses[:, -1:])
        share = xp.where(inside, mass / xp.where(scale > 0, scale, xp.ones_like(scale)), 0.5)
        quantile = functions.ndtri(share)
        place = middle[:, side : side + 1] + deviation[:, side : side + 1] * quantile
        moved = xp.where(inside, sign * place, moved)
    back = xp.argsort(order, axis=-1)
    increments = xp.take_along_axis(moved - x, back, axis=-1)
    return xp.where(known, increments, xp.zeros_like(increments))


def _log_sum_exp(x: Array) -> Array:
    """log sum exp (..., 1) over the last axis of x (..., n)."""
    xp = array_namespace(x)
    greatest = xp.max(x, axis=-1, keepdims=True)
    return greatest + xp.log(xp.sum(xp.exp(x - greatest), axis=-1, keepdims=True))


def regressed(near: Array, own: Array, tapers: Array, increments: Array) -> Array:
    """Rows near b measurements, moved by regression: (b, K, N).

    Args:
        near: (b, K, N) the rows.
        own: (b, N) the rows of the measurements themselves.
        tapers: (b, K).
        increments: (b, N) of ``own``.
    """
    xp = array_namespace(near)
    anomalies = own - own[:, :1]
    anomalies = anomalies - xp.mean(anomalies, axis=-1, keepdims=True)
    square = xp.sum(anomalies**2, axis=-1)
    covariance = ((near - near[..., :1]) @ anomalies[..., None])[..., 0]
    slope = tapers * covariance / xp.where(square > 0, square, xp.ones_like(square))[:, None]
    return near + slope[..., None] * increments[:, None, :]


class RHF(SerialFilter):
    Parameters: ClassVar[type[RHFParameters]] = RHFParameters

    def analyse(self, state: Array, y: Array) -> Array:
        p = self.parameters
        rows = joined(state, y, self.observation)
        for group in self.groups:
            own = rows[group.own]
            increments = rank_histogram_increments(own, p.tails)
            rows[group.rows] = regressed(rows[group.rows], own, group.tapers, increments)
        analysis = array_namespace(state).astype(rows[: state.shape[-1]].mT, state.dtype)
        if p.rotation:
            analysis = rotate(analysis, self.stream)
        return inflate(analysis, p.inflation)


filter = RHF
