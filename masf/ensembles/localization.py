"""Localisation: tapering sample covariances, or the weights of observations, with distance on a
periodic grid.

A radius is half of the support of the Gaspari-Cohn taper. What is given a system takes it in the
system's unit of length (``System.spacing``: grid points, unless the system has another), so that it
is the same length on any grid; what is given a bare grid takes it in grid points. DAPPER's
``loc_rad`` is radius / 1.82, the Gaussian length scale.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, like, slices
from masf.faults import ContractFault
from masf.observations.base import Observation, checked_places
from masf.systems.base import System

SMALLEST_WEIGHT = 1e-3
"""Observations with no more weight than this are left out, as in DAPPER: they cost time and tell
nothing.
"""
MAX_DENSE_DIMENSION = 2_000
"""The longest state whose covariance is formed and tapered as a matrix."""
MOST_DOMAINS = 20
"""Radii beyond so many times the longest side of a periodic grid taper nothing: summed over its
images, the taper then differs from 1 by less than float32's spacing (measured: 9e-8 on a ring).
"""
DISTANCES_AT_ONCE = 2**22
"""Distances that are held in memory at a time."""


def gaspari_cohn(distances: np.ndarray, radius: float) -> np.ndarray:
    """The fifth-order compactly supported correlation of Gaspari and Cohn (1999), eq. 4.10.

    Args:
        distances: any shape, in grid points.
        radius: half of the support: the taper is 5/24 at ``radius`` and 0 from 2 ``radius`` on.
    """
    z = np.abs(distances) / radius
    inner = (((-z / 4 + 1 / 2) * z + 5 / 8) * z - 5 / 3) * z**2 + 1
    outer = (
        ((((z / 12 - 1 / 2) * z + 5 / 8) * z + 5 / 3) * z - 5) * z
        + 4
        - 2 / (3 * np.maximum(z, 1.0))
    )
    return np.where(z <= 1, inner, np.where(z < 2, outer, 0.0))


def taper_row(grid: tuple[int, ...], radius: float) -> np.ndarray:
    """The Gaspari-Cohn taper (*grid) between the first point of a periodic grid and all its points.

    A support longer than the grid would overlap itself and leave negative eigenvalues. The taper is
    therefore wrapped around the grid (the sum over its periodic images, a correlation at any
    radius) and scaled to 1 at distance 0; up to a radius of a quarter of the shortest side this
    changes nothing. Beyond ``MOST_DOMAINS`` times the longest side it is 1 everywhere in float32,
    which is no localisation, and no image is summed.
    """
    if radius > MOST_DOMAINS * max(grid):
        return np.ones(grid)
    axes = []
    for n in grid:
        turns = int(np.ceil(2 * radius / n))
        axes.append((np.arange(n) + n * np.arange(-turns - 1, turns + 1)[:, None]) ** 2)
    # Images along one axis are taken one at a time: together they are many times the grid.
    row = np.zeros(grid)
    for squares in axes[0]:
        for other in axes[1:]:
            squares = np.add.outer(squares, other)
        images = tuple(range(1, squares.ndim, 2))
        row += gaspari_cohn(np.sqrt(squares), radius).sum(axis=images)
    return row / row.flat[0]


def grid_taper(grid: tuple[int, ...], radius: float) -> np.ndarray:
    """The taper (P, P) between the P points of a periodic grid, for the covariance (Houtekamer and
    Mitchell 2001).
    """
    row = taper_row(grid, radius).ravel()
    points = np.stack(np.unravel_index(np.arange(len(row)), grid))
    offsets = points[:, :, None] - points[:, None, :]
    return row[np.ravel_multi_index(tuple(offsets), grid, mode="wrap")]


def in_grid_points(radius: float, system: System) -> float:
    """A radius in the unit of length of ``system``, in points of its grid."""
    return radius / system.spacing


def taper_matrix(
    system: System, radius: float | None, fields: int | None = None
) -> np.ndarray | None:
    """The taper (d, d) for so many fields on a system's grid, by default for its own components;
    None where there is nothing to localise.

    Raises:
        ValueError: if a radius is asked for where components have no place in space.
    """
    if radius is None:
        return None
    if system.grid is None:
        raise ValueError(*radius_misfits(radius, system))
    taper = grid_taper(system.grid, in_grid_points(radius, system))
    fields = fields or system.dimension // len(taper)
    return np.tile(taper, (fields, fields))


class GridTaper:
    """The taper of a periodic grid as a convolution, for states too long for a matrix."""

    def __init__(self, grid: tuple[int, ...], radius: float, x: Array) -> None:
        """``x`` gives namespace, dtype and device."""
        self.grid, self.radius = grid, radius
        self._axes = tuple(range(-len(grid), 0))
        # The row is even, so its spectrum is real.
        self._spectrum = like(np.fft.rfftn(taper_row(grid, radius)).real, x)

    @property
    def points(self) -> int:
        """Points P of the grid."""
        return math.prod(self.grid)

    def sums(self, x: Array) -> Array:
        """At each point i of the grid, the sum over all points j of taper(i - j) x_j, for x (...,
        P).
        """
        fft = array_namespace(x).fft
        spectrum = fft.rfftn(x.reshape(*x.shape[:-1], *self.grid), axes=self._axes)
        return fft.irfftn(spectrum * self._spectrum, s=self.grid, axes=self._axes).reshape(x.shape)


def tapers_by_convolution(system: System, fields: int | None = None) -> bool:
    """Whether the taper of states on a system's grid is a convolution, as they are too long for a
    matrix or not on a ring: of states of so many fields, by default of the system's own.
    """
    if system.grid is None:
        return False
    length = system.dimension if fields is None else fields * math.prod(system.grid)
    return len(system.grid) > 1 or length > MAX_DENSE_DIMENSION


def make_taper(
    system: System, radius: float | None, x: Array, fields: int | None = None
) -> Array | GridTaper | None:
    """The taper of Gaussian denoisers of states on a system's grid; None tapers nothing.

    On a ring of up to MAX_DENSE_DIMENSION components it is the matrix (d, d) that tapers a
    covariance. On longer ones, and on grids of more axes, it is a convolution, which tapers the
    weights of what is near a point (masf.diffusion.denoisers.local).

    Args:
        system: has the grid.
        radius: half of the taper's support, in the system's unit of length, or None.
        x: gives namespace, dtype and device.
        fields: that a state has, by default those of the system; all of a point are tapered alike.

    Raises:
        ValueError: if a radius is asked for where components have no place in space.
    """
    if radius is not None and system.grid is not None and tapers_by_convolution(system, fields):
        return GridTaper(system.grid, in_grid_points(radius, system), x)
    taper = taper_matrix(system, radius, fields)
    return None if taper is None else like(taper, x)


def radius_misfits(
    radius: float | None, system: System, key: str = "localization_radius"
) -> list[str]:
    """Why a filter's ``radius``, its parameter ``key``, does not suit a system: where components
    have no place in space, or where the system has a unit of length, and twice the radius is longer
    than the box, as that of one in grid points would be.
    """
    if radius is None:
        return []
    if system.grid is not None:
        side = max(system.grid) * system.spacing
        if system.spacing == 1.0 or 2 * radius <= side:
            return []
        return [
            f"{key} = {radius:g}: is a length, and the box of this system is {side:.3g} across: it "
            f"must be at most half of that; for {radius:g} grid points set it to "
            f"{radius * system.spacing:.2g}, for no localisation to null"
        ]
    return [f"{key} = {radius}: the components of this system have no distances; set it to null"]


def place_misfits(
    radius: float | None,
    system: System,
    observation: Observation,
    key: str = "localization_radius",
) -> list[str]:
    """As ``radius_misfits``, for filters that localise by where the measurements sit: those need a
    place, too.
    """
    faults = radius_misfits(radius, system, key)
    if radius is None or system.grid is None or faults:
        return faults
    try:
        checked_places(observation, system.grid)
    except ContractFault as fault:
        return [f"{key} = {radius}: {fault}"]
    except ValueError as error:  # without a place there is another way
        return [f"{key} = {radius}: {error}; or set it to null"]
    return []


def taper_misfits(
    radius: float | None,
    system: System,
    observation: Observation,
    key: str = "localization_radius",
) -> list[str]:
    """As ``radius_misfits``, for filters that taper a covariance: where the measurement is not
    linear it is that with what is measured, which needs a place, too.
    """
    if observation.linear:
        return radius_misfits(radius, system, key)
    return place_misfits(radius, system, observation, key)


TAPERS_NOTHING = 4
"""Radius, in the distance of the points that are farthest apart, from which no taper is below
0.9.
"""


def radius_doubts(
    radius: float | None, system: System, members: int, key: str = "localization_radius"
) -> list[str]:
    """What speaks against a radius where a system has distances: that the taper ends before the
    next grid point, as that of a radius in another unit may; or that there is none, radius None, or
    as good as none, with fewer members than half the components. With more, tuning has found no
    taper to be best (ienks, Lorenz-96).
    """
    if system.grid is None:
        return []
    if radius is not None and 2 * in_grid_points(radius, system) <= 1:
        return [
            f"{key} = {radius:g}: the taper ends at twice that, before the next grid point, which "
            f"is {system.spacing:g} away: each point is analysed by what is measured at it alone; "
            "set it to a longer length"
        ]
    farthest = math.hypot(*(n / 2 for n in system.grid)) * system.spacing
    if radius is None:
        untapered, remedy = "null", "a length"
    elif radius >= TAPERS_NOTHING * farthest:
        untapered = f"{radius:g}, where no points are further apart than {farthest:.3g}"
        remedy = "a shorter length"
    else:
        return []
    if 2 * members >= system.dimension:
        return []
    return [
        f"{key} = {untapered}: {members} members do not span {system.dimension} components, and "
        f"what they say of points far apart is chance that nothing tapers; set it to {remedy}"
    ]


def torus_distances(a: np.ndarray, b: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Distances (m, k), the shorter way round, of places (m, axes) and (k, axes) on a periodic grid
    of these lengths.
    """
    steps = np.abs(a[:, None] - b)
    return np.sqrt((np.minimum(steps, np.asarray(grid) - steps) ** 2).sum(axis=-1))


