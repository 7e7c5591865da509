"""What a filter does: turn a forecast ensemble and a measurement into an analysis ensemble.

A filter file defines a parameter class, a subclass of :class:`Filter`, and ``filter = ThatClass``.
A filter never reads the config or the truth, and no files but those among its parameters
(masf.filters.input_files).
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from masf.arrays import Array, Stream, centred, ensemble_mean, ensemble_spread
from masf.ensembles.localization import radius_doubts
from masf.observations.base import Observation
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.diffusion.denoisers.prior import Prior


class FilterParameters(BaseModel):
    """Parameters of a filter, described and bounded: what its config file may set. One that is a
    file has type masf.filters.input_files.InputFile.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    def without_effect(self) -> dict[str, str]:
        """Parameters that change nothing while the others are as they are: of each what lets it
        act, such as "passes above 1".
        """
        return {}

    def radii(self) -> dict[str, float | None]:
        """The radii of tapers in force, by their keys; None tapers nothing."""
        return {}


class EnsembleParameters(FilterParameters):
    """Parameters of filters that inflate."""

    inflation: float = Field(
        1.0, ge=1.0, le=3.0, description="Factor on the anomalies of the analysis ensemble."
    )


class LocalizedParameters(EnsembleParameters):
    """Parameters of filters that localise, too."""

    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="Half of the Gaspari-Cohn taper's support, in the system's unit of length; "
        "null tapers nothing.",
    )

    def radii(self) -> dict[str, float | None]:
        return {"localization_radius": self.localization_radius} | super().radii()


class RotatedParameters(EnsembleParameters):
    """Parameters of filters that mix their members (masf.ensembles.rotation), too."""

    rotation: bool = Field(
        False, description="Rotate the analysis anomalies at random, keeping mean and covariance."
    )


class RelaxedParameters(EnsembleParameters):
    """Parameters of filters that give back some of the forecast's spread, too."""

    relaxation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the forecast's spread that the analysis is given back.",
    )


@dataclass(frozen=True)
class Setup:
    """What a filter may know: the model, the measurement, the initial distribution, and its own
    random numbers.

    Attributes:
        system: the dynamical system, also the filter's forecast model.
        observation: H and R.
        initial_mean: (d,) mean of the initial distribution, from which the system draws
            perturbations.
        initial_spread: its standard deviation; None where nothing is known of it but an ensemble.
        initial_anomalies: (N, d) of that ensemble, then; the distribution is taken for the normal
            one of its mean and covariance. None where ``initial_spread`` is known.
        stream: the filter's own random numbers.
        prior: the pretrained prior, for filters that use one.
    """

    system: System
    observation: Observation
    initial_mean: Array
    initial_spread: float | None
    stream: Stream
    prior: Prior | None = None
    initial_anomalies: Array | None = None

    def __post_init__(self) -> None:
        if (self.initial_spread is None) == (self.initial_anomalies is None):
            raise ValueError("setup: expected initial_spread or initial_anomalies, one of the two")


