"""Guided sampling with an endpoint Gaussian approximation, for measurements that are not linear.

Where component by component h(x) is measured of the state, the process

    X_t = a x + (1 - a) h(x) + Sigma^(1/2) eps      Sigma = (1 - a^2) R

ends as the measurement; components that are not measured have h = 0, and an end variance of their
own. It is none of the linear ones of masf.diffusion.process. With the two answers D_x = E[X_0 |
x_t] and D_h = E[h(X_0) | x_t] of a denoiser its drift is taken for a' (D_x - D_h), its score is s =
(a D_x + (1 - a) D_h - x_t) / Sigma, and the likelihood of x_t is taken for the Gaussian

    p(y | x_t) ~ N(y; x_t - a (D_x - D_h), Sigma(1) - Sigma(t)),

whose gradient goes through the answers. The SDE is the guided one of sampler ``guided``. This is
how we read the approximation of a later version of the paper (its public code: tcnllab-oss/masf).
Neither the likelihood nor the SDE is exact; masf.diffusion.linear_state is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred, eye, like
from masf.diffusion.process import ForwardProcess, a, da_dt


@dataclass(frozen=True)
class Answers:
    """What is known of X_0, given X_t = x for n states x.

    Attributes:
        state: D_x (n, d).
        measured: D_h (n, d), 0 where nothing is measured.
        pullback: (J_x - J_h)^T v (n, d) for v (n, d), with the derivatives of both by x.
    """

    state: Array
    measured: Array
    pullback: Callable[[Array], Array]


class EndpointDenoiser(Protocol):
    """The two answers for states (n, d) at time t."""

    def __call__(self, x: Array, t: float) -> Answers: ...


class GaussianEndpoint:
    """The answers of the Gaussian with the mean and covariance of members and what they measure."""

    def __init__(
        self, process: ForwardProcess, members: Array, measured: Array, taper: Array | None
    ) -> None:
        """``members`` (N, d), ``measured`` (N, d) with 0 where nothing is, and the taper (d, d) of
        their covariances, or None.
        """
        self.process, self.taper = process, taper
        self.mean, self.x = centred(members)
        self.mean_h, self.h = centred(measured)

    def _covariance(self, first: Array, second: Array) -> Array:
        xp = array_namespace(first)
        product = xp.astype(first.mT @ second / (len(first) - 1), xp.float64)
        return product if self.taper is None else product * xp.astype(self.taper, xp.float64)

    def __call__(self, x: Array, t: float) -> Answers:
        xp, at = array_namespace(x), a(t)
        z = at * self.x + (1 - at) * self.h
        total = self._covariance(z, z)
        total = total + eye(len(total), total) * like(self.process.Sigma(t), total)
        gains = [
            xp.astype(xp.linalg.solve(total, self._covariance(z, part)), x.dtype)
            for part in (self.x, self.h)
        ]
        off = x - at * self.mean - (1 - at) * self.mean_h
        difference = (gains[0] - gains[1]).mT
        return Answers(
            self.mean + off @ gains[0], self.mean_h + off @ gains[1], lambda v: v @ difference
        )


def guided_endpoint(
    process: ForwardProcess,
    denoiser: EndpointDenoiser,
    y: Array,
    members: Array,
    measured: Array,
    times: list[float],
    stream: Stream,
    *,
    prior_scale: float = 1.0,
    likelihood_scale: float = 1.0,
) -> Array:
    """Members (N, d) by the guided SDE of the module's docstring, by Euler-Maruyama from noised
    members, one step inside t = 1.

    Args:
        process: that of the mask of the measured components, elementwise; it gives Sigma.
        denoiser: the two answers.
        y: the measurement (m,).
        members: (N, d).
        measured: h(x) (N, d), 0 where nothing is measured.
        times: the grid 0 = t_0 < ... < 1.
        stream: the noise.
        prior_scale: g_s of the score s.
        likelihood_scale: g_l of the gradient of log p(y | x_t).
    """
    shape, seen = tuple(members.shape), like(process.observed.astype(np.float64), members)
    lifted, t = process.basis.lift(y), times[-2]
    x = a(t) * members + (1 - a(t)) * measured
    x = x + process.apply(np.sqrt(process.Sigma(t)), stream.normal(shape, members))
    for t, u in reversed(list(itertools.pairwise(times[:-1]))):
        h, at, answers = u - t, a(u), denoiser(x, u)
        sigma = process.Sigma(u)
        expected = at * answers.state + (1 - at) * answers.measured
        score = process.apply(1 / sigma, expected - x)
        left = np.where(process.observed, process.Sigma(1.0) - sigma, 1.0)
        misfit = seen * (lifted - x + at * (answers.state - answers.measured))
        weighted = process.apply(1 / left, misfit)
        likelihood = weighted - at * answers.pullback(weighted)
        growth = -2 * at * da_dt(u) * process.r  # Sigma'; of null components there is F besides
        squared = np.where(process.observed, growth, process.GG(u))
        drift = seen * da_dt(u) * (answers.state - answers.measured)
        drift = drift + (1 - seen) * process.apply(process.F(u), x)
        guide = prior_scale * score + likelihood_scale * likelihood
        noise = process.apply(np.sqrt(h * squared), stream.normal(shape, x))
        x = x - h * (drift - process.apply(squared, guide)) + noise
    return x
