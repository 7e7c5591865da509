"""Vorticity of a flow: at some measurement times, or as a picture that moves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from masf.study.figures.base import FlowFigure, seed_faults
from masf.study.sections import Distinct, Seed

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study


class FieldsFigure(FlowFigure):
    """Fields of one run, with the velocities that were measured."""

    of_lines = False

    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int | list[int]

    @property
    @abstractmethod
    def last_cycles(self) -> list[int]:
        """Cycles that the run must have."""

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        return [(self.experiment, cell) for cell in study.point_cells(self, self.seed)]

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        yield from super().faults_of_kind(study, key)
        yield from seed_faults(study, key, self.experiment, self.seed)
        most = study.config.experiments[self.experiment].cycles
        if beyond := [cycle for cycle in self.last_cycles if cycle > most]:
            yield (
                f"{key}.cycles = {self.cycles}: {beyond} are beyond the experiment's {most} cycles"
            )
        observation = study.config.observations.get(self.observation)
        if observation is not None and not observation.whole_points:
            yield (
                f"{key}.observation = {self.observation!r}: operator {observation.operator!r} "
                "does not measure whole "
                "velocities, which the figure shows"
            )


class VorticityFigure(FieldsFigure):
    """Figure 5: vorticity of a flow, one row a time, with columns for truth, measurement and each
    filter.
    """

    kind: Literal["vorticity"] = Field(description="vorticity: fields of truth and analyses.")
    cycles: Distinct[Annotated[int, Field(ge=1)]] = Field(
        min_length=1,
        max_length=8,
        description="The measurements, counted from 1, at which the fields are shown.",
    )

    shows = (
        "Vorticity of the truth and of each filter's ensemble mean at some measurement times of "
        "one test seed, all in the same "
        "colours, and the velocities that were measured there, as arrows, at most 16 along each "
        "side. Numbers are structural "
        "similarities (SSIM) to the truth, 1 at best."
    )

    @property
    def last_cycles(self) -> list[int]:
        return self.cycles


class AnimationFigure(FieldsFigure):
    """The same over time, from step to step: an animated PNG, and its last picture as PDF."""

    kind: Literal["animation"] = Field(
        description="animation: fields of truth, forecasts and analyses over time."
    )
    cycles: int = Field(4, ge=1, le=50, description="How many of the first cycles are shown.")

    shows = (
        "Vorticity over time of the truth and of each filter's ensemble mean, and the last "
        "velocities that were measured, as "
        "arrows; numbers at measurement times are structural similarities (SSIM) of the "
        "analyses to the truth, 1 at best. The "
        "picture moves; the PDF has its last frame, and so has a PNG where it cannot move."
    )
    moves = True
    every_step = True

    @property
    def last_cycles(self) -> list[int]:
        return [self.cycles]
