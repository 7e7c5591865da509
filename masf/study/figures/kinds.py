"""All kinds of figures: which class reads a figure of the config, by its ``kind``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from masf.study.figures.model_runs import ModelRunsFigure
from masf.study.figures.ranks import RankFigure
from masf.study.figures.space_time import SpaceTimeFigure
from masf.study.figures.spectra import SpectraFigure
from masf.study.figures.sweep import SweepFigure
from masf.study.figures.trajectories import TrajectoryFigure
from masf.study.figures.vorticity import AnimationFigure, VorticityFigure

Figure = Annotated[
    TrajectoryFigure
    | SweepFigure
    | RankFigure
    | VorticityFigure
    | AnimationFigure
    | SpectraFigure
    | ModelRunsFigure
    | SpaceTimeFigure,
    Field(discriminator="kind"),
]
