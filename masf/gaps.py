"""When measurements come: after gaps, in model steps, that are the same throughout or a pattern
that repeats.

A gap is a number, 20; or a pattern such as "5-10-20", after which measurements come 5, 15, 35, 40,
50 ... steps from the start. Times that follow no rule are a pattern as long as the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a command line is read before numpy may be imported
    import numpy as np

LONGEST = 100_000
"""The longest gap."""

Gap = int | str


def as_gap(given: object) -> Gap:
    """The one way to write a gap that is ``given`` as a number, a list of numbers that repeats, or
    a pattern: a pattern of one number, or of one that repeats, is shortened.

    Raises:
        ValueError: if it is none, or not within 1 ... LONGEST.
    """
    numbers = _numbers(given)
    for gap in numbers:
        if not 1 <= gap <= LONGEST:
            bound = "at least 1" if gap < 1 else f"at most {LONGEST}"
            raise ValueError(f"gap is {gap}: expected {bound}")
    count = len(numbers)
    period = next(n for n in range(1, count + 1) if count % n == 0 and _repeats(numbers, n))
    return numbers[0] if period == 1 else "-".join(map(str, numbers[:period]))


def gap_of_steps(steps: Iterable[int]) -> Gap:
    """The gap of measurements at these model ``steps`` (cycles,), counted from the start.

    Raises:
        ValueError: if they do not rise from 1 on, or are no whole numbers.
    """
    import numpy as np

    given = np.asarray(list(steps))
    numbers = given.dtype.kind in "iuf" and given.ndim == 1 and given.size > 0
    if not numbers or not np.all(np.isfinite(given)) or np.any(given != np.round(given)):
        raise ValueError(
            "steps: expected a list of whole numbers, one for each measurement: the model step at "
            "which it came, such as round((time - start) / dt)"
        )
    gaps = np.diff(given, prepend=0)
    if np.any(gaps < 1):
        k = int(np.argmax(gaps < 1))
        at_start = (
            "; a measurement at the start comes before any forecast: begin the ensemble a step "
            "earlier, and count steps from there"
        )
        raise ValueError(
            f"steps: that of measurement {k + 1} is {given[k]:g}: expected steps that rise, the "
            f"first at least 1{at_start if given[k] == 0 else ''}"
        )
    return as_gap(gaps.astype(int).tolist())


def measurement_steps(gap: Gap, cycles: int) -> np.ndarray:
    """The model steps (cycles,) at which measurements come."""
    import numpy as np

    pattern = np.array(_numbers(gap), dtype=np.int64)
    return np.cumsum(np.resize(pattern, cycles))


def pattern_of(gap: Gap) -> list[int]:
    """The gaps in turn: one, or those of a pattern."""
    return _numbers(gap)


def _numbers(given: object) -> list[int]:
    if isinstance(given, str):
        parts: list[object] = [given] if given.startswith("-") else [*given.split("-")]
    else:
        parts = list(given) if isinstance(given, Iterable) else [given]
    try:
        numbers = [int(part) for part in parts]  # type: ignore[call-overload]
        whole = all(
            not isinstance(part, bool) and number == float(part)  # type: ignore[arg-type]
            for part, number in zip(parts, numbers, strict=True)
        )
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or not parts:
        raise ValueError(
            f"gap is {given!r}: expected a number of steps, or a list of such that repeats, on "
            "a command line 20-10"
        )
    return numbers


def _repeats(numbers: list[int], period: int) -> bool:
    return numbers == numbers[:period] * (len(numbers) // period)
