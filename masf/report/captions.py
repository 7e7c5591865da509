"""What captions say: what a figure or table shows and with which settings; for the report and the
page alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from masf.scores.exactness import EXACTNESS
from masf.study.literature import PUBLISHED
from masf.study.study import Study

PAPER, EXACT, MORE = "Figures of the paper", "Exactness", "More figures"
"""Categories of figures."""


def figure_category(study: Study, name: str) -> str:
    """Where a figure belongs in the report."""
    definition = study.figures[name]
    if not EXACTNESS.keys().isdisjoint(definition.scores):
        return EXACT
    return PAPER if re.match(r"Figure \d", definition.title) else MORE


def figure_caption(study: Study, name: str) -> str:
    """What a figure shows, and the settings of its experiments."""
    definition = study.figures[name]
    settings = " ".join(f"{experiment_settings(study, e)}." for e in definition.experiments)
    return f"{definition.title}. {definition.explanation} Settings: {settings}"


def figure_alt(study: Study, name: str) -> str:
    """A figure in words, for those who do not see it."""
    definition = study.figures[name]
    filters = {f for e in definition.experiments for f in study.figure_lines(definition, e)}
    return f"{definition.title}. {definition.in_words} for {len(filters)} filters."


@dataclass(frozen=True)
class TableEntry:
    """How the workflow's report lists a table."""

    title: str
    category: str
    caption: str
    """Name of its caption in workflow/report."""


_TABLES = {
    "": ("Scores", "scores"),
    "_paired": ("Paired comparison", "paired"),
    "_exactness": ("Exactness", "exactness"),
    "_cost": ("Cost", "cost"),
}
"""Category and caption of the tables of an experiment, by the end of their names."""


def table_entry(study: Study, table: str) -> TableEntry:
    """How the report lists a table: as one of an experiment, or as one of the study."""
    for name, experiment in study.config.experiments.items():
        for end, (category, caption) in _TABLES.items():
            if table == name + end:
                return TableEntry(experiment.title, category, caption)
    if table == "settings":
        return TableEntry("All experiments", "Settings", "settings")
    if table == PUBLISHED:
        return TableEntry("Settings of the literature", "Published scores", "published")
    return TableEntry("All points", "Tuning", "tuning")


def experiment_settings(study: Study, name: str) -> str:
    """The settings of an experiment in a line: system, observations, gaps, ensemble sizes, cycles
    and seeds.
    """
    experiment = study.config.experiments[name]
    seeds = study.seeds(experiment)
    parameters = ", ".join(
        f"{key} {_values(value)}" for key, value in experiment.parameters.items()
    )
    spin_up = (
        f", the first {experiment.spin_up_cycles} not scored" if experiment.spin_up_cycles else ""
    )
    model = experiment.model
    forecast = ""
    if model is not None:
        said = ", ".join(f"{key} {_values(value)}" for key, value in model.parameters.items())
        forecast = f"; filters forecast with {model.system or experiment.system} ({said})"
    return (
        f"{experiment.system} ({parameters}){forecast}; observed: "
        f"{_values([o.replace('_', ' ') for o in experiment.observations])}; "
        f"gap {_values(experiment.gaps)}; N = {_values(experiment.sizes)}; {experiment.cycles} "
        f"cycles{spin_up}; "
        f"seed{'s' if len(seeds) > 1 else ''} {_values(seeds)}"
    )


def _values(value: object) -> str:
    return ", ".join(
        f"{v:g}" if isinstance(v, float) else str(v)
        for v in (value if isinstance(value, list) else [value])
    )
