"""MASF without training: the closed-form denoiser of the forecast ensemble's Gaussian mixture (ours).

The prior is a kernel density of the ensemble, with kernels of its covariance P, whole or tapered, and members drawn towards the
mean so that the mixture keeps mean and covariance (Liu and West 2001):

    p_0 = (1 / N) sum_j N(m + sqrt(1 - h^2) (x_j - m), h^2 P)

Its denoiser and covariance are exact (masf.denoisers.mixture). h = 1 is masf_gaussian, an EnKF; h to 0 is a particle filter,
with its degeneracy: in many dimensions one component of the mixture takes all the weight. Weights from a window of neighbours,
``weight_radius``, are what makes small h usable on a ring (chosen). The sampler is ``coupled``, or ``exact``: independent draws
from the posterior of the mixture, exact at any number of steps if weights are not local.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, like
from masf.denoisers.mixture import MixtureDenoiser, ring_windows
from masf.filters.base import Setup
from masf.filters.masf_gaussian import GaussianMASF, GaussianMASFParameters
from masf.localization import taper_matrix
from masf.process import ForwardProcess
from masf.samplers import Denoiser, exact

MOST_COMPONENTS = 5_000
"""The longest state that the mixture's covariance is formed for."""


class MixtureMASFParameters(GaussianMASFParameters):
    steps: int = Field(16, ge=1, le=2000, description="Reverse steps of the sampler.")
    covariance: Literal["ensemble", "localized"] = Field(
        "localized", description="The kernels' covariance: the ensemble's, whole or tapered."
    )
    sampler: Literal["coupled", "exact"] = Field(
        "coupled", description="coupled carries each member across; exact draws afresh from the posterior."
    )
    bandwidth: float = Field(0.5, gt=0, le=1, description="Kernel width h, in units of the ensemble's spread; 1 is one Gaussian.")
    weight_radius: int | None = Field(
        2, ge=0, description="Neighbours on each side, on a ring, whose densities weigh a component; null takes all components."
    )


class MixtureMASF(GaussianMASF):
    Parameters = MixtureMASFParameters

    def __init__(self, parameters: Any, setup: Setup) -> None:
        """Raises ValueError for states too long for a covariance, or windows where components have no distances."""
        super().__init__(parameters, setup)
        if (d := setup.system.dimension) > MOST_COMPONENTS:
            raise ValueError(f"filter 'masf_mc' forms matrices of {d} x {d}: the most is {MOST_COMPONENTS}; use 'masf_gaussian'")
        # The mixture's covariance is a matrix, on long rings too.
        radius = parameters.localization_radius if parameters.covariance == "localized" else None
        taper = taper_matrix(setup.system, radius)
        self.taper = None if taper is None else like(taper, setup.initial_mean)
        self.windows = None
        if parameters.weight_radius is not None:
            if setup.system.ring is None:
                raise ValueError("weight_radius: this system's components have no distances; set it to null")
            self.windows = ring_windows(setup.system.ring, parameters.weight_radius)

    def denoiser(self, process: ForwardProcess, state: Array) -> Denoiser:
        xp = array_namespace(state)
        mean = xp.mean(state, axis=0)
        anomalies = state - mean
        h = self.parameters.bandwidth
        covariance = anomalies.mT @ anomalies / (len(state) - 1)
        if self.taper is not None:
            covariance = covariance * self.taper
        self.mixture = MixtureDenoiser(process, mean + math.sqrt(1 - h**2) * anomalies, h**2 * covariance, self.windows)
        return self.mixture

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        if self.parameters.sampler == "exact":
            return exact(process, denoiser, y, state, self.times, self.stream)
        return super().sample(process, denoiser, y, state)

    def diagnostics(self) -> dict[str, float]:
        """How many components of the mixture share the weight in the last reverse step."""
        return {"effective_size": self.mixture.effective_size}


filter = MixtureMASF
