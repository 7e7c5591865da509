"""Records that go from stage to stage as data, in words for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from masf.files.parameters import ParameterSource
from masf.scores.tracking import LOST_CYCLES, LOST_EXCESS, LOST_SHARE
from masf.study.situations import situation_in_words

LOST_TRACK = (
    f"A run has lost track where {LOST_CYCLES} analyses in a row are off by more than "
    f"{LOST_SHARE:g} of the free run's RMSE (of the truth's standard deviation over time, where "
    f"there is no free run) and by more than {LOST_EXCESS:g} times their own spread."
)
"""What masf.scores.tracking calls so."""


def runs_in_words(runs: float) -> str:
    """Model runs a cycle: whole, or with a digit where a mean is not; unknown where it is NaN."""
    return "unknown" if runs != runs else f"{runs:.1f}".removesuffix(".0")


def innovations_in_words(found: Mapping[str, float]) -> str:
    """Statistics of innovations (masf.scores.innovations), with two standard errors."""
    if not found["count"]:
        return "none"
    mean, variance = (
        f"{key} {found[key]:.3g} ± {2 * found[f'{key}_error']:.2g}" for key in ("mean", "variance")
    )
    outside = f"{found['outside']:.1%} outside of all members (right: 0, 1 and "
    return f"{mean}, {variance}, {outside}{found['outside_expected']:.1%})"


def source_in_words(
    source: ParameterSource, point_in_words: Callable[[Mapping[str, Any]], str] = situation_in_words
) -> str:
    """Where parameters came from: ``tuned at lorenz96, observation all, gap 20; pinned inflation``.

    Args:
        source: what a run recorded.
        point_in_words: how the situation in which a filter was tuned is called.
    """
    words = ["default"]
    if source.tuned is not None:
        point = point_in_words(source.tuned.situation)
        diverged = f"default (all {source.tuned.trials} trials at {point} diverged)"
        words = [diverged if source.tuned.all_diverged else f"tuned at {point}"]
    for how, names in (("pinned", source.pinned), ("given", source.given)):
        if names:
            words.append(f"{how} {', '.join(names)}")
    return "; ".join(words)


def number_or_text(value: float | str) -> str:
    """A value of an axis: a number as people write it, or a pattern of gaps as it is."""
    return value if isinstance(value, str) else f"{value:g}"
