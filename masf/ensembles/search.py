"""Each member's own search for what a measurement makes of it: randomised maximum likelihood
(Kitanidis 1995; Oliver, He and Reynolds 1996), with one Jacobian for all, a regression over the
ensemble (Gu and Oliver 2007), and a damping of each member's own (Chen and Oliver 2013).

For a prior N(m, P), of which x_i is a member, and measurements y = f(x) + eta, eta ~ N(0, I), with
f not linear, member i goes to where

    J_i(x) = |x - x_i|^2_P / 2 + |y + eta_i - f(x)|^2 / 2

is least, by Gauss-Newton steps that are damped where they led up. Where f is linear that is

    x_i + K (y + eta_i - f(x_i)),

the stochastic EnKF's analysis, a member of the posterior; and the least J_i does not depend on
where it is, so that choosing members by their cost changes no law. With eta_i as drawn, the
members' mean and covariance have a sampling error, which ``second_order_exact`` takes away.
Where f is not linear a member may end in a valley that is not its deepest. Two things of ours are
against that: before each step a member moves to where another is, if its own cost is less there;
and those that still cost far more than others in the end may become copies of these
(``selection``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from array_api_compat import array_namespace, device

from masf.arrays import Array, centred, slices

ROUNDING = 1e-6
"""Singular values of anomalies, over the greatest, below which they are rounding in float32."""
ROUNDINGS = 100
"""Roundings of a state below which the members' differences say nothing of the Jacobian."""

PAIRS = 2**22
"""Pairs of members that are compared at a time."""


@dataclass(frozen=True)
class Searched:
    """Members on their way; each row of each array is of one.

    Attributes:
        states: (N, d) where they are.
        at: (N, k) the coordinates of that, in which the prior is standard normal.
        outside: (N, d) what is left of that at coordinates 0.
        innovation: (N, m) y - f(x), whitened.
        cost: (N,) J_i, infinite where the model overflows.
        run: what the model made of them, arrays (N, ...).
    """

    states: Array
    at: Array
    outside: Array
    innovation: Array
    cost: Array
    run: tuple[Array, ...]

    @property
    def valid(self) -> Array:
        """(N,) where the model did not overflow."""
        xp = array_namespace(self.cost)
        return xp.isfinite(self.cost)

    def rows(self, index: Array) -> Searched:
        """The members of that index, in its order."""
        return Searched(
            self.states[index],
            self.at[index],
            self.outside[index],
            self.innovation[index],
            self.cost[index],
            tuple(values[index] for values in self.run),
        )

    def or_lower(self, other: Searched) -> tuple[Searched, Array]:
        """Of each pair of rows the one of less cost, and where that is the other's."""
        xp = array_namespace(self.cost)
        lower = other.cost < self.cost

        def of_less(a: Array, b: Array) -> Array:
            return xp.where(lower.reshape(-1, *[1] * (a.ndim - 1)), b, a)

        found = Searched(
            of_less(self.states, other.states),
            of_less(self.at, other.at),
            of_less(self.outside, other.outside),
            of_less(self.innovation, other.innovation),
            of_less(self.cost, other.cost),
            tuple(map(of_less, self.run, other.run)),
        )
        return found, lower


def search(
    prior: Array,
    start: Array,
    noise: Array,
    run: Callable[[Array], tuple[Array, tuple[Array, ...]]],
    steps: int,
) -> Searched:
    """Members after some steps of the search of each.

    Args:
        prior: (N, d) members x_i.
        start: (N, d) where each begins, such as x_i. What of it lies outside of the span of the
            prior's anomalies stays as it is.
        noise: (N, m) eta_i, whitened.
        run: makes of states (N, d), of the prior's dtype, whitened innovations y - f(x) (N, m), and
            arrays (N, ...) to keep of each; called ``steps + 1`` times.
        steps: of each member.
    """
    xp, n = array_namespace(prior), len(prior)
    noise = xp.astype(noise, xp.float64)
    mean, anomalies = centred(xp.astype(prior, xp.float64))
    u, s, directions = xp.linalg.svd(anomalies / math.sqrt(n - 1), full_matrices=False)
    spanned = s > ROUNDING * s[0]
    own, s, directions = math.sqrt(n - 1) * u[:, spanned], s[spanned], directions[spanned]
    away = xp.astype(start, xp.float64) - mean
    at = (away @ directions.mT) / s
    outside = mean + (away - (at * s) @ directions)

    def tried(at: Array, outside: Array) -> Searched:
        states = xp.astype(outside + (at * s) @ directions, prior.dtype)
        innovation, kept = run(states)
        innovation = xp.astype(innovation, xp.float64)
        cost = (xp.sum((at - own) ** 2, axis=-1) + xp.sum((innovation + noise) ** 2, axis=-1)) / 2
        cost = xp.where(xp.isfinite(cost), cost, math.inf)
        return Searched(states, at, outside, innovation, cost, kept)

    best, coarse = tried(at, outside), ROUNDINGS * xp.finfo(prior.dtype).eps
    damping = xp.zeros_like(best.cost)
    for _ in range(steps if bool(xp.any(best.valid)) else 0):
        jacobian = regressed(best, coarse)  # before members share places
        best, moved = exchanged(best, own, noise)
        damping = xp.where(moved, 0.0, damping)
        residual = xp.where(best.valid[:, None], best.innovation + noise, 0.0)
        downhill = residual @ jacobian - (best.at - own)
        step = damped_step(downhill, jacobian, damping)
        best, lower = best.or_lower(tried(best.at + step, best.outside))
        damping = xp.where(lower, damping / 4, xp.clip(6 * damping, min=0.3))
    return best


