"""Situations in which filters are tuned: in words, and how far they are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from masf.study.search import is_number


def situation_in_words(situation: Mapping[str, Any]) -> str:
    """A situation in words: ``lorenz96, observation all, dimension 40, dt 0.01, forcing 8, gap
    20``.
    """
    first = [str(situation["system"]), f"observation {situation['observation']}"]
    others = sorted((k, v) for k, v in situation.items() if k not in {"system", "observation"})
    return ", ".join(
        [*first, *(f"{k} {v:.12g}" if is_number(v) else f"{k} {v}" for k, v in others)]
    )


def distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """How far two situations of one system are from each other: Euclidean in the logarithms of
    their numbers.

    A number that is not positive has no logarithm: there, the difference itself counts.
    """
    return math.hypot(
        *(
            log_ratio(a[k], b[k])
            for k in sorted(a.keys() & b.keys())
            if is_number(a[k]) and is_number(b[k])
        )
    )


def log_ratio(a: float, b: float) -> float:
    """How far two numbers are apart in logarithms, or as they are where one has none."""
    return math.log(a / b) if min(a, b) > 0 else a - b


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """In what two situations, or the settings of two cells, differ: the values of both by key, of
    mappings within them by theirs; None where one has none.
    """
    first, second = _flat(a), _flat(b)
    return {
        key: (first.get(key), second.get(key))
        for key in {**first, **second}
        if first.get(key) != second.get(key)
    }


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= value if isinstance(value, Mapping) else {key: value}
    return found
