"""Measurements y = H x + eta, eta ~ N(0, R): what is measured, and how well.

An operator H is a mask (each measurement is one component of the state), average pooling (the means of blocks of a grid), or a
matrix. The noise is given as one standard deviation, one for each measurement, or a covariance matrix R.

A system whose components sit on a periodic grid has the state (fields, *grid), flattened. Masks of points of the grid measure all
fields there; measurements are in the order of the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from array_api_compat import array_namespace, device
from einops import reduce, repeat

from masf.arrays import Array, Stream, like
from masf.observations.settings import KEYS, ObservationSettings


@dataclass(frozen=True)
class Pooling:
    """Means over the blocks of a periodic grid, for states (..., d) that are (fields, *grid), flattened.

    As a matrix, H has a row for each block with 1/count at its points, so that H H^T = I/count.
    """

    fields: int
    grid: tuple[int, ...]
    size: int
    """Points along each side of a block; divides all lengths of the grid."""

    @property
    def count(self) -> int:
        """Points in a block."""
        return int(self.size ** len(self.grid))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(n // self.size for n in self.grid)

    def mean(self, x: Array) -> Array:
        """Means of the blocks (..., m) of states (..., d)."""
        state, blocks, lengths = self._axes
        return reduce(x, f"... {state} -> ... {blocks}", "mean", **lengths)

    def spread(self, y: Array) -> Array:
        """The states (..., d) that have, at each point, the value (..., m) of its block: count H^T y."""
        state, blocks, lengths = self._axes
        return repeat(y, f"... {blocks} -> ... {state}", **lengths)

    @cached_property
    def _axes(self) -> tuple[str, str, dict[str, int]]:
        """The axes of a state and of its blocks in einops' words, and their lengths: along each axis b blocks of p points."""
        axes = range(len(self.grid))
        state = "(f " + " ".join(f"b{i} p{i}" for i in axes) + ")"
        blocks = "(f " + " ".join(f"b{i}" for i in axes) + ")"
        lengths = {f"b{i}": n for i, n in enumerate(self.blocks)} | {f"p{i}": self.size for i in axes}
        return state, blocks, {"f": self.fields} | lengths


