"""Iterative ensemble Kalman smoother (Sakov, Oliver and Bertino 2012; Bocquet and Sakov 2012,
2014).

A filter sees a long forecast, which is far from linear in the state that it began from. The IEnKS
analyses that state, and runs the model again. With x = mean + v X / sqrt(N - 1) the state at the
beginning of a window of ``lag`` cycles and h(v) what would be measured at its end, it minimises

    J(v) = |y - h(v)|^2 / 2 + |v|^2 / 2     (norms of whitened measurements)

or J with the finite-size prior (masf.ensembles.finite_size), by Gauss-Newton steps. The ensemble
itself gives the derivative S of h: the members mean + v X / sqrt(N - 1) + T X run through the
window, and S is what their anomalies became, T undone. T = (zeta + S S^T)^(-1/2) is that of the
step before, so that the derivative is a regression over the posterior (``form: transform``); or it
is a small multiple of the identity, for a finite difference (``bundle``). A step is an ETKF
analysis of the innovation y - h(v) + S^T v (masf.ensembles.transform).

Each measurement is assimilated once, when it comes, and then the window's beginning moves on by one
cycle (single data assimilation). The ensemble at the end of the last run is the analysis, and what
the forecast goes on from: no estimate knows of measurements that came after it. A cycle costs a
forecast and ``lag`` model runs over the gap for each step; the run that shows that no further step
is needed is the one that is kept.

With ``form: mda`` there are no Gauss-Newton steps: the measurement is assimilated in so many
``iterations`` (multiple data assimilation, Emerick and Reynolds 2012), each an ETKF analysis of the
window's beginning with as many times the noise's covariance, of what the model makes of the one
before. Where h is linear they are the whole analysis together; elsewhere each linearises over the
members where they are by then. The finite-size prior is that of the first, with the whole noise.

With a ``localization_radius`` each block of points has weights and a transform of its own, by the
measurements near it, and the model runs from the states joined (Bocquet 2016). It is approximate in
two ways: the taper is on the distance between a point at the beginning and a measurement at the end
of the window, and does not move with the flow in between; and the anomalies of the measurements, to
which neighbours' transforms led, are undone by the block's own.

Ours, against lost tracks:

- A step that raises J is halved, and again, from where the derivative was taken. Each domain for
  itself, but for steps after which the model overflows: these are halved everywhere. For the
  finite-size prior J has in this the Gaussian prior of precision zeta, by which the step was taken
  and which it lowers if it is short enough; it is nowhere below the finite-size one but for a
  constant, and touches it where a whole step leads.
- The run of least J is kept, not the last. With ``form: transform`` they may differ at convergence,
  too: a regression over the posterior is not the derivative at the mean.
- Where no run had less J than the forecast, or the kept run's mean squared innovation is above
  ``greatest_misfit``, the first step is taken at the end of the window instead, a plain ETKF's
  analysis, and a new window begins there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace, device
from pydantic import Field

from masf.arrays import Array, centred, overflows
from masf.ensembles.domains import domain_misfits, domains_of
from masf.ensembles.innovations import mean_squared_innovation, whitened_innovation
from masf.ensembles.rotation import random_rotation
from masf.ensembles.transform import Transform, ensemble_transform, tempered, weighted
from masf.filters.base import Filter, LocalizedParameters, RotatedParameters
from masf.observations.base import Observation
from masf.systems.base import System


class IEnKSParameters(RotatedParameters, LocalizedParameters):
    localization_radius: float | None = Field(
        None,
        gt=0,
        description="Half of the Gaspari-Cohn taper's support, in the system's unit of length; "
        "null tapers nothing.",
    )
    block: int = Field(
        1,
        ge=1,
        description="With a radius: points along each axis of the grid that share weights, by the "
        "measurements near their centre.",
    )
    lag: int = Field(1, ge=1, le=50, description="Cycles in the window.")
    iterations: int = Field(
        10,
        ge=1,
        le=100,
        description="The most Gauss-Newton steps a cycle; for mda all of them.",
    )
    tolerance: float = Field(
        1e-5,
        ge=0,
        description="No further step where its |dv|^2 / (N (N - 1)), averaged over domains, is "
        "below this (DAPPER's wtol).",
    )
    form: Literal["transform", "bundle", "mda"] = Field(
        "transform",
        description="The derivative: a regression over the posterior, or a finite difference; or "
        "mda, multiple data assimilation in place of Gauss-Newton steps.",
    )
    epsilon: float = Field(
        0.01,
        gt=0,
        le=1,
        description="For the bundle: factor on the anomalies of the difference; in float32, below "
        "0.001 is rounding.",
    )
    certainty: float | None = Field(
        1.0,
        gt=0,
        le=1000,
        description="Certainty of the finite-size prior, in units of what N random draws have "
        "(DAPPER's xN); null takes the Gaussian prior.",
    )
    greatest_misfit: float | None = Field(
        4.0,
        gt=0,
        description="Mean squared whitened innovation above which a run counts as lost; null "
        "keeps any.",
    )

    def without_effect(self) -> dict[str, str]:
        idle = {"block": "a localization_radius"} if self.localization_radius is None else {}
        if self.form != "bundle":
            idle["epsilon"] = "form bundle"
        if self.form == "mda":
            idle["tolerance"] = "form transform or bundle"
        return super().without_effect() | idle


@dataclass(frozen=True)
class Step:
    """A Gauss-Newton step in each of B domains.

    Attributes:
        origin: (B, N) weights where h was linearised.
        misfit: (B,) |y - h|^2 there.
        transform: the analysis of the linearised problem; its weights are where a whole step leads.
        share: (B,) of a whole step that is taken.
    """

    origin: Array
    misfit: Array
    transform: Transform
    share: Array

    @property
    def change(self) -> Array:
        """(B, N) of the weights."""
        return self.share[:, None] * (self.transform.weights - self.origin)

    def cost(self, place: Step) -> Array:
        """2 J (B,) at the origin of a step, with the precision of this one."""
        return place.misfit + self.transform.precision * (place.origin**2).sum(-1)


@dataclass(frozen=True)
class Window:
    """Ensembles (N, d) of one run through the window: at its ``start``, after its ``first`` cycle
    and at its ``end``.
    """

    start: Array
    first: Array
    end: Array


class IEnKS(Filter):
    Parameters: ClassVar[type[IEnKSParameters]] = IEnKSParameters

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        p = self.parameters
        self.domains = domains_of(
            observation, self.system, p.localization_radius, p.block, self.setup.initial_mean
        )

    @classmethod
    def misfits(
        cls, parameters: IEnKSParameters, system: System, observation: Observation
    ) -> list[str]:
        """A model with noise of its own; what does not suit local domains."""
        faults = domain_misfits(
            parameters.localization_radius, parameters.block, system, observation
        )
        if system.stochastic:
            faults.append(
                "ienks is for models without noise of their own, which would be drawn anew when "
                "the model is run again: leave the filter out of this experiment"
            )
        return faults

    def start(self, ensemble: Array) -> Array:
        self._past, self._gaps = ensemble, [0]
        return ensemble

    def forecast(self, state: Array) -> Array:
        self._gaps[-1] += 1
        return super().forecast(state)

    def analyse(self, state: Array, y: Array) -> Array:
        n, p, xp = len(state), self.parameters, array_namespace(state)
        rotation = random_rotation(n, state, self.stream) if p.rotation else None
        steps = (Annealing if p.form == "mda" else GaussNewton)(self, y, rotation)
        kept = steps.search(self._past, state)
        misfit = (
            math.inf if kept is None else mean_squared_innovation(kept.end, y, self.observation)
        )
        limit = math.inf if p.greatest_misfit is None else p.greatest_misfit
        if lost := kept is None or misfit > limit:
            end = self.system.project(steps.analysis(state))
            self.start(end)
        else:
            end = kept.end
            full = len(self._gaps) == p.lag
            self._past = kept.first if full else kept.start
            self._gaps = [*self._gaps[full:], 0]
        inflation = float(xp.mean(steps.first.transform.precision**-0.5))
        self._diagnostics = {
            "steps": float(steps.taken),
            "new_window": float(lost),
            "prior_inflation": inflation,
        }
        return end

    def run(self, start: Array) -> Window:
        """The model from the states ``start`` (N, d) at the beginning of the window to its end."""
        start = state = self.system.project(start)
        ends = []
        # Too long a step may lead where the model overflows; the search then halves it.
        with np.errstate(over="ignore", invalid="ignore"):
            for gap in self._gaps:
                state = self.system.advance(state, gap, self.stream)
                ends.append(state)
        return Window(start, ends[0], ends[-1])

    def diagnostics(self) -> dict[str, float]:
        """Of the last analysis: Gauss-Newton steps, whether it began a new window, and the factor
        on the anomalies that the finite-size prior found at the first step, averaged over domains.
        """
        return self._diagnostics


class GaussNewton:
    """The search for the least cost, of one analysis.

    Attributes:
        first: the step from the forecast.
        taken: steps taken.
    """

    def __init__(self, smoother: IEnKS, y: Array, rotation: Array | None) -> None:
        """``rotation`` (N, N) mixes the analysis anomalies; None mixes nothing."""
        self.smoother, self.y, self.rotation = smoother, y, rotation
        self.parameters, self.domains = smoother.parameters, smoother.domains
        self.taken = 0

    def search(self, past: Array, forecast: Array) -> Window | None:
        """The run of least cost, from the ensembles (N, d) at the beginning of the window and, of
        the model run from it, at its end; None where the forecast has the least.
        """
        p, n, xp = self.parameters, len(past), array_namespace(past)
        origin = self._own_weights(past)
        self.first = best = step = self._linearised(origin, forecast, None)
        kept: Window | None = None
        while self.taken < p.iterations:
            self.taken += 1
            origin = step.origin + step.change
            run = self.smoother.run(self._ensemble(past, origin, step.transform, p.form))
            if overflows(run.end):
                step = replace(step, share=step.share / 2)
                continue
            step_found = self._linearised(origin, run.end, step.transform)
            if float(xp.mean(step.cost(step_found))) <= float(xp.mean(step.cost(best))):
                kept, best = run, step_found
            lower = step.cost(step_found) <= step.cost(step)
            step = selected(lower, step_found, replace(step, share=step.share / 2))
            if float(xp.mean((step.change**2).sum(-1))) <= p.tolerance * n * (n - 1):
                break
        if kept is not None and p.form == "bundle":
            return self.smoother.run(self._ensemble(past, best.origin, best.transform, "transform"))
        return kept

    def analysis(self, forecast: Array) -> Array:
        """The first step taken at the end of the window: the ETKF's analysis of the forecast (N,
        d).
        """
        transform = self.first.transform
        return self._ensemble(forecast, transform.weights, transform, "transform")

    def _own_weights(self, ensemble: Array) -> Array:
        """The weights (B, N) of the mean of an ensemble (N, d) in that ensemble: 0."""
        xp = array_namespace(ensemble)
        shape = self.domains.count, len(ensemble)
        return xp.zeros(shape, dtype=xp.float64, device=device(ensemble))

    def _measured(self, state: Array) -> tuple[Array, Array]:
        """The whitened anomalies (N, m) of the measurements, and the innovation (m,) of their
        mean.
        """
        return whitened_innovation(state, self.y, self.smoother.observation)

    def _ensemble(self, past: Array, origin: Array, transform: Transform, form: str) -> Array:
        """The members (N, d) of weights (B, N) and a transform, of the ensemble ``past`` (N, d):
        those that the model runs from, or with form mda those in between, neither rotated nor
        inflated.
        """
        mean, departures = centred(past)
        anomalies = self.domains.split(departures)
        increment = self.domains.join(weighted(origin, anomalies)[:, None])
        if form == "bundle":
            return mean + (increment + self.parameters.epsilon * departures)
        spread = self.domains.join(transform.transformed(anomalies))
        if form == "mda":
            return mean + (increment + spread)
        if self.rotation is not None:
            spread = self.rotation @ spread
        return mean + (increment + self.parameters.inflation * spread)

    def _linearised(
        self,
        origin: Array,
        state: Array,
        run_by: Transform | None,
        *,
        finite_size: bool = True,
    ) -> Step:
        """The step from the weights ``origin`` (B, N), whose run through the window ended in
        ``state`` (N, d); its members were those of the transform ``run_by``, or of the forecast.
        Without ``finite_size`` the prior is Gaussian, whatever the parameters say.
        """
        xp, n, p = array_namespace(state), len(state), self.parameters
        certainty = p.certainty if finite_size else None
        observed, innovation = (xp.astype(a, xp.float64) for a in self._measured(state))
        if run_by is not None and p.form == "bundle":
            observed, run_by = observed / p.epsilon, None
        elif run_by is not None:
            if self.rotation is not None:
                observed = xp.astype(self.rotation, xp.float64).mT @ observed
            observed = observed / p.inflation
        steps = []
        for part in self.domains.chunks(n):
            s = self.domains.measurements(observed, part) / math.sqrt(n - 1)
            if run_by is not None:
                s = together(lambda a, part=part: a[part], run_by).undone(s)
            delta, at = self.domains.measurements(innovation, part), origin[part]
            target = ensemble_transform(s, delta + (at[:, None, :] @ s)[:, 0, :], certainty)
            misfit = (delta**2).sum(-1)
            steps.append(Step(at, misfit, target, xp.ones_like(misfit)))
        return together(lambda *parts: xp.concat(parts), *steps)


class Annealing(GaussNewton):
    """Multiple data assimilation of one measurement."""

    def search(self, past: Array, forecast: Array) -> Window | None:
        """The model's run after the last analysis of the ensemble (N, d) at the beginning of the
        window; None where the model overflows.
        """
        count, here = self.parameters.iterations, self._own_weights(past)
        step = self.first = self._linearised(here, forecast, None)
        while True:
            self.taken += 1
            part = tempered(step.transform, count)
            last = self.taken == count
            past = self._ensemble(past, part.weights, part, "transform" if last else "mda")
            run = self.smoother.run(past)
            if overflows(run.end):
                return None
            if last:
                return run
            past, step = run.start, self._linearised(here, run.end, None, finite_size=False)


def selected(which: Array, some: Step, others: Step) -> Step:
    """Of B domains, ``some`` where ``which`` (B,) is true and ``others`` elsewhere."""
    xp = array_namespace(which)

    def choose(a: Array, b: Array) -> Array:
        return xp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return together(choose, some, others)


def together(function: Callable[..., Array], *records: Any) -> Any:
    """A record like ``records``, dataclasses of arrays, with a function of their arrays in each
    place.
    """
    values = {}
    for field in fields(records[0]):
        of_field = [getattr(record, field.name) for record in records]
        nested = is_dataclass(of_field[0])
        values[field.name] = together(function, *of_field) if nested else function(*of_field)
    return type(records[0])(**values)


filter = IEnKS
