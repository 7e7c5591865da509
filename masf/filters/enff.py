"""Ensemble flow filter, EnFF (Transue, Chen, Takao, Wang, arXiv:2508.13313): flow matching without
training, with guidance towards the measurement.

Each forecast member x_j has a Gaussian path N(mu_j(t), sigma(t)^2 I) that ends at N(x_j,
sigma_min^2 I), and the velocity that carries the equal mixture of these paths is known,

    v(x, t) = sum_j w_j (sigma'/sigma (x - mu_j) + mu_j')     w_j ~ exp(-|x - mu_j|^2 / (2 sigma^2))

with sum_j w_j = 1. Samples start at t = 0 and run by Euler's scheme with

    dx/dt = v(x, t) + lambda grad log p(y | x_1)     x_1 = x + (1 - t) v(x, t),

x_1 being where the sample is bound for; the gradient is that at x_1, not through it. Two paths:

- ``f2p``: mu_j = (1 - t) a_j + t x_j, sigma = sigma_min. It goes from the last analysis, whose
  members a_j the model took to x_j, to the forecast. Sample i starts at a_i + sigma_min eps.
- ``ot``: mu_j = t x_j, sigma = 1 - (1 - sigma_min) t. It goes from N(0, I) to the forecast.

With few steps and small sigma_min, ``f2p`` moves each member to its own forecast and a constant
share of the way to the measurement. No covariance between components is used, so components that
are not measured learn from the measurement through the weights only.

From the source and its public code: all of this, the coordinates of the state as they are, and no
localisation. Where nothing was measured, the last analysis is that of the last measurement.
Chosen: the defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, softmax
from masf.ensembles.inflation import inflate
from masf.filters.base import EnsembleParameters, Filter


class EnFFParameters(EnsembleParameters):
    path: Literal["f2p", "ot"] = Field(
        "f2p", description="From the last analysis to the forecast, or from N(0, I) to it."
    )
    steps: int = Field(10, ge=1, le=5000, description="Steps of Euler's scheme.")
    sigma_min: float = Field(
        0.01,
        gt=0,
        le=100,
        description="Spread of a path about its member at its end, in the state's units.",
    )
    guidance: float = Field(
        0.2,
        ge=0,
        le=1000,
        description="Factor lambda on the gradient of the log-likelihood, in the state's units "
        "squared.",
    )


class Paths:
    """The Gaussian paths of N forecast members.

    Attributes:
        ends: (N, d) x_j.
        starts: (N, d) mu_j(0).
        sigmas: sigma(0) and sigma(1), between which sigma is linear.
    """

    def __init__(self, starts: Array, ends: Array, sigmas: tuple[float, float]) -> None:
        self.starts, self.ends, self.sigmas = starts, ends, sigmas

    def velocity(self, x: Array, t: float) -> Array:
        """v (n, d) at states x (n, d)."""
        xp = array_namespace(x)
        first, last = self.sigmas
        sigma, slope = first + (last - first) * t, last - first
        means = (1 - t) * self.starts + t * self.ends
        # In float64, from a member: a small sigma makes much of the rounding of large squares.
        a, b = (xp.astype(z - means[:1], xp.float64) for z in (x, means))
        logits = (a @ b.mT - xp.sum(b**2, axis=-1) / 2) / sigma**2
        weights = xp.astype(softmax(logits), x.dtype)
        drift = weights @ (self.ends - self.starts)
        return drift + slope / sigma * (x - means[:1] - weights @ (means - means[:1]))


def transported(paths: Paths, x: Array, steps: int, guidance: Callable[[Array], Array]) -> Array:
    """States (n, d) at t = 1 from ``x`` (n, d) at t = 0; ``guidance`` is a velocity (n, d) by where
    states are bound for.
    """
    for k in range(steps):
        t = k / steps
        velocity = paths.velocity(x, t)
        x = x + (velocity + guidance(x + (1 - t) * velocity)) / steps
    return x


class EnFF(Filter):
    Parameters: ClassVar[type[EnFFParameters]] = EnFFParameters

    _past: Array | None = None

    def start(self, ensemble: Array) -> Array:
        self._past = ensemble
        return ensemble

    def analyse(self, state: Array, y: Array) -> Array:
        p, xp = self.parameters, array_namespace(state)
        if p.path == "ot":
            starts, sigmas = xp.zeros_like(state), (1.0, p.sigma_min)
        else:
            starts, sigmas = self._past_of(state), (p.sigma_min, p.sigma_min)
        x = starts + sigmas[0] * self.stream.normal(tuple(state.shape), state)

        def towards(ahead: Array) -> Array:
            return p.guidance * self.observation.likelihood_score(ahead, y)

        analysis = transported(Paths(starts, state, sigmas), x, p.steps, towards)
        self._past = self.project(inflate(analysis, p.inflation))
        return self._past

    def _past_of(self, state: Array) -> Array:
        """The last analysis, or without one the forecast itself."""
        return state if self._past is None else self._past


filter = EnFF
