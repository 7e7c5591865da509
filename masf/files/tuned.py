"""{filter}.json: what tuning found for a filter at a point."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masf.atomic import FileFault, made_again, unreadable

TUNING_FORMAT = "masf-tuning-1"


@dataclass(frozen=True)
class Tuned:
    """The outcome of stage tune for one filter at one point; the file says more."""

    filter: str
    situation: dict[str, Any]
    """The point: system, its parameters, observation and gap."""
    chosen: dict[str, Any]
    """The searched parameters with the best score, or their default where every trial diverged."""
    default: dict[str, Any]
    score: str
    chosen_score: float | None
    """Mean over tuning seeds; None where every trial diverged."""
    default_score: float | None
    """None where the default diverged."""
    trials: int
    diverged: int
    """How many of the trials diverged."""
    seeds: list[int]
    cycles: int
    pinned: dict[str, Any]
    """What the study pinned: in force in every trial."""

    @property
    def all_diverged(self) -> bool:
        return self.diverged == self.trials


def read_tuned(path: Path) -> Tuned:
    """Reads {filter}.json of stage tune.

    Raises:
        FileFault: if it is missing, damaged or of another format.
    """
    remedy = made_again("tune")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != TUNING_FORMAT:
            raise FileFault(
                path, f"has format {content['format']!r}, expected {TUNING_FORMAT!r}", remedy
            )
        keys = (
            "filter",
            "situation",
            "chosen",
            "default",
            "score",
            "chosen_score",
            "default_score",
            "seeds",
        )
        counts = {"trials": content["budget"]["run"], "diverged": content["budget"]["diverged"]}
        return Tuned(
            **{key: content[key] for key in keys},
            **counts,
            cycles=content["truth_settings"]["cycles"],
            pinned=content.get("pinned", {}),  # which files of earlier versions lack
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(
            path,
            error,
            fault=f"cannot be read as a result of tuning: {type(error).__name__}",
            remedy=remedy,
            missing="run stage tune first",
        ) from error


def tuned_for(name: str, system: str, path: Path) -> Tuned:
    """Reads the {filter}.json of filter ``name``. Raises FileFault as ``read_tuned``, or if it is
    of another filter or system.
    """
    tuned = read_tuned(path)
    found = tuned.filter, tuned.situation.get("system")
    if found != (name, system):
        raise FileFault(
            path,
            f"was tuned for filter {found[0]!r} on {found[1]!r}",
            f"name a file for {name!r} on {system!r}",
        )
    return tuned
