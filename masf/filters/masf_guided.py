"""MASF with the guided SDE of the authors' public code: sampler ``guided`` of
masf.diffusion.samplers; it is not exact.

Where the measurement is not linear it is that with their later code's endpoint Gaussian
approximation (masf.diffusion.endpoint), with the two answers of a Gaussian in place of a network's.
"""

from __future__ import annotations

import logging

import numpy as np
from pydantic import Field

from masf.arrays import Array, scattered
from masf.diffusion.endpoint import GaussianEndpoint, guided_endpoint
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import guided
from masf.ensembles.localization import MAX_DENSE_DIMENSION, make_taper, tapers_by_convolution
from masf.filters.learned import LearnedFilter, NetworkParameters
from masf.observations.base import Observation, Part, Transformed
from masf.observations.mask import Mask
from masf.systems.base import System

log = logging.getLogger(__name__)

MOST_LEFT = 0.5
"""Noise that the last step may leave, in standard deviations of the forecast, before it is said."""


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

    _said = False

    @classmethod
    def misfits(
        cls, parameters: NetworkParameters, system: System, observation: Observation
    ) -> list[str]:
        """Measurements that are not linear where they are not of single components, each with a
        noise of its own, or where there is a network or no matrix.
        """
        faults = super().misfits(parameters, system, observation)
        if observation.linear:
            return faults
        if parameters.network:
            faults.append(
                "network = True: measurements that are not linear need two answers, which the "
                "network of a prior does not give; set it to false"
            )
        if _mask_of(observation) is None:
            faults.append(
                "takes measurements that are not linear of single components only, none of them "
                "twice, each with a noise of its own: leave the filter out of this experiment"
            )
        if tapers_by_convolution(system) or system.dimension > MAX_DENSE_DIMENSION:
            faults.append(
                "forms covariance matrices where measurements are not linear, on rings of up to "
                f"{MAX_DENSE_DIMENSION} components: leave the filter out of this experiment"
            )
        return faults

    def posterior(self, ensemble: Array, y: Array, temperature: float = 1.0) -> Array:
        if self.observation.linear:
            return super().posterior(ensemble, y, temperature)
        p, mask = self.parameters, _mask_of(self.observation)
        assert mask is not None
        process = ForwardProcess.for_ensemble(mask.basis(), ensemble, temperature)
        measured = scattered(self.observation.apply(ensemble), mask.indices, mask.dimension)
        radius = p.localization_radius if p.covariance == "localized" else None
        taper = make_taper(self.system, radius, ensemble)
        return guided_endpoint(
            process, GaussianEndpoint(process, ensemble, measured, taper), y, ensemble, measured,
            self.times, self.stream,
            prior_scale=p.prior_scale, likelihood_scale=p.likelihood_scale,
        )  # fmt: skip

    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        p = self.parameters
        self._say_noise_that_is_left(process, ensemble)
        return guided(
            process, denoiser, y, ensemble, self.times, self.stream,
            prior_scale=p.prior_scale, likelihood_scale=p.likelihood_scale,
        )  # fmt: skip

    def _say_noise_that_is_left(self, process: ForwardProcess, ensemble: Array) -> None:
        """Says once where noise is so large that the scheme, whose last step begins at the noise
        Sigma(t_1), does not come back from it.
        """
        left = np.sqrt(process.Sigma(self.times[1])[process.observed])
        own = np.sqrt(process.basis.variance(ensemble)[process.observed])
        if not self._said and np.any(left > MOST_LEFT * own):
            self._said = True
            log.warning(
                "masf_guided: of measurements with so large a noise, its %d steps leave noise of "
                "%.2g times the forecast's spread in the analysis: take more steps, leave them "
                "out, or take masf, which is exact there",
                self.parameters.steps,
                float(np.max(left / np.maximum(own, np.finfo(float).tiny))),
            )


def _mask_of(observation: Observation) -> Mask | None:
    """The components whose transforms are measured, elementwise; None where that is not so."""
    whole = observation.whole if isinstance(observation, Part) else observation
    if not (isinstance(whole, Transformed) and isinstance(whole.of, Mask) and whole.of.elementwise):
        return None
    mask = whole.of
    if isinstance(observation, Part):
        return Mask(mask.dimension, mask.indices[observation.rows], observation.noise)
    return mask


filter = GuidedMASF