class Observation:
    """The operator H and the noise covariance R of one set of measurements.

    Attributes:
        dimension: length d of the state.
        size: number m of measurements.
        indices: (m,) observed components if H is a mask, else None.
        pooling: the blocks if H is average pooling, else None.
        matrix: (m, d) H.
        variance: (m,) diagonal of R if R is diagonal, else None.
        covariance: (m, m) R.
        settings: how the config would describe it.
    """

    def __init__(
        self,
        dimension: int,
        *,
        indices: np.ndarray | None = None,
        pooling: Pooling | None = None,
        matrix: np.ndarray | None = None,
        noise: object,
        settings: ObservationSettings | None = None,
    ) -> None:
        """Builds H from one of ``indices``, ``pooling`` and ``matrix``, and R from ``noise`` (see ObservationSettings).

        Raises:
            ValueError: if shapes do not fit together or R is no covariance matrix.
        """
        if sum(operator is not None for operator in (indices, pooling, matrix)) != 1:
            raise ValueError("an observation needs either the indices of observed components, or blocks to pool, or a matrix")
        self.dimension = dimension
        self.indices: np.ndarray | None = None
        self.pooling = pooling
        if indices is not None:
            self.indices = np.asarray(indices, dtype=np.int64)
            self.size = self.indices.size
            if np.any((self.indices < 0) | (self.indices >= dimension)):
                raise ValueError(f"observed components must be in 0 ... {dimension - 1}")
            if self.size == 0:
                raise ValueError(f"no component is observed: the offset must be below the dimension {dimension}")
        elif pooling is not None:
            self.size = pooling.fields * int(np.prod(pooling.blocks))
            if self.size * pooling.count != dimension:
                raise ValueError(f"blocks of side {pooling.size} do not fill {pooling.fields} fields on a grid {pooling.grid}")
        else:
            given = np.atleast_2d(np.asarray(matrix, dtype=np.float64))
            if given.ndim != 2 or given.shape[1] != dimension:
                raise ValueError(
                    f"observation matrix has shape {given.shape}: expected (any, {dimension}), a column for each component"
                )
            if not np.any(given):
                raise ValueError("observation matrix is all zero: it must measure something")
            self.size = len(given)
            self.matrix = given  # fills the cached property
        self.variance, covariance = _noise(noise, self.size)
        if covariance is not None:
            self.covariance = covariance
        self._settings = settings

    @cached_property
    def distinct(self) -> bool:
        """Whether H is a mask that measures no component twice."""
        return self.indices is not None and len(np.unique(self.indices)) == self.size

    @cached_property
    def settings(self) -> ObservationSettings:
        if self._settings is not None:
            return self._settings
        noise = self.covariance.tolist() if self.variance is None else np.sqrt(self.variance).tolist()
        if self.variance is not None and len(set(noise)) == 1:
            noise = noise[0]
        if self.indices is not None:
            return ObservationSettings(operator="components", components=self.indices.tolist(), noise=noise)
        if self.pooling is not None:
            return ObservationSettings(operator="average_pooling", size=self.pooling.size, noise=noise)
        return ObservationSettings(operator="matrix", matrix=self.matrix.tolist(), noise=noise)

    # Masks and pooling over many components never need these; they are formed where they are asked for.

    @cached_property
    def matrix(self) -> np.ndarray:
        if self.pooling is not None:
            return self.pooling.spread(np.eye(self.size)) / self.pooling.count
        assert self.indices is not None
        matrix = np.zeros((self.size, self.dimension))
        matrix[np.arange(self.size), self.indices] = 1.0
        return matrix

    @cached_property
    def covariance(self) -> np.ndarray:
        assert self.variance is not None
        return np.diag(self.variance)

    @cached_property
    def _noise_factor(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariance)

    @cached_property
    def _inverse_root(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors / np.sqrt(values) @ vectors.T

    def apply(self, x: Array) -> Array:
        """H x for states (..., d): (..., m)."""
        if self.indices is not None:
            return x[..., self.indices]
        if self.pooling is not None:
            return self.pooling.mean(x)
        return x @ like(self.matrix.T, x)

    def noise(self, shape: tuple[int, ...], x: Array, stream: Stream) -> Array:
        """Draws of eta of shape (*shape, m), with the namespace of ``x``."""
        normal = stream.normal((*shape, self.size), x)
        if self.variance is not None:
            return normal * like(np.sqrt(self.variance), x)
        return normal @ like(self._noise_factor.T, x)

    def whiten(self, x: Array) -> Array:
        """R^(-1/2) x for measurements (..., m), with the symmetric root: whitened measurements keep their places."""
        if self.variance is not None:
            return x / like(np.sqrt(self.variance), x)
        return x @ like(self._inverse_root, x)

    def log_likelihood(self, x: Array, y: Array) -> Array:
        """log p(y | x) up to a constant, for states (..., d): (...)."""
        return -0.5 * (self.whiten(y - self.apply(x)) ** 2).sum(-1)

    def adjoint(self, v: Array) -> Array:
        """H^T v for measurements (..., m): (..., d)."""
        if self.pooling is not None:
            return self.pooling.spread(v) / self.pooling.count
        if not self.distinct:
            return v @ like(self.matrix, v)
        x = array_namespace(v).zeros((*v.shape[:-1], self.dimension), dtype=v.dtype, device=device(v))
        x[..., self.indices] = v
        return x

    def likelihood_score(self, x: Array, y: Array) -> Array:
        """grad_x log p(y | x) = H^T R^(-1) (y - H x), for states (..., d): (..., d)."""
        return self.adjoint(self.whiten(self.whiten(y - self.apply(x))))


def _noise(noise: object, size: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The diagonal of R, or R itself where it is not diagonal; the other is None."""
    try:
        given = np.asarray(noise, dtype=np.float64)
    except ValueError as error:
        raise ValueError("noise covariance has rows of different lengths") from error
    if given.ndim == 0:
        given = np.full(size, float(given))
    if given.ndim == 1:
        if given.shape != (size,):
            raise ValueError(f"noise has {given.size} standard deviations: expected one, or {size}, one for each measurement")
        if not np.all(given > 0):
            raise ValueError("noise: standard deviations must be positive")
        return given**2, None
    if given.shape != (size, size):
        raise ValueError(f"noise covariance has shape {given.shape}: expected ({size}, {size})")
    if not np.allclose(given, given.T) or np.linalg.eigvalsh(given)[0] <= 0:
        raise ValueError("noise covariance must be symmetric and positive definite")
    diagonal = not np.any(given - np.diag(np.diag(given)))
    return (np.diag(given).copy(), None) if diagonal else (None, given)


def make_observation(settings: ObservationSettings, dimension: int, grid: tuple[int, ...] | None = None) -> Observation:
    """The observation that ``settings`` describe.

    Args:
        settings: as in the config.
        dimension: the length d of the state.
        grid: the lengths of the grid that its components sit on, or None.

    Raises:
        ValueError: if the settings do not fit together, or do not fit the dimension or the grid.
    """
    _check_keys(settings)
    if settings.operator == "matrix":
        assert settings.matrix is not None
        lengths = {len(row) for row in settings.matrix}
        if len(lengths) != 1:
            raise ValueError(f"observation matrix has rows of different lengths {sorted(lengths)}")
        return Observation(dimension, matrix=np.array(settings.matrix), noise=settings.noise, settings=settings)
    if settings.operator == "average_pooling":
        assert settings.size is not None
        grid = _needed(grid, settings.operator)
        if any(n % settings.size for n in grid):
            raise ValueError(f"observation key 'size' is {settings.size}: it must divide all lengths of the grid {grid}")
        pooling = Pooling(dimension // math.prod(grid), grid, settings.size)
        return Observation(dimension, pooling=pooling, noise=settings.noise, settings=settings)
    indices = _observed_components(settings, dimension, grid)
    return Observation(dimension, indices=indices, noise=settings.noise, settings=settings)


def _check_keys(settings: ObservationSettings) -> None:
    """Raises ValueError for a key that the operator does not take, or needs and does not find."""
    for key, field in ObservationSettings.model_fields.items():
        if key in ("operator", "noise"):
            continue
        value, taken = getattr(settings, key), key in KEYS[settings.operator]
        if taken and value is None:
            raise ValueError(f"observation operator {settings.operator!r} needs the key {key!r}")
        if not taken and value != field.default:
            others = ", ".join(repr(operator) for operator, keys in KEYS.items() if key in keys)
            raise ValueError(f"observation operator {settings.operator!r} takes no key {key!r}; did you mean operator {others}?")


def _needed(grid: tuple[int, ...] | None, operator: str) -> tuple[int, ...]:
    if grid is None:
        raise ValueError(f"observation operator {operator!r} needs a system whose components sit on a grid; use another operator")
    return grid


def _observed_components(settings: ObservationSettings, dimension: int, grid: tuple[int, ...] | None) -> np.ndarray:
    """The components (m,) that a mask measures."""
    components = np.arange(dimension)
    if settings.operator == "identity":
        return components
    if settings.operator == "stride":
        return components[settings.offset :: settings.stride]
    if settings.operator == "components":
        return np.array(settings.components)
    if settings.operator == "random":
        assert settings.fraction is not None
        # All fields at a point, or single components where there is no grid.
        points = dimension if grid is None else math.prod(grid)
        count = round(settings.fraction * points)
        if count == 0:
            raise ValueError(f"observation key 'fraction' is {settings.fraction}: that leaves none of {points} points")
        order = Stream(settings.seed, "observed points").numpy.permutation(points)
        return components.reshape(-1, points)[:, np.sort(order[:count])].ravel()
    grid = _needed(grid, settings.operator)
    if settings.operator == "grid":
        if settings.offset >= min(grid):
            raise ValueError(f"observation key 'offset' is {settings.offset}: it must be below the lengths of the grid {grid}")
        along = [slice(settings.offset, None, settings.stride)] * len(grid)
    else:
        assert settings.width is not None
        if settings.width > min(grid):
            raise ValueError(f"observation key 'width' is {settings.width}: at most the lengths of the grid {grid}")
        along = [slice((n - settings.width) // 2, (n + settings.width) // 2) for n in grid]
    chosen = np.zeros(grid, dtype=bool)
    chosen[*along] = True
    if settings.operator == "hole":
        chosen = ~chosen
        if not chosen.any():
            raise ValueError(f"observation key 'width' is {settings.width}: the hole leaves none of the grid {grid}")
    return components.reshape(-1, *grid)[:, chosen].ravel()
