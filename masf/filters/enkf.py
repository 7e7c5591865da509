"""Stochastic ensemble Kalman filter with perturbed observations (Burgers, van Leeuwen, Evensen
1998).

    x_i <- x_i + K (y + eta_i - H x_i)     K = P H^T (H P H^T + R)^(-1)     eta_i ~ N(0, R)

With X the anomalies (N, d) of the members and Z those (N, m) of what they would measure, P H^T =
X^T Z / (N - 1) and H P H^T = Z^T Z / (N - 1): nothing of size d x d is formed. For measurements
h(x) that are not linear the same formulas serve, with h(x_i) for H x_i. Where there are more
measurements than members, the Woodbury identity gives the same gain from an N x N system.
Measurements are whitened and the system is solved in float64: accurate measurements of the same
thing leave it near singular, and their units may be far apart. The
perturbations eta_i are centred, so that they do not move the mean.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, centred, eye
from masf.ensembles.inflation import inflate
from masf.ensembles.innovations import perturbed_innovations
from masf.filters.base import EnsembleParameters, Filter
from masf.observations.base import Observation


def enkf_increments(ensemble: Array, innovations: Array, observation: Observation) -> Array:
    """K (innovations) (N, d) for innovations (N, m), with the ensemble's covariance."""
    xp = array_namespace(ensemble)
    n, m = len(ensemble), observation.size
    _, anomalies = centred(ensemble)
    _, observed = centred(observation.apply(ensemble))
    observed, innovations = (
        observation.noise.whiten(xp.astype(part, xp.float64)) for part in (observed, innovations)
    )
    if m <= n:
        inner = (n - 1) * eye(m, observed) + observed.mT @ observed
        weights = observed @ xp.linalg.solve(inner, innovations.mT)
    else:
        inner = (n - 1) * eye(n, observed) + observed @ observed.mT
        weights = xp.linalg.solve(inner, observed @ innovations.mT)
    return xp.astype(weights.mT @ xp.astype(anomalies, xp.float64), ensemble.dtype)


class EnKF(Filter):
    Parameters = EnsembleParameters

    def analyse(self, state: Array, y: Array) -> Array:
        innovations = perturbed_innovations(state, y, self.observation, self.stream)
        return inflate(
            state + enkf_increments(state, innovations, self.observation), self.parameters.inflation
        )


filter = EnKF
