"""Masks: each measurement is one component of the state, (H x)_j = x_{i(j)}.

Masks of points of a grid measure all fields there; measurements are in the order of the state.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from masf.arrays import Array, Stream, ensemble_variance, like, scattered, to_numpy
from masf.observations.base import Observation, ObservationSettings, key_fault
from masf.observations.bases import Basis, Coefficient
from masf.observations.noise import make_noise


class Mask(Observation):
    """Some components of the state.

    Attributes:
        indices: (m,) the observed components.
    """

    def __init__(
        self,
        dimension: int,
        indices: Any,
        noise: object,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """The components ``indices`` (m,) of states (d,), with ``noise`` as a config says it.

        Without ``settings`` the components are listed.

        Raises:
            ValueError: if there are no such components, or the noise does not fit.
        """
        self.indices = np.asarray(indices, dtype=np.int64)
        if self.indices.size == 0:
            raise ValueError("no component is observed")
        if np.any((self.indices < 0) | (self.indices >= dimension)):
            raise ValueError(f"observed components must be in 0 ... {dimension - 1}")
        eta = make_noise(noise, len(self.indices))
        super().__init__(dimension, eta, settings or {
            "operator": "components", "components": self.indices.tolist(), "noise": eta.in_config()
        })  # fmt: skip

    @cached_property
    def distinct(self) -> bool:
        """Whether no component is measured twice."""
        return len(np.unique(self.indices)) == self.size

    @property
    def elementwise(self) -> bool:
        return self.distinct and self.noise.independent

    @cached_property
    def matrix(self) -> np.ndarray:
        matrix = np.zeros((self.size, self.dimension))
        matrix[np.arange(self.size), self.indices] = 1.0
        return matrix

    def apply(self, x: Array) -> Array:
        return x[..., self.indices]

    def adjoint(self, v: Array) -> Array:
        if not self.distinct:
            return v @ like(self.matrix, v)
        return scattered(v, self.indices, self.dimension)

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        points = self.indices % math.prod(grid)
        return np.stack(np.unravel_index(points, grid), axis=-1).astype(np.float64)

    def basis(self) -> Basis:
        return MaskBasis(self) if self.elementwise else super().basis()

    def arrays(self) -> dict[str, np.ndarray]:
        return {"H_indices": self.indices}

    def only(self, rows: np.ndarray) -> Observation:
        # A subclass may measure something else at these components.
        if len(rows) == self.size or type(self) is not Mask:
            return super().only(rows)
        return Mask(self.dimension, self.indices[rows], self.noise.only(rows))


class MaskBasis:
    """The standard basis, for a mask with independent noise: everything is elementwise."""

    standard: ClassVar[bool] = True

    def __init__(self, mask: Mask) -> None:
        """``mask`` measures no component twice, with independent noise."""
        self._mask, self.dimension = mask, mask.dimension
        self.s = np.zeros(self.dimension)
        self.s[mask.indices] = 1.0
        self.r = np.ones(self.dimension)
        self.r[mask.indices] = mask.noise.variance

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        return like(coefficient, x) * x

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        return coefficient

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        return like(coefficient**2, variance) * variance

    def lift(self, y: Array) -> Array:
        return self._mask.adjoint(y)

    def variance(self, ensemble: Array) -> Coefficient:
        return to_numpy(ensemble_variance(ensemble)).astype(np.float64)


# --- how a config says which components

Index = Annotated[int, Field(ge=0)]


class MaskSettings(ObservationSettings):
    """Settings of a mask."""

    @abstractmethod
    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        """The components (m,) that are measured; arguments as of ``build_linear``."""

    def build_linear(self, dimension: int, grid: tuple[int, ...] | None) -> Mask:
        return Mask(dimension, self.observed(dimension, grid), self.noise, self.written())


class GridMaskSettings(MaskSettings):
    """Settings of a mask of points of the grid, at which all fields are measured."""

    @abstractmethod
    def points(self, grid: tuple[int, ...]) -> np.ndarray:
        """Which points are measured (*grid), as booleans."""

    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        grid = self.needed(grid)
        return np.arange(dimension).reshape(-1, *grid)[:, self.points(grid)].ravel()


class IdentitySettings(MaskSettings):
    """Every component is measured."""

    operator: Literal["identity"] = Field(description="identity: every component.")

    @property
    def period(self) -> int:
        return 1

    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        return np.arange(dimension)


class StrideSettings(MaskSettings):
    """Every k-th component is measured."""

    whole_points: ClassVar[bool] = False

    operator: Literal["stride"] = Field(description="stride: every k-th component.")
    stride: int = Field(1, ge=1, description="Observe offset, offset + stride, ...")
    offset: int = Field(0, ge=0, description="The first observed component.")

    @property
    def period(self) -> int:
        return self.stride

    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        if self.offset >= dimension:
            raise key_fault("offset", self.offset, f"it must be below the dimension {dimension}")
        return np.arange(self.offset, dimension, self.stride)


class ComponentsSettings(MaskSettings):
    """The components that are listed are measured."""

    whole_points: ClassVar[bool] = False

    operator: Literal["components"] = Field(description="components: those that are listed.")
    components: list[Index] = Field(min_length=1, description="The observed ones, from 0 on.")

    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        return np.array(self.components)


class GridSettings(GridMaskSettings):
    """Every k-th point along each axis of the grid is measured."""

    operator: Literal["grid"] = Field(description="grid: every k-th point along each axis.")
    stride: int = Field(1, ge=1, description="Observe offset, offset + stride, ..., along each.")
    offset: int = Field(0, ge=0, description="The first observed point along each axis.")

    @property
    def period(self) -> int:
        return self.stride

    def points(self, grid: tuple[int, ...]) -> np.ndarray:
        if self.offset >= min(grid):
            expected = f"it must be below the lengths of the grid {grid}"
            raise key_fault("offset", self.offset, expected)
        return _box(grid, [slice(self.offset, None, self.stride)] * len(grid))


class CentreSettings(GridMaskSettings):
    """A square in the middle of the grid is measured."""

    operator: Literal["centre"] = Field(description="centre: a square in the middle of the grid.")
    width: int = Field(ge=1, description="Points along each side of the square.")

    def points(self, grid: tuple[int, ...]) -> np.ndarray:
        return _square(grid, self.width)


class HoleSettings(GridMaskSettings):
    """All points are measured but a square in the middle of the grid."""

    operator: Literal["hole"] = Field(description="hole: all points but a square in the middle.")
    width: int = Field(ge=1, description="Points along each side of the square.")

    def points(self, grid: tuple[int, ...]) -> np.ndarray:
        chosen = ~_square(grid, self.width)
        if not chosen.any():
            raise key_fault("width", self.width, f"the hole leaves none of the grid {grid}")
        return chosen


class RandomSettings(MaskSettings):
    """Points drawn at random are measured; single components where there is no grid."""

    operator: Literal["random"] = Field(description="random: points drawn at random.")
    fraction: float = Field(gt=0, le=1, description="The share of points that are observed.")
    seed: int = Field(0, ge=0, lt=2**31, description="Which points; the same in all cells.")

    def observed(self, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
        points = dimension if grid is None else math.prod(grid)
        count = round(self.fraction * points)
        if count == 0:
            raise key_fault("fraction", self.fraction, f"that leaves none of {points} points")
        order = Stream(self.seed, "observed points").numpy.permutation(points)
        return np.arange(dimension).reshape(-1, points)[:, np.sort(order[:count])].ravel()


def _square(grid: tuple[int, ...], width: int) -> np.ndarray:
    """The points (*grid) of a square of ``width`` in the middle, as booleans."""
    if width > min(grid):
        raise key_fault("width", width, f"at most the lengths of the grid {grid}")
    return _box(grid, [slice((n - width) // 2, (n + width) // 2) for n in grid])


def _box(grid: tuple[int, ...], along: list[slice]) -> np.ndarray:
    """The points (*grid) that are in the slices along all axes, as booleans."""
    chosen = np.zeros(grid, dtype=bool)
    chosen[*along] = True
    return chosen
