"""What of a config with faults can still be checked, so that all faults are said at once.

An entry with a fault is left out, and with it what refers to it: whether a figure suits an
experiment cannot be said of an experiment that cannot be read. So nothing is called a fault that
only follows from another one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from masf.study.config import StudyConfig

NAMED = ("pinned", "observations", "priors", "experiments", "figures")
"""Sections whose entries have names."""

PLACEHOLDERS: dict[str, Any] = {"results": "results", "seeds": {"test": [0], "tuning": [1]}}
"""What stands for keys that a config must have."""

PRIOR = {"gaps": [1], "localization_radii": [None]}
"""What stands for a prior that cannot be read: filters that need one have one."""


def salvaged(content: Mapping[str, Any], error: ValidationError) -> StudyConfig | None:
    """A config without what pydantic found to be at fault; None where nothing can be said of the
    rest.
    """
    kept = dict(content)
    left_out: dict[str, set[str]] = defaultdict(set)
    for fault in error.errors(include_url=False):
        section, *rest = fault["loc"] or ("",)
        said = content.get(str(section))
        if section in NAMED and rest and isinstance(said, dict) and rest[0] in said:
            left_out[str(section)].add(str(rest[0]))
        elif section == "filters" and rest and isinstance(said, list):
            kept["filters"] = [name for name in kept["filters"] if name != said[int(rest[0])]]
        elif section == "filters" and isinstance(said, list):  # it names one twice
            kept["filters"] = list(dict.fromkeys(said))
        elif section in {"filters_directory", "tuned_directory"}:
            return None
        else:
            kept.pop(str(section), None)
    if "seeds" not in kept:
        # Whether these are test seeds cannot be said.
        left_out["figures"].update(_names(kept, "figures"))
        kept["experiments"] = {
            name: {k: v for k, v in said.items() if k != "seeds"}
            if isinstance(said, dict)
            else said
            for name, said in _names(kept, "experiments").items()
        }
    return without(PLACEHOLDERS | kept, left_out)


def without(
    content: Mapping[str, Any], left_out: Mapping[str, Collection[str]]
) -> StudyConfig | None:
    """A config without entries, and without what refers to them; None where nothing is left.

    Args:
        content: the config.
        left_out: names by section; in section ``filters`` those of filters, and with any name in
            section ``tuning`` the whole section.
    """
    filters, observations = (set(left_out.get(key, ())) for key in ("filters", "observations"))
    listed = [name for name in content.get("filters", []) if name not in filters]
    experiments = {}
    for name, said in _names(content, "experiments").items():
        if name not in left_out.get("experiments", ()):
            kept = _experiment_without(said, filters, observations, listed)
            if kept is not None:
                experiments[name] = kept
    gone = _names(content, "experiments").keys() - experiments.keys()
    missing = {*filters, *observations, *gone}
    kept = dict(content) | {
        "filters": listed,
        "experiments": experiments,
        "observations": _but(content, "observations", observations),
        "pinned": _but(content, "pinned", {*filters, *left_out.get("pinned", ())}),
        "priors": _names(content, "priors") | dict.fromkeys(left_out.get("priors", ()), PRIOR),
        "figures": {
            name: said
            for name, said in _but(content, "figures", left_out.get("figures", ())).items()
            if not _mentions(said, missing)
        },
    }
    if left_out.get("tuning") or _mentions(content.get("tuning"), missing):
        kept["tuning"] = None
    try:
        return StudyConfig.model_validate(kept)
    except ValidationError:
        return None


def _experiment_without(
    said: Any, filters: set[str], observations: set[str], listed: list[str]
) -> dict[str, Any] | None:
    """An experiment without some filters and observations; None where it has nothing else.

    Args:
        said: the experiment.
        filters: those that are left out.
        observations: those that are left out.
        listed: the study's other filters.
    """
    kept = dict(said)
    for key, names in (
        ("observations", observations),
        ("add_filters", filters),
        ("leave_out_filters", filters),
    ):
        if key in kept:
            kept[key] = [name for name in kept[key] if name not in names]
    if kept.get("reference") in filters:
        del kept["reference"]
    runs = [name for name in listed if name not in kept.get("leave_out_filters", [])]
    nothing_left = filters and not runs and not kept.get("add_filters")
    return None if nothing_left or not kept.get("observations") else kept


def _names(content: Mapping[str, Any], section: str) -> dict[str, Any]:
    said = content.get(section)
    return dict(said) if isinstance(said, dict) else {}


def _but(content: Mapping[str, Any], section: str, names: Collection[str]) -> dict[str, Any]:
    return {name: v for name, v in _names(content, section).items() if name not in names}


def _mentions(value: Any, names: Collection[str]) -> bool:
    """Whether one of the names stands anywhere in a value."""
    if isinstance(value, str):
        return value in names
    if isinstance(value, Mapping):
        return any(_mentions(child, names) for child in value.values())
    return isinstance(value, (list, tuple)) and any(_mentions(child, names) for child in value)
