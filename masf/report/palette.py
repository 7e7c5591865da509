"""The colour, marker and line of every filter: by its name, so that a filter looks the same in all
figures of all studies.

Our filters' looks stand in their files in config/filters. Colours go by family, from the set of
Okabe and Ito (2008), which people with each kind of colour blindness tell apart; filters of one
family differ in marker and line. A filter without a look gets one that follows from its name, in a
colour that none of ours has.
"""

from __future__ import annotations

import hashlib
from itertools import product
from typing import get_args

from masf.study.filter_files import FilterLook, Marker
from masf.study.study import Study

OTHER_COLOURS = ("#1A1AB3", "#804D1A", "#4D004D", "#003300")
"""Colours of filters that have no look; chosen to be as far as can be from those of Okabe and Ito,
for every kind of vision.
"""
DASHES: dict[str, tuple[float, ...] | str] = {
    "solid": "",
    "dashed": (4, 1.5),
    "dotted": (1, 1),
    "dashdot": (3, 1, 1, 1),
}
"""Lines in units of their width, as seaborn takes them."""


def looks(study: Study) -> dict[str, FilterLook]:
    """The look of each filter of a study, by name. One without a look never changes that of
    another, nor of one before it.
    """
    found: dict[str, FilterLook] = {}
    derived: list[FilterLook] = []
    for name in study.with_scores:
        own = study.filters[name].look
        if own is None:
            own = _derived(name, derived)
            derived.append(own)
        found[name] = own
    return found


def _derived(name: str, taken: list[FilterLook]) -> FilterLook:
    """A look that follows from a name, but for as few clashes with others as can be."""
    choices = list(product(OTHER_COLOURS, get_args(Marker), DASHES))
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(choices)

    def clashes(choice: tuple[str, str, str]) -> int:
        colour, marker, line = choice
        same = [(colour == t.colour, marker == t.marker, line == t.line) for t in taken]
        return sum(1000 if all(s) else 10 * s[0] + 10 * s[1] + s[2] for s in same)

    colour, marker, line = min(choices[start:] + choices[:start], key=clashes)
    return FilterLook.model_validate({"colour": colour, "marker": marker, "line": line})
