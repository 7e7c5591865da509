"""How a figure looks: its size, font, and what filters are called in it, for the page of a journal
that it shall stand on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from masf.study.messages import unknown
from masf.study.sections import Distinct, Name, Section

if TYPE_CHECKING:
    from masf.study.study import Study

COLUMN_WIDTHS = {"single": 85.0, "double": 178.0}
"""Millimetres of one column, and of two with what is between, of a usual journal (chosen)."""

MILLIMETRES_PER_INCH = 25.4

Colour = Annotated[str, Field(pattern="^#[0-9A-Fa-f]{6}$")]


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    if low >= high:
        raise ValueError(f"the first limit, {low:g}, must be below the second, {high:g}")
    return limits


Limits = Annotated[tuple[float, float], AfterValidator(_ascending)]


class AxisLimits(Section):
    """Where the axes of all panels end."""

    x: Limits | None = Field(None, description="Lowest and highest value of the horizontal axis.")
    y: Limits | None = Field(None, description="Lowest and highest value of the vertical axis.")


class Style(Section):
    """How a figure looks, where it is not as all figures do."""

    width: Literal["single", "double"] | Annotated[float, Field(ge=40, le=400)] | None = Field(
        None,
        description="Of the figure: single or double, the columns of a usual journal (85 and 178 "
        "mm), or millimetres; 178 without this.",
    )
    row_height: Annotated[float, Field(ge=15, le=300)] | None = Field(
        None,
        description="Millimetres of a row of panels of scores; what the names of its lines take "
        "without this.",
    )
    columns: int | None = Field(
        None, ge=1, le=6, description="Panels in a row, instead of the figure's."
    )
    font: str | None = Field(
        None, min_length=1, description="A font family: serif, sans-serif, or one by its name."
    )
    font_size: float | None = Field(None, ge=4, le=24, description="Points; 8 without this.")
    labels: dict[Name, Annotated[str, Field(min_length=1, max_length=60)]] = Field(
        default_factory=dict, description="What filters are called, where not as everywhere."
    )
    colours: dict[Name, Colour] = Field(
        default_factory=dict, description="Colours of filters, as #RRGGBB."
    )
    order: Distinct[Name] = Field(
        default_factory=list, description="Filters that come first, in this order."
    )
    limits: AxisLimits = Field(
        default_factory=AxisLimits, description="Of figures of scores: where axes end."
    )
    scale: Literal["log", "linear"] | None = Field(
        None,
        description="Of figures of scores: the vertical axis; log for errors, linear for "
        "similarities without this.",
    )
    legend: Literal["direct", "above", "none"] = Field(
        "direct",
        description="Of figures of scores: names beside the lines, a legend above the panels, or "
        "none.",
    )

    @property
    def inches(self) -> float:
        """The figure's width."""
        width = self.width or "double"
        millimetres = COLUMN_WIDTHS[width] if isinstance(width, str) else width
        return millimetres / MILLIMETRES_PER_INCH

    @property
    def of_scores(self) -> list[str]:
        """The keys in it that are for figures of scores alone."""
        keys = ("row_height", "columns", "limits", "scale", "legend")
        return [key for key in keys if key in self.model_fields_set]

    def faults(self, study: Study, key: str, shown: list[str]) -> Iterator[str]:
        """What is wrong with it in a study, for a figure that shows the filters ``shown``; ``key``
        is its place in the config.
        """
        for name, named in (
            ("labels", self.labels),
            ("colours", self.colours),
            ("order", self.order),
        ):
            for filter_name in named:
                if filter_name not in study.with_scores:
                    yield unknown(
                        f"{key}.{name}", filter_name, "filter of the study", study.with_scores
                    )
        called: dict[str, str] = {}
        for name in shown:
            label = self.labels.get(name, study.filters[name].label)
            if (other := called.setdefault(label, name)) != name:
                yield f"{key}.labels: {other!r} and {name!r} would both be called {label!r}"
