"""MASF with the guided SDE of the authors' public code: sampler ``guided`` of masf.diffusion.samplers; it is not exact."""

from __future__ import annotations

from pydantic import Field

from masf.arrays import Array
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import Denoiser, guided
from masf.filters.masf import MASF, NetworkParameters


class GuidedMASFParameters(NetworkParameters):
    steps: int = Field(
        100, ge=2, le=2000, description="Steps of the Euler-Maruyama scheme; the first starts one step inside t = 1."
    )
    prior_scale: float = Field(1.0, ge=0, le=10, description="Scale g_s of the prior score.")
    likelihood_scale: float = Field(1.0, ge=0, le=10, description="Scale g_l of the likelihood score.")


class GuidedMASF(MASF):
    Parameters = GuidedMASFParameters

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        p = self.parameters
        return guided(
            process, denoiser, y, state, self.times, self.stream,
            prior_scale=p.prior_scale, likelihood_scale=p.likelihood_scale,
        )  # fmt: skip


filter = GuidedMASF
