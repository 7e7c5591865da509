"""Samplers of the posterior p(x_0 | y) that run the measurement-aware process backward
(masf.diffusion.process).

X_t is independent of Y = X_1 given X_u for t < u < 1, so p(x_t | x_u, y) = p(x_t | x_u): start at
x_1 = y~ and run the *unconditional* reverse kernel. One ancestral step u -> t, with B = Sigma_t M /
Sigma_u and C = Cov(X_0 | x_u), has

    mean        A_t D + B (x_u - A_u D)
    covariance  Sigma_t Q / Sigma_u + (A_t - B A_u) C (A_t - B A_u)^T.

Three samplers share these equations: ``exact`` draws afresh, ``coupled`` carries each member across
(ours), and ``guided`` runs the guided SDE of the authors' public code, which is not exact.
"""

from __future__ import annotations

import itertools

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred_normal, like
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess


def reverse_mean(process: ForwardProcess, denoised: Array, x: Array, t: float, u: float) -> Array:
    """Mean (..., d) of the ancestral step from x_u = x to t, given D(x, u)."""
    on_denoised, on_state, _ = process.reverse_coefficients(t, u)
    return process.apply(on_denoised, denoised) + process.apply(on_state, x)


def exact(
    process: ForwardProcess,
    denoiser: Denoiser,
    y: Array,
    start: Array,
    times: list[float],
    stream: Stream,
) -> Array:
    """Independent posterior draws (N, d) by the ancestral chain from x_1 = y~.

    ``start`` (N, d) gives the number, namespace and dtype of the draws; its values are not used.
    With the Gaussian denoiser a step is exact in the Gaussian case at any number of steps.
    """
    shape = tuple(start.shape)
    x = process.end_state(process.apply(np.sqrt(process.r), stream.normal(shape, start)), y)
    for t, u in reversed(list(itertools.pairwise(times))):
        on_denoised, _, variance = process.reverse_coefficients(t, u)
        posterior = denoiser(x, u)
        spread = process.apply(on_denoised, posterior.residual(stream))
        noise = process.apply(np.sqrt(variance), stream.normal(shape, x))
        x = reverse_mean(process, posterior.mean, x, t, u) + spread + noise
    return x


def scalar_gains(process: ForwardProcess, members: Array) -> np.ndarray:
    """The Kalman gain k = P / (P + R) of each component of the basis (k,), as if it were measured
    alone; 0 on null ones.

    P is the variance of ``members`` (N, d) along the component, times s^2, and R is r: both in
    units of the measurement.
    """
    variance = process.s**2 * process.basis.variance(members)
    return variance / (variance + process.r)


def anomaly_factor(perturbation: float, gain: np.ndarray) -> np.ndarray:
    """The factor b on a member's anomaly for which less noise leaves the posterior's variance as it
    is.

    A scalar with prior variance P is measured with noise of variance R; its gain is k = P / (P +
    R), so that R = P (1 - k) / k, and its posterior variance is (1 - k) P. A member with anomaly a
    takes its own measurement's noise e by a share s only, and moves to a - k (b a + s e). Its
    variance is then (1 - b k)^2 P + k^2 s^2 R = ((1 - b k)^2 + s^2 k (1 - k)) P. That is (1 - k) P
    if

        (1 - b k)^2 = (1 - k) (1 - s^2 k).

    With q the root of the right-hand side, b = (1 - q) / k; written below without the division by
    k, which is 0 on null components. s = 1 gives b = 1, the stochastic filter; s = 0 gives the
    square-root filter of Whitaker and Hamill (2002).

    Args:
        perturbation: s, between 0 and 1.
        gain: k of each component, of any shape.
    """
    s2 = perturbation**2
    return (1 + s2 * (1 - gain)) / (1 + np.sqrt((1 - gain) * (1 - s2 * gain)))


def noised_path(
    process: ForwardProcess, members: Array, times: list[float], stream: Stream
) -> list[Array]:
    """Each member carried forward: x_0, x_t1, ..., x_1, each (N, d), with noise that is centred
    over members.

    x_u = M x_t + Q^(1/2) w for neighbouring times t < u, so that x_1 is what the measurement of the
    member could have been.
    """
    path = [members]
    for t, u in itertools.pairwise(times):
        path.append(
            process.transition(
                path[-1], t, u, centred_normal(tuple(members.shape), members, stream)
            )
        )
    return path


