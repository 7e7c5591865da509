"""Gains of what a process measures, and functions of them: how members move with less noise.

In units of the noise, W = s / sqrt(r) along the basis, what is measured has the prior covariance C
= W P W, and a Gaussian analysis moves it by the gain G = C (C + I)^(-1). A member with anomaly a
that takes its own measurement's noise e by a share s only, and moves to a - G (B a + s e), is one
of an ensemble with the posterior's covariance C - G C if

    (I - G B) C (I - G B)^T + s^2 G G^T = C - G C.

All of this commutes with C if B is a function b of G, taken of its eigenvalues k in [0, 1). Then it
is a condition on each of them, (1 - b k)^2 + s^2 k (1 - k) = 1 - k, which has the solution
``anomaly_factor``. With it the covariance of the whole state is the posterior's, too: K B C B K^T
and the rest hold the same sum, K being P W (C + I)^(-1). s = 1 gives b = 1, the stochastic filter;
s = 0 the square root of Whitaker and Hamill (2002), for all measurements at once.

A function of G is applied by the eigenvectors of C, of a covariance matrix or of anomalies; or,
where no such matrix is formed, as if each component of the basis were measured alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, like, scattered, to_numpy
from masf.diffusion.process import ForwardProcess
from masf.observations.bases import Coefficient

OfGain = Callable[[np.ndarray], np.ndarray]
"""A function of gains k, elementwise, in float64."""


def anomaly_factor(perturbation: float, gain: np.ndarray) -> np.ndarray:
    """The factor b on a member's anomaly for which less noise leaves the posterior's variance as it
    is: the solution of the module's condition.

    With q the root of (1 - k) (1 - s^2 k), b = (1 - q) / k; written below without the division by
    k, which is 0 where nothing is measured.

    Args:
        perturbation: s, between 0 and 1.
        gain: k, of any shape.
    """
    s2 = perturbation**2
    return (1 + s2 * (1 - gain)) / (1 + np.sqrt((1 - gain) * (1 - s2 * gain)))


def by_component(
    process: ForwardProcess, variance: Coefficient, function: OfGain, x: Array
) -> Array:
    """A(1) x for states (..., d), times a function of the gain of each component alone.

    The gain is P / (P + R), 0 on null components, with P the prior ``variance`` (k,) along the
    component of the basis, times s^2, and R its r: both in units of the measurement.
    """
    measured = process.s**2 * variance
    return process.apply(function(measured / (measured + process.r)) * process.s, x)


def by_covariance(process: ForwardProcess, covariance: Array, function: OfGain, x: Array) -> Array:
    """f(G) A(1) x for states (..., d) and a prior ``covariance`` (d, d)."""
    xp = array_namespace(x)
    whiten = process.s / np.sqrt(process.r)
    # Rows of what is not measured are 0, and take no part in the decomposition.
    measured = np.flatnonzero(process.basis.diagonal(process.observed.astype(np.float64)))
    c = process.apply(whiten, process.apply(whiten, covariance).mT)[measured][:, measured]
    # In float64: what is measured well and what is not may be far apart in one matrix.
    values, vectors = xp.linalg.eigh(xp.astype((c + c.mT) / 2, xp.float64))
    kept, vectors = like(_of_eigenvalues(function, values), x), xp.astype(vectors, x.dtype)
    along = process.apply(whiten, x)[..., measured] @ vectors
    return _coloured(process, scattered((along * kept) @ vectors.mT, measured, x.shape[-1]))


def by_anomalies(process: ForwardProcess, anomalies: Array, function: OfGain, x: Array) -> Array:
    """f(G) A(1) x for states (..., d) and the covariance of ``anomalies`` (N, d), which is not
    formed.
    """
    xp = array_namespace(x)
    whiten = process.s / np.sqrt(process.r)
    y = process.apply(whiten, anomalies) / math.sqrt(len(anomalies) - 1)
    _, singular, directions = xp.linalg.svd(y, full_matrices=False)
    outside = float(function(np.zeros(1))[0])
    change = like(_of_eigenvalues(function, singular**2) - outside, x)
    white = process.apply(whiten, x)
    white = outside * white + ((white @ directions.mT) * change) @ directions
    return _coloured(process, white)


def _of_eigenvalues(function: OfGain, values: Array) -> np.ndarray:
    """The function of the gains of eigenvalues of C, which rounding may have made negative."""
    c = np.maximum(to_numpy(values).astype(np.float64), 0.0)
    return function(c / (1 + c))


def _coloured(process: ForwardProcess, white: Array) -> Array:
    """What is in units of the noise (..., d), in those of A(1) x."""
    return process.apply(np.sqrt(process.r) * process.observed, white)
