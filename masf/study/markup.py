"""YAML and JSON that users write, read so that no key is lost: libraries let the last of two values
stand without a word.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from masf.faults import Refused

FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Parses in C where PyYAML has its library: files of tuned values are long, and every job's check
reads them.
"""


class RepeatedKey(Refused):
    """A key that stands twice in one mapping."""


def read_yaml(text: str) -> Any:
    """What a text in YAML holds. Faults are worded by the parser in Python, which names the line.

    Raises:
        RepeatedKey: for a key that stands twice in one mapping.
        yaml.YAMLError: for what is no YAML.
    """
    try:
        return _read(text, FASTEST)
    except yaml.YAMLError:
        return _read(text, yaml.SafeLoader)


def read_json(text: str) -> Any:
    """What a text in JSON holds.

    Raises:
        RepeatedKey: for a key that stands twice in one object.
        json.JSONDecodeError: for what is no JSON.
    """
    return json.loads(text, object_pairs_hook=_each_once)


def require_keys_once(text: str) -> None:
    """Raises RepeatedKey where a text, YAML or JSON, has a key twice in one mapping; says nothing
    of what can be read as neither.
    """
    try:
        node = yaml.compose(text, Loader=FASTEST)
    except yaml.YAMLError:
        return
    _require_keys_once(node, "", set())


def _read(text: str, kind: Any) -> Any:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        _require_keys_once(node, "", set())
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _require_keys_once(node: yaml.Node | None, place: str, seen: set[int]) -> None:
    """The same of a node at a place, such as ``experiments.first.``, but for nodes that were
    ``seen``: an alias is the node that it stands for.
    """
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            _require_keys_once(child, f"{place}{i}.", seen)
        return
    lines: dict[tuple[str, str], int] = {}
    for key, child in node.value:
        if isinstance(key, yaml.ScalarNode):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                where = " and ".join(map(str, dict.fromkeys((lines[name], line))))
                word = "line" if lines[name] == line else "lines"
                raise RepeatedKey(
                    f"key '{place}{key.value}' stands twice, in {word} {where}: keep one"
                )
            lines[name] = line
            _require_keys_once(child, f"{place}{key.value}.", seen)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise RepeatedKey(f"key {key!r} stands twice: keep one")
    return found
