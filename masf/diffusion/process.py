"""The measurement-aware forward process of MASF (Yoon, Kim, Kim, arXiv:2604.02889, Theorem A.1 and
Corollary A.6).

Whiten and rotate the measurement y = H x + eta, eta ~ N(0, R):  R^(-1/2) H = U S V^T,  c = max S,
and set

    z = V^T x    y~ = U^T R^(-1/2) y / c    s = S / c in [0, 1]    r = 1 / c^2
    (observed components).

Null components (s = 0) have no measurement; their end variance r is free and taken from the
ensemble. With a(t) decreasing from a(0) = 1 to a(1) = 0,

    A(t) = a + (1 - a) s      Sigma(t) = (1 - a^2) r      X_t = A z + Sigma^(1/2) eps

so that X_0 = z and X_1, given z, is distributed exactly as the measurement. For t < u

    X_u | X_t ~ N(M X_t, Q)   M = A(u) / A(t)   Q = Sigma(u) - M^2 Sigma(t).

States stay in physical coordinates: the process is diagonal in a *basis*, and a coefficient such as
A(t) is the vector of its values there, applied to a state by ``basis.apply``. If H is a mask and R
is diagonal, the basis is the standard one (then s is 0 or 1, r is the noise variance of each
component, and nothing is whitened). If H is average pooling and R is diagonal, it is that of the
blocks, likewise. Otherwise it is from a thin SVD.
"""

from __future__ import annotations

import math

import numpy as np

from masf.arrays import Array
from masf.observations.bases import NULL_THRESHOLD, Basis, Coefficient

_K = 0.008

_THETA_0 = _K * math.pi / (2 * (1 + _K))


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


def time_grid(steps: int) -> list[float]:
    """0 = t_0 < ... < t_steps = 1, evenly spaced."""
    return [i / steps for i in range(steps + 1)]


class ForwardProcess:
    """X_t = A(t) x + Sigma(t)^(1/2) eps, with the equations of the module's docstring, one method
    each.

    Coefficients are vectors (k,) in the basis, in float64; states are arrays (..., d) in physical
    coordinates.
    """

    def __init__(
        self, basis: Basis, null_variance: Coefficient | None = None, temperature: float = 1.0
    ) -> None:
        """The process of a basis.

        Args:
            basis: where it is diagonal.
            null_variance: (k,) the end variance of null components; 1 without it.
            temperature: T; the measurement's noise has covariance T R, which is what the likelihood
                to the power 1 / T says.
        """
        self.basis = basis
        self.s = basis.s
        self.observed = basis.s > 0
        self.r = basis.r * temperature
        if null_variance is not None:
            # A collapsed ensemble would give 0 / 0.
            floor = NULL_THRESHOLD * float(np.max(self.r[self.observed], initial=0.0))
            self.r = np.where(self.observed, self.r, np.maximum(null_variance, floor))

    @classmethod
    def for_ensemble(
        cls, basis: Basis, ensemble: Array, temperature: float = 1.0
    ) -> ForwardProcess:
        """The process whose null components end with the variance of ``ensemble`` (N, d)."""
        return cls(basis, basis.variance(ensemble), temperature)

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
        """l = M_{t->1} (y~ - M_{t->1} x) / Q_{t->1} on observed components, 0 on null ones; exact
        for t < 1.
        """
        m, q = self.M(t, 1.0), self.Q(t, 1.0)
        weight = np.divide(m, q, out=np.zeros_like(m), where=self.observed)
        return self.apply(weight, self.basis.lift(y) - self.apply(m, x))

    def reverse_coefficients(
        self, t: float, u: float
    ) -> tuple[Coefficient, Coefficient, Coefficient]:
        """(A_t - B A_u, B, Sigma_t Q / Sigma_u): the reverse step u -> t has mean (A_t - B A_u) D +
        B x_u.
        """
        b = self.Sigma(t) * self.M(t, u) / self.Sigma(u)
        return self.A(t) - b * self.A(u), b, self.Sigma(t) * self.Q(t, u) / self.Sigma(u)