def local_observations(
    places: np.ndarray, grid: tuple[int, ...], radius: float, block: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The measurements near each grid point, and their Gaspari-Cohn weights: indices and weights,
    each (P, k).

    k is the most measurements that a point has; points with fewer have weights 0 at the end. With
    blocks of more than one point along each axis, it is the centre of each of the P blocks that
    they are near.

    Args:
        places: (m, axes) where the measurements sit.
        grid: its lengths; distances are taken on the torus.
        radius: half of the taper's support, in grid points.
        block: points of a block along each axis; it divides every length of the grid.
    """
    coarse = tuple(n // block for n in grid)
    points, found = math.prod(coarse), []
    for some in slices(points, DISTANCES_AT_ONCE // len(places)):
        coordinates = np.unravel_index(np.arange(points)[some], coarse)
        squares = np.zeros(())
        for n, place, coordinate in zip(grid, places.T, coordinates, strict=True):
            rows, row = np.unique(coordinate, return_inverse=True)
            steps = np.abs((rows * block + (block - 1) / 2)[:, None] - place) % n
            squares = squares + (np.minimum(steps, n - steps) ** 2)[row]
        distances = np.sqrt(squares)
        point, measurement = np.nonzero(distances < 2 * radius)
        weights = gaspari_cohn(distances[point, measurement], radius)
        kept = weights > SMALLEST_WEIGHT
        found.append((some.start + point[kept], measurement[kept], weights[kept]))
    point, measurement, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
    counts = np.bincount(point, minlength=points)
    position = np.arange(len(point)) - np.repeat(np.cumsum(counts) - counts, counts)
    indices = np.zeros((points, max(1, counts.max())), dtype=np.int64)
    local_weights = np.zeros(indices.shape)
    indices[point, position], local_weights[point, position] = measurement, weight
    return indices, local_weights
