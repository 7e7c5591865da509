"""Blocks of neighbouring points of a grid, which observations average and filters treat as one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from einops import rearrange, reduce, repeat

from masf.arrays import Array


@dataclass(frozen=True)
class Blocks:
    """A grid cut into B blocks of ``side`` points along each axis.

    A state (d,) is (fields, *grid), flattened: several fields may share the points of the grid.

    Raises:
        ValueError: if ``side`` does not divide all lengths of the grid.
    """

    grid: tuple[int, ...]
    side: int

    def __post_init__(self) -> None:
        if any(n % self.side for n in self.grid):
            grid = " x ".join(map(str, self.grid))
            raise ValueError(f"blocks of side {self.side} do not fill a grid of {grid}")

    @property
    def count(self) -> int:
        """Points in a block."""
        return int(self.side ** len(self.grid))

    @property
    def shape(self) -> tuple[int, ...]:
        """Blocks along each axis; their product is B."""
        return tuple(n // self.side for n in self.grid)

    def mean(self, x: Array) -> Array:
        """The mean of each field over each block (..., fields * B), for states (..., d)."""
        return reduce(x, f"... {self._state} -> ... {self._blocks}", "mean", **self._lengths)

    def spread(self, y: Array) -> Array:
        """The states (..., d) with the value (..., fields * B) of its block at each point."""
        return repeat(y, f"... {self._blocks} -> ... {self._state}", **self._lengths)

    def split(self, x: Array) -> Array:
        """States (n, d) as (B, n, k): the k components, of all fields, in each block."""
        return rearrange(x, f"n {self._state} -> {self._split}", **self._lengths)

    def join(self, x: Array) -> Array:
        """States (n, d) from what ``split`` made of them."""
        return rearrange(x, f"{self._split} -> n {self._state}", **self._lengths)

    # Axes in einops' words: f fields, and along axis i of the grid b_i blocks of p_i points.

    @cached_property
    def _state(self) -> str:
        return f"(f {' '.join(f'b{i} p{i}' for i in self._axes)})"

    @cached_property
    def _blocks(self) -> str:
        return f"(f {' '.join(f'b{i}' for i in self._axes)})"

    @cached_property
    def _split(self) -> str:
        blocks, points = (" ".join(f"{letter}{i}" for i in self._axes) for letter in "bp")
        return f"({blocks}) n (f {points})"

    @cached_property
    def _lengths(self) -> dict[str, int]:
        lengths = {f"b{i}": n for i, n in enumerate(self.shape)}
        return lengths | {f"p{i}": self.side for i in self._axes}

    @property
    def _axes(self) -> range:
        return range(len(self.grid))
