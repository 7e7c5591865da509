"""What a filter does: turn a forecast ensemble and a measurement into an analysis ensemble.

A filter file defines a parameter class, a subclass of :class:`Filter`, and ``filter = ThatClass``. A filter never reads
files, the config or the truth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace
from pydantic import BaseModel, ConfigDict, Field

from masf.arrays import Array, Stream
from masf.observations import Observation
from masf.systems.base import System


class FilterParameters(BaseModel):
    """Parameters of a filter, described and bounded: what its config file may set."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EnsembleParameters(FilterParameters):
    """Parameters of filters that inflate."""

    inflation: float = Field(1.0, ge=1.0, le=3.0, description="Factor on the anomalies of the analysis ensemble.")


class LocalizedParameters(EnsembleParameters):
    """Parameters of filters that localise, too."""

    localization_radius: float | None = Field(
        12.0, gt=0, description="Half of the Gaspari-Cohn taper's support, in grid points; null tapers nothing."
    )


class RotatedParameters(EnsembleParameters):
    """Parameters of filters that mix their members (masf.rotation), too."""

    rotation: bool = Field(False, description="Rotate the analysis anomalies at random, keeping mean and covariance.")


class RelaxedParameters(EnsembleParameters):
    """Parameters of filters that give back some of the forecast's spread, too."""

    relaxation: float = Field(0.0, ge=0, le=1, description="Share of the forecast's spread that the analysis is given back.")


@dataclass(frozen=True)
class Setup:
    """What a filter may know: the model, the measurement, the initial distribution, and its own random numbers.

    Attributes:
        system: the dynamical system, also the filter's forecast model.
        observation: H and R.
        initial_mean: (d,) mean of the initial distribution, from which the system draws perturbations.
        initial_spread: its standard deviation.
        stream: the filter's own random numbers.
        prior: file of the pretrained prior, for filters that use one.
    """

    system: System
    observation: Observation
    initial_mean: Array
    initial_spread: float
    stream: Stream
    prior: Path | None = None


class Filter(ABC):
    """A filter whose state is an ensemble (N, d). Others override the methods that touch the state."""

    Parameters: ClassVar[type[FilterParameters]] = FilterParameters
    linear_only: ClassVar[bool] = False
    """Whether the filter is defined for linear systems only."""
    uses_prior: ClassVar[bool] = False
    """Whether the filter reads a pretrained prior from stage train-prior."""

    def __init__(self, parameters: Any, setup: Setup) -> None:
        self.parameters = parameters
        self.system = setup.system
        self.observation = setup.observation
        self.stream = setup.stream
        self.setup = setup

    @classmethod
    def needs_torch(cls, parameters: Any) -> bool:
        """Whether these parameters need torch; a filter written against the array API does not."""
        return False

    def start(self, ensemble: Array) -> Any:
        """The state at time 0, from the initial ensemble (N, d) that all filters share."""
        return ensemble

    def forecast(self, state: Any) -> Any:
        """The state one model step later."""
        return self.system.step(state, self.stream)

    @abstractmethod
    def analyse(self, state: Any, y: Array) -> Any:
        """The state given the measurement y (m,)."""

    def project(self, state: Any) -> Any:
        """The analysis ``state`` as the model admits it, such as a velocity without divergence; see System.project."""
        return self.system.project(state)

    def moments(self, state: Any) -> tuple[Array, Array]:
        """Mean (d,) and standard deviation (d,) of the state."""
        xp = array_namespace(state)
        return xp.mean(state, axis=0), xp.std(state, axis=0, correction=1)

    def members(self, state: Any) -> Array:
        """An ensemble (N, d) that represents the state, in no order: its first few members are as good a sample as any others."""
        return state

    def covariance(self, state: Any) -> Array:
        """Covariance (d, d) of the state."""
        members = self.members(state)
        anomalies = members - array_namespace(members).mean(members, axis=0)
        return anomalies.mT @ anomalies / (len(members) - 1)

    def diagnostics(self) -> dict[str, float]:
        """Numbers that describe the last analysis, recorded for each cycle; the same keys every cycle."""
        return {}


def inflate(ensemble: Array, factor: float) -> Array:
    """``ensemble`` (N, d) with its anomalies multiplied by ``factor``."""
    if factor == 1.0:
        return ensemble
    mean = array_namespace(ensemble).mean(ensemble, axis=0)
    return mean + factor * (ensemble - mean)


def relax_spread(analysis: Array, forecast: Array, factor: float) -> Array:
    """``analysis`` (N, d) with its spread moved towards that of ``forecast`` (N, d): (1 - factor) s_a + factor s_f.

    Relaxation to prior spread (Whitaker and Hamill 2012).
    """
    if factor == 0.0:
        return analysis
    xp = array_namespace(analysis)
    mean = xp.mean(analysis, axis=0)
    before, after = xp.std(forecast, axis=0, correction=1), xp.std(analysis, axis=0, correction=1)
    # A component that lost its spread cannot be given any.
    ratio = before / xp.where(after > 0, after, xp.ones_like(after))
    return mean + (1 - factor + factor * ratio) * (analysis - mean)


def perturbed_innovations(ensemble: Array, y: Array, observation: Observation, stream: Stream) -> Array:
    """y + eta_i - H x_i (N, m), with centred eta_i."""
    xp = array_namespace(ensemble)
    eta = observation.noise((len(ensemble),), ensemble, stream)
    return y + eta - xp.mean(eta, axis=0) - observation.apply(ensemble)


def initial_draws(setup: Setup, n: int) -> Array:
    """n draws (n, d) from the initial distribution, for filters that bring their own ensemble."""
    return setup.initial_mean + setup.initial_spread * setup.system.perturbations(n, setup.initial_mean, setup.stream)


def ensemble_needs_members(ensemble: np.ndarray) -> None:
    """Raises ValueError for an ensemble (N, d) too small to have a covariance."""
    if len(ensemble) < 2:
        raise ValueError(f"the ensemble has {len(ensemble)} member: filters need at least 2 to have a spread")