def second_order_exact(noise: Array, members: Array) -> Array:
    """Noise (N, m) whose mean is 0, whose covariance is I, and which is uncorrelated with the
    members: with it the stochastic EnKF has exactly the Kalman filter's mean and covariance (Pham
    2001; Hoteit et al. 2015). Only centred where the members are too few for that, which need m
    more than span them.

    Args:
        noise: (N, m) independent draws from N(0, I).
        members: (N, d) of the prior.
    """
    xp, (n, m) = array_namespace(noise), noise.shape
    _, noise = centred(xp.astype(noise, xp.float64))
    _, anomalies = centred(xp.astype(members, xp.float64))
    u, s, _ = xp.linalg.svd(anomalies, full_matrices=False)
    u = u[:, s > ROUNDING * s[0]]
    if u.shape[1] + m >= n:
        return noise
    # The nearest to what was drawn, of all that have these moments: its polar factor.
    left, _, right = xp.linalg.svd(noise - u @ (u.mT @ noise), full_matrices=False)
    return math.sqrt(n - 1) * left @ right


def exchanged(members: Searched, own: Array, noise: Array) -> tuple[Searched, Array]:
    """Each member where its own cost is least among the places of all, and whether that is
    another's.

    Args:
        members: on their way.
        own: (N, k) coordinates of the prior's members.
        noise: (N, m) eta_i, whitened.
    """
    xp, n = array_namespace(own), len(own)
    innovation = xp.where(members.valid[:, None], members.innovation, 0.0)
    everyone = xp.arange(n, device=device(own))
    indices, costs = [], []
    for part in slices(n, max(PAIRS // n, 1)):
        there = squared_distances(own[part], members.at)
        there = (there + squared_distances(noise[part], -innovation)) / 2
        there = xp.where(members.valid, there, math.inf)
        indices.append(xp.argmin(there, axis=1))
        costs.append(xp.min(there, axis=1))
    index, least = xp.concat(indices), xp.concat(costs)
    moved = least < members.cost * (1 - 1e-9)  # not by rounding
    found = members.rows(xp.where(moved, index, everyone))
    return replace(found, cost=xp.where(moved, least, members.cost)), moved


def squared_distances(a: Array, b: Array) -> Array:
    """(N, M) between rows of a (N, k) and b (M, k)."""
    xp = array_namespace(a)
    return xp.sum(a**2, axis=-1)[:, None] + xp.sum(b**2, axis=-1) - 2 * a @ b.mT


def regressed(members: Searched, coarse: float) -> Array:
    """The Jacobian of f (m, k) in coordinates: a regression over the four fifths of the members
    that cost least, or as many as span them. Directions in which these differ by less than the
    share ``coarse`` of their greatest differences are left out.
    """
    xp, (n, k) = array_namespace(members.cost), members.at.shape
    some = xp.argsort(members.cost)[: max(4 * n // 5, k + 1)]
    some = some[members.valid[some]]
    _, at = centred(members.at[some])
    _, innovation = centred(members.innovation[some])
    return -(xp.linalg.pinv(at, rtol=coarse) @ innovation).mT


def damped_step(downhill: Array, jacobian: Array, damping: Array) -> Array:
    """((1 + damping) I + J^T J)^(-1) times minus the gradients ``downhill`` (N, k), for a Jacobian
    J (m, k), damped by (N,).
    """
    xp = array_namespace(downhill)
    _, s, directions = xp.linalg.svd(jacobian, full_matrices=False)
    slack = 1 + damping[:, None]
    along = (downhill @ directions.mT) * (s**2 / (slack + s**2))
    return (downhill - along @ directions) / slack


def quarter_cost(cost: Array) -> float:
    """What a quarter of the members (N,) cost at most."""
    xp = array_namespace(cost)
    return float(xp.sort(cost)[len(cost) // 4])


def selection(cost: Array, limit: float) -> Array:
    """For each member (N,) the index of the one that takes its place: itself, or where it costs
    more than ``limit``, one of the others, each as often as the next.
    """
    xp = array_namespace(cost)
    index = xp.arange(len(cost), device=device(cost))
    chosen, others = index[cost <= limit], index[cost > limit]
    if len(chosen):
        places = xp.arange(len(others), device=device(cost)) * len(chosen)
        index[others] = chosen[places // max(len(others), 1)]
    return index
