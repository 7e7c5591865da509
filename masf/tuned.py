"""What tuning found: its file, and the parameters that a filter runs with once it is there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

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
    seeds: list[int]
    cycles: int

    @property
    def all_diverged(self) -> bool:
        return self.diverged == self.trials


def read_tuned(path: Path) -> Tuned:
    """Reads {filter}.json of stage tune.

    Raises:
        FileFault: if it is missing, damaged or of another format.
    """
    remedy = "remove it and run stage tune again"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] != TUNING_FORMAT:
            raise FileFault(path, f"has format {content['format']!r}, expected {TUNING_FORMAT!r}", remedy)
        keys = ("filter", "situation", "chosen", "default", "score", "chosen_score", "default_score", "seeds")
        counts = {"trials": content["budget"]["run"], "diverged": content["budget"]["diverged"]}
        return Tuned(**{key: content[key] for key in keys}, **counts, cycles=content["truth_settings"]["cycles"])
    except FileNotFoundError:
        raise FileFault(path, "does not exist", "run stage tune first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFault(path, f"cannot be read as a result of tuning ({error!r})", remedy) from error


def tuned_for(name: str, system: str, path: Path) -> Tuned:
    """Reads the {filter}.json of filter ``name``. Raises FileFault as ``read_tuned``, or if it is of another filter or system."""
    tuned = read_tuned(path)
    found = tuned.filter, tuned.situation.get("system")
    if found != (name, system):
        raise FileFault(path, f"was tuned for filter {found[0]!r} on {found[1]!r}", f"name a file for {name!r} on {system!r}")
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
    return ", ".join([*first, *(f"{k} {v:.12g}" if is_number(v) else f"{k} {v}" for k, v in others)])


def distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """How far two situations of one system are from each other: Euclidean in the logarithms of their numbers.

    A number that is not positive has no logarithm: there, the difference itself counts.
    """
    return math.hypot(*(_apart(a[k], b[k]) for k in sorted(a.keys() & b.keys()) if is_number(a[k]) and is_number(b[k])))


def _apart(a: float, b: float) -> float:
    return math.log(a / b) if min(a, b) > 0 else a - b


def settings_blocks(found: list[Tuned]) -> str:
    """The ``settings`` of filters' files that say what was found, in YAML; each condition names what tells its point apart."""
    blocks = []
    for name in sorted({tuned.filter for tuned in found}):
        lines = [f"# {name}", "settings:"]
        for tuned in (t for t in found if t.filter == name):
            system = tuned.situation["system"]
            others = [t.situation for t in found if t.filter == name and t.situation["system"] == system]
            differing = {k: v for k, v in tuned.situation.items() if any(o.get(k) != v for o in others)}
            lines.append(
                f"  # masf tune, {tuned.trials} trials of {tuned.cycles} cycles on seeds {', '.join(map(str, tuned.seeds))}:"
            )
            if tuned.chosen_score is None:
                lines.append(f"  # every trial diverged at {describe(tuned.situation)}")
                continue
            before = "diverged" if tuned.default_score is None else f"{tuned.default_score:.4g}"
            lines.append(f"  # {tuned.score} {tuned.chosen_score:.4g}, and {before} with {_flow(tuned.default)}")
            lines.append(f"  - when: {_flow({'system': system, **differing})}")
            lines.append(f"    parameters: {_flow(tuned.chosen)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _flow(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=1000).strip()
