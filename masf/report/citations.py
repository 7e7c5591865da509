"""The sources of what a study uses, in BibTeX: of filters, systems, scores, tuning and workflow.

Which source a filter has, its file in config/filters says (key ``cite``); the sources themselves
stand in references.bib.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from masf import __version__
from masf.scores.fields import FLOW_SCORES
from masf.study.study import Study
from masf.systems.registry import system_class

SYSTEMS = {
    "lorenz63": ("lorenz1963",),
    "lorenz96": ("lorenz1996",),
    "lorenz96_two_scale": ("lorenz1996",),
    "lorenz96_closure": ("lorenz1996", "wilks2005"),
    "kuramoto_sivashinsky": ("kassam2005",),
}
"""Keys of the sources of systems; those of the others have none."""

SUITE, WORKFLOW, TUNING = "masf", "molder2021", "akiba2019"
CRPS, SSIM = "gneiting2007", "wang2004ssim"

_ENTRY = re.compile(r"^@\w+\{([^,]+),.*?^\}", re.MULTILINE | re.DOTALL)


@cache
def references() -> Mapping[str, str]:
    """The BibTeX entries that there are, by key."""
    text = Path(__file__).with_name("references.bib").read_text(encoding="utf-8")
    suite = (
        f"@software{{{SUITE},\n  author = {{{{The masf developers}}}},\n"
        "  title = {{masf}: A Benchmark Suite for Score-Based Data Assimilation},\n"
        f"  version = {{{__version__}}},\n}}"
    )
    return {SUITE: suite, **{found[1]: found[0] for found in _ENTRY.finditer(text)}}


def sources(study: Study) -> dict[str, tuple[str, ...]]:
    """What a study uses, in words, and the keys of its sources; empty where none is known."""
    systems = dict.fromkeys(
        name
        for cell in study.cells.values()
        for name in (cell.settings.system, cell.settings.forecast.system)
    )
    flows = any(system_class(name).flow for name in systems)
    tuned = study.config.tuning is not None or any(
        setting.found.by == "masf tune"
        for name in study.with_scores
        if name in study.tuned
        for setting in study.tuned[name].settings
    )
    return {
        "the suite": (SUITE,),
        "the workflow": (WORKFLOW,),
        **{
            f"filter {study.filters[name].label}": tuple(study.filters[name].cite)
            for name in study.with_scores
            if name not in study.free_runs
        },
        **{f"system {name}": SYSTEMS[name] for name in systems if name in SYSTEMS},
        "score CRPS": (CRPS,),
        **({f"score {FLOW_SCORES['ssim']}": (SSIM,)} if flows else {}),
        **({"tuning": (TUNING,)} if tuned else {}),
    }


def bibtex(used: Mapping[str, Iterable[str]]) -> str:
    """The entries of what is used, each once and with what it is for; what no source is known of is
    named in a comment.

    Raises:
        ValueError: for a key that there is no entry of.
    """
    purposes: dict[str, list[str]] = {}
    without = []
    for what, keys in used.items():
        for key in keys:
            purposes.setdefault(key, []).append(what)
        if not keys:
            without.append(what)
    if absent := [key for key in purposes if key not in references()]:
        raise ValueError(
            f"cite: no entry {', '.join(absent)} in masf/report/references.bib; choose among "
            f"{', '.join(references())}"
        )
    blocks = [f"% {', '.join(purpose)}\n{references()[key]}" for key, purpose in purposes.items()]
    if without:
        blocks.append(f"% No source is known of: {', '.join(without)}. Its file may say `cite`.")
    return "\n\n".join(blocks) + "\n"
