"""Measurement noise eta ~ N(0, R): independent, with R diagonal, or correlated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from reprlib import repr as short
from typing import Any, ClassVar

import numpy as np

from masf.arrays import Array, Stream, like, without_mask


class Noise(ABC):
    """The noise eta ~ N(0, R) of m measurements."""

    independent: ClassVar[bool]
    """Whether R is diagonal, so that each measurement has a noise of its own."""
    variance: np.ndarray
    """(m,) the diagonal of R."""

    def __repr__(self) -> str:
        """As a config says it: ``IndependentNoise(1.0, size=40)``."""
        return f"{type(self).__name__}({short(self.in_config())}, size={self.size})"

    @property
    def size(self) -> int:
        """Number m of measurements."""
        return len(self.variance)

    @property
    @abstractmethod
    def covariance(self) -> np.ndarray:
        """(m, m) R; of independent noise it is formed where it is asked for."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], x: Array, stream: Stream) -> Array:
        """Draws of eta of shape (*shape, m), with the namespace, dtype and device of ``x``."""

    @abstractmethod
    def whiten(self, y: Array) -> Array:
        """R^(-1/2) y for measurements (..., m).

        The root is the symmetric one, so that whitened measurements keep their places.
        """

    def log_density(self, eta: Array) -> Array:
        """log p(eta) up to a constant, for (..., m): (...)."""
        return -0.5 * (self.whiten(eta) ** 2).sum(-1)

    @abstractmethod
    def only(self, rows: np.ndarray) -> Noise:
        """The noise of some of the measurements, ``rows`` (k,): their part of R."""

    @abstractmethod
    def in_config(self) -> float | list[Any]:
        """What the config's key ``noise`` would say: a standard deviation, one each, or R."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """R for programs in other languages: its diagonal ``R_diagonal`` (m,), or ``R`` (m, m)."""


class IndependentNoise(Noise):
    """Noise with a diagonal R."""

    independent = True

    def __init__(self, variance: np.ndarray) -> None:
        """``variance`` (m,) is the diagonal of R."""
        self.variance = variance

    @cached_property
    def covariance(self) -> np.ndarray:
        return np.diag(self.variance)

    def draw(self, shape: tuple[int, ...], x: Array, stream: Stream) -> Array:
        return stream.normal((*shape, self.size), x) * like(np.sqrt(self.variance), x)

    def whiten(self, y: Array) -> Array:
        return y / like(np.sqrt(self.variance), y)

    def only(self, rows: np.ndarray) -> IndependentNoise:
        return IndependentNoise(self.variance[rows])

    def in_config(self) -> float | list[Any]:
        deviations = np.sqrt(self.variance).tolist()
        return deviations[0] if len(set(deviations)) == 1 else deviations

    def arrays(self) -> dict[str, np.ndarray]:
        return {"R_diagonal": self.variance}


class CorrelatedNoise(Noise):
    """Noise with any covariance matrix R."""

    independent = False

    def __init__(self, covariance: np.ndarray) -> None:
        """``covariance`` (m, m) is R."""
        self._covariance = covariance
        self.variance = np.diag(covariance)

    @property
    def covariance(self) -> np.ndarray:
        return self._covariance

    @cached_property
    def _factor(self) -> np.ndarray:
        return np.linalg.cholesky(self.covariance)

    @cached_property
    def _inverse_root(self) -> np.ndarray:
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors / np.sqrt(values) @ vectors.T

    def draw(self, shape: tuple[int, ...], x: Array, stream: Stream) -> Array:
        return stream.normal((*shape, self.size), x) @ like(self._factor.T, x)

    def whiten(self, y: Array) -> Array:
        return y @ like(self._inverse_root, y)

    def only(self, rows: np.ndarray) -> Noise:
        return make_noise(self.covariance[np.ix_(rows, rows)], len(rows))

    def in_config(self) -> float | list[Any]:
        return self.covariance.tolist()

    def arrays(self) -> dict[str, np.ndarray]:
        return {"R": self.covariance}


LEAST, MOST = 1e-18, 1e18
"""The range of standard deviations: their squares are float32 numbers, with room for sums."""


def make_noise(given: object, size: int) -> Noise:
    """The noise of ``size`` measurements, from what the config's key ``noise`` says.

    Args:
        given: one standard deviation, one for each measurement, or the covariance matrix R; a
            noise is returned as it is.
        size: number m of measurements.

    Raises:
        ValueError: if it is none of these, or does not fit the number of measurements.
    """
    if isinstance(given, Noise):
        return given
    try:
        values = without_mask(given)
    except ValueError as error:
        raise ValueError("noise covariance has rows of different lengths") from error
    if values.ndim == 0:
        values = np.full(size, float(values))
    if values.ndim == 1:
        if values.shape != (size,):
            expected = f"expected one, or {size}, one for each measurement"
            raise ValueError(f"noise has {values.size} standard deviations: {expected}")
        if not np.all(values > 0):
            raise ValueError("noise: standard deviations must be positive")
        if np.any(out := (values < LEAST) | (values > MOST)):
            raise ValueError(
                f"noise has the standard deviation {values[out][0]:g}: expected {LEAST:g} to "
                f"{MOST:g}; choose units in which it is, or leave a measurement out that says "
                "nothing"
            )
        return IndependentNoise(values**2)
    if values.shape != (size, size):
        raise ValueError(f"noise covariance has shape {values.shape}: expected ({size}, {size})")
    if not np.allclose(values, values.T) or np.linalg.eigvalsh(values)[0] <= 0:
        raise ValueError("noise covariance must be symmetric and positive definite")
    diagonal = np.diag(values)
    if np.any(out := (diagonal < LEAST**2) | (diagonal > MOST**2)):
        raise ValueError(
            f"noise covariance has the variance {diagonal[out][0]:g}: expected {LEAST**2:g} to "
            f"{MOST**2:g}; choose units in which it is"
        )
    if np.any(values - np.diag(diagonal)):
        return CorrelatedNoise(values)
    return IndependentNoise(diagonal.copy())
