"""The diffusion of the score filters EnSF and SF, and its reverse with a damped likelihood.

After F. Bao, Z. Zhang, G. Zhang: arXiv:2306.09282 (SF) and arXiv:2309.00983 (EnSF). The forward
process knows nothing of the measurement:

    X_t = alpha X_0 + beta eps      alpha = 1 - (1 - eps_a) t      beta^2 = eps_b + (1 - eps_b) t
    t in [0, 1]

with eps_a = eps_b = 0 in the papers' equations and small positive values in the authors' code. It
is the marginal of dX = b X dt + g dW with b = d log(alpha)/dt and g^2 = d beta^2/dt - 2 b beta^2.
The reverse SDE

    dX = [b X - g^2 (s(X, t) + h(t) grad log p(y | X))] dt + g dW,  backward from N(0, I),

adds to the prior's score s the likelihood's gradient at X, damped by h(t) = 1 - t. The likelihood's
exact score at t is not that, so the end of this SDE is not the posterior, not even for a Gaussian
prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred_normal, ensemble_mean, ensemble_spread
from masf.observations.base import Observation

Score = Callable[[Array, float], Array]
"""s(x, t) for states (N, d)."""


@dataclass(frozen=True)
class Schedule:
    """alpha and beta^2 of the module's docstring; eps_a > 0, else b diverges at t = 1."""

    eps_a: float
    eps_b: float

    def alpha(self, t: float) -> float:
        return 1 - (1 - self.eps_a) * t

    def beta_squared(self, t: float) -> float:
        return self.eps_b + (1 - self.eps_b) * t

    def b(self, t: float) -> float:
        return -(1 - self.eps_a) / self.alpha(t)

    def g_squared(self, t: float) -> float:
        return 1 - self.eps_b - 2 * self.b(t) * self.beta_squared(t)


@dataclass(frozen=True)
class Standardised:
    """Coordinates z = (x - mean) / std, in which an ensemble has mean 0 and standard deviation 1 in
    every component.

    Attributes:
        mean: (d,).
        std: (d,), with no zero.
        observation: H and R, in x.
    """

    mean: Array
    std: Array
    observation: Observation

    @classmethod
    def of(cls, ensemble: Array, observation: Observation) -> Standardised:
        """The coordinates of ``ensemble`` (N, d)."""
        xp = array_namespace(ensemble)
        std = ensemble_spread(ensemble)
        # A component without spread keeps its unit.
        return cls(ensemble_mean(ensemble), xp.where(std > 0, std, xp.ones_like(std)), observation)

    def from_state(self, x: Array) -> Array:
        return (x - self.mean) / self.std

    def to_state(self, z: Array) -> Array:
        return self.mean + self.std * z

    def likelihood_score(self, z: Array, y: Array) -> Array:
        """grad_z log p(y | x(z)) for states (N, d)."""
        return self.std * self.observation.likelihood_score(self.to_state(z), y)


def reverse_sde(
    schedule: Schedule,
    score: Score,
    likelihood_score: Callable[[Array], Array],
    start: Array,
    steps: int,
    stream: Stream,
) -> Array:
    """States (N, d) at t = 0 by Euler-Maruyama from N(0, I), on an even grid of ``steps``.

    ``start`` (N, d) gives number, namespace and dtype; its values are not used. The noise is
    centred over members, start included, so that it does not move the mean (the authors' code does
    so at the start).
    """
    shape = tuple(start.shape)
    h = 1 / steps
    x = centred_normal(shape, start, stream)
    for i in range(steps, 0, -1):
        t = i * h
        b, g2 = schedule.b(t), schedule.g_squared(t)
        total = score(x, t) + (1 - t) * likelihood_score(x)
        x = x - h * (b * x - g2 * total) + math.sqrt(h * g2) * centred_normal(shape, x, stream)
    return x
