"""Average pooling: each measurement is the mean of a field over a block of a periodic grid.

As a matrix, H has a row for each block with 1/b at its b points, so that H H^T = I/b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, centred, ensemble_variance, like, scattered, to_numpy
from masf.blocks import Blocks
from masf.observations.base import Observation, ObservationSettings, Part, key_fault
from masf.observations.bases import Basis, Coefficient
from masf.observations.noise import make_noise


class Pooling(Observation):
    """Means of all fields over the blocks of a grid.

    Attributes:
        blocks: of the grid.
        fields: how many share the points of the grid.
    """

    def __init__(
        self,
        blocks: Blocks,
        fields: int,
        noise: object,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """The means of ``fields`` over ``blocks``, with ``noise`` as a config says it.

        Raises:
            ValueError: if the noise does not fit.
        """
        self.blocks, self.fields = blocks, fields
        eta = make_noise(noise, fields * math.prod(blocks.shape))
        super().__init__(fields * math.prod(blocks.grid), eta, settings or {
            "operator": "average_pooling", "size": blocks.side, "noise": eta.in_config()
        })  # fmt: skip

    @cached_property
    def matrix(self) -> np.ndarray:
        return self.adjoint(np.eye(self.size))

    def apply(self, x: Array) -> Array:
        return self.blocks.mean(x)

    def adjoint(self, v: Array) -> Array:
        return self.blocks.spread(v) / self.blocks.count

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        corners = np.indices(self.blocks.shape).reshape(len(grid), -1).T * self.blocks.side
        return np.tile(corners + (self.blocks.side - 1) / 2, (self.fields, 1))

    def basis(self) -> Basis:
        return PoolingBasis(self) if self.noise.independent else super().basis()

    def only(self, rows: np.ndarray) -> Observation:
        # A subclass may measure something else of these blocks.
        if len(rows) == self.size or type(self) is not Pooling:
            return super().only(rows)
        return PoolingPart(self, rows)


class PoolingPart(Part):
    """The means over some of the blocks."""

    whole: Pooling

    def basis(self) -> Basis:
        return PoolingBasis(self.whole, self.rows) if self.noise.independent else super().basis()


class PoolingBasis:
    """The blocks of average pooling with independent noise, and their complement as one component.

    So there are k = m + 1 components. A block of b points has the unit vector v with 1/sqrt(b)
    there. Its mean is v^T x / sqrt(b), so that s is 1, r is b times the noise variance, and
    sqrt(b) y, along v, has the value y at each point. Of a block that is not measured, s is 0.
    """

    standard: ClassVar[bool] = False

    def __init__(self, pooling: Pooling, rows: np.ndarray | None = None) -> None:
        """The blocks ``rows`` (k,) are measured, or all; ``pooling`` has independent noise."""
        self.blocks = pooling.blocks
        self.dimension, self.size = pooling.dimension, pooling.size
        self._rows = np.arange(self.size) if rows is None else rows
        self.s, self.r = np.zeros(self.size + 1), np.ones(self.size + 1)
        self.s[self._rows] = 1.0
        self.r[self._rows] = self.blocks.count * pooling.noise.variance[self._rows]

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        # The complement takes the last value, and V V^T x at a point is the mean of its block.
        along = like(coefficient[:-1] - coefficient[-1], x) * self.blocks.mean(x)
        return self.blocks.spread(along) + float(coefficient[-1]) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        within = self.blocks.spread(coefficient[:-1] - coefficient[-1])
        return within / self.blocks.count + coefficient[-1]

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        # F is the complement's value on the diagonal, and e more everywhere within a block.
        count, rest = self.blocks.count, float(coefficient[-1])
        e = (coefficient[:-1] - rest) / count
        within = self.blocks.spread(like(count * e**2, variance) * self.blocks.mean(variance))
        return within + (like(self.blocks.spread(2 * rest * e), variance) + rest**2) * variance

    def lift(self, y: Array) -> Array:
        return self.blocks.spread(scattered(y, self._rows, self.size))

    def variance(self, ensemble: Array) -> Coefficient:
        xp = array_namespace(ensemble)
        _, anomalies = centred(ensemble)
        means = self.blocks.mean(anomalies)
        of_means = to_numpy(ensemble_variance(means)).astype(np.float64)
        total = float(xp.sum((anomalies - self.blocks.spread(means)) ** 2))
        free = (self.dimension - self.size) * (len(anomalies) - 1)
        return np.append(self.blocks.count * of_means, total / free)


class AveragePoolingSettings(ObservationSettings):
    """Means over the blocks of the grid are measured."""

    operator: Literal["average_pooling"] = Field(description="average_pooling: means of blocks.")
    size: int = Field(ge=2, description="Points along each side of a block.")

    @property
    def period(self) -> int:
        return self.size

    def build_linear(self, dimension: int, grid: tuple[int, ...] | None) -> Pooling:
        grid = self.needed(grid)
        if any(n % self.size for n in grid):
            raise key_fault("size", self.size, f"it must divide all lengths of the grid {grid}")
        fields = dimension // math.prod(grid)
        return Pooling(Blocks(grid, self.size), fields, self.noise, self.written())
