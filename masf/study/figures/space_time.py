"""The truth of a ring over place and time, and where and when filters are wrong (Hovmöller)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from masf.study.figures.base import PointFigure, seed_faults
from masf.study.sections import Seed
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study


class SpaceTimeFigure(PointFigure):
    """The truth of one run on a ring, over place and time, and the error of each filter's mean."""

    kind: Literal["space_time"] = Field(
        description="space_time: truth and errors over place and time, on a ring."
    )
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(20, ge=1, description="How many of the last cycles are shown.")
    columns: int = Field(2, ge=1, le=4, description="Panels in a row.")
    most_filters: int = Field(
        5,
        ge=1,
        le=30,
        description="Filters in a figure: of more, the best are in it and the others in a second "
        "one, NAME_others; all are in it where `filters` names them.",
    )

    every_step = True
    best_by = "RMSE in this run"
    shows = (
        "Hovmöller diagrams: places on the ring upwards, model time to the right, over the last "
        "cycles of one test seed. The first panel "
        "is the truth, the others are the ensemble mean's error, mean less truth, in the same "
        "colours for all filters, which end at twice the 98% quantile of the errors of the best "
        "filter there. Small ticks are analyses. The RMSE is that of the whole run."
    )
    reads_truth = True
    of_lines = False

    @property
    def most(self) -> int | None:
        return self.most_filters

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        return [(self.experiment, cell) for cell in study.point_cells(self, self.seed)]

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        yield from super().faults_of_kind(study, key)
        yield from seed_faults(study, key, self.experiment, self.seed)

    def system_faults(self, key: str, system: System) -> Iterator[str]:
        if system.grid is None or len(system.grid) != 1:
            yield (
                f"{key}.experiment = {self.experiment!r}: figure {self.kind!r} is for components "
                "on a ring, such as those of lorenz96"
            )
