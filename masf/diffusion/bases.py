"""Bases in which the forward process of masf.diffusion.process is diagonal: one class for each kind of measurement.

If H is a mask and R is diagonal, the basis is the standard one; if H is average pooling and R is diagonal, it is that of the
blocks; otherwise it is from a thin SVD of R^(-1/2) H.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, like, to_numpy
from masf.observations.operators import Observation

NULL_THRESHOLD = 1e-6
"""Singular values below this fraction of the largest count as null."""

Coefficient = np.ndarray
"""Values (k,) of a diagonal operator in the basis, in float64."""


class Basis(Protocol):
    """Where the forward process is diagonal."""

    s: Coefficient
    """(k,) singular values over the largest."""
    r: Coefficient
    """(k,) end variances; those of null components are set from the ensemble."""

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        """The operator with these values in the basis, applied to states (..., d)."""

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        """Diagonal (d,) of the operator with these values in the basis."""

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        """Diagonal (..., d) of F diag(variance) F^T for the operator F with these values, and variances (..., d)."""

    def lift(self, y: Array) -> Array:
        """The measurement (..., m) as y~, in physical coordinates (..., d); 0 on null components."""

    def variance(self, ensemble: Array) -> Coefficient:
        """(k,) the variance of an ensemble (N, d) along each component of the basis."""


class MaskBasis:
    """The standard basis, for a mask with independent noise: everything is elementwise."""

    def __init__(self, observation: Observation) -> None:
        assert observation.indices is not None
        assert observation.variance is not None
        self._observation, self.dimension = observation, observation.dimension
        self.s = np.zeros(self.dimension)
        self.s[observation.indices] = 1.0
        self.r = np.ones(self.dimension)
        self.r[observation.indices] = observation.variance

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        return like(coefficient, x) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        return coefficient

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        return like(coefficient**2, variance) * variance

    def lift(self, y: Array) -> Array:
        return self._observation.adjoint(y)

    def variance(self, ensemble: Array) -> Coefficient:
        xp = array_namespace(ensemble)
        return to_numpy(xp.var(ensemble, axis=0, correction=1)).astype(np.float64)


class PoolingBasis:
    """The blocks of average pooling with independent noise, and their complement as one component: k = m + 1.

    A block of b points has the unit vector v with 1/sqrt(b) there. Its mean is v^T x / sqrt(b), so that s is 1, r is b times the
    noise variance, and sqrt(b) y, along v, has the value y at each point.
    """

    def __init__(self, observation: Observation) -> None:
        assert observation.pooling is not None
        assert observation.variance is not None
        self.pooling = observation.pooling
        self.dimension, self.blocks = observation.dimension, observation.size
        self.s = np.append(np.ones(self.blocks), 0.0)
        self.r = np.append(self.pooling.count * observation.variance, 1.0)

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        # The complement takes the last value, and V V^T x is the mean of the block at each of its points.
        along = like(coefficient[:-1] - coefficient[-1], x) * self.pooling.mean(x)
        return self.pooling.spread(along) + float(coefficient[-1]) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        return self.pooling.spread(coefficient[:-1] - coefficient[-1]) / self.pooling.count + coefficient[-1]

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        # F is the complement's value on the diagonal, and e more everywhere within a block.
        count, rest = self.pooling.count, float(coefficient[-1])
        e = (coefficient[:-1] - rest) / count
        within = self.pooling.spread(like(count * e**2, variance) * self.pooling.mean(variance))
        return within + (like(self.pooling.spread(2 * rest * e), variance) + rest**2) * variance

    def lift(self, y: Array) -> Array:
        return self.pooling.spread(y)

    def variance(self, ensemble: Array) -> Coefficient:
        xp = array_namespace(ensemble)
        anomalies = ensemble - xp.mean(ensemble, axis=0)
        means = self.pooling.mean(anomalies)
        along = self.pooling.count * to_numpy(xp.var(means, axis=0, correction=1)).astype(np.float64)
        total = float(xp.sum((anomalies - self.pooling.spread(means)) ** 2))
        return np.append(along, total / ((self.dimension - self.blocks) * (len(anomalies) - 1)))


class SVDBasis:
    """The right singular vectors V of R^(-1/2) H, and their complement as one component: k = rank + 1."""

    def __init__(self, observation: Observation) -> None:
        factor = np.linalg.cholesky(observation.covariance)
        u, singular, vt = np.linalg.svd(np.linalg.solve(factor, observation.matrix), full_matrices=False)
        c = singular[0]
        keep = singular > NULL_THRESHOLD * c
        self.v = vt[keep].T
        self.dimension, self.rank = self.v.shape
        self.s = np.append(singular[keep] / c, 0.0)
        self.r = np.append(np.full(self.rank, 1 / c**2), 1.0)
        # y~ = U^T R^(-1/2) y / c, lifted by V.
        self._lift = self.v @ np.linalg.solve(factor.T, u[:, keep]).T / c

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        # The complement I - V V^T takes the last value.
        v = like(self.v, x)
        return (x @ v * like(coefficient[:-1] - coefficient[-1], x)) @ v.mT + float(coefficient[-1]) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        return self.v**2 @ (coefficient[:-1] - coefficient[-1]) + coefficient[-1]

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        operator = self.apply(coefficient, np.eye(self.dimension))
        return variance @ like(operator**2, variance).mT

    def lift(self, y: Array) -> Array:
        return y @ like(self._lift.T, y)

    def variance(self, ensemble: Array) -> Coefficient:
        anomalies = to_numpy(ensemble).astype(np.float64)
        anomalies = anomalies - anomalies.mean(axis=0)
        along = np.sum((anomalies @ self.v) ** 2, axis=0)
        free = self.dimension - self.rank
        # Without a complement, a neutral value keeps the arithmetic well scaled.
        across = max(np.sum(anomalies**2) - np.sum(along), 0.0) / free if free else self.r[0] * (len(anomalies) - 1)
        return np.append(along, across) / (len(anomalies) - 1)


def make_basis(observation: Observation) -> Basis:
    """The basis in which the forward process of this observation is diagonal."""
    if observation.distinct and observation.variance is not None:
        return MaskBasis(observation)
    if observation.pooling is not None and observation.variance is not None:
        return PoolingBasis(observation)
    return SVDBasis(observation)
