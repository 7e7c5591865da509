"""Samplers of the posterior p(x_0 | y) that run the measurement-aware process backward (masf.diffusion.process).

X_t is independent of Y = X_1 given X_u for t < u < 1, so p(x_t | x_u, y) = p(x_t | x_u): start at x_1 = y~ and run the
*unconditional* reverse kernel. One ancestral step u -> t, with B = Sigma_t M / Sigma_u and C = Cov(X_0 | x_u), has

    mean        A_t D + B (x_u - A_u D)
    covariance  Sigma_t Q / Sigma_u + (A_t - B A_u) C (A_t - B A_u)^T.

Three samplers share these equations: ``exact`` draws afresh, ``coupled`` carries each member across (ours), and ``guided``
runs the guided SDE of the authors' public code, which is not exact.
"""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred_normal, like
from masf.diffusion.process import ForwardProcess


class Denoiser(Protocol):
    """D(x, t) ~ E[X_0 | X_t = x] and its uncertainty C = Cov(X_0 | X_t = x)."""

    def __call__(self, x: Array, t: float) -> Array:
        """D(x, t) for states (..., d)."""

    def residual(self, x: Array, t: float, stream: Stream) -> Array:
        """Draws from N(0, C), one for each state (..., d)."""

    def variance(self, x: Array, t: float) -> Array | None:
        """Diagonal of C (..., d) where C depends on x; None where it does not."""


def time_grid(steps: int) -> list[float]:
    """0 = t_0 < ... < t_steps = 1, evenly spaced."""
    return [i / steps for i in range(steps + 1)]


def reverse_mean(process: ForwardProcess, denoised: Array, x: Array, t: float, u: float) -> Array:
    """Mean (..., d) of the ancestral step from x_u = x to t, given D(x, u)."""
    on_denoised, on_state, _ = process.reverse_coefficients(t, u)
    return process.apply(on_denoised, denoised) + process.apply(on_state, x)


def exact(process: ForwardProcess, denoiser: Denoiser, y: Array, start: Array, times: list[float], stream: Stream) -> Array:
    """Independent posterior draws (N, d) by the ancestral chain from x_1 = y~.

    ``start`` (N, d) gives the number, namespace and dtype of the draws; its values are not used. With the Gaussian
    denoiser a step is exact in the Gaussian case at any number of steps.
    """
    shape = tuple(start.shape)
    x = process.end_state(process.apply(np.sqrt(process.r), stream.normal(shape, start)), y)
    for t, u in reversed(list(itertools.pairwise(times))):
        on_denoised, _, variance = process.reverse_coefficients(t, u)
        spread = process.apply(on_denoised, denoiser.residual(x, u, stream))
        noise = process.apply(np.sqrt(variance), stream.normal(shape, x))
        x = reverse_mean(process, denoiser(x, u), x, t, u) + spread + noise
    return x


def prior_share(process: ForwardProcess, members: Array) -> np.ndarray:
    """k = P / (P + R) of each component of the basis (k,), as if it were measured alone; 0 on null ones."""
    variance = process.s**2 * process.basis.variance(members)
    return variance / (variance + process.r)


def departure(s: float, k: np.ndarray) -> np.ndarray:
    """b for which x - k (b a + s e) has the posterior's variance where x has anomaly a and a gain of k, and e is noise.

    That is (1 - b k)^2 + s^2 k (1 - k) = 1 - k, so that b k = 1 - q with q^2 = (1 - k) (1 - s^2 k).
    """
    return (1 + s**2 * (1 - k)) / (1 + np.sqrt((1 - k) * (1 - s**2 * k)))


def coupled(
    process: ForwardProcess,
    denoiser: Denoiser,
    y: Array,
    members: Array,
    times: list[float],
    stream: Stream,
    *,
    perturbation: float = 1.0,
) -> Array:
    """Posterior members (N, d), each the prior member of ``members`` carried across.

    A member is noised forward along the grid; the noise with which the reverse chain would retrace that path is read off;
    the observed components of x_1 are replaced by y~; and the reverse chain runs again with the same noise. A member whose
    own x_1 equals y~ comes back unchanged, so that errors of the reverse kernel largely cancel. With the Gaussian denoiser
    this is the stochastic EnKF, member by member.

    With a ``perturbation`` s below 1, y~ is moved toward each member's own x_1, by 1 - s of its noise e and 1 - b of its
    departure from the mean, so that a Gaussian denoiser with gain K moves a member with anomaly a by

        K (y - H mean(x) - b H a - s e)

    and less noise enters the ensemble. Where measured components are independent, the covariance stays exact (``departure``);
    s = 0 is then the square-root filter of Whitaker and Hamill (2002). The idea of doing so here is ours.
    """
    xp = array_namespace(members)
    path = [members]
    for t, u in itertools.pairwise(times):
        path.append(process.transition(path[-1], t, u, centred_normal(tuple(members.shape), members, stream)))
    x = process.end_state(path[-1], y)
    if perturbation < 1:
        noise = path[-1] - process.apply(process.s, members)
        x = x + process.apply((1 - perturbation) * process.observed, noise)
        kept = departure(perturbation, prior_share(process, members))
        x = x + process.apply((1 - kept) * process.s, members - xp.mean(members, axis=0))
    n = len(members)
    for i in range(len(times) - 2, -1, -1):
        t, u = times[i], times[i + 1]
        both = xp.concat([path[i + 1], x], axis=0)
        mean = reverse_mean(process, denoiser(both, u), both, t, u)
        residual = path[i] - mean[:n]
        variance = denoiser.variance(both, u)
        if variance is not None:
            # The kernel's covariance depends on x: standardise the residual there, and scale it here.
            on_denoised, _, noise = process.reverse_coefficients(t, u)
            through = process.basis.variance_through(on_denoised, variance)
            scale = xp.sqrt(through + like(process.basis.diagonal(noise), both))
            residual = residual * (scale[n:] / scale[:n])
        x = mean[n:] + residual
    return x


def guided(
    process: ForwardProcess,
    denoiser: Denoiser,
    y: Array,
    members: Array,
    times: list[float],
    stream: Stream,
    *,
    prior_scale: float = 1.0,
    likelihood_scale: float = 1.0,
) -> Array:
    """Members (N, d) by the guided SDE dX = [F X - G G^T (g_s s + g_l l)] dt + G dW backward from noised prior members.

    Not exact: for a scalar Gaussian prior with variance P, H = 1 and unit scales its gain is (P/R) log(1 + R/P) instead of
    P / (P + R). Kept because it is what the authors' public code runs. Starts one step inside t = 1, where F diverges.
    """
    shape = tuple(members.shape)
    x = process.diffuse(members, times[-2], stream.normal(shape, members))
    for t, u in reversed(list(itertools.pairwise(times[:-1]))):
        h = u - t
        score = prior_scale * process.prior_score(x, u, denoiser(x, u))
        score = score + likelihood_scale * process.likelihood_score(x, u, y)
        drift = process.apply(process.F(u), x) - process.apply(process.GG(u), score)
        x = x - h * drift + process.apply(np.sqrt(h * process.GG(u)), stream.normal(shape, x))
    return x
