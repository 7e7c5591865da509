"""What a study expands to: cells, each one truth with its measurements and initial ensemble, and
trainings of priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from masf.diffusion.prior_settings import PriorSettings
from masf.files.cell import CellSettings
from masf.study import paths
from masf.study.conditions import defaults, holds
from masf.study.config import TuningPoints


@dataclass(frozen=True)
class Cell:
    """One truth with its measurements, and the experiments that use it."""

    settings: CellSettings
    observation_name: str
    spin_up_cycles: int
    filters: tuple[str, ...]
    experiments: tuple[str, ...]
    saved_members: int
    reference: str | None = None
    """The filter whose posterior the others' distance is measured to."""
    saved_steps: int = 1
    """Means and spreads are kept at every so many steps and at analyses; 0: at these alone."""

    @cached_property
    def wildcards(self) -> dict[str, Any]:
        """What the names in patterns of masf.study.paths stand for in this cell."""
        s = self.settings
        return {
            "system": s.system,
            "parameters": paths.path_fragment(s.parameters) + self._model_fragment,
            "observation": self.observation_name,
            "gap": s.gap,
            "members": s.members,
            "seed": s.seed,
        }

    @cached_property
    def wildcards_together(self) -> dict[str, Any]:
        """The same of a job that has all seeds."""
        return {key: value for key, value in self.wildcards.items() if key != "seed"}

    @property
    def model_in_words(self) -> str:
        """What filters forecast with, by what differs from the truth's system; empty where nothing
        does.
        """
        s = self.settings
        if s.model is None:
            return ""
        other = s.model.system != s.system
        given = {k: v for k, v in s.model.parameters.items() if other or s.parameters.get(k) != v}
        return " ".join(
            [*([s.model.system] if other else []), *(f"{k} {v:.12g}" for k, v in given.items())]
        )

    @property
    def _model_fragment(self) -> str:
        words = self.model_in_words.replace(" ", "~")
        return f"+model~{words}" if words else ""

    @cached_property
    def path(self) -> str:
        """Its folder; this and all paths below are relative to the results."""
        return paths.CELL.format_map(self.wildcards)

    @cached_property
    def point(self) -> str:
        """The folder that it shares with cells of other seeds."""
        return paths.POINT.format_map(self.wildcards)

    @property
    def truth(self) -> str:
        return paths.TRUTH.format_map(self.wildcards)

    def estimate(self, filter_name: str) -> str:
        """What a filter made of its measurements."""
        return paths.ESTIMATE.format_map(self.wildcards | {"filter": filter_name})

    def cost(self, filter_name: str) -> str:
        """What that cost."""
        return paths.COST.format_map(self.wildcards | {"filter": filter_name})

    def tuned(self, filter_name: str) -> str:
        """What tuning found for a filter at its point."""
        return paths.TUNED.format_map(self.wildcards | {"filter": filter_name})

    @cached_property
    def conditions(self) -> dict[str, Any]:
        """What conditions can name: the situation, and the defaults of the system's other
        parameters.
        """
        return defaults(self.settings.system) | self.situation

    @property
    def situation(self) -> dict[str, Any]:
        """What tells the cell from others of its study, but for its seed."""
        s = self.settings
        return {
            **s.parameters,
            "system": s.system,
            "observation": self.observation_name,
            "gap": s.gap,
            "members": s.members,
            **({"model": self.model_in_words} if s.model else {}),
        }


@dataclass(frozen=True)
class PriorTraining:
    """What stage train-prior is told."""

    system: str
    parameters: dict[str, Any]
    observation: dict[str, Any]
    observation_name: str
    settings: PriorSettings
    shipped: Path | None = None
    """A prior shipped with masf that is taken instead: one that such a training made."""

    @property
    def wildcards(self) -> dict[str, Any]:
        """What the names in the pattern of its path stand for."""
        return {
            "system": self.system,
            "parameters": paths.path_fragment(self.parameters),
            "observation": self.observation_name,
        }

    @property
    def path(self) -> str:
        """Of the prior, relative to the results."""
        return paths.PRIOR.format_map(self.wildcards)


def selects(points: TuningPoints, cell: Cell) -> bool:
    """Whether points of section tuning take in the point of a cell."""
    return points.experiment in cell.experiments and holds(points.when, cell.conditions)
