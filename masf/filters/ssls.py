"""Score-based sequential Langevin sampling, SSLS (Ding, Duan, Jiao, Yang, Yuan, Zhang,
arXiv:2411.13443).

In each cycle a network learns by denoising, at the one noise level sigma, the score of the forecast
ensemble, in coordinates z standardised by that ensemble: E[eps | z + sigma eps] gives the score s
of N(0, sigma^2 I) convolved with the prior. Unadjusted Langevin steps of size h then move every
forecast member to the posterior, at levels k of an annealing that pulls to the forecast mean:

    z <- e^(-lambda_k h) z + phi(lambda_k) (s(z) + grad log p(y | z)) + (2 phi(2 lambda_k))^(1/2) xi
    xi ~ N(0, I)

with phi(lambda) = (1 - e^(-lambda h)) / lambda and lambda_k = lambda_0 gamma^k, ``langevin_steps``
of them at each level. Their law is about the posterior of the *smoothed* prior times exp(-lambda_k
|z|^2 / 2); after few steps a member still remembers where it started.

From the authors' public code: the standardised training, the warm start with a new optimiser in
each cycle, the exponential integrator, the clipping of a member's gradient to a root mean square of
10, and, for its Kolmogorov flow (N 400), sigma 0.2, 200 epochs at learning rate 1e-3, one annealing
level with lambda_0 = 0.001 and 500 steps of 0.001; a Lorenz-96 configuration of the same form (d
20, N 500, sigma 0.1, else alike) is in public code of the first author of arXiv:2604.02889. Chosen:
Langevin steps in standardised coordinates (there: in those of the state), hence the pull to the
forecast mean and larger steps, fewer of them; the network (masf.diffusion.denoisers.score_network;
there: a U-net) and its budget, about a second a cycle; noise centred over members; inflation and
relaxation.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, centred_normal
from masf.diffusion.damped import Standardised
from masf.ensembles.inflation import inflate, relax_spread
from masf.filters.base import RelaxedParameters
from masf.filters.sf import LearnedScoreFilter, TrainingParameters

LARGEST_GRADIENT = 10.0
"""Root mean square over components to which a member's gradient is clipped, as in the authors'
code.
"""


class SSLSParameters(TrainingParameters, RelaxedParameters):
    sigma: float = Field(
        0.1,
        gt=0,
        le=5,
        description="Noise level of the training, in units of the forecast's spread.",
    )
    langevin_steps: int = Field(
        100, ge=1, le=5000, description="Langevin steps at each level of the annealing."
    )
    step_size: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Size of a Langevin step, in units of the forecast's variance.",
    )
    anneal_levels: int = Field(1, ge=1, le=100, description="Levels of the annealing.")
    anneal_start: float = Field(
        0.001, ge=0, le=100, description="Strength lambda_0 of the pull at the first level."
    )
    anneal_decay: float = Field(
        0.5, gt=0, le=1, description="Factor gamma on the pull from level to level."
    )


class SSLS(LearnedScoreFilter):
    Parameters = SSLSParameters

    def analyse(self, state: Array, y: Array) -> Array:
        p = self.parameters
        xp = array_namespace(state)
        scaled = Standardised.of(state, self.observation)
        z = scaled.from_state(state)
        self.network.train(z, scaled, lambda u: (xp.ones_like(u), p.sigma * xp.ones_like(u)))
        for k in range(p.anneal_levels):
            pull = p.anneal_start * p.anneal_decay**k
            for _ in range(p.langevin_steps):
                gradient = self.network.score(z, 1.0, p.sigma) + scaled.likelihood_score(z, y)
                z = self.langevin_step(z, clipped(gradient), pull)
        return inflate(relax_spread(scaled.to_state(z), state, p.relaxation), p.inflation)

    def langevin_step(self, z: Array, gradient: Array, pull: float) -> Array:
        """One step of the exponential integrator for dz = (gradient - pull z) dt + sqrt(2) dW."""
        h = self.parameters.step_size
        noise = math.sqrt(2 * damped_time(2 * pull, h)) * centred_normal(
            tuple(z.shape), z, self.stream
        )
        return math.exp(-pull * h) * z + damped_time(pull, h) * gradient + noise


def damped_time(pull: float, h: float) -> float:
    """phi: the integral of exp(-pull t) over t from 0 to h."""
    return h if pull == 0 else -math.expm1(-pull * h) / pull


def clipped(gradient: Array) -> Array:
    """``gradient`` (N, d) with the root mean square of each member at most LARGEST_GRADIENT."""
    xp = array_namespace(gradient)
    size = xp.sqrt(xp.mean(gradient**2, axis=-1, keepdims=True))
    return gradient * xp.clip(LARGEST_GRADIENT / xp.clip(size, min=1e-30), max=1.0)


filter = SSLS
