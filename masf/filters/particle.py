"""Bootstrap particle filter (Gordon, Salmond, Smith 1993) with regularised resampling (Musso,
Oudjane, Le Gland 2001).

Particles are weighted by the likelihood p(y | x), resampled systematically, and each copy is moved
by a Gaussian kernel of the weighted covariance times h^2, h = bandwidth (4 / ((d + 2) N))^(1 / (d +
4)). Copies are first drawn towards the mean by sqrt(1 - h^2) (Liu and West 2001), so that mean and
covariance keep their values. With many particles and few dimensions it comes near the Bayes
optimum, which is what it is for here.
"""

from __future__ import annotations

import math

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, like, to_numpy
from masf.filters.base import Filter, FilterParameters, initial_draws
from masf.observations.base import Observation
from masf.systems.base import System


class ParticleParameters(FilterParameters):
    particles: int = Field(
        100_000, ge=2, description="Number of particles, drawn from the initial distribution."
    )
    bandwidth: float = Field(
        0.3,
        ge=0,
        le=10,
        description="Kernel width over Silverman's, which suits a Gaussian posterior; 0 resamples "
        "without moving.",
    )


def systematic_resampling(weights: np.ndarray, offset: float) -> np.ndarray:
    """Indices (N,) of the copies for normalised weights (N,) and one uniform number ``offset``."""
    n = len(weights)
    return np.minimum(
        np.searchsorted(np.cumsum(weights), (np.arange(n) + offset) / n, side="right"), n - 1
    )


MOST_COMPONENTS = 5_000
"""The longest state that the kernel's covariance is formed for; no number of particles suffices
long before.
"""


class Particle(Filter):
    Parameters = ParticleParameters

    @classmethod
    def misfits(
        cls, parameters: ParticleParameters, system: System, observation: Observation
    ) -> list[str]:
        """States too long for a covariance."""
        d = system.dimension
        if d <= MOST_COMPONENTS:
            return []
        return [
            f"dimension {d}: its covariance of {d} x {d} is too large, the most is "
            f"{MOST_COMPONENTS}; leave the filter out of this experiment"
        ]

    def start(self, ensemble: Array) -> Array:
        return initial_draws(self.setup, self.parameters.particles)

    def analyse(self, state: Array, y: Array) -> Array:
        xp = array_namespace(state)
        n, d = state.shape
        log_weights = to_numpy(self.observation.log_likelihood(state, y)).astype(np.float64)
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        self.effective_size = float(1 / np.sum(weights**2))
        w = like(weights, state)
        # Departures from a particle have more digits than a weighted sum of states.
        departures = state - state[:1]
        offset = w @ departures
        anomalies = departures - offset
        covariance = to_numpy((anomalies * w[:, None]).mT @ anomalies).astype(np.float64)
        values, vectors = np.linalg.eigh(covariance)
        h = min(self.parameters.bandwidth * (4 / ((d + 2) * n)) ** (1 / (d + 4)), 1.0)
        kernel = like(h * np.sqrt(np.maximum(values, 0)) * vectors, state)
        chosen = systematic_resampling(weights, self.stream.uniform())
        self.stream.numpy.shuffle(
            chosen
        )  # copies of one particle are neighbours: the first few would be no fair sample
        copies = xp.take(anomalies, xp.asarray(chosen, device=state.device), axis=0)
        moved = math.sqrt(1 - h**2) * copies + self.stream.normal((n, d), state) @ kernel.mT
        return state[0] + (offset + moved)

    def diagnostics(self) -> dict[str, float]:
        return {"effective_size": self.effective_size}


filter = Particle
