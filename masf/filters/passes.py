"""Tempered passes: a process filter that takes the measurement in by parts, and runs the model
again in between (ours).

The likelihood is a product of factors, N(y; H f(x), R / s_j) up to a constant each, for shares s_j
of sum 1 and f the model from the beginning of a window of ``lag`` cycles to now. Each pass takes
one factor in: it moves the members at the beginning of the window, by the joint process of their
states then and now (masf.diffusion.joint), and runs the model again from there, so that the next
pass knows f at the moved members exactly. With exact denoisers the end is the posterior for any
shares; with approximate ones each pass is smaller, and nearer linear, than one analysis of a long
forecast. That is what iterative smoothers gain from.

The last pass moves either the members then and runs the model once more, or the members now. Each
measurement is taken in once, when it comes; then the beginning of the window moves on by a cycle.
The analysis is what the members are now: no estimate knows of measurements that came after it.

The shares are equal, or chosen as the passes go on: with Phi_i = |y - H f(x_i)|^2 / 2 over the
members, in units of the noise, and m measurements,

    s = max(m / (2 mean(Phi)), sqrt(m / (2 var(Phi)))) / pace

(Iglesias and Yang 2021, whose ``pace`` is 1): short steps where the forecast is far from what is
measured, one where it is near. A cycle costs a model run over the window for each pass but one in
the present.

All passes regress over the ensemble, and end near the posterior of a model that is linear over its
width. With ``search`` each member then goes on by itself to what the measurement makes of it
(masf.ensembles.search), as the coupled sampler would, were the denoiser exact; where too few cost
as little as they should, the prior was too narrow. This is for ensembles that span their state: it
is not localised.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, overflows, to_numpy
from masf.diffusion.denoisers.select import GaussianFit
from masf.diffusion.past import moved_in_the_past
from masf.ensembles.inflation import inflate
from masf.ensembles.innovations import mean_squared_innovation, whitened_innovation
from masf.ensembles.localization import taper_misfits
from masf.ensembles.search import quarter_cost, search, second_order_exact, selection
from masf.ensembles.transform import ensemble_transform
from masf.filters.process_filter import CoupledFilter, CoupledParameters
from masf.observations.base import Observation
from masf.systems.base import System

ROUNDING = 1e-6
"""What is left of the measurement after shares that should add up to 1."""
WIDEST = 5.0
"""The most by which a search widens a prior."""
OF_THE_PRESENT = (
    "steps",
    "network",
    "finetune_steps",
    "covariance",
    "localization_radius",
    "static_share",
)
"""Parameters of denoiser and sampler that passes in the past do not ask for."""


class TemperedParameters(CoupledParameters):
    """Parameters of coupled filters that take measurements in by parts, too."""

    passes: int = Field(
        1,
        ge=1,
        le=32,
        description="Parts J of the measurement, with pace the most there may be; the model is run "
        "again after each but the last.",
    )
    finish: Literal["present", "past"] = Field(
        "present",
        description="For passes above 1: the last one moves members now; or at the beginning of "
        "the window, as the others do.",
    )
    passes_radius: float | None = Field(
        16.0,
        gt=0,
        description="For passes above 1: half of the support of the taper between states at the "
        "beginning of the window and now, in "
        "the system's unit of length; null tapers nothing.",
    )
    lag: int = Field(
        1,
        ge=1,
        le=20,
        description="For passes above 1: cycles in the window, from where members are moved to "
        "now; each pass runs the model through all of them.",
    )
    pace: float | None = Field(
        None,
        gt=0,
        le=100,
        description="For passes above 1: chooses the parts by the misfit, above 1 smaller ones "
        "than its source's; null takes equal parts.",
    )
    certainty: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Inflates each forecast by the finite-size prior of this certainty, as in "
        "ienks; null does not.",
    )
    search: int = Field(
        0,
        ge=0,
        le=100,
        description="For passes above 1: steps of each member's own search after them, each with a "
        "model run through the window; all passes are then in the past, and set where it starts.",
    )
    selected_below: float | None = Field(
        4.0,
        gt=0,
        description="For a search of m measurements: members that cost more than the best quarter "
        "by so many sqrt(m / 2) become copies of others; null keeps all.",
    )
    widened_above: float | None = Field(
        2.0,
        gt=0,
        description="For a search of m measurements: where the best quarter costs more than m, "
        "the mean of a right prior, by so many sqrt(m / 2), the prior is widened to suit, and the "
        "search done again; null never does.",
    )
    greatest_misfit: float | None = Field(
        None,
        gt=0,
        description="For passes above 1: mean squared whitened innovation of the analysis above "
        "which the passes count as lost, and one pass in the present takes their place, from which "
        "a new window begins; null keeps any.",
    )

    def radii(self) -> dict[str, float | None]:
        own = {"passes_radius": self.passes_radius}
        return super().radii() | (own if self.passes > 1 else {})

    def without_effect(self) -> dict[str, str]:
        own = ("finish", "passes_radius", "lag", "pace", "search", "greatest_misfit")
        idle = dict.fromkeys(own, "passes above 1") if self.passes == 1 else {}
        if not self.search:
            idle |= dict.fromkeys(("selected_below", "widened_above"), "a search")
        elif self.passes > 1:
            idle["finish"] = "search 0"
        if not self.moves_the_present:
            fields = [key for key in OF_THE_PRESENT if key in type(self).model_fields]
            idle |= dict.fromkeys(fields, "a greatest_misfit, or a last pass in the present")
        return super().without_effect() | idle

    @property
    def moves_the_present(self) -> bool:
        """Whether some pass may move members now, and not all at the beginning of the window."""
        in_past = self.passes > 1 and (self.search > 0 or self.finish == "past")
        return not in_past or self.greatest_misfit is not None


class TemperedFilter(CoupledFilter):
    """A coupled filter that may use the model several times a cycle; its parameters are
    ``TemperedParameters``.
    """

    @cached_property
    def joint_fit(self) -> GaussianFit:
        """How states at the beginning of the window and now become a denoiser."""
        radius, x = self.parameters.passes_radius, self.setup.initial_mean
        return GaussianFit("localized", self.linear_state.pair_taper(radius, x))

    @classmethod
    def misfits(cls, parameters: Any, system: System, observation: Observation) -> list[str]:
        """Several passes of a model with noise of its own, or with a radius where there are no
        distances.
        """
        faults = super().misfits(parameters, system, observation)
        if parameters.passes == 1:
            return faults
        if system.stochastic:
            faults.append(
                f"passes = {parameters.passes}: this system's model has noise of its own, which "
                "would be drawn anew when "
                "the model is run again; set passes to 1"
            )
        return [
            *faults,
            *taper_misfits(parameters.passes_radius, system, observation, "passes_radius"),
        ]

    @classmethod
    def doubts(cls, parameters: Any, system: System, members: int) -> list[str]:
        """As of all filters; and a search of members that do not span the state."""
        said = super().doubts(parameters, system, members)
        if parameters.passes > 1 and parameters.search and members <= system.dimension:
            said.append(
                f"search = {parameters.search}: {members} members do not span "
                f"{system.dimension} components, and a search is not localised; set it to 0"
            )
        return said

    def start(self, ensemble: Array) -> Array:
        self._past, self._gaps = ensemble, [0]
        return ensemble

    def forecast(self, state: Array) -> Array:
        self._gaps[-1] += 1
        return super().forecast(state)

    def analyse(self, state: Array, y: Array) -> Array:
        p = self.parameters
        self._said: dict[str, float] = {}
        self._kept: Array | None = None
        factor = 1.0
        if p.certainty is not None:
            factor = prior_inflation(state, y, self.observation, p.certainty)
            self._said["prior_inflation"] = factor
        present = inflate(state, factor)
        if p.passes == 1:
            return super().analyse(present, y)
        past = inflate(self._past, factor)
        kept, analysis = self._passes(past, present, y)
        if p.greatest_misfit is not None:
            lost = overflows(analysis) or not (  # NaN is lost, too
                mean_squared_innovation(analysis, y, self.observation) <= p.greatest_misfit
            )
            self._said["new_window"] = float(lost)
            if lost:
                return super().analyse(present, y)
        if p.lag == 1:
            return self.finished(analysis)
        # Together, or members would not be rotated into what the model makes of those then.
        both = self.finished(array_namespace(analysis).concat([kept, analysis], axis=-1))
        self._kept = self.system.project(both[..., : self.system.dimension])
        return both[..., self.system.dimension :]

    def project(self, state: Array) -> Array:
        # The last thing that happens to an analysis: from it the next forecast sets out.
        present = super().project(state)
        if self._kept is None:
            return self.start(present)
        gone = 0 if self._grows else 1
        self._past, self._gaps = self._kept, [*self._gaps[gone:], 0]
        return present

    def diagnostics(self) -> dict[str, float]:
        return {**super().diagnostics(), **self._said}

    @property
    def _grows(self) -> bool:
        """Whether the window has fewer cycles than it may have, so that its beginning stays."""
        return len(self._gaps) < self.parameters.lag

    def _passes(self, past: Array, present: Array, y: Array) -> tuple[Array, Array]:
        """Members (N, d) at the beginning of the next window, and now, given y (m,), for those at
        the beginning of this one, and their forecast.
        """
        p, left, taken, kept, begun = self.parameters, 1.0, 0, past, past
        while left > ROUNDING:
            share = self._share(present, y, left, taken)
            left, taken = left - share, taken + 1
            if left <= ROUNDING and self._ends_in_present:
                moved = self.posterior(present, y, temperature=1 / share)
                kept = moved if p.lag == 1 else self._moved(kept, present, y, share)
                present = moved
            else:
                past = self.system.project(self._moved(past, present, y, share))
                if p.search and left <= ROUNDING:  # whose first run is that of this pass
                    kept, present = self._searched(begun, past, y)
                    break
                kept, present = self._run(past)
                if p.greatest_misfit is not None and overflows(present):
                    break
        self._said["passes"] = float(taken)
        return kept, present

    @property
    def _ends_in_present(self) -> bool:
        """Whether the last pass moves members now."""
        return self.parameters.finish == "present" and not self.parameters.search

    def _searched(self, prior: Array, start: Array, y: Array) -> tuple[Array, Array]:
        """Members at the beginning of the next window, and now, after the search from ``start`` (N,
        d) of each of the ``prior`` (N, d), both at the beginning of this window.
        """
        p, noise, m = self.parameters, self.observation.noise, len(y)
        eta = second_order_exact(noise.whiten(noise.draw((len(prior),), prior, self.stream)), prior)
        unit = math.sqrt(m / 2)

        def run(states: Array) -> tuple[Array, tuple[Array, ...]]:
            kept, present = self._run(self.system.project(states))
            return noise.whiten(y - self.observation.apply(present)), (kept, present)

        with np.errstate(over="ignore", invalid="ignore"):  # too long a step may lead anywhere
            found = search(prior, start, eta, run, p.search)
            least, width = quarter_cost(found.cost), 1.0
            limit = math.inf if p.widened_above is None else m + p.widened_above * unit
            if limit < least < math.inf:
                # Innovations vary by the truth's distance from the mean, and by the member's own;
                # the cost is half of both, in units of the prior that was too narrow.
                width = min(math.sqrt(2 * least / m - 1), WIDEST)
                found = search(inflate(prior, width), found.states, eta, run, p.search)
        self._said["prior_widened"] = width
        if p.selected_below is not None:
            limit = quarter_cost(found.cost) + p.selected_below * unit
            self._said["selected"] = float(to_numpy(found.valid & (found.cost <= limit)).mean())
            found = found.rows(selection(found.cost, limit))
        kept, present = found.run
        return kept, present

    def _run(self, past: Array) -> tuple[Array, Array]:
        """Members at the beginning of the next window, and now, of the model run from ``past``
        through this one.
        """
        first = 0 if self._grows else self._gaps[0]
        kept = self.system.advance(past, first, self.stream)
        return kept, self.system.advance(kept, sum(self._gaps) - first, self.stream)

    def _share(self, present: Array, y: Array, left: float, taken: int) -> float:
        """How much of the measurement the next pass takes, where so much is ``left``."""
        p = self.parameters
        if p.pace is None:
            return 1 / p.passes
        share = max(adaptive_share(present, y, self.observation) / p.pace, 1 / p.passes)
        # The beginning of the next window is what a pass in the past leaves there.
        most = left / 2 if self._ends_in_present and taken == 0 else left
        return min(share, most)

    def _moved(self, past: Array, present: Array, y: Array, share: float) -> Array:
        """Members in the past (N, d), given a share of the measurement of their forecasts
        ``present`` (N, d).
        """
        return moved_in_the_past(
            self.linear_state, self.joint_fit, past, present, y, self.stream,
            share=share, perturbation=self.parameters.perturbation,
        )  # fmt: skip


def model_runs(parameters: TemperedParameters, cycles: int) -> float:
    """Forecasts of one member from one measurement to the next that a cycle takes, as the mean of
    the first ``cycles``, if none is lost by ``greatest_misfit`` and no search done again; NaN where
    ``pace`` chooses the passes.
    """
    p = parameters
    if p.passes == 1:
        return 1.0
    if p.pace is not None:
        return math.nan
    again = p.passes + p.search - (p.finish == "present" and not p.search)
    windows = [min(cycle, p.lag) for cycle in range(1, cycles + 1)]
    return 1 + again * sum(windows) / cycles


def adaptive_share(ensemble: Array, y: Array, observation: Observation) -> float:
    """The share of the likelihood of y (m,) that the next pass should take for an ensemble (N, d)
    (Iglesias and Yang 2021, the data misfit controller); it may be above 1.
    """
    xp, m = array_namespace(ensemble), y.shape[-1]
    anomalies, innovation = whitened_innovation(ensemble, y, observation)
    misfits = xp.sum((innovation - anomalies) ** 2, axis=-1) / 2
    mean, variance = float(xp.mean(misfits)), float(xp.var(misfits, correction=1))
    tiny = 1e-12 * m
    return max(m / (2 * max(mean, tiny)), math.sqrt(m / (2 * max(variance, tiny))))


def prior_inflation(ensemble: Array, y: Array, observation: Observation, certainty: float) -> float:
    """The factor on the anomalies of a forecast (N, d) that the finite-size prior asks for, given y
    (m,): zeta^(-1/2), see masf.ensembles.finite_size.
    """
    xp = array_namespace(ensemble)
    anomalies, innovation = whitened_innovation(ensemble, y, observation)
    s, delta = (xp.astype(a, xp.float64) for a in (anomalies, innovation))
    s = s / math.sqrt(len(ensemble) - 1)
    return float(ensemble_transform(s, delta, certainty).precision) ** -0.5
