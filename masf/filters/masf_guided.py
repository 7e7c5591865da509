"""MASF with the guided SDE of the authors' public code: sampler ``guided`` of
masf.diffusion.samplers; it is not exact.
"""

from __future__ import annotations

from pydantic import Field

from masf.arrays import Array
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import guided
from masf.filters.base import linear_misfits
from masf.filters.learned import LearnedFilter, NetworkParameters
from masf.observations.base import Observation
from masf.systems.base import System


class GuidedMASFParameters(NetworkParameters):
    steps: int = Field(
        100,
        ge=2,
        le=2000,
        description="Steps of the Euler-Maruyama scheme; the first starts one step inside t = 1.",
    )
    prior_scale: float = Field(1.0, ge=0, le=10, description="Scale g_s of the prior score.")
    likelihood_scale: float = Field(
        1.0, ge=0, le=10, description="Scale g_l of the likelihood score."
    )


class GuidedMASF(LearnedFilter):
    Parameters = GuidedMASFParameters

    @classmethod
    def misfits(
        cls, parameters: NetworkParameters, system: System, observation: Observation
    ) -> list[str]:
        own = linear_misfits(observation)
        return [*own, *super().misfits(parameters, system, observation)]

    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        p = self.parameters
        return guided(
            process, denoiser, y, ensemble, self.times, self.stream,
            prior_scale=p.prior_scale, likelihood_scale=p.likelihood_scale,
        )  # fmt: skip


filter = GuidedMASF
