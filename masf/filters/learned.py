"""Process filters whose Gaussian denoiser is corrected by a network: D = D_G + c net
(masf.diffusion.denoisers.learned).

D_G takes the ensemble's mean and covariance, so that without the network the filter is a stochastic
EnKF, localised if the covariance is. Where the measurement is not linear, both answer for the state
and for what is measured of it. The network starts each cycle from the pretrained prior and
can be fine-tuned on the forecast members. It is used only in cycles where it denoises members
better than D_G does, when neither has seen those members (masf.diffusion.denoisers.validated).
"""

from __future__ import annotations

from typing import Literal

from array_api_compat import is_torch_array
from pydantic import Field

from masf.diffusion.denoisers.select import GaussianFit, gaussian_misfits
from masf.diffusion.posterior import Fit
from masf.filters.base import EnsembleParameters
from masf.filters.process_filter import ProcessFilter
from masf.observations.base import Observation
from masf.systems.base import System


class NetworkParameters(EnsembleParameters):
    """Parameters of filters whose denoiser is corrected by a network."""

    steps: int = Field(8, ge=1, le=2000, description="Reverse steps of the sampler.")
    network: bool = Field(
        True, description="Correct the Gaussian denoiser by the network of the pretrained prior."
    )
    covariance: Literal["diagonal", "ensemble", "localized"] = Field(
        "localized",
        description="Without network: the Gaussian denoiser's covariance: the ensemble's "
        "diagonal, all, or tapered.",
    )
    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="Without network, for covariance localized: half of the taper's support, in "
        "the system's unit of length; null tapers "
        "nothing. With a network, the radii are those that its prior was trained with.",
    )
    finetune_steps: int = Field(
        0, ge=0, description="Training steps on the forecast members in each cycle."
    )
    finetune_learning_rate: float = Field(
        5e-4, gt=0, le=1, description="Peak learning rate of fine-tuning."
    )
    finetune_batch: int = Field(128, ge=1, description="Noised members in a fine-tuning step.")
    held_out: float = Field(
        0.2, gt=0, lt=1, description="Share of members that validate the network."
    )
    validation_times: int = Field(
        6, ge=1, description="Diffusion times at which the network is validated."
    )

    def without_effect(self) -> dict[str, str]:
        if self.network:
            of_gaussian = ("covariance", "localization_radius")
            idle = dict.fromkeys(of_gaussian, "network: false")
        else:
            idle = {"finetune_steps": "network: true"}
        return super().without_effect() | idle


class LearnedFilter(ProcessFilter):
    """A process filter that asks the network of the pretrained prior, or with ``network: false``
    D_G alone.
    """

    uses_prior = True

    @classmethod
    def needs_torch(cls, parameters: NetworkParameters) -> bool:
        return parameters.network

    @classmethod
    def misfits(
        cls, parameters: NetworkParameters, system: System, observation: Observation
    ) -> list[str]:
        """Those of D_G alone; with a network, covariance and radii are those of its prior."""
        own = []
        if not parameters.network:
            own = gaussian_misfits(
                parameters.covariance, parameters.localization_radius, system, observation
            )
        return [*own, *super().misfits(parameters, system, observation)]

    def make_fit(self) -> Fit:
        """Raises ValueError where the network's prior is missing or has a radius where there is no
        grid, or the arrays are none of torch's.
        """
        p, x, prior = self.parameters, self.setup.initial_mean, self.setup.prior
        state = self.linear_state
        if not p.network:
            radius = p.localization_radius if p.covariance == "localized" else None
            return GaussianFit(p.covariance, state.taper(radius, x))
        if prior is None:
            raise ValueError(
                "a filter with network: true needs a pretrained prior (stage train-prior); or "
                "set network: false"
            )
        if not is_torch_array(x):
            raise ValueError(
                "a filter with network: true computes on torch tensors, not on numpy arrays"
            )
        from masf.diffusion.denoisers.validated import Finetuning, ValidatedFit

        climate = None
        if prior.settings.static_share:
            climate = self.climate(prior.settings.climate_steps)
        finetuning = Finetuning(
            p.finetune_steps, p.finetune_learning_rate, p.finetune_batch, self.times[1:]
        )
        return ValidatedFit(
            prior,
            self.system,
            state.family(prior.settings, x, climate),
            state.shape,
            held_out=p.held_out,
            validation_times=p.validation_times,
            finetuning=finetuning,
            stream=self.stream,
        )
