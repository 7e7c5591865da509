"""Ensemble transform Kalman filter (Bishop, Etherton, Majumdar 2001) with the symmetric square root
(Hunt et al. 2007).

    x_i <- mean(x) + sum_j (w_j + T_ij) X_j     T = (I + S S^T)^(-1/2)
    w = (I + S S^T)^(-1) S delta / sqrt(N - 1)

X are the anomalies (N, d), S = X H^T R^(-1/2) / sqrt(N - 1) those of the whitened measurements (N,
m), and delta the whitened innovation of the mean. T comes from an eigendecomposition on the smaller
side of S: with S^T S = U mu U^T,

    T = I - S U g U^T S^T     g = (1 - (1 + mu)^(-1/2)) / mu = 1 / (sqrt(1 + mu) (1 + sqrt(1 + mu)))

The eigendecomposition is in float64: it costs no more, and accurate measurements give S S^T a wide
spectrum. A random rotation that keeps the mean and the covariance (Sakov and Oke 2008) breaks up
the outliers that the deterministic transform lets grow.
"""

from __future__ import annotations

import math
from typing import ClassVar

from array_api_compat import array_namespace

from masf.arrays import Array, centred
from masf.ensembles.innovations import whitened_innovation
from masf.ensembles.rotation import random_rotation
from masf.filters.base import Filter, RotatedParameters


def square_root_update(anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
    """The increment of the mean (..., f), and the analysis anomalies T X (..., N, f).

    Args:
        anomalies: (..., N, f) X; leading axes are independent problems.
        observed: (..., N, m) anomalies of the whitened measurements.
        innovation: (..., m) whitened innovation of the mean.
    """
    xp = array_namespace(anomalies)
    n, m = observed.shape[-2:]
    s = xp.astype(observed, xp.float64) / math.sqrt(n - 1)
    delta = xp.astype(innovation, xp.float64)[..., None]
    values, vectors = xp.linalg.eigh(s @ s.mT if n <= m else s.mT @ s)
    values = xp.clip(values, min=0.0)
    root = xp.sqrt(1 + values)
    shrinkage = 1 / (root * (1 + root))
    if n <= m:
        coefficients = vectors.mT @ (s @ delta)
        weights = coefficients[..., 0] / (root**2 * math.sqrt(n - 1))
        vectors, shrinkage, weights = (
            xp.astype(a, anomalies.dtype) for a in (vectors, values * shrinkage, weights)
        )
        projected = vectors.mT @ anomalies
        shrunk = vectors @ (shrinkage[..., None] * projected)
    else:
        coefficients = vectors.mT @ delta
        weights = coefficients[..., 0] / (root**2 * math.sqrt(n - 1))
        # Factor by factor, because local problems have few columns; and in float64, because S may
        # be large.
        projected = vectors.mT @ (s.mT @ xp.astype(anomalies, xp.float64))
        shrunk = s @ (vectors @ (shrinkage[..., None] * projected))
    increment = (weights[..., None, :] @ projected)[..., 0, :]
    return xp.astype(increment, anomalies.dtype), anomalies - xp.astype(shrunk, anomalies.dtype)


class ETKF(Filter):
    Parameters: ClassVar[type[RotatedParameters]] = RotatedParameters

    def analyse(self, state: Array, y: Array) -> Array:
        mean, anomalies = centred(state)
        observed, innovation = whitened_innovation(state, y, self.observation)
        increment, anomalies = self.update(anomalies, observed, innovation)
        if self.parameters.rotation:
            anomalies = random_rotation(len(state), state, self.stream) @ anomalies
        return mean + (increment + self.parameters.inflation * anomalies)

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        """The increment of the mean (d,) and the analysis anomalies (N, d), before rotation and
        inflation.
        """
        return square_root_update(anomalies, observed, innovation)


filter = ETKF
