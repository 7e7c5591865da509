"""Rank histograms."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masf.study.figures.base import PointFigure


class RankFigure(PointFigure):
    """Rank histograms of the truth in the ensembles of one point of an experiment, one panel a
    filter.
    """

    kind: Literal["rank_histograms"] = Field(
        description="rank_histograms: how often the truth has each rank among the members."
    )
    ensemble: Literal["forecast", "analysis"] = Field(
        "forecast", description="The ensemble that the truth is ranked in."
    )
    columns: int = Field(4, ge=1, le=6, description="Panels in a row.")

    shows = (
        "How often the truth has each rank among the first 19 members (all, where there are "
        "fewer), over components and cycles, "
        "relative to the flat histogram (dashed) of members that are exchangeable with the "
        "truth: a hump in the middle means too "
        "much spread, horns at the ends too little. Bars and lines are mean and standard "
        "deviation over test seeds; runs that "
        "diverged are left out, those that lost track are in."
    )
