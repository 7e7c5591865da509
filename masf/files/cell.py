"""What fixes a cell, apart from the files themselves so that the config is checked without
importing xarray.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masf.gaps import Gap, as_gap, measurement_steps
from masf.observations.base import Observation
from masf.observations.settings import observation_settings
from masf.systems.base import System
from masf.systems.registry import make_system


@dataclass(frozen=True)
class Model:
    """What forecasts: a system by its name, and its parameters."""

    system: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class CellSettings:
    """Everything that fixes a cell's truth, measurements and initial ensemble.

    ``initial_spread`` is the standard deviation of the initial distribution; None where nothing is
    known of it but an ensemble, which somebody handed in.
    """

    system: str
    parameters: dict[str, Any]
    observation: dict[str, Any]
    gap: Gap
    cycles: int
    members: int
    initial_spread: float | None
    seed: int
    model: Model | None = None
    """What filters forecast with, where it is not what makes the truth."""

    def __post_init__(self) -> None:
        """Writes the gap in its one way, and reads a model from JSON. Raises ValueError for a gap
        that is none.
        """
        object.__setattr__(self, "gap", as_gap(self.gap))
        if isinstance(self.model, dict):
            object.__setattr__(self, "model", Model(**self.model))

    @property
    def forecast(self) -> Model:
        """What filters forecast with."""
        return self.model or Model(self.system, self.parameters)

    @property
    def steps(self) -> np.ndarray:
        """The model steps (cycles,) at which measurements come."""
        return measurement_steps(self.gap, self.cycles)

    def to_json(self) -> str:
        keys = asdict(self)
        if self.model is None:
            del keys["model"]
        return json.dumps(keys, sort_keys=True)


def build(settings: CellSettings) -> tuple[System, Observation]:
    """What filters forecast with in a cell, and the observation. Raises ValueError where the
    settings do not fit together.
    """
    system = make_system(settings.forecast.system, settings.forecast.parameters)
    return system, observation_settings(settings.observation).build(system.dimension, system.grid)


def model_fault(system: System, model: System) -> str | None:
    """Why a model cannot forecast a system's truth; None if it can."""
    if model.dt != system.dt:
        return f"the model has dt {model.dt:g}, and the truth {system.dt:g}: give both the same"
    sizes = {system.dimension, len(system.resolved(np.zeros(system.dimension)))}
    if model.dimension not in sizes:
        wanted = " or ".join(str(n) for n in sorted(sizes))
        return f"the model has {model.dimension} components: expected {wanted}, as the truth"
    return None
