"""Domains of analysis: what is analysed by which measurements, with transforms of its own.

All components by all measurements; or, on a grid, each block of points by the measurements near its
centre, the precision of each multiplied by the Gaspari-Cohn taper of its distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, like, slices
from masf.blocks import Blocks
from masf.ensembles.localization import in_grid_points, local_observations, place_misfits
from masf.observations.base import Observation, checked_places
from masf.systems.base import System

NUMBERS_AT_ONCE = 2**20
"""Numbers that are held in memory at a time for the transforms: domains are taken in chunks of so
many.

On a GPU, a batch of eigenproblems takes some seventy times as much.
"""


class Domains(Protocol):
    """B domains."""

    count: int

    def split(self, x: Array) -> Array:
        """States (N, d) as (B, N, f): the f components of each domain."""

    def join(self, x: Array) -> Array:
        """States (N, d) from what ``split`` made of them."""

    def chunks(self, n: int, *, square: bool = False) -> Iterator[slice]:
        """Slices of the domains, as many at a time as memory holds transforms of n members for:
        matrices on the smaller side of members and measurements, or (n, n) if ``square``.
        """

    def measurements(self, whitened: Array, part: slice) -> Array:
        """What the domains in ``part`` see of whitened measurements (..., m): (b, ..., k)."""


class OneDomain:
    """All components by all measurements."""

    count = 1

    def split(self, x: Array) -> Array:
        return x[None]

    def join(self, x: Array) -> Array:
        return x[0]

    def chunks(self, n: int, *, square: bool = False) -> Iterator[slice]:
        yield slice(None)

    def measurements(self, whitened: Array, part: slice) -> Array:
        return whitened[None]


class LocalDomains:
    """Blocks of ``block`` points along each axis of a grid, by the measurements near their centres.

    Attributes:
        indices: (B, k) the measurements near each block.
        roots: (B, k) square roots of their weights.
    """

    def __init__(
        self, observation: Observation, grid: tuple[int, ...], radius: float, block: int, x: Array
    ) -> None:
        """``x`` gives namespace, dtype and device; ``radius`` is half of the taper's support, in
        grid points.
        """
        places = checked_places(observation, grid)
        indices, weights = local_observations(places, grid, radius, block)
        self.indices = array_namespace(x).asarray(indices, device=device(x))
        self.roots = like(np.sqrt(weights), x)
        self.count = len(indices)
        self._blocks = Blocks(grid, block)

    def split(self, x: Array) -> Array:
        return self._blocks.split(x)

    def join(self, x: Array) -> Array:
        return self._blocks.join(x)

    def chunks(self, n: int, *, square: bool = False) -> Iterator[slice]:
        k = self.indices.shape[-1]
        side = n if square else min(n, k)
        yield from slices(self.count, NUMBERS_AT_ONCE // (3 * n * k + 2 * side**2))

    def measurements(self, whitened: Array, part: slice) -> Array:
        near = self.indices[part]
        if whitened.ndim == 1:
            return whitened[near] * self.roots[part]
        # Rows of the transpose are contiguous.
        return (whitened.mT[near] * self.roots[part][..., None]).mT


def domains_of(
    observation: Observation, system: System, radius: float | None, block: int, x: Array
) -> Domains:
    """The domains of a filter with this ``localization_radius`` and ``block``, which suit system
    and observation (``domain_misfits``); ``x`` as for LocalDomains.
    """
    if radius is None:
        return OneDomain()
    assert system.grid is not None  # else it is a misfit
    return LocalDomains(observation, system.grid, in_grid_points(radius, system), block, x)


def domain_misfits(
    radius: float | None, block: int, system: System, observation: Observation
) -> list[str]:
    """Why a filter's ``localization_radius`` and ``block`` do not suit a system and an observation:
    components or measurements without a place, and blocks that do not fill the grid.
    """
    faults, grid = place_misfits(radius, system, observation), system.grid
    if radius is not None and grid is not None and any(length % block for length in grid):
        lengths = " x ".join(map(str, grid))
        faults.append(
            f"block = {block}: does not divide the grid {lengths}; set it to a divisor of "
            "its lengths"
        )
    return faults
