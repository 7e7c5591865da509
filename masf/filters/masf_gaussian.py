"""MASF without a network: the member-coupled sampler (ours) with the Gaussian denoiser alone; needs
neither prior nor torch.

The prior is taken for N(m, P), with the forecast ensemble's mean and its covariance P, whole,
tapered or diagonal. The denoiser is then D = m + P A (A P A + Sigma)^(-1) (x - A m)
(masf.diffusion.denoisers.gaussian), and every sampler step is exact, so that member by member, at
any number of steps,

    x_i <- x_i + K (y - y_i)     K = P H^T (H P H^T + R)^(-1)     y_i ~ N(H x_i, R)

where y_i is what the forward process made of the member. That is the stochastic EnKF, localised if
P is; with less ``perturbation`` it turns into a square-root filter. Where the measurement is not
linear, the prior is that of the state with what is measured of it, (x, h(x)), and this the usual
EnKF: K = P_xh (P_hh + R)^(-1), y_i ~ N(h(x_i), R).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masf.diffusion.denoisers.select import GaussianFit, gaussian_misfits
from masf.filters.passes import TemperedFilter, TemperedParameters
from masf.observations.base import Observation
from masf.systems.base import System


class GaussianMASFParameters(TemperedParameters):
    steps: int = Field(
        1,
        ge=1,
        le=2000,
        description="Reverse steps of the sampler; they change no law, only the noise.",
    )
    covariance: Literal["diagonal", "ensemble", "localized"] = Field(
        "localized",
        description="The Gaussian denoiser's covariance: the ensemble's diagonal, all, or tapered.",
    )
    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="For covariance localized: half of the taper's support, in the "
        "system's unit of length; null tapers nothing.",
    )


class GaussianMASF(TemperedFilter):
    Parameters = GaussianMASFParameters

    @classmethod
    def misfits(
        cls, parameters: GaussianMASFParameters, system: System, observation: Observation
    ) -> list[str]:
        own = gaussian_misfits(
            parameters.covariance, parameters.localization_radius, system, observation
        )
        return [*own, *super().misfits(parameters, system, observation)]

    def make_fit(self) -> GaussianFit:
        p = self.parameters
        radius = p.localization_radius if p.covariance == "localized" else None
        return GaussianFit(p.covariance, self.linear_state.taper(radius, self.setup.initial_mean))


filter = GaussianMASF
