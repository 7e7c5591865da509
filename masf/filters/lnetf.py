"""Local nonlinear ensemble transform filter (Tödter and Ahrens 2015): the mean and covariance of a
particle filter's weights, by a transform that moves members and copies none.

    x_i <- mean(x) + sum_j w_j X_j + sqrt(N) sum_j T_ij X_j     T = (diag(w) - w w^T)^(1/2)
    w_j ~ p(y | x_j), sum_j w_j = 1

X are the anomalies (N, d). The analysis has the mean sum_j w_j x_j and the covariance sum_j w_j
(x_j - mean)(x_j - mean)^T of the weighted members, divided by N as there; no moment beyond the
second is kept. Where weights are equal, T takes the members as they are. A random rotation of the
anomalies, the same everywhere, is the source's.

It is localised as the LETKF is: each block of points has weights and a transform of its own, by the
measurements near it, their squared innovations multiplied by the taper.

Weights of few members degenerate. ``noise_factor`` multiplies the noise's standard deviation in
them: not in the source, and what DAPPER's settings of this filter need (``Rs``).
"""

from __future__ import annotations

import math
from typing import ClassVar

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, eye, softmax
from masf.filters.letkf import LETKF, LETKFParameters


class LNETFParameters(LETKFParameters):
    rotation: bool = Field(
        True, description="Rotate the analysis anomalies at random, keeping mean and covariance."
    )
    noise_factor: float = Field(
        1.0,
        ge=1,
        le=100,
        description="Factor on the standard deviation of the noise, in the weights.",
    )


def likelihood_weights(observed: Array, innovation: Array) -> Array:
    """Normalised weights (..., N), in float64, of members with whitened anomalies (..., N, m) of
    the measurements, whose mean has the whitened innovation (..., m).
    """
    xp = array_namespace(observed)
    departures = xp.astype(innovation[..., None, :] - observed, xp.float64)
    return softmax(-0.5 * xp.sum(departures**2, axis=-1))


def weighted_update(anomalies: Array, weights: Array) -> tuple[Array, Array]:
    """The increment of the mean (..., f), and the anomalies (..., N, f), of an ensemble with the
    mean and covariance of weighted members.

    Args:
        anomalies: (..., N, f); leading axes are independent problems.
        weights: (..., N) in float64, of sum 1.
    """
    xp = array_namespace(anomalies)
    n = weights.shape[-1]
    root_weights = xp.sqrt(weights)
    # diag(w) - w w^T = diag(r) (I - r r^T) diag(r): small weights keep their digits.
    projection = eye(n, weights) - root_weights[..., :, None] * root_weights[..., None, :]
    values, vectors = xp.linalg.eigh(
        root_weights[..., :, None] * projection * root_weights[..., None, :]
    )
    roots = xp.sqrt(n * xp.clip(values, min=0.0))
    vectors, roots, weights = (xp.astype(a, anomalies.dtype) for a in (vectors, roots, weights))
    transformed = vectors @ (roots[..., None] * (vectors.mT @ anomalies))
    return (weights[..., None, :] @ anomalies)[..., 0, :], transformed


class LNETF(LETKF):
    Parameters: ClassVar[type[LNETFParameters]] = LNETFParameters
    square = True

    _effective_size = math.nan

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        self._sizes: list[Array] = []
        found = super().update(anomalies, observed, innovation)
        self._effective_size = float(array_namespace(anomalies).concat(self._sizes).mean())
        return found

    def update_domains(
        self, anomalies: Array, observed: Array, innovation: Array
    ) -> tuple[Array, Array]:
        factor = self.parameters.noise_factor
        weights = likelihood_weights(observed / factor, innovation / factor)
        self._sizes.append(1 / (weights**2).sum(-1))
        return weighted_update(anomalies, weights)

    def diagnostics(self) -> dict[str, float]:
        """The effective number of members in the last analysis, 1 / sum_j w_j^2, averaged over
        domains.
        """
        return {"effective_size": self._effective_size}


filter = LNETF
