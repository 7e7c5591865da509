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

from masf.arrays import Array, Stream, centred, centred_normal, like
from masf.diffusion.gains import anomaly_factor
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
    process: ForwardProcess,
    denoiser: Denoiser,
    y: Array,
    members: Array,
    ends: Array,
    perturbation: float,
) -> Array:
    """Where the reverse chains start (N, d): x_1 with its observed components replaced by the
    measurement.

    With a ``perturbation`` s below 1, the measurement is moved toward each member's own x_1 = A(1)
    x + e: by 1 - s of the noise e, and by 1 - b of the member's departure from the mean, with b of
    ``anomaly_factor``, a function of the denoiser's gains.

    Args:
        process: the forward process.
        denoiser: knows the gains.
        y: the measurement (m,).
        members: x_0 (N, d).
        ends: x_1 (N, d), the last of ``noised_path``.
        perturbation: s.
    """
    x = process.end_state(ends, y)
    if perturbation < 1:
        noise = ends - process.apply(process.s, members)
        x = x + process.apply((1 - perturbation) * process.observed, noise)
        _, anomalies = centred(members)
        x = x + denoiser.through_gains(lambda k: 1 - anomaly_factor(perturbation, k), anomalies)
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
            # Without spread on the path nothing is left to be scaled.
            known = scale[:n] > 0
            ratio = scale[n:] / xp.where(known, scale[:n], xp.ones_like(scale[:n]))
            residual = residual * xp.where(known, ratio, xp.ones_like(ratio))
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

        K (y - H mean(x) - B H a - s e)

    which for ``perturbation`` s = 1, B = I is the stochastic EnKF. With s below 1 less noise enters
    the ensemble, and its covariance stays exact if the denoiser's gains are those of all measured
    components together (masf.diffusion.gains); s = 0 is then a square-root filter, after Whitaker
    and Hamill (2002). Denoisers that form no matrix take each component of the basis for itself,
    which is exact where the components are independent.
    """
    path = noised_path(process, members, times, stream)
    return retraced(
        process,
        denoiser,
        path,
        measured_ends(process, denoiser, y, members, path[-1], perturbation),
        times,
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

    The steps are those of the departures X - A m from the members' mean m, whose own path A m is
    known: Euler's error in it would grow with m, without bound where states are large.
    """
    shape = tuple(members.shape)
    mean, anomalies = centred(members)
    departures = process.diffuse(anomalies, times[-2], stream.normal(shape, members))
    for t, u in reversed(list(itertools.pairwise(times[:-1]))):
        h = u - t
        x = process.apply(process.A(u), mean) + departures
        denoised = denoiser(x, u).mean - mean
        score = prior_scale * process.prior_score(departures, u, denoised)
        score = score + likelihood_scale * process.likelihood_score(x, u, y)
        drift = process.apply(process.F(u), departures) - process.apply(process.GG(u), score)
        noise = process.apply(np.sqrt(h * process.GG(u)), stream.normal(shape, x))
        departures = departures - h * drift + noise
    return mean + departures
