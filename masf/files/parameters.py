"""Which parameters a filter runs with, and where they came from, as {filter}.nc and scores.parquet
record it.

What is recorded is data: readers compare it as such, and :mod:`masf.report.words` says it in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from masf.files.tuned import Tuned


class TunedAt(BaseModel):
    """The search whose choice a run takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    situation: dict[str, Any]
    """Where it was made: system, its parameters, observation, gap and ensemble size."""
    trials: int
    all_diverged: bool
    """Whether every trial diverged, so that the default stands."""


class ParameterSource(BaseModel):
    """Where the parameters of a run came from: the default, but for what is named here; what is
    named later overrides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tuned: TunedAt | None = None
    pinned: tuple[str, ...] = ()
    """Names of the parameters that the config pins, sorted."""
    given: tuple[str, ...] = ()
    """Names of the parameters that the caller of ``masf.assimilate`` or ``masf run`` gave,
    sorted.
    """


def in_force(
    parameters: Mapping[str, Any],
    tuned: Tuned | None = None,
    pinned: Mapping[str, Any] | None = None,
    given: Iterable[str] = (),
) -> tuple[dict[str, Any], ParameterSource]:
    """The parameters of a run, and where they came from. Pinned ones override those that this
    study's tuning found, and those override what files say.

    Args:
        parameters: what files say: the filter's own, and config/tuned; what a caller gave is among
            them.
        tuned: what this study's tuning found, if the run takes it.
        pinned: what the config pins.
        given: names of those that a caller gave.
    """
    chosen, at = {}, None
    if tuned is not None:
        chosen = tuned.chosen
        at = TunedAt(
            situation=tuned.situation, trials=tuned.trials, all_diverged=tuned.all_diverged
        )
    pinned = pinned or {}
    source = ParameterSource(tuned=at, pinned=tuple(sorted(pinned)), given=tuple(sorted(given)))
    return {**parameters, **chosen, **pinned}, source
