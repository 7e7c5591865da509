"""Stochastic EnKF with a hybrid of the ensemble's covariance and a static one (Hamill and Snyder
2000).

    x_i <- x_i + K (y + eta_i - H x_i)     K = P H^T (H P H^T + R)^(-1)
    P = (1 - share) rho o P_e + share c B     c = tr P_e / tr B

P_e is the ensemble's covariance, rho its Gaspari-Cohn taper, on the distance of the measurements
from the grid points and from one another as in filter enkf_localized, and B the covariance of the
model's climate (masf.ensembles.static), from a free run of the model before the first cycle. Scaled
to the ensemble's variance, c B brings the shape alone of the climate's covariance (chosen; Hamill
and Snyder scale it once and for all). Each application of B is a product in Fourier space, so
nothing of size d x d is formed; H B H^T is made once for an observation.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, centred, eye, like, slices
from masf.ensembles.inflation import inflate
from masf.ensembles.innovations import perturbed_innovations
from masf.ensembles.localization import in_grid_points, place_misfits
from masf.ensembles.static import StaticCovariance
from masf.filters.base import Filter, LocalizedParameters, linear_misfits
from masf.filters.climate import climate_states
from masf.filters.enkf_localized import MOST_MEASUREMENTS, MeasurementTaper
from masf.observations.base import Observation
from masf.systems.base import System

NUMBERS_AT_ONCE = 2**24
"""Numbers that are held in memory at a time for states that measurements are spread to."""


class HybridParameters(LocalizedParameters):
    static_share: float = Field(
        0.2, ge=0, lt=1, description="Share of the static covariance in the hybrid."
    )
    climate_steps: int = Field(
        200,
        ge=2,
        description="Steps of the free run, from the initial distribution, whose second half the "
        "static covariance is taken from.",
    )


class HybridEnKF(Filter):
    Parameters = HybridParameters

    @classmethod
    def misfits(
        cls, parameters: HybridParameters, system: System, observation: Observation
    ) -> list[str]:
        """Components without a place, measurements without one or too many of them, and those that
        are not linear.
        """
        if system.grid is None:
            return [
                "takes the covariance of a field on a periodic grid, and the components of this "
                "system have no places: leave the filter out of this experiment"
            ]
        faults = linear_misfits(observation)
        if not faults:
            faults = place_misfits(parameters.localization_radius, system, observation)
        if observation.size > MOST_MEASUREMENTS:
            faults.append(
                f"forms the covariance of {observation.size} measurements: the most is "
                f"{MOST_MEASUREMENTS}; use 'letkf', or observe fewer"
            )
        return faults

    @cached_property
    def static(self) -> StaticCovariance:
        """Of the model's climate."""
        assert self.system.grid is not None  # else it is a misfit
        states = climate_states(self.setup, self.parameters.climate_steps)
        return StaticCovariance(states, self.system.grid)

    def start(self, ensemble: Array) -> Array:
        """The ensemble as it is; the free run of the model is made now."""
        _ = self.static
        return ensemble

    def observe(self, observation: Observation) -> None:
        """Forgets what followed from another observation."""
        super().observe(observation)
        self._static_of_measurements: Array | None = None
        self._taper: MeasurementTaper | None = None
        radius, grid = self.parameters.localization_radius, self.system.grid
        if radius is not None and grid is not None:
            self._taper = MeasurementTaper(
                observation, grid, in_grid_points(radius, self.system), self.setup.initial_mean
            )

    def analyse(self, state: Array, y: Array) -> Array:
        xp, share = array_namespace(state), self.parameters.static_share
        innovations = perturbed_innovations(state, y, self.observation, self.stream)
        _, anomalies = centred(state)
        _, observed = centred(self.observation.apply(state))
        exact = xp.astype(observed, xp.float64)
        of_ensemble = exact.mT @ exact / (len(state) - 1)
        if self._taper is not None:
            of_ensemble = self._taper.tapered(of_ensemble)
        variance = float(xp.sum(anomalies**2)) / (len(state) - 1) / anomalies.shape[1]
        weight = share * variance / self.static.variance
        covariance = (1 - share) * of_ensemble + weight * self._measured_static(exact)
        # Scaled by the noise, as elsewhere: their units may be far apart.
        whiten = self.observation.noise.whiten
        inner = whiten(whiten(covariance).mT) + eye(self.observation.size, exact)
        solved = xp.linalg.solve(inner, whiten(xp.astype(innovations, xp.float64)).mT)
        # R^(-1/2)^T of what was solved, for R^(-1/2) is its own transpose.
        weights = whiten(solved.mT).mT
        increments = self._spread(anomalies, observed, weights)
        static = self.static.times(self.observation.adjoint(xp.astype(weights.mT, state.dtype)))
        moved = state + (1 - share) * increments + weight * static
        return inflate(moved, self.parameters.inflation)

    def _spread(self, anomalies: Array, observed: Array, weights: Array) -> Array:
        """The ensemble's (tapered) P H^T times ``weights`` (m, N): (N, d)."""
        if self._taper is not None:
            return self._taper.spread(anomalies, observed, weights)
        xp = array_namespace(anomalies)
        exact = xp.astype(observed, xp.float64) @ weights / (len(anomalies) - 1)
        return xp.astype(exact, anomalies.dtype).mT @ anomalies

    def _measured_static(self, exact: Array) -> Array:
        """H B H^T (m, m), in float64 as ``exact`` is."""
        if self._static_of_measurements is None:
            xp, x = array_namespace(exact), self.setup.initial_mean
            m, d = self.observation.size, self.observation.dimension
            rows = np.eye(m)
            parts = [
                self.observation.apply(
                    self.static.times(self.observation.adjoint(like(rows[some], x)))
                )
                for some in slices(m, NUMBERS_AT_ONCE // (4 * d))
            ]
            found = xp.astype(xp.concat(parts), xp.float64)
            self._static_of_measurements = (found + found.mT) / 2
        return self._static_of_measurements


filter = HybridEnKF
