"""What tuning found: its file, and the parameters that a filter runs with once it is there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masf.files import FileFault
from masf.search import is_number

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

    @property
    def all_diverged(self) -> bool:
        return self.diverged == self.trials


def read_tuned(path: Path, name: str, system: str) -> Tuned:
    """Reads {filter}.json of stage tune.

    Raises:
        FileFault: if it is missing, damaged, of another format, or of another filter or system.
    """
    remedy = "remove it and run stage tune again"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != TUNING_FORMAT:
            raise FileFault(path, f"has format {content['format']!r}, expected {TUNING_FORMAT!r}", remedy)
        keys = ("filter", "situation", "chosen", "default", "score", "chosen_score", "default_score")
        counts = {"trials": content["budget"]["run"], "diverged": content["budget"]["diverged"]}
        tuned = Tuned(**{key: content[key] for key in keys}, **counts)
        place = tuned.filter, tuned.situation["system"]
    except FileNotFoundError:
        raise FileFault(path, "does not exist", "run stage tune first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFault(path, f"cannot be read as a result of tuning ({error})", remedy) from error
    if place != (name, system):
        raise FileFault(
            path, f"is of filter and system {place}, expected {(name, system)}", "name the file that was tuned for these"
        )
    return tuned


def in_force(
    parameters: Mapping[str, Any], tuned: Tuned | None = None, pinned: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """The parameters of a run, and where they come from: default < tuned < pinned."""
    source = "default"
    if tuned is not None:
        point = describe(tuned.situation)
        source = f"default (all {tuned.trials} trials at {point} diverged)" if tuned.all_diverged else f"tuned at {point}"
    if pinned:
        source += f"; pinned {', '.join(sorted(pinned))}"
    return {**parameters, **(tuned.chosen if tuned is not None else {}), **(pinned or {})}, source


def describe(situation: Mapping[str, Any]) -> str:
    """A situation in words: ``lorenz96, observation all, dimension 40, dt 0.01, forcing 8, gap 20``."""
    first = [str(situation["system"]), f"observation {situation['observation']}"]
    others = sorted((k, v) for k, v in situation.items() if k not in {"system", "observation"})
    return ", ".join([*first, *(f"{k} {v:.12g}" for k, v in others)])


def distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """How far two situations of one system are from each other: Euclidean in the logarithms of their numbers.

    A number that is not positive has no logarithm: there, the difference itself counts.
    """
    return math.hypot(*(_apart(a[k], b[k]) for k in sorted(a.keys() & b.keys()) if is_number(a[k]) and is_number(b[k])))


def _apart(a: float, b: float) -> float:
    return math.log(a / b) if min(a, b) > 0 else a - b
