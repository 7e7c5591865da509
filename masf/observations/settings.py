"""How an observation is written in the config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]


class ObservationSettings(BaseModel):
    """How an observation is written in the config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    operator: Literal[
        "identity", "stride", "components", "grid", "centre", "hole", "random", "average_pooling", "matrix"
    ] = Field(
        description="identity: every component; stride: every k-th component; components: those that are listed; grid: every "
        "k-th point along each axis of the grid; centre: a square in its middle; hole: all points but such a square; random: "
        "points drawn at random; average_pooling: means of its blocks; matrix: H given in full."
    )  # fmt: skip
    stride: int = Field(1, ge=1, description="For stride and grid: observe offset, offset + stride, ...")
    offset: int = Field(0, ge=0, description="For stride and grid: the first observed component, or point along each axis.")
    components: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="For components: the observed ones, from 0 on."
    )
    width: int | None = Field(None, ge=1, description="For centre and hole: points along each side of the square.")
    fraction: float | None = Field(None, gt=0, le=1, description="For random: the share of points that are observed.")
    seed: int = Field(0, ge=0, lt=2**31, description="For random: which points; the same in all cells.")
    size: int | None = Field(None, ge=2, description="For average_pooling: points along each side of a block.")
    matrix: list[list[float]] | None = Field(None, description="For operator matrix: H, one row a measurement.")
    noise: Positive | list[Positive] | list[list[float]] = Field(
        description="Standard deviation of the noise; or one for each measurement; or the covariance matrix R."
    )


KEYS = {
    "identity": (),
    "stride": ("stride", "offset"),
    "components": ("components",),
    "grid": ("stride", "offset"),
    "centre": ("width",),
    "hole": ("width",),
    "random": ("fraction", "seed"),
    "average_pooling": ("size",),
    "matrix": ("matrix",),
}
"""The keys of each operator, besides ``noise``."""
