"""What every denoiser is: asked once for states at a time, it answers with a ``Posterior``.

A denoiser knows the distribution of X_0, the prior, and is shown a state x of the forward process
at time t (masf.diffusion.process). What it then says of X_0 is all that a sampler needs for a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from masf.arrays import Array, Stream
from masf.diffusion.gains import OfGain
from masf.diffusion.process import ForwardProcess


@dataclass(frozen=True)
class Posterior:
    """The distribution of X_0 given X_t = x, for n states x at once.

    Attributes:
        mean: D(x, t) ~ E[X_0 | X_t = x] (n, d).
        variance: the diagonal of C = Cov(X_0 | X_t = x) (n, d) where it depends on x; None where
            all states have the same, which samplers then need not know.
        residual: draws X_0 - D(x, t) (n, d), one for each state, by a stream's random numbers.
    """

    mean: Array
    variance: Array | None
    residual: Callable[[Stream], Array]


class Denoiser(Protocol):
    """The posterior of X_0 for states (n, d) of the forward process at time t."""

    def __call__(self, x: Array, t: float) -> Posterior: ...

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """f(G) A(1) x for states (n, d), G being the gain of what is measured, or an approximation
        of it; see masf.diffusion.gains. Asked for by samplers that take part of the noise only.
        """
        ...


class Fit(Protocol):
    """Makes the denoiser of a forecast ensemble: how a filter takes its members for a
    distribution.
    """

    def __call__(self, process: ForwardProcess, ensemble: Array) -> Denoiser:
        """The denoiser whose prior is that of ``ensemble`` (N, d)."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Numbers that describe the last denoiser, or its last answer."""
        ...
