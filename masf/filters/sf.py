"""Score filter, SF (Bao, Zhang, Zhang, arXiv:2306.09282): the prior's score learned anew in every
cycle, the likelihood damped.

In each cycle a network is trained by denoising on the forecast ensemble, from where the last cycle
left it, and the analysis is drawn by the reverse SDE of masf.diffusion.damped from N(0, I), with
the network's score plus (1 - t) grad log p(y | x).

From the source: the equations, alpha = 1 - t, beta^2 = t, h(t) = 1 - t, denoising score matching in
every cycle, Euler-Maruyama. The network and the training budget of the source are not known to us.
Chosen: its parametrisation and inputs (masf.diffusion.denoisers.score_network), circular
convolutions on a ring, a U-Net of them in a flow and a perceptron elsewhere, a budget of about a
second a cycle, standardised coordinates, eps_a and eps_b that keep the SDE regular at both ends,
``likelihood_scale``, ``relaxation`` and inflation.
"""

from __future__ import annotations

from array_api_compat import is_torch_array
from pydantic import Field

from masf.arrays import Array
from masf.diffusion.damped import Score, Standardised
from masf.filters.base import Filter, FilterParameters, Setup
from masf.filters.ensf import DampedParameters, ScoreFilter


class TrainingParameters(FilterParameters):
    """Parameters of filters that train a score network in every cycle."""

    network_width: int = Field(
        16,
        ge=1,
        le=4096,
        description="Channels of circular convolutions, in a flow of its first level; or units "
        "of a layer.",
    )
    network_blocks: int = Field(
        2,
        ge=1,
        le=32,
        description="Residual blocks of the network; in a flow, of each level on each side.",
    )
    training_steps: int = Field(300, ge=1, description="Training steps in the first cycle.")
    training_steps_per_cycle: int = Field(
        40, ge=0, description="Training steps in every further cycle; the network stays otherwise."
    )
    training_batch: int = Field(128, ge=1, description="Noised members in a training step.")
    learning_rate: float = Field(5e-3, gt=0, le=1, description="Peak learning rate of Adam.")


class LearnedScoreFilter(Filter):
    """A filter that trains ``network``, a score network, in every cycle."""

    missing = "reduced"  # the network knows nothing of the measurement

    def __init__(self, parameters: TrainingParameters, setup: Setup) -> None:
        """Raises ValueError where the filter does not compute on torch tensors."""
        super().__init__(parameters, setup)
        if not is_torch_array(setup.initial_mean):
            raise ValueError(
                "a filter that trains a score network computes on torch tensors, not on numpy "
                "arrays"
            )
        from masf.diffusion.denoisers.score_network import ScoreNetwork

        self.network = ScoreNetwork(setup.system, setup.initial_mean, setup.stream, parameters)

    @classmethod
    def needs_torch(cls, parameters: TrainingParameters) -> bool:
        return True

    def diagnostics(self) -> dict[str, float]:
        return self.network.diagnostics()


class SFParameters(TrainingParameters, DampedParameters):
    eps_a: float = Field(
        0.05, gt=0, le=1, description="alpha at t = 1; positive, else the drift diverges there."
    )
    eps_b: float = Field(
        0.01, gt=0, lt=1, description="beta^2 at t = 0, in units of the forecast's variance."
    )


class SF(LearnedScoreFilter, ScoreFilter):
    Parameters = SFParameters

    def score(self, members: Array, scaled: Standardised) -> Score:
        def levels(t: Array) -> tuple[Array, Array]:
            return self.schedule.alpha(t), self.schedule.beta_squared(t) ** 0.5

        self.network.train(members, scaled, levels)

        def learned(z: Array, t: float) -> Array:
            return self.network.score(
                z, self.schedule.alpha(t), self.schedule.beta_squared(t) ** 0.5
            )

        return learned


filter = SF
