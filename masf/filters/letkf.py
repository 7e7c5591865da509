"""Local ensemble transform Kalman filter (Hunt, Kostelich, Szunyogh 2007): an ETKF of its own at
each grid point.

The analysis at a point takes the measurements near it, the precision of each multiplied by the
Gaspari-Cohn taper of its distance. All fields at a point share one transform. A measurement sits at
its component's point, or at the centre of mass of |H|'s row; correlated noise is whitened first.
One rotation serves all points, so that fields stay smooth. Neighbours may share a transform
(``block``), as in DAPPER's examples, where two do: half of the work, and often no worse.

``localization_radius`` is half of the taper's support, as everywhere in this package, and so 1.82
times DAPPER's ``loc_rad``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field

from masf.arrays import Array, like
from masf.blocks import Blocks
from masf.ensembles.localization import local_observations, place_misfits
from masf.filters.base import LocalizedParameters, RotatedParameters, Setup
from masf.filters.etkf import ETKF, square_root_update
from masf.observations.base import Observation
from masf.systems.base import System

NUMBERS_AT_ONCE = 2**20
"""Numbers that are held in memory at a time for the transforms: points are taken in chunks of so
many.

On a GPU, a batch of eigenproblems takes some seventy times as much.
"""


class LETKFParameters(RotatedParameters, LocalizedParameters):
    block: int = Field(
        1,
        ge=1,
        description="Points along each axis of the grid that share a transform, by the "
        "measurements near their centre.",
    )


class LETKF(ETKF):
    Parameters: ClassVar[type[LETKFParameters]] = LETKFParameters

    def __init__(self, parameters: LETKFParameters, setup: Setup) -> None:
        """Finds the measurements near each point."""
        super().__init__(parameters, setup)
        self.local: tuple[Array, Array] | None = None
        if parameters.localization_radius is None:
            return
        grid, block = setup.system.grid, parameters.block
        assert grid is not None  # else it is a misfit
        places = setup.observation.places(grid)
        indices, weights = local_observations(places, grid, parameters.localization_radius, block)
        x = setup.initial_mean
        self.blocks = Blocks(grid, block)
        self.local = (
            array_namespace(x).asarray(indices, device=device(x)),
            like(np.sqrt(weights), x),
        )

    @classmethod
    def misfits(
        cls, parameters: LETKFParameters, system: System, observation: Observation
    ) -> list[str]:
        """Components or measurements without a place, and blocks that do not fill the grid."""
        radius, block, grid = parameters.localization_radius, parameters.block, system.grid
        faults = place_misfits(radius, system, observation)
        if radius is not None and grid is not None and any(length % block for length in grid):
            lengths = " x ".join(map(str, grid))
            faults.append(
                f"block = {block}: does not divide the grid {lengths}; set it to a divisor of "
                "its lengths"
            )
        return faults

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        if self.local is None:
            return super().update(anomalies, observed, innovation)
        xp = array_namespace(anomalies)
        indices, roots = self.local
        n, (blocks, k) = len(anomalies), indices.shape
        in_blocks = self.blocks.split(anomalies)
        chunk = max(1, NUMBERS_AT_ONCE // (3 * n * k + 2 * min(n, k) ** 2))
        increments, analyses = [], []
        for start in range(0, blocks, chunk):
            part = slice(start, start + chunk)
            near, root = indices[part], roots[part]
            local = observed.mT[near] * root[..., None]
            increment, analysis = square_root_update(
                in_blocks[part], local.mT, innovation[near] * root
            )
            increments.append(increment[:, None])
            analyses.append(analysis)
        increment, analysis = (
            self.blocks.join(xp.concat(parts)) for parts in (increments, analyses)
        )
        return increment[0], analysis


filter = LETKF
