"""Local particle filter (Poterjoy 2016), regularised and tempered (Poterjoy 2022): measurements in
turn, each by copies of members that are merged with what is there, more so near it.

With w_jn ~ p(y_j | x_n), sum_n w_jn = 1, and the Gaspari-Cohn taper rho of the distance, the
weights of a component after measurements 1..i are

    omega_n ~ prod_(j <= i) (rho_j (N w_jn - 1) + 1)^(1 / beta)

They give its mean m and variance s^2, of the forecast's members. Members k_n are sampled by the
weights at measurement i, and the component's members become

    x_n <- m + r_1 (x^f_(k_n) - m) + r_2 (x_n - m)

with r_1, r_2 such that m and s^2 are kept: near the measurement members are copies, far from it
they stay. ``mixing`` below 1 takes less of the copies, and more of what is there. What members
would measure is merged alike. beta >= 1 keeps the effective number of each component's weights
above ``effective_share`` of N, and so leaves out some of what was measured; further ``iterations``
take in the rest, from where the last one left the members.

Without a taper (rho = 1), m and s^2 are those of the copies. Correlated noise is whitened first.
The kernel density mapping that the source may add afterwards is not built. Chosen: the order of the
measurements (masf.ensembles.serial); inflation of the analysis; that what a measurement does not
reach stays as it is.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field

from masf.arrays import Array, softmax
from masf.ensembles.inflation import inflate
from masf.ensembles.serial import Group, joined
from masf.filters.base import LocalizedParameters
from masf.filters.serial import SerialFilter

SIGNIFICANT = 0.98
"""Weights whose effective number is above this share of N say nothing, and are left out."""
BISECTIONS = 60
LEAST = 1e-40
"""The least weight that counts."""
TINY = float(np.finfo(np.float64).tiny)


class LocalPFParameters(LocalizedParameters):
    localization_radius: float | None = Field(
        6.0,
        gt=0,
        description="Half of the Gaspari-Cohn taper's support, in the system's unit of length; "
        "null tapers nothing.",
    )
    mixing: float = Field(
        0.3, gt=0, le=1, description="Share of the copies that is taken; the rest is what is there."
    )
    effective_share: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="Least effective number of a component's weights, as a share of N.",
    )
    iterations: int = Field(
        1, ge=1, le=50, description="The most times that measurements are taken in by parts."
    )


def effective_sizes(weights: Array) -> Array:
    """1 / sum w^2 (...) of normalised weights (..., N)."""
    return 1 / array_namespace(weights).sum(weights**2, axis=-1)


def regularisation(log_weights: Array, least: float) -> Array:
    """beta >= 1 (R,) by which log-weights (R, N) are divided for an effective number of ``least``,
    or 1 where it is more already.
    """
    xp = array_namespace(log_weights)
    cost = xp.max(log_weights, axis=-1, keepdims=True) - log_weights
    low = xp.ones_like(cost[:, 0])
    high = xp.maximum(low, 10 * xp.max(cost, axis=-1))
    enough = effective_sizes(softmax(-cost)) >= least
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        short = effective_sizes(softmax(-cost / middle[:, None])) < least
        low, high = xp.where(short, middle, low), xp.where(short, high, middle)
    return xp.where(enough, xp.ones_like(low), high)


def sampled(values: Array, weights: Array) -> Array:
    """Indices (b, N) of members sampled at equal quantiles of weights (b, N) in the order of values
    (b, N); members that survive keep their places, and copies take those of the others.
    """
    xp, n = array_namespace(values), values.shape[-1]
    order = xp.argsort(values, axis=-1)
    cumulated = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=-1), axis=-1)
    slots = xp.arange(n, device=device(values))
    quantiles = (xp.astype(slots, values.dtype) + 0.5) / n
    below = xp.astype(cumulated[:, None, :] < quantiles[:, None], xp.int64)
    chosen = xp.take_along_axis(order, xp.clip(xp.sum(below, axis=-1), 0, n - 1), axis=-1)
    # Copies of one member are neighbours.
    again = xp.zeros_like(chosen)
    again[:, 1:] = xp.astype(chosen[:, 1:] == chosen[:, :-1], again.dtype)
    copies = xp.take_along_axis(chosen, xp.argsort(1 - again, axis=-1, stable=True), axis=-1)
    survives = xp.any(chosen[:, None, :] == slots[:, None], axis=-1)
    rank = xp.cumulative_sum(xp.astype(~survives, xp.int64), axis=-1) - 1
    copies = xp.take_along_axis(copies, xp.clip(rank, 0, n - 1), axis=-1)
    return xp.where(survives, slots, copies)


def _moments(members: Array, weights: Array) -> tuple[Array, Array]:
    """Mean (...) and unbiased variance (...) of weighted members (..., N)."""
    xp, base = array_namespace(members), members[..., 0]
    mean = base + ((members - base[..., None]) * weights).sum(-1)
    squares = (weights * (members - mean[..., None]) ** 2).sum(-1)
    return mean, squares / xp.clip(1 - (weights**2).sum(-1), min=TINY)


def merged(
    now: Array, copies: Array, tapers: Array, mean: Array, variance: Array, mixing: float
) -> Array:
    """Members ``now`` (..., N) merged with ``copies`` (..., N), so that mean (...) and variance
    (...) are kept, with ``tapers`` (...) in (0, 1].
    """
    xp, n = array_namespace(now), now.shape[-1]
    x, k = now - mean[..., None], copies - mean[..., None]
    ratio = (1 - tapers) / xp.clip(tapers, min=LEAST)
    total = (n - 1) * variance
    kk, xx, xk = ((a * b).sum(-1) for a, b in ((k, k), (x, x), (x, k)))
    square = xp.clip(kk + ratio**2 * xx + 2 * ratio * xk, min=TINY)
    of_copies = mixing * xp.sqrt(total / square)
    of_now = ratio * xp.sqrt(total / square)
    if mixing < 1:
        k_mean, x_mean = k.sum(-1) / n, x.sum(-1) / n
        kk, xx, xk = kk - n * k_mean**2, xx - n * x_mean**2, xk - n * x_mean * k_mean
        linear = 2 * (of_copies * xk + of_now * xx)
        rest = kk * of_copies**2 + xx * of_now**2 + 2 * xk * of_copies * of_now - total
        root = xp.sqrt(xp.clip(linear**2 - 4 * xx * rest, min=0.0))
        of_now = of_now + (root - linear) / xp.clip(2 * xx, min=TINY)
    found = of_copies[..., None] * k + of_now[..., None] * x
    return mean[..., None] + (found - found.sum(-1)[..., None] / n)


class LocalPF(SerialFilter):
    Parameters: ClassVar[type[LocalPFParameters]] = LocalPFParameters

    _size = math.nan

    def analyse(self, state: Array, y: Array) -> Array:
        xp, p = array_namespace(state), self.parameters
        rows = joined(state, y, self.observation)
        left = xp.ones_like(rows[:, 0])  # of each row's likelihood, as an exponent
        for _ in range(p.iterations):
            log_weights = self._log_weights(rows)
            beta = regularisation(log_weights, p.effective_share * len(state))
            share = xp.minimum(1 / beta, left)
            rows = self._taken_in(rows, share)
            self._size = float(xp.mean(effective_sizes(softmax(share[:, None] * log_weights))[:-1]))
            left = left - share
            if not bool(xp.any(left > 0)):
                break
        analysis = xp.astype(rows[: state.shape[-1]].mT, state.dtype)
        return inflate(analysis, p.inflation)

    def _factors(self, group: Group, rows: Array) -> tuple[Array, Array]:
        """Log-factors (b, K, N) of the weights of the rows near measurements, by these alone, and
        whether each measurement (b,) says anything.
        """
        xp, n = array_namespace(rows), rows.shape[-1]
        weights = softmax(-(rows[group.own] ** 2) / 2)
        factors = group.tapers[..., None] * (n * weights - 1)[:, None, :] + 1
        speaks = SIGNIFICANT * n > effective_sizes(weights)
        factors = xp.log(xp.clip(factors, min=LEAST))
        return xp.where(speaks[:, None, None], factors, xp.zeros_like(factors)), speaks

    def _log_weights(self, rows: Array) -> Array:
        """Of all rows, by all measurements: (R, N)."""
        total = array_namespace(rows).zeros_like(rows)
        for group in self.groups:
            total[group.rows] = total[group.rows] + self._factors(group, rows)[0]
        return total

    def _taken_in(self, forecast: Array, share: Array) -> Array:
        """The rows (R, N) with a share (R,) of their likelihoods taken in."""
        xp, n = array_namespace(forecast), forecast.shape[-1]
        rows, log_weights = xp.asarray(forecast, copy=True), xp.zeros_like(forecast)
        for group in self.groups:
            factors, speaks = self._factors(group, forecast)
            near = group.rows
            log_weights[near] = log_weights[near] + factors
            weights = softmax(share[near][..., None] * log_weights[near])
            members = forecast[near]
            own = softmax(share[group.own][:, None] * log_weights[group.own])
            speaks = speaks & (effective_sizes(own) < SIGNIFICANT * n)
            chosen = sampled(forecast[group.own], own)
            copies = xp.take_along_axis(
                members, xp.broadcast_to(chosen[:, None, :], members.shape), axis=-1
            )
            if self.parameters.localization_radius is None:
                mean, variance = _moments(copies, xp.ones_like(copies) / n)
            else:
                mean, variance = _moments(members, weights)
            found = merged(rows[near], copies, group.tapers, mean, variance, self.parameters.mixing)
            reached = speaks[:, None, None] & (group.tapers > 0)[..., None]
            rows[near] = xp.where(reached, found, rows[near])
        return rows

    def diagnostics(self) -> dict[str, float]:
        """The effective number of the weights of the last iteration, averaged over components and
        measurements.
        """
        return {"effective_size": self._size}


filter = LocalPF
