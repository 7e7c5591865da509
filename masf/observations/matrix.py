"""Any linear measurement, H given in full as a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from masf.arrays import Array, like, without_mask
from masf.observations.base import Observation, ObservationSettings
from masf.observations.noise import make_noise


class Matrix(Observation):
    """Measurements by a matrix H (m, d)."""

    def __init__(
        self,
        matrix: Any,
        noise: object,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """The ``matrix`` (m, d), or one row of it (d,), with ``noise`` as a config says it.

        Raises:
            ValueError: if it is no matrix of finite numbers or measures nothing, or the noise does
                not fit.
        """
        given = np.atleast_2d(without_mask(matrix))
        if given.ndim != 2:
            raise ValueError(f"observation matrix has shape {given.shape}: expected two axes")
        if not np.all(np.isfinite(given)):
            row, column = np.argwhere(~np.isfinite(given))[0]
            raise ValueError(
                f"observation matrix: row {row + 1}, column {column + 1} is masked or not finite"
            )
        if not np.any(given):
            raise ValueError("observation matrix is all zero: it must measure something")
        self.matrix = given  # fills the cached property
        eta = make_noise(noise, len(given))
        super().__init__(given.shape[1], eta, settings or {
            "operator": "matrix", "matrix": given.tolist(), "noise": eta.in_config()
        })  # fmt: skip

    def apply(self, x: Array) -> Array:
        return x @ like(self.matrix.T, x)

    def adjoint(self, v: Array) -> Array:
        return v @ like(self.matrix, v)


class MatrixSettings(ObservationSettings):
    """H is given in full."""

    whole_points: ClassVar[bool] = False

    operator: Literal["matrix"] = Field(description="matrix: H given in full.")
    matrix: list[list[float]] = Field(description="H, one row a measurement.")

    def build_linear(self, dimension: int, grid: tuple[int, ...] | None) -> Matrix:
        lengths = {len(row) for row in self.matrix}
        if len(lengths) != 1:
            raise ValueError(f"observation matrix has rows of different lengths {sorted(lengths)}")
        if lengths != {dimension}:
            shape = (len(self.matrix), *lengths)
            expected = f"expected (any, {dimension}), a column for each component"
            raise ValueError(f"observation matrix has shape {shape}: {expected}")
        return Matrix(self.matrix, self.noise, self.written())
