"""Local ensemble transform Kalman filter (Hunt, Kostelich, Szunyogh 2007): an ETKF of its own at each grid point.

The analysis at a point takes the measurements near it, the precision of each multiplied by the Gaspari-Cohn taper of its
distance. All fields at a point share one transform. A measurement sits at its component's point, or at the centre of mass of
|H|'s row; correlated noise is whitened first. One rotation serves all points, so that fields stay smooth. Neighbours may share
a transform (``block``), as in DAPPER's examples, where two do: half of the work, and often no worse.

``localization_radius`` is half of the taper's support, as everywhere in this package, and so 1.82 times DAPPER's ``loc_rad``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from einops import rearrange
from pydantic import Field

from masf.arrays import Array, like
from masf.ensembles.localization import local_observations, observation_places
from masf.filters.base import LocalizedParameters, RotatedParameters, Setup
from masf.filters.etkf import ETKF, square_root_update

NUMBERS_AT_ONCE = 2**24
"""Numbers that are held in memory at a time for the transforms: points are taken in chunks of so many."""


class LETKFParameters(RotatedParameters, LocalizedParameters):
    block: int = Field(
        1, ge=1, description="Points along each axis of the grid that share a transform, by the measurements near their centre."
    )


def block_axes(grid: tuple[int, ...], block: int) -> tuple[str, str, dict[str, int]]:
    """The axes of a state and of its blocks in einops' words, and the lengths that these need.

    A state is (f b0 p0 b1 p1 ...): fields, and along each axis of the grid b blocks of p = ``block`` points.
    """
    axes = range(len(grid))
    state = "(f " + " ".join(f"b{i} p{i}" for i in axes) + ")"
    blocks = "(" + " ".join(f"b{i}" for i in axes) + ") n (f " + " ".join(f"p{i}" for i in axes) + ")"
    return state, blocks, {f"b{i}": grid[i] // block for i in axes} | {f"p{i}": block for i in axes}


def to_blocks(x: Array, grid: tuple[int, ...], block: int) -> Array:
    """States (n, d) as (B, n, k): the k components, of all fields, in each of B blocks of ``block`` points along each axis."""
    state, blocks, lengths = block_axes(grid, block)
    return rearrange(x, f"n {state} -> {blocks}", **lengths)


def from_blocks(x: Array, grid: tuple[int, ...], block: int) -> Array:
    """States (n, d) from what ``to_blocks`` made of them."""
    state, blocks, lengths = block_axes(grid, block)
    return rearrange(x, f"{blocks} -> n {state}", **lengths)


class LETKF(ETKF):
    Parameters: ClassVar[type[LETKFParameters]] = LETKFParameters

    def __init__(self, parameters: LETKFParameters, setup: Setup) -> None:
        """Finds the measurements near each point; raises ValueError where components or measurements have no place."""
        super().__init__(parameters, setup)
        self.local: tuple[Array, Array] | None = None
        if parameters.localization_radius is None:
            return
        grid, block = setup.system.grid, parameters.block
        if grid is None:
            raise ValueError("localization_radius: this system's components have no distances; set it to null")
        if any(length % block for length in grid):
            raise ValueError(f"block: {block} points do not divide a grid of {' x '.join(map(str, grid))}; set it to a divisor")
        places = observation_places(setup.observation, grid)
        indices, weights = local_observations(places, grid, parameters.localization_radius, block)
        x = setup.initial_mean
        self.grid = grid
        self.local = array_namespace(x).asarray(indices, device=device(x)), like(np.sqrt(weights), x)

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        if self.local is None:
            return super().update(anomalies, observed, innovation)
        xp = array_namespace(anomalies)
        indices, roots = self.local
        n, (blocks, k), block = len(anomalies), indices.shape, self.parameters.block
        in_blocks = to_blocks(anomalies, self.grid, block)
        chunk = max(1, NUMBERS_AT_ONCE // (3 * n * k + 2 * min(n, k) ** 2))
        increments, analyses = [], []
        for start in range(0, blocks, chunk):
            part = slice(start, start + chunk)
            near, root = indices[part], roots[part]
            local = observed.mT[near] * root[..., None]
            increment, analysis = square_root_update(in_blocks[part], local.mT, innovation[near] * root)
            increments.append(increment[:, None])
            analyses.append(analysis)
        increment, analysis = (
            from_blocks(xp.concat(parts), self.grid, self.parameters.block) for parts in (increments, analyses)
        )
        return increment[0], analysis


filter = LETKF
