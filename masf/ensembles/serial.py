"""Measurements taken one after another (Houtekamer and Mitchell 2001): each with what is near it,
and those that are far apart at once.

A measurement changes the components near it, and what members would measure near it, which later
measurements see. These are rows of one array in float64: the d components, then the m departures
R^(-1/2) (h(x) - y), whose errors are independent and which keep their measurements' places, then a
row for padding. Two measurements whose neighbourhoods share nothing are the same in either order,
and so are taken together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, like
from masf.ensembles.localization import (
    SMALLEST_WEIGHT,
    gaspari_cohn,
    in_grid_points,
    local_observations,
    place_misfits,
    torus_distances,
)
from masf.observations.base import Observation, checked_places
from masf.systems.base import System

MOST_MEASUREMENTS = 6_000
"""The most measurements whose distances from one another are held in memory."""


@dataclass(frozen=True)
class Group:
    """b measurements that are taken together.

    Attributes:
        own: (b,) their rows.
        rows: (b, K) the rows near each; padded by the last row.
        tapers: (b, K) of the distances, in float64; 0 where padded.
    """

    own: Array
    rows: Array
    tapers: Array


def joined(ensemble: Array, y: Array, observation: Observation) -> Array:
    """The rows (d + m + 1, N) of an ensemble (N, d) and a measurement (m,)."""
    xp = array_namespace(ensemble)
    # The difference first: whitened, large numbers would lose the digits that it needs.
    departures = observation.noise.whiten(xp.astype(observation.apply(ensemble) - y, xp.float64))
    ensemble = xp.astype(ensemble, xp.float64)
    return xp.concat([ensemble.mT, departures.mT, xp.zeros_like(ensemble[:, :1]).mT])


def grouped(conflicts: np.ndarray) -> list[np.ndarray]:
    """Groups of measurements, none of which is in conflict with another of its group, by the
    symmetric matrix (m, m) of conflicts; each measurement joins the first group that it may.
    """
    group = np.zeros(len(conflicts), dtype=np.int64)
    for i in range(1, len(conflicts)):
        taken = np.zeros(i + 1, dtype=bool)
        taken[group[:i][conflicts[i, :i]]] = True
        group[i] = np.argmin(taken)
    return [np.flatnonzero(group == g) for g in range(int(group.max(initial=-1)) + 1)]


def groups_of(
    observation: Observation, system: System, radius: float | None, x: Array
) -> list[Group]:
    """The measurements of an observation in the order in which they are taken.

    Args:
        observation: m measurements of states (d,).
        system: with a grid, where there is a radius (``serial_misfits``).
        radius: half of the Gaspari-Cohn taper's support, in the system's unit of length; None
            tapers nothing.
        x: gives namespace and device.
    """
    d, m = observation.dimension, observation.size
    xp = array_namespace(x)

    def group(measurements: np.ndarray, rows: np.ndarray, tapers: np.ndarray) -> Group:
        to = device(x)
        own, near = (xp.asarray(a, device=to) for a in (d + measurements, rows))
        return Group(own, near, like(tapers, xp.astype(x, xp.float64)))

    if radius is None:
        everything = np.arange(d + m)[None]
        return [group(np.array([i]), everything, np.ones(everything.shape)) for i in range(m)]
    assert system.grid is not None  # else it is a misfit
    radius = in_grid_points(radius, system)
    places = checked_places(observation, system.grid)
    distances = torus_distances(places, places, system.grid)
    rows, tapers = _neighbours(observation, system.grid, radius, places, distances)
    groups = []
    for members in grouped(distances < 4 * radius):
        longest = int(np.max(np.count_nonzero(tapers[members], axis=1)))
        groups.append(group(members, rows[members, :longest], tapers[members, :longest]))
    return groups


def _neighbours(
    observation: Observation,
    grid: tuple[int, ...],
    radius: float,
    places: np.ndarray,
    distances: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The rows near each measurement, and their tapers: (m, K) each, padded by the last row."""
    d, m = observation.dimension, observation.size
    points = int(np.prod(grid))
    near, weights = local_observations(places, grid, radius)
    point, slot = np.nonzero(weights)
    between = gaspari_cohn(distances, radius)
    one, other = np.nonzero(between > SMALLEST_WEIGHT)
    fields = d // points
    measurement = np.concatenate([np.tile(near[point, slot], fields), one])
    row = np.concatenate([(np.arange(fields)[:, None] * points + point).ravel(), d + other])
    taper = np.concatenate([np.tile(weights[point, slot], fields), between[one, other]])
    order = np.argsort(measurement, kind="stable")
    measurement, row, taper = measurement[order], row[order], taper[order]
    counts = np.bincount(measurement, minlength=m)
    position = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.full((m, int(counts.max(initial=1))), d + m)
    tapers = np.zeros(rows.shape)
    rows[measurement, position], tapers[measurement, position] = row, taper
    return rows, tapers


def serial_misfits(radius: float | None, system: System, observation: Observation) -> list[str]:
    """Why a filter's ``localization_radius`` does not suit a system and an observation:
    components or measurements without a place, or too many measurements.
    """
    faults = place_misfits(radius, system, observation)
    if observation.size > MOST_MEASUREMENTS:
        faults.append(
            f"takes {observation.size} measurements one after another: the most is "
            f"{MOST_MEASUREMENTS}; use 'letkf', or observe fewer"
        )
    return faults
