"""A network that has to prove itself in each cycle: it serves where it denoises members better than
D_G does.

A part of the forecast members is held out. The Gaussian denoiser D_G takes mean and covariance of
the others, and so do the networks that correct it (masf.diffusion.denoisers.learned): the
pretrained one, and that one trained further on the others, if fine-tuning is asked for. What
denoises the held-out members best is then given all members.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from masf.arrays import Stream
from masf.diffusion.denoisers.family import FamilyFit
from masf.diffusion.denoisers.learned import LearnedDenoiser
from masf.diffusion.denoisers.prior import Prior
from masf.diffusion.denoisers.training import fit, loss, zero_loss
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess, time_grid
from masf.systems.base import System

SMALLEST_VALIDATED = 4
"""Smaller ensembles spare no members to validate a network: D_G serves alone."""


@dataclass(frozen=True)
class Finetuning:
    """How the network is trained further on the members of a cycle.

    Attributes:
        steps: training steps; 0 trains nothing.
        learning_rate: its peak.
        batch: noised members in a step.
        times: the diffusion times at which members are noised.
    """

    steps: int
    learning_rate: float
    batch: int
    times: list[float]


class ValidatedFit:
    """Takes an ensemble for what denoises held-out members best: a ``Fit`` of
    masf.diffusion.posterior.
    """

    def __init__(
        self,
        prior: Prior,
        system: System,
        family: FamilyFit,
        shape: tuple[int, ...],
        *,
        held_out: float,
        validation_times: int,
        finetuning: Finetuning,
        stream: Stream,
    ) -> None:
        """A fit with the network of ``prior``.

        Args:
            prior: the pretrained network.
            system: asked for its geometry.
            family: the denoisers that it was trained with.
            shape: of a state, (fields, *grid) or (d,).
            held_out: share of members that validate.
            validation_times: diffusion times at which they do, evenly spaced.
            finetuning: how the network is trained further in each cycle.
            stream: chooses members, noises them, and orders the training.
        """
        self.prior, self.system, self.family, self.stream = prior, system, family, stream
        self.shape = shape
        self.held_out, self.times = held_out, time_grid(validation_times)[1:]
        self.finetuning = finetuning
        self._diagnostics: dict[str, float] = {}

    def __call__(self, process: ForwardProcess, ensemble: Tensor) -> Denoiser:
        """D_G alone, or the best network if that beats it."""
        if len(ensemble) < SMALLEST_VALIDATED:
            return self.family(process, ensemble).gaussian
        held_out, rest = self._split(ensemble)
        trial = self._learned(process, self.prior.network, rest)
        features, targets = trial.denoising_pairs(held_out, self.times, self.stream)
        networks = {"prior": self.prior.network}
        if self.finetuning.steps:
            networks["finetuned"] = self._finetuned(trial, rest)
        losses = {"gaussian": zero_loss(targets)} | {
            k: loss(net, features, targets) for k, net in networks.items()
        }
        best = min(losses, key=lambda k: losses[k])
        self._diagnostics = {f"loss_{k}": v for k, v in losses.items()} | {
            "network_used": float(best != "gaussian")
        }
        chosen = self._learned(process, networks.get(best, self.prior.network), ensemble)
        return chosen.gaussian if best == "gaussian" else chosen

    def diagnostics(self) -> dict[str, float]:
        """The losses on held-out members in the last cycle, and whether a network was used; nothing
        for a tiny ensemble.
        """
        return self._diagnostics

    def _split(self, ensemble: Tensor) -> tuple[Tensor, Tensor]:
        """Members that validate, and the others."""
        order = self.stream.numpy.permutation(len(ensemble))
        count = min(max(1, round(self.held_out * len(ensemble))), len(ensemble) - 2)
        return ensemble[order[:count]], ensemble[order[count:]]

    def _learned(
        self, process: ForwardProcess, network: nn.Module, ensemble: Tensor
    ) -> LearnedDenoiser:
        return LearnedDenoiser(
            self.family(process, ensemble), network, self.prior.climate, ensemble, self.system,
            self.shape,
        )  # fmt: skip

    def _finetuned(self, denoiser: LearnedDenoiser, members: Tensor) -> nn.Module:
        """The network of ``denoiser`` trained further on noised copies of ``members``."""
        p = self.finetuning
        network = copy.deepcopy(denoiser.network)
        features, targets = denoiser.denoising_pairs(members, p.times, self.stream)
        fit(
            network,
            features,
            targets,
            steps=p.steps,
            batch=p.batch,
            learning_rate=p.learning_rate,
            stream=self.stream,
        )
        return network
