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

    def __post_init__(self) -> None:
        """Writes the gap in its one way. Raises ValueError where it is none."""
        object.__setattr__(self, "gap", as_gap(self.gap))

    @property
    def steps(self) -> np.ndarray:
        """The model steps (cycles,) at which measurements come."""
        return measurement_steps(self.gap, self.cycles)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def build(settings: CellSettings) -> tuple[System, Observation]:
    """The system and the observation of a cell. Raises ValueError where the settings do not fit
    together.
    """
    system = make_system(settings.system, settings.parameters)
    return system, observation_settings(settings.observation).build(system.dimension, system.grid)
