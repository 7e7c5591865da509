"""The measurement-aware process filter: what the filters of the MASF family share (Yoon, Kim, Kim,
arXiv:2604.02889).

The analysis runs the measurement-aware forward process (masf.diffusion.process) from the forecast
ensemble to the measurement, and back from the measurement y. Two things are left open, and tell the
filters of the family apart: the *fit*, which takes the forecast ensemble for a distribution and
denoises with it, and the *sampler*, which runs the process backward.

Where the measurement is not linear in the state, all of this happens to the state together with
what is measured of it, in which it is (masf.diffusion.linear_state).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from pydantic import Field

from masf.arrays import Array
from masf.diffusion.linear_state import LinearState, linear_state
from masf.diffusion.posterior import Denoiser, Fit
from masf.diffusion.process import ForwardProcess, time_grid
from masf.diffusion.samplers import coupled
from masf.ensembles.inflation import inflate
from masf.ensembles.rotation import rotate
from masf.filters.base import Filter, RotatedParameters, Setup
from masf.filters.climate import climate_states
from masf.observations.base import Observation


class CoupledParameters(RotatedParameters):
    """Parameters of filters with the member-coupled sampler, too."""

    perturbation: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the measurement's noise that perturbs members: 1 is a stochastic "
        "filter, 0 a square-root filter.",
    )


class ProcessFilter(Filter):
    """A filter that samples the posterior by the measurement-aware process; a subclass says with
    which fit and sampler. Its parameters have ``steps``, of the sampler, and ``inflation``.
    """

    def __init__(self, parameters: Any, setup: Setup) -> None:
        self._whole: LinearState | None = None
        self._climate: Array | None = None
        super().__init__(parameters, setup)

    def observe(self, observation: Observation) -> None:
        super().observe(observation)
        if self._whole is None:
            self._whole = linear_state(self.system, observation)
        self.linear_state = self._whole.only(observation)
        self.fit = self.make_fit()

    @property
    def times(self) -> list[float]:
        """The time grid of the sampler."""
        return time_grid(self.parameters.steps)

    def climate(self, steps: int) -> Array:
        """States (n, d) of ``climate_states``, of one free run, though a fit is made anew for each
        cycle that lacks measurements.
        """
        if self._climate is None:
            self._climate = climate_states(self.setup, steps)
        return self._climate

    @abstractmethod
    def make_fit(self) -> Fit:
        """How a forecast ensemble becomes a denoiser."""

    @abstractmethod
    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        """Posterior members (N, D) before they are ``finished``, given y (m,), for the forecast
        ``ensemble`` (N, D), both of the filter's ``linear_state``.
        """

    def analyse(self, state: Array, y: Array) -> Array:
        return self.finished(self.posterior(state, y))

    def posterior(self, ensemble: Array, y: Array, temperature: float = 1.0) -> Array:
        """Posterior members (N, d) before they are ``finished``, for an ``ensemble`` (N, d), given
        a measurement y (m,) with noise of covariance ``temperature`` R.
        """
        joint = self.linear_state.of(ensemble)
        process = ForwardProcess.for_ensemble(self.linear_state.basis, joint, temperature)
        sampled = self.sample(process, self.fit(process, joint), y, joint)
        return self.linear_state.plain(sampled)

    def finished(self, members: Array) -> Array:
        """The analysis that sampled ``members`` (N, d) become."""
        return inflate(members, self.parameters.inflation)

    def diagnostics(self) -> dict[str, float]:
        return self.fit.diagnostics()


class CoupledFilter(ProcessFilter):
    """A process filter with the member-coupled sampler (ours); its parameters are
    ``CoupledParameters``.
    """

    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        perturbation = self.parameters.perturbation
        return coupled(
            process, denoiser, y, ensemble, self.times, self.stream, perturbation=perturbation
        )

    def finished(self, members: Array) -> Array:
        rotated = rotate(members, self.stream) if self.parameters.rotation else members
        return super().finished(rotated)
