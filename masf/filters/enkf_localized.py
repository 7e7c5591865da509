"""Stochastic EnKF with a localised covariance (Houtekamer and Mitchell 2001): P is tapered element by element.

    x_i <- x_i + K (y + eta_i - H x_i)     K = P H^T (H P H^T + R)^(-1)     P = rho o X^T X / (N - 1)

rho is the Gaspari-Cohn taper in the space of the state, so any H is served. P is formed: for d up to a few thousand.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, like
from masf.filters.base import Filter, LocalizedParameters, Setup, inflate, perturbed_innovations
from masf.localization import taper_matrix
from masf.observations import Observation


def localized_increments(ensemble: Array, innovations: Array, observation: Observation, taper: Array | None) -> Array:
    """K (innovations) (N, d) for innovations (N, m), with the ensemble's covariance times ``taper`` (d, d)."""
    xp = array_namespace(ensemble)
    anomalies = ensemble - xp.mean(ensemble, axis=0)
    covariance = anomalies.mT @ anomalies / (len(ensemble) - 1)
    if taper is not None:
        covariance = covariance * taper
    cross = observation.apply(covariance)
    innovation_covariance = observation.apply(cross.mT) + like(observation.covariance, ensemble)
    return xp.linalg.solve(innovation_covariance, innovations.mT).mT @ cross.mT


class LocalizedEnKF(Filter):
    Parameters = LocalizedParameters

    def __init__(self, parameters: LocalizedParameters, setup: Setup) -> None:
        super().__init__(parameters, setup)
        taper = taper_matrix(setup.system, parameters.localization_radius)
        self.taper = None if taper is None else like(taper, setup.initial_mean)

    def analyse(self, state: Array, y: Array) -> Array:
        innovations = perturbed_innovations(state, y, self.observation, self.stream)
        increments = localized_increments(state, innovations, self.observation, self.taper)
        return inflate(state + increments, self.parameters.inflation)


filter = LocalizedEnKF
