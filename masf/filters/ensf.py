"""Ensemble score filter, EnSF (Bao, Zhang, Zhang, arXiv:2309.00983): the prior's score by Monte
Carlo, without training.

The analysis runs the reverse SDE of masf.diffusion.damped from N(0, I), in coordinates z
standardised by the forecast ensemble, with

    s(z, t) = -sum_j w_j (z - alpha z_j) / beta^2      w_j ~ exp(-|z - alpha z_j|^2 / (2 beta^2)),
    sum_j w_j = 1,

over a mini-batch of forecast members z_j, and the likelihood's gradient damped by 1 - t. In the
authors' public code the mini-batch of sample i is member i alone: the SDE then carries each member
to the measurement by itself, with beta^2(0) = eps_b for its error variance, and no covariance
between components is used. With more members, weights degenerate in high dimension.

From the source: the equations, h(t) = 1 - t, Euler-Maruyama; from its code: mini-batches of one,
the schedule's eps_a and eps_b as tuned quantities (0.5 and 0.025 for its Lorenz-96 and arctan of
the state, with 500 steps), centred noise at the start. Others who use that code standardise the
ensemble and restore the forecast's spread after the analysis. Chosen: a mini-batch of more is drawn
anew at each time, for all samples; all noise is centred; ``likelihood_scale``; ``relaxation``
between none and all; and the defaults.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, softmax
from masf.diffusion.damped import Schedule, Score, Standardised, reverse_sde
from masf.ensembles.inflation import inflate, relax_spread
from masf.filters.base import Filter, FilterParameters, RelaxedParameters


class DampedParameters(RelaxedParameters):
    """Parameters of filters that run the reverse SDE with a damped likelihood."""

    steps: int = Field(100, ge=2, le=5000, description="Steps of the Euler-Maruyama scheme.")
    eps_a: float = Field(
        0.5, gt=0, le=1, description="alpha at t = 1; positive, else the drift diverges there."
    )
    eps_b: float = Field(
        0.025, ge=0, lt=1, description="beta^2 at t = 0, in units of the forecast's variance."
    )
    likelihood_scale: float = Field(
        1.0, ge=0, le=10, description="Factor on the damped likelihood score."
    )


class EnSFParameters(DampedParameters):
    batch: int | None = Field(
        1,
        ge=1,
        description="Members in the Monte Carlo score; 1: each sample's own member; null: all "
        "members.",
    )


class ScoreFilter(Filter):
    """The analysis by the reverse SDE with a damped likelihood; subclasses give the prior's
    score.
    """

    Parameters: ClassVar[type[FilterParameters]] = DampedParameters

    @cached_property
    def schedule(self) -> Schedule:
        return Schedule(self.parameters.eps_a, self.parameters.eps_b)

    def analyse(self, state: Array, y: Array) -> Array:
        p = self.parameters
        scaled = Standardised.of(state, self.observation)
        members = scaled.from_state(state)

        def likelihood_score(z: Array) -> Array:
            return p.likelihood_scale * scaled.likelihood_score(z, y)

        z = reverse_sde(
            self.schedule,
            self.score(members, scaled),
            likelihood_score,
            members,
            p.steps,
            self.stream,
        )
        return inflate(relax_spread(scaled.to_state(z), state, p.relaxation), p.inflation)

    @abstractmethod
    def score(self, members: Array, scaled: Standardised) -> Score:
        """The prior's score, in standardised coordinates, for the forecast ``members`` (N, d)
        there.
        """


class EnSF(ScoreFilter):
    Parameters = EnSFParameters

    def score(self, members: Array, scaled: Standardised) -> Score:
        batch = (
            len(members)
            if self.parameters.batch is None
            else min(self.parameters.batch, len(members))
        )

        def own(z: Array, t: float) -> Array:
            return (self.schedule.alpha(t) * members - z) / self.schedule.beta_squared(t)

        def monte_carlo(z: Array, t: float) -> Array:
            chosen = members
            if batch < len(members):
                chosen = members[self.stream.numpy.permutation(len(members))[:batch]]
            return mixture_score(z, self.schedule.alpha(t) * chosen, self.schedule.beta_squared(t))

        return own if batch == 1 else monte_carlo


def mixture_score(z: Array, centres: Array, variance: float) -> Array:
    """The score at states z (n, d) of the equal mixture of N(centre_j, variance I), for centres (J,
    d).
    """
    xp = array_namespace(z)
    # The part of -|z - c|^2 / 2 that depends on the centre.
    logits = (z @ centres.mT - xp.sum(centres**2, axis=-1) / 2) / variance
    return (softmax(logits) @ centres - z) / variance


filter = EnSF
