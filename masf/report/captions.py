"""What captions say: what a figure or table shows and with which settings; for the report and the page alike."""

from __future__ import annotations

import re
from dataclasses import dataclass

from masf.scores.exactness import EXACTNESS
from masf.scores.run import SCORES
from masf.study.figures import SweepFigure, experiments_of
from masf.study.study import Study

PAPER, EXACT, MORE = "Figures of the paper", "Exactness", "More figures"
"""Categories of figures."""

_SHOWS = {
    "trajectories": (
        "The attractor and the three components over time of one test seed, one row a filter: truth (grey), ensemble mean "
        "(colour) and measurements (circles) over the last cycles. The RMSE is that of the whole run."
    ),
    "sweep": (
        "Points and bars are mean and standard deviation over test seeds; filters stand a little side by side, so that bars can "
        "be told apart. Runs that diverged are left out of the mean (the tables count them); a filter of which all runs diverged "
        "has no point. A broad grey line, where there is one, has the slope of Monte-Carlo error. Panels over time show one run: "
        "circles are analyses, shading is spin-up, and the numbers are the scores of the run."
    ),
    "rank_histograms": (
        "How often the truth has each rank among the first 19 members (all, where there are fewer), over components and cycles, "
        "relative to the flat histogram (dashed) of members that are exchangeable with the truth: a hump in the middle means too "
        "much spread, horns at the ends too little. Bars and lines are mean and standard deviation over test seeds; runs that "
        "diverged are left out."
    ),
    "vorticity": (
        "Vorticity of the truth and of each filter's ensemble mean at some measurement times of one test seed, all in the same "
        "colours, and the velocities that were measured there, as arrows, at most 16 along each side. Numbers are structural "
        "similarities (SSIM) to the truth, 1 at best."
    ),
    "animation": (
        "Vorticity over time of the truth and of each filter's ensemble mean, and the last velocities that were measured, as "
        "arrows; numbers at measurement times are structural similarities (SSIM) of the analyses to the truth, 1 at best. The "
        "picture moves; the PDF has its last frame."
    ),
    "spectra": (
        "Energy in shells of wavenumbers, of the truth (broad, grey), and of each filter's ensemble means (a) and single members "
        "(b); means over analyses and test seeds. A mean over uncertain members is smooth and has less energy than the truth "
        "where the members differ; the members themselves should have as much. Runs that diverged are left out."
    ),
}


def figure_category(study: Study, name: str) -> str:
    """Where a figure belongs in the report."""
    definition = study.config.figures[name]
    if isinstance(definition, SweepFigure) and any(definition.score_of(p) in EXACTNESS for p in definition.panels):
        return EXACT
    return PAPER if re.match(r"Figure \d", definition.title) else MORE


def figure_caption(study: Study, name: str) -> str:
    """What a figure shows, and the settings of its experiments."""
    definition = study.config.figures[name]
    settings = " ".join(f"{experiment_settings(study, e)}." for e in dict.fromkeys(experiments_of(definition)))
    return f"{definition.title}. {_SHOWS[definition.kind]} Settings: {settings}"


def figure_alt(study: Study, name: str) -> str:
    """A figure in words, for those who do not see it."""
    definition = study.config.figures[name]
    filters = {f for e in dict.fromkeys(experiments_of(definition)) for f in study.figure_filters(definition, e)}
    what = definition.kind.replace("_", " ")
    if isinstance(definition, SweepFigure):
        scores = dict.fromkeys(SCORES[definition.score_of(p)] for p in definition.panels)
        what = f"Lines of {', '.join(scores)} against {', '.join(dict.fromkeys(p.axis for p in definition.panels))}"
    return f"{definition.title}. {what.capitalize() if what.islower() else what} for {len(filters)} filters."


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
    """How the report lists a table: as one of an experiment, or that of stage tune."""
    for name, experiment in study.config.experiments.items():
        for end, (category, caption) in _TABLES.items():
            if table == name + end:
                return TableEntry(experiment.title, category, caption)
    return TableEntry("All points", "Tuning", "tuning")


def experiment_settings(study: Study, name: str) -> str:
    """The settings of an experiment in a line: system, observations, gaps, ensemble sizes, cycles and seeds."""
    experiment = study.config.experiments[name]
    seeds = study.seeds(experiment)
    parameters = ", ".join(f"{key} {_values(value)}" for key, value in experiment.parameters.items())
    spin_up = f", the first {experiment.spin_up_cycles} not scored" if experiment.spin_up_cycles else ""
    return (
        f"{experiment.system} ({parameters}); observed: {_values([o.replace('_', ' ') for o in experiment.observations])}; "
        f"gap {_values(experiment.gaps)}; N = {_values(experiment.sizes)}; {experiment.cycles} cycles{spin_up}; "
        f"seed{'s' if len(seeds) > 1 else ''} {_values(seeds)}"
    )


def _values(value: object) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in (value if isinstance(value, list) else [value]))
