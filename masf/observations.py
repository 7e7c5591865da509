"""Measurements y = H x + eta, eta ~ N(0, R): what is measured, and how well.

An operator H is either a mask (each measurement is one component of the state) or a matrix. The noise is given as one
standard deviation, one for each measurement, or a covariance matrix R.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import BaseModel, ConfigDict, Field

from masf.arrays import Array, Stream, like

Positive = Annotated[float, Field(gt=0)]


class ObservationSettings(BaseModel):
    """How an observation is written in the config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    operator: Literal["identity", "stride", "matrix"] = Field(
        description="identity: every component; stride: every k-th component; matrix: H given in full."
    )
    stride: int = Field(1, ge=1, description="For operator stride: observe components offset, offset + stride, ...")
    offset: int = Field(0, ge=0, description="For operator stride: the first observed component.")
    matrix: list[list[float]] | None = Field(None, description="For operator matrix: H, one row a measurement.")
    noise: Positive | list[Positive] | list[list[float]] = Field(
        description="Standard deviation of the noise; or one for each measurement; or the covariance matrix R."
    )


class Observation:
    """The operator H and the noise covariance R of one set of measurements.

    Attributes:
        dimension: length d of the state.
        size: number m of measurements.
        indices: (m,) observed components if H is a mask, else None.
        matrix: (m, d) H.
        variance: (m,) diagonal of R if R is diagonal, else None.
        covariance: (m, m) R.
    """

    def __init__(
        self, dimension: int, *, indices: np.ndarray | None = None, matrix: np.ndarray | None = None, noise: object
    ) -> None:
        """Builds H from ``indices`` or ``matrix``, and R from ``noise`` (see ObservationSettings).

        Raises:
            ValueError: if shapes do not fit together or R is no covariance matrix.
        """
        if (indices is None) == (matrix is None):
            raise ValueError("an observation needs either the indices of observed components or a matrix")
        self.dimension = dimension
        self.indices: np.ndarray | None = None
        if indices is not None:
            self.indices = np.asarray(indices, dtype=np.int64)
            self.size = self.indices.size
            if np.any((self.indices < 0) | (self.indices >= dimension)):
                raise ValueError(f"observed components must be in 0 ... {dimension - 1}")
            if self.size == 0:
                raise ValueError(f"no component is observed: the offset must be below the dimension {dimension}")
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

    # A mask over many components never needs these; they are formed where they are asked for.

    @cached_property
    def matrix(self) -> np.ndarray:
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
        if self.indices is None or len(set(self.indices)) < self.size:
            return v @ like(self.matrix, v)
        x = array_namespace(v).zeros((*v.shape[:-1], self.dimension), dtype=v.dtype, device=device(v))
        x[..., self.indices] = v
        return x

    def likelihood_score(self, x: Array, y: Array) -> Array:
        """grad_x log p(y | x) = H^T R^(-1) (y - H x), for states (..., d): (..., d)."""
        innovation = y - self.apply(x)
        if self.variance is not None:
            return self.adjoint(innovation * like(1 / self.variance, x))
        return self.adjoint(innovation @ like(np.linalg.inv(self.covariance), x))


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


def make_observation(settings: ObservationSettings, dimension: int) -> Observation:
    """The observation that ``settings`` describe, for states of the given dimension.

    Raises:
        ValueError: if the settings do not fit together or do not fit the dimension.
    """
    if settings.operator == "matrix":
        if (settings.stride, settings.offset) != (1, 0):
            raise ValueError("observation operator 'matrix' takes neither 'stride' nor 'offset'")
        if settings.matrix is None:
            raise ValueError("observation operator 'matrix' needs the key 'matrix'")
        lengths = {len(row) for row in settings.matrix}
        if len(lengths) != 1:
            raise ValueError(f"observation matrix has rows of different lengths {sorted(lengths)}")
        return Observation(dimension, matrix=np.array(settings.matrix), noise=settings.noise)
    if settings.matrix is not None:
        raise ValueError(f"observation operator {settings.operator!r} takes no key 'matrix'")
    if settings.operator == "identity":
        if (settings.stride, settings.offset) != (1, 0):
            raise ValueError("observation operator 'identity' takes neither 'stride' nor 'offset'; did you mean 'stride'?")
        return Observation(dimension, indices=np.arange(dimension), noise=settings.noise)
    return Observation(dimension, indices=np.arange(settings.offset, dimension, settings.stride), noise=settings.noise)
