"""Local ensemble transform Kalman filter (Hunt, Kostelich, Szunyogh 2007): an ETKF of its own at each grid point.

The analysis at a point takes the measurements near it, the precision of each multiplied by the Gaspari-Cohn taper of its
distance. All fields at a point share one transform. A measurement sits at its component's point, or at the centre of mass of
|H|'s row; correlated noise is whitened first. One rotation serves all points, so that fields stay smooth.

``localization_radius`` is half of the taper's support, as everywhere in this package, and so 1.82 times DAPPER's ``loc_rad``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, like
from masf.filters.base import LocalizedParameters, Setup
from masf.filters.etkf import ETKF, SquareRootParameters, square_root_update
from masf.localization import local_observations, observation_places

NUMBERS_AT_ONCE = 2**24
"""Numbers that are held in memory at a time for the transforms: points are taken in chunks of so many."""


class LETKFParameters(SquareRootParameters, LocalizedParameters):
    pass


class LETKF(ETKF):
    Parameters: ClassVar[type[LETKFParameters]] = LETKFParameters

    def __init__(self, parameters: LETKFParameters, setup: Setup) -> None:
        """Finds the measurements near each point; raises ValueError where components or measurements have no place."""
        super().__init__(parameters, setup)
        self.local: tuple[Array, Array] | None = None
        if parameters.localization_radius is None:
            return
        grid = setup.system.grid
        if grid is None:
            raise ValueError("localization_radius: this system's components have no distances; set it to null")
        places = observation_places(setup.observation, grid)
        indices, weights = local_observations(places, grid, parameters.localization_radius)
        x = setup.initial_mean
        self.local = array_namespace(x).asarray(indices, device=device(x)), like(np.sqrt(weights), x)

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        if self.local is None:
            return super().update(anomalies, observed, innovation)
        xp = array_namespace(anomalies)
        indices, roots = self.local
        n, (points, k) = len(anomalies), indices.shape
        at_points = xp.permute_dims(xp.reshape(anomalies, (n, -1, points)), (2, 0, 1))
        chunk = max(1, NUMBERS_AT_ONCE // (3 * n * k + 2 * min(n, k) ** 2))
        increments, analyses = [], []
        for start in range(0, points, chunk):
            part = slice(start, start + chunk)
            near, root = indices[part], roots[part]
            local = observed.mT[near] * root[..., None]
            increment, analysis = square_root_update(at_points[part], local.mT, innovation[near] * root)
            increments.append(increment)
            analyses.append(analysis)
        increment, analysis = xp.concat(increments), xp.concat(analyses)
        return xp.reshape(increment.mT, (-1,)), xp.reshape(xp.permute_dims(analysis, (1, 2, 0)), (n, -1))


filter = LETKF
