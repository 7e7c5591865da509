"""The denoiser of a Gaussian prior N(m, P), in closed form.

    D(x, t) = m + K (x - A m)     K = P A (A P A + Sigma)^(-1)     C = Cov(X_0 | x_t) = P - K A P

with A, Sigma of the forward process at t. P is given in one of three forms: a vector (its
diagonal), ensemble anomalies X with P = X^T X / (N - 1) (never formed; K by Woodbury in N x N), or
a dense matrix (a localised ensemble covariance). On a long ring a localised covariance is banded:
masf.diffusion.denoisers.ring. On large grids masf.diffusion.denoisers.local localises in another
way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, eye, like, to_numpy
from masf.diffusion.gains import OfGain, by_anomalies, by_component, by_covariance
from masf.diffusion.posterior import Posterior
from masf.diffusion.process import ForwardProcess


class GaussianDenoiser(ABC):
    """The posteriors of a Gaussian prior with mean ``mean`` (d,); their covariance C does not
    depend on x.
    """

    def __init__(self, process: ForwardProcess, mean: Array) -> None:
        self.process = process
        self.mean = mean

    def __call__(self, x: Array, t: float) -> Posterior:
        """N(D(x, t), C) for states (n, d)."""
        process = self.process
        mean = self.mean + self.gain(x - process.apply(process.A(t), self.mean), t)
        return Posterior(mean, None, partial(self.deviations, x, t))

    def deviations(self, x: Array, t: float, stream: Stream) -> Array:
        """Draws from N(0, C), one for each row of x (n, d): a prior draw less its own regression on
        its noised self.
        """
        prior = self.prior_draws(len(x), x, stream)
        noised = self.process.diffuse(prior, t, stream.normal(tuple(x.shape), x))
        return prior - self.gain(noised, t)

    @abstractmethod
    def gain(self, x: Array, t: float) -> Array:
        """K x for departures (..., d)."""

    @abstractmethod
    def through_gains(self, function: OfGain, x: Array) -> Array:
        """f(G) A(1) x for states (n, d); see masf.diffusion.gains."""

    @abstractmethod
    def posterior_variance(self, t: float) -> Array:
        """Diagonal (d,) of C."""

    @abstractmethod
    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        """n draws (n, d) from N(0, P), with the namespace of ``x``."""


class DiagonalDenoiser(GaussianDenoiser):
    """P is diagonal, given by its diagonal (d,). For observations that are masks."""

    def __init__(self, process: ForwardProcess, mean: Array, variance: Array) -> None:
        if not process.basis.standard:
            raise ValueError(
                "covariance 'diagonal' needs an observation that is a mask; use 'ensemble' or "
                "'localized'"
            )
        super().__init__(process, mean)
        self.prior_variance = variance

    def gain(self, x: Array, t: float) -> Array:
        a, sigma = like(self.process.A(t), x), like(self.process.Sigma(t), x)
        return x * (self.prior_variance * a / (a**2 * self.prior_variance + sigma))

    def through_gains(self, function: OfGain, x: Array) -> Array:
        variance = to_numpy(self.prior_variance).astype(np.float64)
        return by_component(self.process, variance, function, x)

    def posterior_variance(self, t: float) -> Array:
        a = like(self.process.A(t), self.mean)
        return self.prior_variance - self.gain(a * self.prior_variance, t)

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        return array_namespace(x).sqrt(self.prior_variance) * stream.normal((n, len(self.mean)), x)


class EnsembleDenoiser(GaussianDenoiser):
    """P = X^T X / (N - 1) of anomalies X (N, d): K = X^T ((N - 1) I + Y Sigma^(-1) Y^T)^(-1) Y
    Sigma^(-1), Y = X A.
    """

    def __init__(self, process: ForwardProcess, mean: Array, anomalies: Array) -> None:
        super().__init__(process, mean)
        self.anomalies = anomalies
        self._factors: dict[float, tuple[Array, Array]] = {}

    def _at(self, t: float) -> tuple[Array, Array]:
        """(Y Sigma^(-1) (N, d), (N - 1) I + Y Sigma^(-1) Y^T (N, N))."""
        if t not in self._factors:
            y = self.process.apply(self.process.A(t), self.anomalies)
            scaled = self.process.apply(1 / self.process.Sigma(t), y)
            n = len(y)
            self._factors[t] = scaled, (n - 1) * eye(n, y) + scaled @ y.mT
        return self._factors[t]

    def gain(self, x: Array, t: float) -> Array:
        scaled, inner = self._at(t)
        weights = array_namespace(x).linalg.solve(inner, scaled @ x.reshape(-1, x.shape[-1]).mT)
        return (weights.mT @ self.anomalies).reshape(x.shape)

    def through_gains(self, function: OfGain, x: Array) -> Array:
        return by_anomalies(self.process, self.anomalies, function, x)

    def posterior_variance(self, t: float) -> Array:
        xp = array_namespace(self.anomalies)
        return xp.sum(self.anomalies * xp.linalg.solve(self._at(t)[1], self.anomalies), axis=0)

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        count = len(self.anomalies)
        return stream.normal((n, count), x) @ self.anomalies / float(np.sqrt(count - 1))


class DenseDenoiser(GaussianDenoiser):
    """P is a dense matrix (d, d)."""

    def __init__(self, process: ForwardProcess, mean: Array, covariance: Array) -> None:
        super().__init__(process, mean)
        self.covariance = covariance
        self._known = _with_variance(process, covariance)
        self._gains: dict[float, Array] = {}
        self._variances: dict[float, Array] = {}
        self._factor: Array | None = None

    def gain_matrix(self, t: float) -> Array:
        """K (d, d)."""
        if t not in self._gains:
            xp, apply = array_namespace(self.covariance), self.process.apply
            a, sigma = self.process.A(t), self.process.Sigma(t)
            # In float64: few members, or accurate measurements, leave the matrix near singular.
            pa = apply(a, xp.astype(self.covariance, xp.float64))
            innovation_covariance = apply(a, pa.mT) + apply(sigma, eye(len(self.mean), pa))
            gain = _solved(innovation_covariance, pa.mT, self._known).mT
            prior = xp.astype(xp.linalg.diagonal(self.covariance), xp.float64)
            # The small difference of large numbers; what rounding leaves below 0 is 0.
            variance = xp.clip(prior - xp.sum(gain * pa, axis=-1), min=0.0)
            self._gains[t], self._variances[t] = (
                xp.astype(part, self.covariance.dtype) for part in (gain, variance)
            )
        return self._gains[t]

    def gain(self, x: Array, t: float) -> Array:
        return x @ self.gain_matrix(t).mT

    def through_gains(self, function: OfGain, x: Array) -> Array:
        return by_covariance(self.process, self.covariance, function, x)

    def posterior_variance(self, t: float) -> Array:
        self.gain_matrix(t)
        return self._variances[t]

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        if self._factor is None:
            # Cholesky refuses the negative eigenvalues that rounding leaves.
            xp = array_namespace(x)
            values, vectors = xp.linalg.eigh(self.covariance)
            self._factor = vectors * xp.sqrt(xp.clip(values, min=0.0))
        return stream.normal((n, len(self.mean)), x) @ self._factor.mT


def _with_variance(process: ForwardProcess, covariance: Array) -> np.ndarray | None:
    """The components of which a covariance (d, d) knows any variance, where others are there, and
    the process mixes none; as the places of an augmented state at which nothing is measured.
    """
    if not process.basis.standard:
        return None
    variance = to_numpy(array_namespace(covariance).linalg.diagonal(covariance))
    known = np.flatnonzero(variance > 0)
    return None if len(known) == len(variance) else known


def _solved(matrix: Array, columns: Array, known: np.ndarray | None) -> Array:
    """matrix^(-1) columns, both (d, d), of which rows and columns that are not ``known`` are 0, but
    for the matrix's diagonal.
    """
    xp = array_namespace(matrix)
    if known is None:
        return xp.linalg.solve(matrix, columns)
    rows = known[:, None]
    solved = xp.zeros_like(columns)
    solved[rows, known] = xp.linalg.solve(matrix[rows, known], columns[rows, known])
    return solved