class Filter(ABC):
    """A filter whose state is an ensemble (N, d). Others override the methods that touch the
    state.
    """

    Parameters: ClassVar[type[FilterParameters]] = FilterParameters
    uses_prior: ClassVar[bool] = False
    """Whether the filter uses a pretrained prior of stage train-prior, where its parameters ask for
    a network.
    """
    missing: ClassVar[Literal["reduced", "own", "refused"]] = "reduced"
    """What is done where measurements are missing, which is NaN in y.

    ``reduced``: ``observe`` is told what there is, and ``analyse`` given that part of y; where
    there is none, the forecast is the analysis. ``own``: ``analyse`` is given y as it is, and knows
    what to do. ``refused``: the filter is not run. A class whose constructor is its own may keep
    there what follows from the whole observation: without an ``observe``, or a word on ``missing``,
    it is refused.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        said = vars(cls).keys()
        if "missing" not in said and "observe" in said and cls.missing == "refused":
            cls.missing = "reduced"
        elif "__init__" in said and not said & {"missing", "observe"}:
            cls.missing = "refused"

    def __init__(self, parameters: Any, setup: Setup) -> None:
        """Raises ValueError for ``misfits`` of the parameters."""
        if faults := self.misfits(parameters, setup.system, setup.observation):
            raise ValueError(f"filter {type(self).__name__}: {'; '.join(faults)}")
        self.parameters = parameters
        self.system = setup.system
        self.stream = setup.stream
        self.setup = setup
        self.observe(setup.observation)

    def observe(self, observation: Observation) -> None:
        """Makes ready for measurements of ``observation``: all of them, or what there is of them
        until it is called again.

        A filter that keeps what follows from H or R makes it here. The constructor calls it last.
        """
        self.observation = observation
        self.setup = replace(self.setup, observation=observation)

    def __repr__(self) -> str:
        """The parameters, and what it is made for: ``ETKF(inflation=1.05) of Lorenz96(...)``."""
        parameters = ", ".join(f"{key}={value!r}" for key, value in self.parameters)
        return f"{type(self).__name__}({parameters}) of {self.system!r}, {self.observation!r}"

    @classmethod
    def misfits(cls, parameters: Any, system: System, observation: Observation) -> list[str]:
        """What does not suit the system or the observation, by these parameters; empty where the
        filter can run.

        A study's check asks it of every cell before anything runs, and the constructor again, so it
        should be cheap. Each sentence names the parameter and its value, says what is wrong and
        what to do, such as "block = 3: does not divide the grid 4 x 6; set it to a divisor of its
        lengths".
        """
        return []

    @classmethod
    def doubts(cls, parameters: Any, system: System, members: int) -> list[str]:
        """What runs, but is seldom meant, with an ensemble of so many members; said before a run
        begins, in sentences as those of ``misfits``.
        """
        if not isinstance(parameters, FilterParameters):
            return []  # a class of one's own, which masf.check_filter refuses
        return [
            doubt
            for key, radius in parameters.radii().items()
            for doubt in radius_doubts(radius, system, members, key)
        ]

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
        """The state given the measurement y (m,) of ``observation``."""

    def project(self, state: Any) -> Any:
        """The analysis ``state`` as the model admits it, such as a velocity without divergence; see
        System.project.
        """
        return self.system.project(state)

    def moments(self, state: Any) -> tuple[Array, Array]:
        """Mean (d,) and standard deviation (d,) of the state."""
        return ensemble_mean(state), ensemble_spread(state)

    def members(self, state: Any) -> Array:
        """An ensemble (N, d) that represents the state, in no order: its first few members are as
        good a sample as any others.
        """
        return state

    def covariance(self, state: Any) -> Array:
        """Covariance (d, d) of the state."""
        _, anomalies = centred(self.members(state))
        return anomalies.mT @ anomalies / (len(anomalies) - 1)

    def diagnostics(self) -> dict[str, float]:
        """Numbers that describe the last analysis, recorded for each cycle; the same keys every
        cycle.
        """
        return {}


def initial_draws(setup: Setup, n: int) -> Array:
    """n draws (n, d) from the initial distribution, for filters that bring their own ensemble."""
    x, stream, anomalies = setup.initial_mean, setup.stream, setup.initial_anomalies
    if anomalies is None:
        return x + setup.initial_spread * setup.system.perturbations(n, x, stream)
    members = len(anomalies)
    return x + stream.normal((n, members), x) @ anomalies / math.sqrt(members - 1)


def idle_parameters(parameters: Any) -> dict[str, str]:
    """``FilterParameters.without_effect``; nothing of a class of one's own, which
    masf.check_filter refuses.
    """
    return parameters.without_effect() if isinstance(parameters, FilterParameters) else {}


def doubts_of_what_is_said(parameters: Any, said: Iterable[str]) -> list[str]:
    """Of parameters that someone said for this run, those that change nothing in it. Those of files
    may: they are for situations of several kinds.
    """
    idle = idle_parameters(parameters)
    return [
        f"{key} = {json.dumps(getattr(parameters, key), default=str)}: changes nothing "
        f"without {idle[key]}: leave it out, or set that, too"
        for key in said
        if key in idle and getattr(parameters, key) != type(parameters).model_fields[key].default
    ]


def linear_misfits(observation: Observation) -> list[str]:
    """Why a filter that takes linear measurements only does not suit an observation."""
    if observation.linear:
        return []
    transform = observation.settings.get("transform")
    nature = "are not" if transform is None else f"pass through transform {transform!r}"
    return [
        f"takes measurements that are linear in the state, and these {nature}: leave the filter "
        "out of this experiment"
    ]


def ensemble_needs_members(ensemble: np.ndarray) -> None:
    """Raises ValueError for an ensemble (N, d) too small to have a covariance."""
    if len(ensemble) < 2:
        raise ValueError(
            f"the ensemble has {len(ensemble)} member: filters need at least 2 to have a spread"
        )
