"""Situations in which filters are tuned: in words, how far they are from each other, and what was found in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from masf.files.tuned import Tuned
from masf.study.search import is_number


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
