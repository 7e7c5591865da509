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

With a ``static_share`` P is a hybrid, (1 - share) P_e + share c B, of the ensemble's covariance and
that of some states of the model's climate (masf.ensembles.static), localised alike; in passes of
several cycles' forecasts it serves the last one, in the present.
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
    static_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a static covariance, that of the model's climate, in a hybrid with "
        "the ensemble's own.",
    )
    static_members: int = Field(
        40, ge=2, description="For static_share: states of the climate that it is taken from."
    )
    climate_steps: int = Field(
        200, ge=2, description="For static_share: steps of the free run that they are taken from."
    )

    def radii(self) -> dict[str, float | None]:
        own = {"localization_radius": self.localization_radius}
        in_force = self.covariance == "localized" and self.moves_the_present
        return (own if in_force else {}) | super().radii()

    def without_effect(self) -> dict[str, str]:
        idle = {}
        if self.covariance != "localized":
            idle["localization_radius"] = "covariance localized"
        if not self.static_share:
            idle |= dict.fromkeys(("static_members", "climate_steps"), "a static_share")
        return super().without_effect() | idle


class GaussianMASF(TemperedFilter):
    Parameters = GaussianMASFParameters

    @classmethod
    def misfits(
        cls, parameters: GaussianMASFParameters, system: System, observation: Observation
    ) -> list[str]:
        own = gaussian_misfits(
            parameters.covariance, parameters.localization_radius, system, observation
        )
        if parameters.static_share and parameters.covariance == "diagonal":
            own.append(
                f"static_share = {parameters.static_share}: a diagonal covariance takes none of "
                "it; set covariance to localized"
            )
        return [*own, *super().misfits(parameters, system, observation)]

    def make_fit(self) -> GaussianFit:
        p = self.parameters
        radius = p.localization_radius if p.covariance == "localized" else None
        state, static = self.linear_state, None
        if p.static_share:
            climate = self.climate(p.climate_steps)
            static = state.static(climate, p.static_members, p.static_share)
        return GaussianFit(p.covariance, state.taper(radius, self.setup.initial_mean), static)


filter = GaussianMASF
