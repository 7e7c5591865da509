"""Analyses in the space of the ensemble: weights of the mean, and a symmetric square root.

    x = mean(x) + v X / sqrt(N - 1)     X <- T X     T = (zeta + S S^T)^(-1/2)
    v = (zeta + S S^T)^(-1) S delta

X are the anomalies (N, d), S those of the whitened measurements over sqrt(N - 1) (N, m), delta the
whitened innovation of the mean, and zeta the precision of the prior: 1, or what the finite-size
prior finds (masf.ensembles.finite_size). With S S^T = F mu F^T and F (N, r) of orthonormal columns,
a function of the matrix is f(zeta + S S^T) = f(zeta) I + F (f(zeta + mu) - f(zeta)) F^T.

The decomposition is on the smaller side of S, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array
from masf.ensembles.finite_size import prior_precision


@dataclass(frozen=True)
class Transform:
    """An analysis in the space of the ensemble; leading axes are independent problems.

    Attributes:
        weights: (..., N) v.
        factor: (..., N, r) F.
        values: (..., r) mu.
        precision: (...) zeta.
    """

    weights: Array
    factor: Array
    values: Array
    precision: Array

    def transformed(self, anomalies: Array) -> Array:
        """T X for anomalies (..., N, f)."""
        return self._function(anomalies, -0.5)

    def undone(self, anomalies: Array) -> Array:
        """T^(-1) X for anomalies (..., N, f)."""
        return self._function(anomalies, 0.5)

    def _function(self, anomalies: Array, power: float) -> Array:
        """(zeta + S S^T)^power X."""
        xp = array_namespace(anomalies)
        zeta = self.precision[..., None]
        outside, inside = zeta**power, (zeta + self.values) ** power
        outside, change, factor = (
            xp.astype(a, anomalies.dtype) for a in (outside, inside - outside, self.factor)
        )
        return outside[..., None] * anomalies + factor @ (
            change[..., None] * (factor.mT @ anomalies)
        )


def tempered(transform: Transform, count: float) -> Transform:
    """The analysis of the same prior with the measurement noise's covariance ``count`` times as
    large: ``count`` of them, one after the other, are the whole analysis where h is linear.
    """
    t, zeta = transform, transform.precision[..., None]
    projected = (t.factor.mT @ t.weights[..., None])[..., 0]
    share = (zeta + t.values) / (count * zeta + t.values)
    weights = (t.factor @ (share * projected)[..., None])[..., 0]
    return Transform(weights, t.factor, t.values / count, t.precision)


def weighted(weights: Array, anomalies: Array) -> Array:
    """v X / sqrt(N - 1) (..., f): what weights (..., N) add to the mean, of anomalies (..., N,
    f).
    """
    xp, n = array_namespace(anomalies), anomalies.shape[-2]
    v = xp.astype(weights / math.sqrt(n - 1), anomalies.dtype)
    return (v[..., None, :] @ anomalies)[..., 0, :]


def ensemble_transform(s: Array, innovation: Array, certainty: float | None = None) -> Transform:
    """The analysis of whitened anomalies S (..., N, m) and innovations (..., m), in float64.

    ``certainty`` is the finite-size prior's; None takes zeta = 1.
    """
    xp = array_namespace(s)
    n, m = s.shape[-2:]
    values, vectors = xp.linalg.eigh(s @ s.mT if n <= m else s.mT @ s)
    # Directions with no more than rounding in them, as those of a component that is measured twice,
    # are none of the ensemble's: times a large innovation, their rounding would count.
    floor = max(n, m) * np.finfo(np.float64).eps * values[..., -1:] + np.finfo(np.float64).tiny
    known = values > floor
    values = xp.where(known, values, xp.zeros_like(values))
    if n > m:
        vectors = s @ (vectors / xp.sqrt(xp.maximum(values, floor))[..., None, :])
    vectors = xp.where(known[..., None, :], vectors, xp.zeros_like(vectors))
    projected = (vectors.mT @ (s @ innovation[..., None]))[..., 0]
    if certainty is None:
        precision = xp.ones_like(values[..., 0])
    else:
        precision = prior_precision(values, projected, n, certainty)
    weights = (vectors @ (projected / (precision[..., None] + values))[..., None])[..., 0]
    return Transform(weights, vectors, values, precision)
