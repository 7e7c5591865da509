"""Where everything of a study lies: the one place that knows, for the study, the workflow and
whoever reads results.

Paths are relative to the folder of results. Those with names in braces are patterns: Snakemake
reads the names as wildcards, and ``str.format`` fills them in. ``{parameters}`` lists a system's
parameters, see :func:`path_fragment`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SETTING = "{system}/{parameters}/{observation}"
"""Folder of what is measured of a system."""

PRIOR = f"{SETTING}/prior/prior.safetensors"

POINT = f"{SETTING}/gap~{{gap}}/members~{{members}}"
"""Folder of a situation: all its seeds."""

CELL = f"{POINT}/seed~{{seed}}"
"""Folder of a cell."""

TRUTH = f"{CELL}/truth.nc"
ESTIMATE = f"{CELL}/{{filter}}.nc"
COST = f"{CELL}/{{filter}}.cost.json"

TUNED = f"{POINT}/tuning/{{filter}}.json"
"""What stage tune found for a filter at a point."""

JOURNAL = f"{POINT}/tuning/{{filter}}.journal"
"""Trials of stage tune that are done."""

OBSERVATION = "observations/{observation}.json"
"""An observation that is too long for a command line."""

STUDY = "study.json"
SCORES = "scores.parquet"
COSTS = "costs.parquet"
PAGE = "index.html"
TABLE_SUFFIXES = ("csv", "md", "tex")
FIGURE_SUFFIXES = ("pdf", "png")

WILDCARDS = {
    "system": "[a-z0-9_]+",
    "parameters": "[^/]+",
    "observation": "[a-z0-9_]+",
    "gap": "[0-9]+(-[0-9]+)*",
    "members": "[0-9]+",
    "seed": "[0-9]+",
}
"""What the names in patterns may stand for, as regular expressions; filters and figures are those
of the study.
"""

JOBS = {
    "study": "study",
    "observation": "observations/{observation}",
    "simulate": f"{CELL}/truth",
    "train_prior": f"{SETTING}/prior",
    "tune": f"{POINT}/tuning/{{filter}}",
    "assimilate": f"{CELL}/{{filter}}",
    "aggregate": "aggregate",
    "plot": "figures/{figure}",
    "page": "page",
}
"""What tells one job of a rule from others; logs and benchmarks are called so."""

JOBS_TOGETHER = JOBS | {"simulate": f"{POINT}/truths", "assimilate": f"{POINT}/{{filter}}"}
"""The same where one job has all seeds of a situation."""


def job(rule: str, together: bool = False) -> str:
    """What tells one job of a rule from others; ``together``: where it has all seeds."""
    return (JOBS_TOGETHER if together else JOBS)[rule]


def log(rule: str, together: bool = False) -> str:
    """Where a rule's jobs say what they did."""
    return f"logs/{job(rule, together)}.log"


def benchmark(rule: str, together: bool = False) -> str:
    """Where Snakemake keeps what a rule's jobs used."""
    return f"benchmarks/{job(rule, together)}.tsv"


def table(name: str, suffix: str) -> str:
    """A table; ``{table}`` as its name makes a pattern."""
    return f"tables/{name}.{suffix}"


def figure(name: str, suffix: str) -> str:
    """A figure; ``{figure}`` as its name makes a pattern."""
    return f"figures/{name}.{suffix}"


def csv(path: str) -> str:
    """What holds the same as the scores or costs at ``path``, as CSV."""
    return f"{path.removesuffix('.parquet')}.csv"


def below(results: str, path: str) -> str:
    """A path or pattern as seen from the working directory."""
    return path if results == "." else f"{results.rstrip('/')}/{path}"


def glob(pattern: str) -> str:
    """A pattern as ``pathlib.Path.glob`` reads it, for whatever the names stand for."""
    return re.sub(r"{\w+}", "*", pattern)


def path_fragment(parameters: Mapping[str, Any]) -> str:
    """A system's parameters as a part of a path, such as ``dimension~40+dt~0.01+forcing~8``: in the
    order of the mapping, which in a study's cells is that of the alphabet.
    """
    return "+".join(f"{k}~{v:.12g}" for k, v in parameters.items())
