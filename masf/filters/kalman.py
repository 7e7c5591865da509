"""The Kalman filter (Kalman 1960): the exact posterior N(m, P) of a linear Gaussian system.

    m <- M m               P <- M P M^T + q^2 I                              forecast
    m <- m + K (y - H m)   P <- (I - K H) P (I - K H)^T + K R K^T            analysis

with K = P H^T (H P H^T + R)^(-1).

In float64 and numpy throughout, because it is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from masf.arrays import Array, like, to_numpy
from masf.filters.base import Filter, FilterParameters, Setup, linear_misfits
from masf.observations.base import Observation
from masf.systems.base import System
from masf.systems.linear_gaussian import LinearGaussian


@dataclass(frozen=True)
class Gaussian:
    """N(mean (d,), covariance (d, d))."""

    mean: np.ndarray
    covariance: np.ndarray


class KalmanParameters(FilterParameters):
    draws: int = Field(
        100, ge=2, description="Draws from the posterior with which ensemble scores are computed."
    )


def kalman_update(prior: Gaussian, y: np.ndarray, h: np.ndarray, r: np.ndarray) -> Gaussian:
    """The posterior given y (m,), with H (m, d) and R (m, m); covariance in Joseph's form."""
    gain = np.linalg.solve(h @ prior.covariance @ h.T + r, h @ prior.covariance).T
    keep = np.eye(len(prior.mean)) - gain @ h
    return Gaussian(
        prior.mean + gain @ (y - h @ prior.mean),
        keep @ prior.covariance @ keep.T + gain @ r @ gain.T,
    )


class Kalman(Filter):
    Parameters = KalmanParameters
    missing = "reduced"

    def __init__(self, parameters: KalmanParameters, setup: Setup) -> None:
        super().__init__(parameters, setup)
        assert isinstance(setup.system, LinearGaussian)  # others are misfits
        self.model = setup.system.matrix
        self.model_variance = setup.system.parameters.model_noise**2

    @classmethod
    def misfits(
        cls, parameters: KalmanParameters, system: System, observation: Observation
    ) -> list[str]:
        """Systems whose matrix is not known, and measurements that have none."""
        faults = linear_misfits(observation)
        if not isinstance(system, LinearGaussian):
            faults.append(
                "'kalman' is for linear systems only: use system 'linear_gaussian', or leave the "
                "filter out of this experiment"
            )
        return faults

    def start(self, ensemble: Array) -> Gaussian:
        """The initial distribution itself, not the ensemble drawn from it; where nothing else is
        known of it, the ensemble's mean and covariance.
        """
        mean = to_numpy(self.setup.initial_mean).astype(np.float64)
        spread = self.setup.initial_spread
        if spread is not None:
            return Gaussian(mean, spread**2 * np.eye(len(mean)))
        anomalies = to_numpy(self.setup.initial_anomalies).astype(np.float64)
        return Gaussian(mean, anomalies.T @ anomalies / (len(anomalies) - 1))

    def forecast(self, state: Gaussian) -> Gaussian:
        covariance = self.model @ state.covariance @ self.model.T + self.model_variance * np.eye(
            len(state.mean)
        )
        return Gaussian(self.model @ state.mean, covariance)

    def analyse(self, state: Gaussian, y: Array) -> Gaussian:
        return kalman_update(
            state,
            to_numpy(y).astype(np.float64),
            self.observation.matrix,
            self.observation.noise.covariance,
        )

    def moments(self, state: Gaussian) -> tuple[Array, Array]:
        x = self.setup.initial_mean
        return like(state.mean, x), like(np.sqrt(np.diag(state.covariance)), x)

    def covariance(self, state: Gaussian) -> Array:
        return like(state.covariance, self.setup.initial_mean)

    def members(self, state: Gaussian) -> Array:
        x = self.setup.initial_mean
        # Few members have a covariance that is singular, which Cholesky refuses.
        values, vectors = np.linalg.eigh(state.covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
        return like(state.mean, x) + self.stream.normal(
            (self.parameters.draws, len(state.mean)), x
        ) @ like(factor.T, x)


filter = Kalman