def measured_ends(
    process: ForwardProcess, y: Array, members: Array, ends: Array, perturbation: float
) -> Array:
    """Where the reverse chains start (N, d): x_1 with its observed components replaced by the
    measurement.

    With a ``perturbation`` s below 1, the measurement is moved toward each member's own x_1 = A(1)
    x + e: by 1 - s of the noise e, and by 1 - b of the member's departure from the mean, with b of
    ``anomaly_factor``.

    Args:
        process: the forward process.
        y: the measurement (m,).
        members: x_0 (N, d).
        ends: x_1 (N, d), the last of ``noised_path``.
        perturbation: s.
    """
    x = process.end_state(ends, y)
    if perturbation < 1:
        noise = ends - process.apply(process.s, members)
        x = x + process.apply((1 - perturbation) * process.observed, noise)
        kept = anomaly_factor(perturbation, scalar_gains(process, members))
        x = x + process.apply(
            (1 - kept) * process.s, members - array_namespace(members).mean(members, axis=0)
        )
    return x


def retraced(
    process: ForwardProcess, denoiser: Denoiser, path: list[Array], ends: Array, times: list[float]
) -> Array:
    """The ends of reverse chains (N, d) that start at ``ends`` and take the noise that leads back
    along ``path``.

    A reverse step draws x_t = mu(x_u) + L(x_u) w. Along the path, L w = x_t - mu(x_u) is known; the
    chain from ``ends`` takes the same w. Where L does not depend on x, the residual itself is
    added; else it is scaled by the ratio of standard deviations. Both chains go through the
    denoiser together, as one batch.

    Args:
        process: the forward process.
        denoiser: D and C.
        path: of ``noised_path``.
        ends: (N, d), see ``measured_ends``.
        times: the grid 0 = t_0 < ... < 1.
    """
    xp = array_namespace(ends)
    x, n = ends, len(ends)
    for i in range(len(times) - 2, -1, -1):
        t, u = times[i], times[i + 1]
        both = xp.concat([path[i + 1], x], axis=0)
        posterior = denoiser(both, u)
        mean = reverse_mean(process, posterior.mean, both, t, u)
        residual = path[i] - mean[:n]
        if posterior.variance is not None:
            on_denoised, _, noise = process.reverse_coefficients(t, u)
            through = process.basis.variance_through(on_denoised, posterior.variance)
            scale = xp.sqrt(through + like(process.basis.diagonal(noise), both))
            residual = residual * (scale[n:] / scale[:n])
        x = mean[n:] + residual
    return x


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
    """Posterior members (N, d), each the prior member of ``members`` (N, d) carried across (ours).

    Three steps: noise each member forward along the grid (``noised_path``); replace the observed
    components of its end by the measurement (``measured_ends``); run the reverse chain with the
    noise that would have led back to the member (``retraced``). A member whose own x_1 equals the
    measurement comes back unchanged, so that errors of the reverse kernel largely cancel. With the
    Gaussian denoiser, of gain K, a member with anomaly a moves by

        K (y - H mean(x) - b H a - s e)

    which for ``perturbation`` s = 1, b = 1 is the stochastic EnKF. With s below 1 less noise enters
    the ensemble, and its covariance stays exact where measured components are independent
    (``anomaly_factor``); s = 0 is then the square-root filter of Whitaker and Hamill (2002).
    """
    path = noised_path(process, members, times, stream)
    return retraced(
        process, denoiser, path, measured_ends(process, y, members, path[-1], perturbation), times
    )


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
    """Members (N, d) by the guided SDE dX = [F X - G G^T (g_s s + g_l l)] dt + G dW backward from
    noised prior members.

    Not exact: for a scalar Gaussian prior with variance P, H = 1 and unit scales its gain is (P/R)
    log(1 + R/P) instead of P / (P + R). Kept because it is what the authors' public code runs.
    Starts one step inside t = 1, where F diverges.
    """
    shape = tuple(members.shape)
    x = process.diffuse(members, times[-2], stream.normal(shape, members))
    for t, u in reversed(list(itertools.pairwise(times[:-1]))):
        h = u - t
        score = prior_scale * process.prior_score(x, u, denoiser(x, u).mean)
        score = score + likelihood_scale * process.likelihood_score(x, u, y)
        drift = process.apply(process.F(u), x) - process.apply(process.GG(u), score)
        x = x - h * drift + process.apply(np.sqrt(h * process.GG(u)), stream.normal(shape, x))
    return x
