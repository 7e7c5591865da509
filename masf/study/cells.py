"""What a study expands to: cells, each one truth with its measurements and initial ensemble, and trainings of priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from masf.diffusion.prior_settings import PriorSettings
from masf.files.cell import CellSettings
from masf.study.config import TuningPoints


@dataclass(frozen=True)
class Cell:
    """One truth with its measurements, and the experiments that use it."""

    path: str
    """Its folder, relative to the results: {system}/{parameters}/{observation}/gap~{gap}/members~{N}/seed~{seed}."""
    settings: CellSettings
    observation_name: str
    spin_up_cycles: int
    filters: tuple[str, ...]
    experiments: tuple[str, ...]
    saved_members: int
    reference: str | None = None
    """The filter whose posterior the others' distance is measured to."""

    @property
    def point(self) -> str:
        """The part of its path that cells of other seeds share."""
        return self.path.rsplit("/", 1)[0]

    @property
    def situation(self) -> dict[str, Any]:
        """What conditions of filter settings can name."""
        s = self.settings
        return {**s.parameters, "system": s.system, "observation": self.observation_name, "gap": s.gap, "members": s.members}


@dataclass(frozen=True)
class PriorTraining:
    """What stage train-prior is told."""

    path: str
    """Of the prior, relative to the results."""
    system: str
    parameters: dict[str, Any]
    observation: dict[str, Any]
    settings: PriorSettings


def path_fragment(parameters: dict[str, Any]) -> str:
    """A system's parameters as a part of a path."""
    return "+".join(f"{k}~{v:.12g}" for k, v in parameters.items())


def holds(when: dict[str, Any], situation: dict[str, Any]) -> bool:
    """Whether all conditions hold in a situation; a condition is a value, or a list of which one must do."""
    return all(situation.get(k) in (v if isinstance(v, list) else [v]) for k, v in when.items())


def selects(points: TuningPoints, cell: Cell) -> bool:
    """Whether points of section tuning take in the point of a cell."""
    return points.experiment in cell.experiments and holds(points.when, cell.situation)
