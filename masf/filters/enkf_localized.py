"""Stochastic EnKF with a localised covariance (Houtekamer and Mitchell 2001): P is tapered element
by element.

    x_i <- x_i + K (y + eta_i - H x_i)     K = P H^T (H P H^T + R)^(-1)
    P = rho o X^T X / (N - 1)

rho is the Gaspari-Cohn taper in the space of the state, so any H is served. That forms P. For
states too long for it, on grids of more than one axis, and for measurements that are not linear
(H P H^T and P H^T are then those of the members' h(x_i)), the taper is on the distance of the
measurements from the grid points and from one another,

    K = (rho o P H^T) (rho o H P H^T + R)^(-1)     P = X^T X / (N - 1),

which is the same where H is a mask; of rho o P H^T only the pairs of points and measurements are
formed that are near.
"""

from __future__ import annotations

from functools import cached_property

from array_api_compat import array_namespace, device

from masf.arrays import Array, centred, eye, like, slices
from masf.ensembles.inflation import inflate
from masf.ensembles.innovations import perturbed_innovations
from masf.ensembles.localization import (
    gaspari_cohn,
    in_grid_points,
    local_observations,
    make_taper,
    place_misfits,
    radius_misfits,
    tapers_by_convolution,
    torus_distances,
)
from masf.filters.base import Filter, LocalizedParameters
from masf.filters.enkf import enkf_increments
from masf.observations.base import Observation, checked_places
from masf.systems.base import System

MOST_MEASUREMENTS = 6_000
"""The most measurements whose covariance is formed."""
NUMBERS_AT_ONCE = 2**24
"""Numbers that are held in memory at a time for pairs of points and measurements."""


def localized_increments(
    ensemble: Array, innovations: Array, observation: Observation, taper: Array
) -> Array:
    """K (innovations) (N, d) for innovations (N, m), with the ensemble's covariance times ``taper``
    (d, d).
    """
    xp = array_namespace(ensemble)
    _, anomalies = centred(ensemble)
    covariance = anomalies.mT @ anomalies / (len(ensemble) - 1) * taper
    # Whitened and in float64: accurate measurements of the same thing leave it near singular.
    whiten = observation.noise.whiten
    cross = whiten(observation.apply(xp.astype(covariance, xp.float64)))
    innovation_covariance = whiten(observation.apply(cross.mT)) + eye(observation.size, cross)
    whitened = whiten(xp.astype(innovations, xp.float64))
    increments = xp.linalg.solve(innovation_covariance, whitened.mT).mT @ cross.mT
    return xp.astype(increments, ensemble.dtype)


def localizes_measurements(system: System, observation: Observation) -> bool:
    """Whether the taper is on the distances of measurements, not in the space of the state."""
    return not observation.linear or tapers_by_convolution(system)


class MeasurementTaper:
    """The taper between grid points and measurements, and between measurements.

    Attributes:
        near: (P, k) the measurements near each point.
        weights: (P, k) their tapers.
        between: (m, m) tapers between the measurements.
    """

    def __init__(
        self, observation: Observation, grid: tuple[int, ...], radius: float, x: Array
    ) -> None:
        """``x`` gives namespace, dtype and device; ``radius`` is half of the taper's support, in
        grid points. Raises ValueError for a measurement without a place.
        """
        places = checked_places(observation, grid)
        near, weights = local_observations(places, grid, radius)
        self.near, self.weights = (
            array_namespace(x).asarray(near, device=device(x)),
            like(weights, x),
        )
        self.between = like(gaspari_cohn(torus_distances(places, places, grid), radius), x)

    def increments(self, ensemble: Array, innovations: Array, observation: Observation) -> Array:
        """K (innovations) (N, d) for innovations (N, m)."""
        xp = array_namespace(ensemble)
        _, anomalies = centred(ensemble)
        _, observed = centred(observation.apply(ensemble))
        # In float64, as above; not whitened, because the taper is between measurements.
        exact = xp.astype(observed, xp.float64)
        covariance = self.tapered(exact.mT @ exact / (len(ensemble) - 1))
        covariance = covariance + like(observation.noise.covariance, exact)
        solved = xp.linalg.solve(covariance, xp.astype(innovations, xp.float64).mT)
        return self.spread(anomalies, observed, solved)

    def tapered(self, covariance: Array) -> Array:
        """A covariance (m, m) of the measurements, tapered."""
        return array_namespace(covariance).astype(self.between, covariance.dtype) * covariance

    def spread(self, anomalies: Array, observed: Array, weights: Array) -> Array:
        """(rho o P H^T) times ``weights`` (m, N), in float64, with the ensemble's P H^T of
        ``anomalies`` (N, d) and what is ``observed`` of them (N, m): (N, d).
        """
        xp = array_namespace(anomalies)
        n, points = len(anomalies), len(self.near)
        at_points = xp.permute_dims(anomalies.reshape(n, -1, points), (2, 1, 0))
        parts = []
        for part in slices(points, NUMBERS_AT_ONCE // (3 * n * self.near.shape[1])):
            near = self.near[part]
            # (points, fields, k) covariances of fields and measurements, times (points, k, N).
            cross = (
                at_points[part]
                @ xp.permute_dims(observed.mT[near], (0, 2, 1))
                * self.weights[part, None]
            )
            # Their terms cancel where measurements are of the same thing.
            parts.append(xp.astype(xp.astype(cross, xp.float64) @ weights[near], anomalies.dtype))
        return xp.permute_dims(xp.concat(parts), (2, 1, 0)).reshape(anomalies.shape) / (n - 1)


class LocalizedEnKF(Filter):
    Parameters = LocalizedParameters

    @cached_property
    def taper(self) -> Array | None:
        """Of the state's components; None tapers nothing."""
        return make_taper(self.system, self.parameters.localization_radius, self.setup.initial_mean)

    def observe(self, observation: Observation) -> None:
        """Finds the measurements near each point, where the taper is theirs."""
        super().observe(observation)
        self.near = None
        radius = self.parameters.localization_radius
        if radius is not None and localizes_measurements(self.system, observation):
            assert self.system.grid is not None  # else it is a misfit
            self.near = MeasurementTaper(
                observation,
                self.system.grid,
                in_grid_points(radius, self.system),
                self.setup.initial_mean,
            )

    @classmethod
    def misfits(
        cls, parameters: LocalizedParameters, system: System, observation: Observation
    ) -> list[str]:
        """Components without a place; where measurements are localised, those without a place or
        too many of them.
        """
        radius = parameters.localization_radius
        if radius is None or not localizes_measurements(system, observation):
            return radius_misfits(radius, system)
        faults = place_misfits(radius, system, observation)
        if observation.size > MOST_MEASUREMENTS:
            faults.append(
                f"localization_radius = {radius}: forms the covariance of {observation.size} "
                "measurements: the most is "
                f"{MOST_MEASUREMENTS}; use 'letkf', or observe fewer"
            )
        return faults

    def analyse(self, state: Array, y: Array) -> Array:
        innovations = perturbed_innovations(state, y, self.observation, self.stream)
        if self.near is not None:  # then no taper of the state is made
            increments = self.near.increments(state, innovations, self.observation)
        elif self.taper is None:
            increments = enkf_increments(state, innovations, self.observation)
        else:
            increments = localized_increments(state, innovations, self.observation, self.taper)
        return inflate(state + increments, self.parameters.inflation)


filter = LocalizedEnKF
