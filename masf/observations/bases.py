"""The basis in which measuring is diagonal: the right singular vectors V of R^(-1/2) H.

There, with c the largest singular value, z = V^T x is measured component by component as
y~ = s z + sqrt(r) eta, with s in [0, 1] and r = 1/c^2 on observed components; what no measurement
sees has s = 0. The forward process of masf.diffusion.process runs in this basis. The one here
serves any matrix H; operators whose singular vectors are known have one of their own.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from masf.arrays import Array, centred, like, to_numpy

NULL_THRESHOLD = 1e-6
"""Singular values below this fraction of the largest count as null."""

Coefficient = np.ndarray
"""Values (k,) of a diagonal operator in the basis, in float64."""


class Basis(Protocol):
    """Where the forward process is diagonal."""

    @property
    def standard(self) -> bool:
        """Whether its components are those of the state, so that operators are elementwise."""

    dimension: int
    """Length d of the state."""
    s: Coefficient
    """(k,) singular values over the largest."""
    r: Coefficient
    """(k,) end variances; those of null components are set from the ensemble."""

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        """The operator with these values in the basis, applied to states (..., d)."""

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        """Diagonal (d,) of the operator with these values in the basis."""

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        """Diagonal (..., d) of F diag(variance) F^T.

        F is the operator with these values in the basis, and the variances are (..., d).
        """

    def lift(self, y: Array) -> Array:
        """The measurement (..., m) as y~, in physical space (..., d); 0 on null components."""

    def variance(self, ensemble: Array) -> Coefficient:
        """(k,) the variance of an ensemble (N, d) along each component of the basis."""


class SVDBasis:
    """The right singular vectors V of R^(-1/2) H, and their complement as one component.

    So there are k = rank + 1 components.
    """

    standard: ClassVar[bool] = False

    def __init__(self, matrix: np.ndarray, covariance: np.ndarray) -> None:
        """``matrix`` (m, d) is H and ``covariance`` (m, m) R."""
        factor = np.linalg.cholesky(covariance)
        u, singular, vt = np.linalg.svd(np.linalg.solve(factor, matrix), full_matrices=False)
        c = singular[0] or 1.0  # what is left of a measurement may be rows of zeros
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
        along = x @ v * like(coefficient[:-1] - coefficient[-1], x)
        return along @ v.mT + float(coefficient[-1]) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        return self.v**2 @ (coefficient[:-1] - coefficient[-1]) + coefficient[-1]

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        operator = self.apply(coefficient, np.eye(self.dimension))
        return variance @ like(operator**2, variance).mT

    def lift(self, y: Array) -> Array:
        return y @ like(self._lift.T, y)

    def variance(self, ensemble: Array) -> Coefficient:
        _, anomalies = centred(to_numpy(ensemble).astype(np.float64))
        along = np.sum((anomalies @ self.v) ** 2, axis=0)
        free, degrees = self.dimension - self.rank, len(anomalies) - 1
        # Without a complement, a neutral value keeps the arithmetic well scaled.
        across = self.r[0] * degrees
        if free:
            across = max(np.sum(anomalies**2) - np.sum(along), 0.0) / free
        return np.append(along, across) / degrees
