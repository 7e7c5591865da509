"""Tempered passes: a process filter that takes the measurement in by parts, and runs the model
again in between (ours).

The likelihood is a product of J equal factors, N(y; H f(x), J R) up to a constant each, with f the
model from the last analysis to now. Each pass takes one factor in: it moves the members where the
last analysis left them, by the joint process of their states then and now (masf.diffusion.joint),
and runs the model again from there, so that the next pass knows f at the moved members exactly.
With exact denoisers the end is the posterior for any J; with approximate ones each pass is smaller,
and nearer linear, than one analysis of a long forecast. That is what iterative smoothers gain from.

The last pass moves either the members then and runs the model once more, or the members now. A
cycle costs J forecasts and an update each, one forecast more if the last pass is in the past.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array
from masf.diffusion.joint import JointBasis, JointGaussianFit
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import coupled
from masf.ensembles.inflation import inflate
from masf.ensembles.localization import radius_misfits
from masf.filters.process_filter import CoupledFilter, CoupledParameters
from masf.observations.base import Observation
from masf.systems.base import System

AT_ONCE = [0.0, 1.0]
"""The time grid of passes in the past: one step, which the Gaussian denoiser takes exactly."""


class TemperedParameters(CoupledParameters):
    """Parameters of coupled filters that take measurements in by parts, too."""

    passes: int = Field(
        1,
        ge=1,
        le=32,
        description="Parts J of the measurement; the model is run again after each but the last.",
    )
    finish: Literal["present", "past"] = Field(
        "present",
        description="For passes above 1: the last one moves members now; or at the last "
        "analysis, as the others do.",
    )
    passes_radius: float | None = Field(
        16.0,
        gt=0,
        description="For passes above 1: half of the support of the taper between states at the "
        "last analysis and now, in grid "
        "points; null tapers nothing.",
    )


class TemperedFilter(CoupledFilter):
    """A coupled filter that may use the model several times a cycle; its parameters are
    ``TemperedParameters``.
    """

    @cached_property
    def joint_fit(self) -> JointGaussianFit:
        """How states at the last analysis and now become a denoiser."""
        return JointGaussianFit(self.system, self.parameters.passes_radius, self.setup.initial_mean)

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
        return [*faults, *radius_misfits(parameters.passes_radius, system, "passes_radius")]

    def start(self, ensemble: Array) -> Array:
        self._past, self._steps = ensemble, 0
        return ensemble

    def forecast(self, state: Array) -> Array:
        self._steps += 1
        return super().forecast(state)

    def analyse(self, state: Array, y: Array) -> Array:
        p = self.parameters
        if p.passes == 1:
            return super().analyse(state, y)
        past, present = self._past, state
        in_the_past = p.passes if p.finish == "past" else p.passes - 1
        for _ in range(in_the_past):
            past = self.system.project(self._moved(past, present, y))
            present = self.system.advance(past, self._steps, self.stream)
        if p.finish == "present":
            process = ForwardProcess.for_ensemble(self.basis, present, temperature=p.passes)
            present = self.sample(process, self.fit(process, present), y, present)
        return inflate(present, p.inflation)

    def project(self, state: Array) -> Array:
        # The last thing that happens to an analysis: from it the next forecast sets out.
        return self.start(super().project(state))

    def _moved(self, past: Array, present: Array, y: Array) -> Array:
        """Members at the last analysis (N, d), given one part of the measurement of their forecasts
        ``present`` (N, d).
        """
        joint = array_namespace(past).concat([past, present], axis=-1)
        process = ForwardProcess.for_ensemble(
            JointBasis(self.basis), joint, temperature=self.parameters.passes
        )
        denoiser, perturbation = self.joint_fit(process, joint), self.parameters.perturbation
        moved = coupled(
            process, denoiser, y, joint, AT_ONCE, self.stream, perturbation=perturbation
        )
        return moved[..., : past.shape[-1]]
