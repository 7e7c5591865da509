"""The measurement-aware forward process of MASF (Yoon, Kim, Kim, arXiv:2604.02889, Theorem A.1 and Corollary A.6).

Whiten and rotate the measurement y = H x + eta, eta ~ N(0, R):  R^(-1/2) H = U S V^T,  c = max S,  and set

    z = V^T x    y~ = U^T R^(-1/2) y / c    s = S / c in [0, 1]    r = 1 / c^2   (observed components).

Null components (s = 0) have no measurement; their end variance r is free and taken from the ensemble. With a(t)
decreasing from a(0) = 1 to a(1) = 0,

    A(t) = a + (1 - a) s      Sigma(t) = (1 - a^2) r      X_t = A z + Sigma^(1/2) eps

so that X_0 = z and X_1, given z, is distributed exactly as the measurement. For t < u

    X_u | X_t ~ N(M X_t, Q)   M = A(u) / A(t)   Q = Sigma(u) - M^2 Sigma(t).

States stay in physical coordinates: the process is diagonal in a *basis*, and a coefficient such as A(t) is the vector of
its values there, applied to a state by ``basis.apply``. If H is a mask and R is diagonal, the basis is the standard one
(then s is 0 or 1, r is the noise variance of each component, and nothing is whitened). If H is average pooling and R is diagonal,
it is that of the blocks, likewise. Otherwise it is from a thin SVD.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, like, to_numpy
from masf.observations import Observation

NULL_THRESHOLD = 1e-6
"""Singular values below this fraction of the largest count as null."""

_K = 0.008
_THETA_0 = _K * math.pi / (2 * (1 + _K))

Coefficient = np.ndarray
"""Values (k,) of a diagonal operator in the basis, in float64."""


def a(t: float) -> float:
    """The cosine schedule a(t), in a form that does not cancel near t = 1."""
    return math.sin((1 - t) / (1 + _K) * math.pi / 2) / math.cos(_THETA_0)


def one_minus_a_squared(t: float) -> float:
    """1 - a(t)^2, in a form that does not cancel near t = 0."""
    delta = t * math.pi / (2 * (1 + _K))
    return math.sin(delta) * math.sin(delta + 2 * _THETA_0) / math.cos(_THETA_0) ** 2


def da_dt(t: float) -> float:
    """The derivative of a(t)."""
    scale = math.pi / (2 * (1 + _K))
    return -scale * math.cos((1 - t) * scale) / math.cos(_THETA_0)


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


class ForwardProcess:
    """X_t = A(t) x + Sigma(t)^(1/2) eps, with the equations of the module's docstring, one method each.

    Coefficients are vectors (k,) in the basis, in float64; states are arrays (..., d) in physical coordinates.
    """

    def __init__(self, basis: Basis, null_variance: Coefficient | None = None) -> None:
        """``null_variance`` (k,) is the end variance of null components; 1 without it."""
        self.basis = basis
        self.s = basis.s
        self.observed = basis.s > 0
        self.r = basis.r
        if null_variance is not None:
            # A collapsed ensemble would give 0 / 0.
            floor = NULL_THRESHOLD * float(np.max(basis.r[self.observed]))
            self.r = np.where(self.observed, basis.r, np.maximum(null_variance, floor))

    @classmethod
    def for_ensemble(cls, basis: Basis, ensemble: Array) -> ForwardProcess:
        """The process whose null components end with the variance of ``ensemble`` (N, d)."""
        return cls(basis, basis.variance(ensemble))

    def A(self, t: float) -> Coefficient:
        return a(t) + (1 - a(t)) * self.s

    def Sigma(self, t: float) -> Coefficient:
        return one_minus_a_squared(t) * self.r

    def M(self, t: float, u: float) -> Coefficient:
        """Mean factor of the transition from t to u > t."""
        return self.A(u) / self.A(t)

    def Q(self, t: float, u: float) -> Coefficient:
        """Variance of the transition from t to u > t."""
        return np.maximum(self.Sigma(u) - self.M(t, u) ** 2 * self.Sigma(t), 0.0)

    def F(self, t: float) -> Coefficient:
        """Drift A'/A of the linear SDE dX = F X dt + G dW; diverges at t = 1 on null components."""
        return da_dt(t) * (1 - self.s) / self.A(t)

    def GG(self, t: float) -> Coefficient:
        """Squared diffusion G G^T = Sigma' - 2 F Sigma of the same SDE."""
        return -2 * a(t) * da_dt(t) * self.r - 2 * self.F(t) * self.Sigma(t)

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        return self.basis.apply(coefficient, x)

    def diffuse(self, x: Array, t: float, noise: Array) -> Array:
        """X_t from X_0 = x and standard normal ``noise``, both (..., d)."""
        return self.apply(self.A(t), x) + self.apply(np.sqrt(self.Sigma(t)), noise)

    def transition(self, x: Array, t: float, u: float, noise: Array) -> Array:
        """X_u from X_t = x and standard normal ``noise``, both (..., d)."""
        return self.apply(self.M(t, u), x) + self.apply(np.sqrt(self.Q(t, u)), noise)

    def end_state(self, x: Array, y: Array) -> Array:
        """X_1 with the observed components of x (..., d) replaced by the measurement y (..., m)."""
        return self.apply((~self.observed).astype(np.float64), x) + self.basis.lift(y)

    def prior_score(self, x: Array, t: float, denoised: Array) -> Array:
        """s = (A D - x) / Sigma, from the denoiser's answer D(x, t); 0 < t."""
        return self.apply(1 / self.Sigma(t), self.apply(self.A(t), denoised) - x)

    def likelihood_score(self, x: Array, t: float, y: Array) -> Array:
        """l = M_{t->1} (y~ - M_{t->1} x) / Q_{t->1} on observed components, 0 on null ones; exact for t < 1."""
        m, q = self.M(t, 1.0), self.Q(t, 1.0)
        weight = np.divide(m, q, out=np.zeros_like(m), where=self.observed)
        return self.apply(weight, self.basis.lift(y) - self.apply(m, x))

    def reverse_coefficients(self, t: float, u: float) -> tuple[Coefficient, Coefficient, Coefficient]:
        """(A_t - B A_u, B, Sigma_t Q / Sigma_u): the reverse step u -> t has mean (A_t - B A_u) D + B x_u."""
        b = self.Sigma(t) * self.M(t, u) / self.Sigma(u)
        return self.A(t) - b * self.A(u), b, self.Sigma(t) * self.Q(t, u) / self.Sigma(u)
