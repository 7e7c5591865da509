"""The measurement-aware score-based filter (Yoon, Kim, Kim, arXiv:2604.02889), with the member-coupled sampler (ours).

The analysis runs the measurement-aware forward process (masf.diffusion.process) from the forecast ensemble to the measurement,
and back from the measurement y with the denoiser D = D_G + c net (masf.diffusion.denoisers.learned). D_G takes the ensemble's
mean and covariance, so that without a network the filter is a stochastic EnKF, localised if the covariance is. The network
starts each cycle from the pretrained prior and can be fine-tuned on the forecast members. It is used only in cycles where it
denoises members better than D_G does, when neither has seen those members.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from array_api_compat import is_torch_array
from pydantic import Field

from masf.arrays import Array
from masf.diffusion.bases import make_basis
from masf.diffusion.denoisers.select import denoiser_taper, ensemble_denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import Denoiser, coupled, time_grid
from masf.ensembles.inflation import inflate
from masf.ensembles.rotation import rotate
from masf.filters.base import EnsembleParameters, Filter, FilterParameters, RotatedParameters, Setup

if TYPE_CHECKING:
    from masf.diffusion.denoisers.learned import LearnedDenoiser
    from masf.diffusion.denoisers.prior import Prior


SMALLEST_VALIDATED = 4
"""Smaller ensembles spare no members to validate a network: D_G serves alone."""


class CoupledParameters(RotatedParameters):
    """Parameters of filters with the member-coupled sampler, too."""

    perturbation: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the measurement's noise that perturbs members: 1 is a stochastic filter, 0 a square-root filter.",
    )


class NetworkParameters(EnsembleParameters):
    """Parameters of filters whose denoiser is corrected by a network."""

    steps: int = Field(8, ge=1, le=2000, description="Reverse steps of the sampler.")
    network: bool = Field(True, description="Correct the Gaussian denoiser by the network of the pretrained prior.")
    covariance: Literal["diagonal", "ensemble", "localized"] = Field(
        "localized", description="Without network: the Gaussian denoiser's covariance: the ensemble's diagonal, all, or tapered."
    )
    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="Without network, for covariance localized: half of the taper's support, in grid points; null tapers "
        "nothing. With a network, the radii are those that its prior was trained with.",
    )
    finetune_steps: int = Field(0, ge=0, description="Training steps on the forecast members in each cycle.")
    finetune_learning_rate: float = Field(5e-4, gt=0, le=1, description="Peak learning rate of fine-tuning.")
    finetune_batch: int = Field(128, ge=1, description="Noised members in a fine-tuning step.")
    held_out: float = Field(0.2, gt=0, lt=1, description="Share of members that validate the network.")
    validation_times: int = Field(6, ge=1, description="Diffusion times at which the network is validated.")


class MASFParameters(NetworkParameters, CoupledParameters):
    pass


class MASF(Filter):
    Parameters: ClassVar[type[FilterParameters]] = MASFParameters
    uses_prior = True

    def __init__(self, parameters: NetworkParameters, setup: Setup) -> None:
        super().__init__(parameters, setup)
        self.basis = make_basis(setup.observation)
        self.times = time_grid(parameters.steps)
        self.prior: Prior | None = None
        self._diagnostics: dict[str, float] = {}
        if parameters.network:
            self._take_prior()
        else:
            radius = parameters.localization_radius if parameters.covariance == "localized" else None
            self.taper = denoiser_taper(setup.system, radius, self.basis, setup.initial_mean)

    def _take_prior(self) -> None:
        if self.setup.prior is None:
            raise ValueError("a filter with network: true needs a pretrained prior (stage train-prior); or set network: false")
        if not is_torch_array(self.setup.initial_mean):
            raise ValueError("a filter with network: true computes on torch tensors, not on numpy arrays")
        from masf.diffusion.denoisers.learned import GaussianFamily

        self.prior = self.setup.prior
        self.family = GaussianFamily(self.system, self.prior.settings.localization_radii, self.basis, self.setup.initial_mean)

    @classmethod
    def needs_torch(cls, parameters: NetworkParameters) -> bool:
        return parameters.network

    def analyse(self, state: Array, y: Array) -> Array:
        process = ForwardProcess.for_ensemble(self.basis, state)
        return inflate(self.sample(process, self.denoiser(process, state), y, state), self.parameters.inflation)

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        """Analysis members (N, d) before inflation."""
        members = coupled(process, denoiser, y, state, self.times, self.stream, perturbation=self.parameters.perturbation)
        return rotate(members, self.stream) if self.parameters.rotation else members

    def denoiser(self, process: ForwardProcess, state: Array) -> Denoiser:
        """D for the forecast ensemble ``state`` (N, d): D_G alone, or the best network if that beats it."""
        if self.prior is None:
            return ensemble_denoiser(process, state, self.parameters.covariance, self.taper)
        from masf.diffusion.denoisers.training import loss, zero_loss

        if len(state) < SMALLEST_VALIDATED:
            return self.family(process, state)[0]
        held_out, rest = self._split(state)
        trial = self._learned(process, self.prior.network, rest)
        features, targets = trial.denoising_pairs(held_out, time_grid(self.parameters.validation_times)[1:], self.stream)
        networks = {"prior": self.prior.network}
        if self.parameters.finetune_steps:
            networks["finetuned"] = self._finetuned(trial, rest)
        losses = {"gaussian": zero_loss(targets)} | {k: loss(net, features, targets) for k, net in networks.items()}
        best = min(losses, key=lambda k: losses[k])
        self._diagnostics = {f"loss_{k}": v for k, v in losses.items()} | {"network_used": float(best != "gaussian")}
        chosen = self._learned(process, networks.get(best, self.prior.network), state)
        return chosen.gaussian if best == "gaussian" else chosen

    def _split(self, state: Array) -> tuple[Array, Array]:
        """Members that validate, and the others."""
        order = self.stream.numpy.permutation(len(state))
        count = min(max(1, round(self.parameters.held_out * len(state))), len(state) - 2)
        return state[order[:count]], state[order[count:]]

    def _learned(self, process: ForwardProcess, network: Any, ensemble: Array) -> LearnedDenoiser:
        from masf.diffusion.denoisers.learned import LearnedDenoiser

        assert self.prior is not None
        return LearnedDenoiser(self.family(process, ensemble), network, self.prior.climate, ensemble, self.system)

    def _finetuned(self, denoiser: LearnedDenoiser, members: Array) -> Any:
        """The network of ``denoiser`` trained further on noised copies of ``members``."""
        from masf.diffusion.denoisers.training import fit

        p = self.parameters
        network = copy.deepcopy(denoiser.network)
        features, targets = denoiser.denoising_pairs(members, self.times[1:], self.stream)
        fit(
            network,
            features,
            targets,
            steps=p.finetune_steps,
            batch=p.finetune_batch,
            learning_rate=p.finetune_learning_rate,
            stream=self.stream,
        )
        return network

    def diagnostics(self) -> dict[str, float]:
        return self._diagnostics


filter = MASF
