"""The measurement-aware score-based filter (Yoon, Kim, Kim, arXiv:2604.02889), with the member-coupled sampler (ours).

The analysis runs the measurement-aware forward process (masf.process) from the forecast ensemble to the measurement, and
back from the measurement y with the denoiser D = D_G + c net (masf.denoisers.learned). D_G takes the ensemble's mean and
covariance, so that without a network the filter is a stochastic EnKF, localised if the covariance is. The network starts
each cycle from the pretrained prior and can be fine-tuned on the forecast members; it is used only in cycles where it denoises
held-out members better than D_G alone.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from array_api_compat import is_torch_array
from pydantic import Field

from masf.arrays import Array, like
from masf.denoisers.gaussian import GaussianDenoiser, ensemble_denoiser
from masf.filters.base import EnsembleParameters, Filter, FilterParameters, Setup, inflate
from masf.localization import taper_matrix
from masf.process import ForwardProcess, make_basis
from masf.samplers import Denoiser, coupled, time_grid

if TYPE_CHECKING:
    from masf.denoisers.learned import LearnedDenoiser
    from masf.prior import Prior


class MASFParameters(EnsembleParameters):
    steps: int = Field(16, ge=1, le=2000, description="Reverse steps of the sampler.")
    covariance: Literal["diagonal", "ensemble", "localized"] = Field(
        "localized",
        description="Prior covariance of the Gaussian denoiser: the ensemble's, as it is, its diagonal, or tapered.",
    )
    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="For covariance localized: half of the Gaspari-Cohn taper's support; null tapers nothing.",
    )
    network: bool = Field(True, description="Correct the Gaussian denoiser by the network of the pretrained prior.")
    finetune_steps: int = Field(0, ge=0, description="Training steps on the forecast members in each cycle.")
    finetune_learning_rate: float = Field(5e-4, gt=0, le=1, description="Peak learning rate of fine-tuning.")
    finetune_batch: int = Field(128, ge=1, description="Noised members in a fine-tuning step.")
    held_out: float = Field(0.2, gt=0, lt=1, description="Share of members that validate the network.")
    validation_times: int = Field(6, ge=1, description="Diffusion times at which the network is validated.")


class MASF(Filter):
    Parameters: ClassVar[type[FilterParameters]] = MASFParameters
    uses_prior = True

    def __init__(self, parameters: MASFParameters, setup: Setup) -> None:
        super().__init__(parameters, setup)
        self.basis = make_basis(setup.observation)
        radius = parameters.localization_radius if parameters.covariance == "localized" else None
        taper = taper_matrix(setup.system.distances(), radius)
        self.taper = None if taper is None else like(taper, setup.initial_mean)
        self.times = time_grid(parameters.steps)
        self.prior: Prior | None = None
        if parameters.network:
            if setup.prior is None:
                raise ValueError("filter 'masf' with network true needs a pretrained prior (stage train-prior)")
            if not is_torch_array(setup.initial_mean):
                raise ValueError("filter 'masf' with network true computes on torch tensors, not numpy arrays")
            from masf.prior import load

            self.prior = load(setup.prior, setup.system, str(setup.initial_mean.device))
        self._diagnostics: dict[str, float] = {}

    @classmethod
    def needs_torch(cls, parameters: MASFParameters) -> bool:
        return parameters.network

    def analyse(self, state: Array, y: Array) -> Array:
        process = ForwardProcess.for_ensemble(self.basis, state)
        gaussian = ensemble_denoiser(process, state, self.parameters.covariance, self.taper)
        denoiser = self.choose_denoiser(gaussian, state)
        return inflate(self.sample(process, denoiser, y, state), self.parameters.inflation)

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, state: Array) -> Array:
        """Analysis members (N, d) before inflation."""
        return coupled(process, denoiser, y, state, self.times, self.stream)

    def choose_denoiser(self, gaussian: GaussianDenoiser, state: Array) -> Denoiser:
        """The network's denoiser, fine-tuned if asked for, where it beats the Gaussian one on held-out members; else that."""
        if self.prior is None:
            return gaussian
        from masf.denoisers.training import loss, zero_loss

        p = self.parameters
        learned = self._learned(gaussian, self.prior.network, state)
        order = self.stream.numpy.permutation(len(state))
        held_out = max(1, round(p.held_out * len(state)))
        grid = time_grid(p.validation_times)[1:]
        features, targets = learned.denoising_pairs(state[order[:held_out]], grid, self.stream)
        losses = {"gaussian": zero_loss(targets), "prior": loss(learned.network, features, targets)}
        candidates: dict[str, Denoiser] = {"gaussian": gaussian, "prior": learned}
        if p.finetune_steps:
            tuned = self._finetuned(gaussian, state[order[held_out:]], state)
            losses["finetuned"] = loss(tuned.network, features, targets)
            candidates["finetuned"] = tuned
        best = min(losses, key=lambda k: losses[k])
        self._diagnostics = {f"loss_{k}": v for k, v in losses.items()} | {"network_used": float(best != "gaussian")}
        return candidates[best]

    def _learned(self, gaussian: GaussianDenoiser, network: Any, state: Array) -> LearnedDenoiser:
        from masf.denoisers.learned import LearnedDenoiser

        assert self.prior is not None
        return LearnedDenoiser(gaussian, network, self.prior.climate, state.std(dim=0))

    def _finetuned(self, gaussian: GaussianDenoiser, members: Array, state: Array) -> LearnedDenoiser:
        """The prior's network trained further on noised copies of ``members``."""
        from masf.denoisers.training import fit

        assert self.prior is not None
        p = self.parameters
        tuned = self._learned(gaussian, copy.deepcopy(self.prior.network), state)
        features, targets = tuned.denoising_pairs(members, self.times[1:], self.stream)
        fit(
            tuned.network, features, targets, steps=p.finetune_steps, batch=p.finetune_batch,
            learning_rate=p.finetune_learning_rate, stream=self.stream,
        )  # fmt: skip
        return tuned

    def diagnostics(self) -> dict[str, float]:
        return self._diagnostics


filter = MASF
