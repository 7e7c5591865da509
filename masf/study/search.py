"""Search spaces: which values of a parameter tuning tries, as config/filters/NAME.yaml declares
them.

Apart from stage tune, so that the config is checked without importing what tunes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_validator

from masf.study.sections import Distinct

TunableScore = Literal["rmse", "rmse_analysis", "rmse_forecast", "crps", "crps_forecast"]
"""Scores of masf.scores.averages that are better the smaller they are."""


class Range(BaseModel):
    """An interval of numbers; of whole numbers, where low, high and step are written as such."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: int | float = Field(description="The least value.")
    high: int | float = Field(description="The greatest value.")
    log: bool = Field(False, description="Whether to search evenly in the logarithm.")
    step: int | float | None = Field(
        None, gt=0, description="Distance of the values, from low on; without it, all are allowed."
    )

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be positive for log: true")
        if self.log and self.step is not None:
            raise ValueError("log: true and step exclude each other")
        if self.step is not None and not _whole((self.high - self.low) / self.step):
            raise ValueError(
                f"high {self.high:g} must be a whole number of steps of {self.step:g} from low "
                f"{self.low:g}"
            )
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are searched."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step or 1))

    def __contains__(self, value: object) -> bool:
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.whole else None)
        return step is None or _whole((value - self.low) / step)


Values = Annotated[Distinct[Any], Field(min_length=1)]
Choice = Values | Range
"""What tuning tries of one parameter: these values, or an interval."""


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether ``value`` is an int or a float; truth values are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-8


def extremes(choice: Choice) -> list[Any]:
    """Values that are in range only if all of ``choice`` are: both ends, or the whole list."""
    return [choice.low, choice.high] if isinstance(choice, Range) else choice


def plain(choice: Choice) -> Any:
    """``choice`` as in the filter's file."""
    return choice.model_dump(exclude_defaults=True) if isinstance(choice, Range) else choice


def with_current(choice: Choice, current: Any) -> Choice:
    """``choice`` with the value in force, which tuning always tries: a list takes it in, an
    interval must hold it.

    Raises:
        ValueError: for a value outside an interval.
    """
    if isinstance(choice, Range):
        if current not in choice:
            stepped = "" if choice.step is None else f" in steps of {choice.step:g}"
            raise ValueError(
                f"the value in force, {current!r}, is not among those from {choice.low:g} to "
                f"{choice.high:g}{stepped}; tuning "
                "tries it first: widen the search, or change the value"
            )
        return choice
    values = choice if current in choice else [*choice, current]
    return sorted(values) if all(map(is_number, values)) else values
