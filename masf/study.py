"""The study: the config, checked in full before anything runs, and the cells that it expands to.

The classes below are the one definition of the config; ``workflow/schemas/*.schema.json`` is written from them (``masf schema``).
A *cell* is one truth with its measurements and initial ensemble: system, parameters, observation, gap, ensemble size and seed.
Experiments that share a cell share its files.
"""

from __future__ import annotations

import difflib
import itertools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from masf.cell_settings import CellSettings
from masf.observations import ObservationSettings, make_observation
from masf.prior_settings import PriorSettings
from masf.registry import filter_class, make_system, names, system_class
from masf.search import Choice, TunableScore, extremes, is_number, with_current
from masf.systems.base import System
from masf.tuned import Tuned, distance, in_force

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Lower-case letters, digits and underscores.")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Gap = Annotated[int, Field(ge=1, le=100_000)]
Axis = Annotated[list[float | int], Field(min_length=1)]
Size = Annotated[int, Field(ge=2, le=10_000_000)]
Saved = Annotated[int, Field(ge=0, le=10_000)]
Distance = Literal["mean_distance", "covariance_distance", "energy_distance"]
FlowScore = Literal["ssim", "csi"]
ScoreOverTime = Literal["rmse", "spread_skill", "rmse_forecast", "crps", "crps_forecast", FlowScore]
"""Scores of which {filter}.nc holds a value at each step or measurement."""
Score = Literal[ScoreOverTime, "rmse_analysis", "spread_skill_forecast", Distance]
TIME = "time"
"""The axis of a panel that follows one run over model time, where others compare runs."""

RESERVED_NAMES = {"truth", "prior"}
"""Names that files of a cell already have, so that no filter may."""


class ConfigFault(Exception):
    """A config that cannot be used; the message names every key at fault, its value and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Resources(_Section):
    """What one job of a filter asks of the machine; retries ask for more memory and time."""

    gpu: int = Field(0, ge=0, le=8, description="GPUs, where the study uses GPUs (key gpu).")
    threads: int = Field(1, ge=1, le=256, description="Processor cores.")
    mem_mb: int = Field(1500, ge=100, description="Memory in MB.")
    runtime: int = Field(30, ge=1, description="Minutes.")


class Setting(_Section):
    """Parameters, and what is searched, for some situations only."""

    when: dict[str, Any] = Field(
        min_length=1,
        description="Conditions that must all hold: system, observation, gap, members or a system parameter; a value or a list.",
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="Parameters that replace the general ones there.")
    search: dict[str, Choice | None] = Field(
        default_factory=dict, description="What tuning tries there instead of the general search; null: nothing."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Setting:
        if not self.parameters and not self.search:
            raise ValueError("needs parameters or search")
        return self


Marker = Literal["o", "s", "D", "^", "v", "<", ">", "P", "X", "*", "p", "h", "d", "H", "8"]
"""Markers of Matplotlib that are filled."""


class FilterLook(_Section):
    """How a filter looks in all figures."""

    colour: str = Field(pattern="^#[0-9A-Fa-f]{6}$", description="Colour of its lines, markers and bars, as #RRGGBB.")
    marker: Marker = Field(description="Its marker, by Matplotlib's name.")
    line: Literal["solid", "dashed", "dotted", "dashdot"] = Field("solid", description="Its line.")


class FilterDefinition(_Section):
    """A file config/filters/NAME.yaml: what the study calls NAME."""

    filter: Name | None = Field(None, description="Module in masf/filters; the file's own name without this key.")
    command: str | None = Field(None, description="Instead of a module, the command that runs a filter that is not ours.")
    install: str | None = Field(None, description="What to type where the command is missing; said in the error.")
    label: str = Field(min_length=1, max_length=24, description="Name in tables and figures.")
    look: FilterLook | None = Field(None, description="How it looks in figures; without it, a look that follows from its name.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Parameters of the filter.")
    settings: list[Setting] = Field(default_factory=list, description="Parameters for some situations; later entries win.")
    search: dict[str, Choice] = Field(
        default_factory=dict, description="What tuning tries of each parameter: a list of values, or an interval."
    )
    resources: Resources = Field(default_factory=Resources, description="What one job asks for.")

    @model_validator(mode="after")
    def _module_or_command(self) -> FilterDefinition:
        if self.command is None:
            if self.install is not None:
                raise ValueError(f"install {self.install!r} is for filters with a command")
            return self
        if self.filter is not None:
            raise ValueError(f"filter {self.filter!r} and command {self.command!r}: a filter is one or the other")
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"command {self.command!r} cannot be read as a shell does: {error}") from None
        if not words:
            raise ValueError("command is empty")
        return self


class Seeds(_Section):
    """Seeds of the truths; training of priors has a stream of its own."""

    test: list[Seed] = Field(min_length=1, description="Seeds that tables and figures report on.")
    tuning: list[Seed] = Field(default_factory=list, description="Seeds that filters are tuned on.")
    training: Seed = Field(0, description="Seed of stage train-prior.")

    @model_validator(mode="after")
    def _disjoint(self) -> Seeds:
        for key in ("test", "tuning"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key} {values} names a seed twice")
        if shared := set(self.test) & set(self.tuning):
            raise ValueError(f"seeds {sorted(shared)} are in both test and tuning: tuning seeds must not be tested on")
        return self


class Experiment(_Section):
    """Cells that belong together: every combination of parameters, observations, gaps and ensemble sizes, on every test seed."""

    title: str = Field(min_length=1, description="One line for tables and reports.")
    system: Name = Field(description="A system in masf/systems.")
    parameters: dict[str, float | int | Axis] = Field(description="The system's parameters; a list is an axis of the experiment.")
    observations: list[Name] = Field(min_length=1, description="Names from the section observations.")
    gaps: list[Gap] = Field(min_length=1, description="Steps between two measurements.")
    members: Size | Annotated[list[Size], Field(min_length=1)] = Field(
        description="Ensemble size N; a list is an axis of the experiment."
    )
    seeds: list[Seed] | None = Field(None, min_length=1, description="Those of the test seeds that it runs on; all without this.")
    initial_spread: float = Field(1.0, gt=0, description="Standard deviation of the initial distribution.")
    cycles: int = Field(ge=1, le=1_000_000, description="Measurements in a run.")
    spin_up_cycles: int = Field(0, ge=0, description="First cycles that the scores leave out.")
    reference: Name | None = Field(None, description="The filter whose posterior the others' distance is measured to.")
    saved_members: Saved | None = Field(None, description="Analysis members kept in each filter's file, instead of the study's.")
    add_filters: list[Name] = Field(default_factory=list, description="Filters for this experiment besides the study's.")
    leave_out_filters: list[Name] = Field(
        default_factory=list, description="Filters of the study that this experiment does not run."
    )

    @model_validator(mode="after")
    def _some_cycles_left(self) -> Experiment:
        if self.spin_up_cycles >= self.cycles:
            raise ValueError(f"spin_up_cycles {self.spin_up_cycles} leaves none of {self.cycles} cycles to score")
        return self

    @property
    def sizes(self) -> list[int]:
        """The ensemble sizes."""
        return self.members if isinstance(self.members, list) else [self.members]

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The values of the system's parameters, gap and members."""
        parameters = {name: value if isinstance(value, list) else [value] for name, value in self.parameters.items()}
        return {**parameters, "gap": self.gaps, "members": self.sizes}

    @property
    def varied(self) -> list[str]:
        """The axes with more than one value."""
        return [name for name, values in self.axes.items() if len(values) > 1]


class TuningPoints(_Section):
    """Situations of one experiment."""

    experiment: Name = Field(description="One of the experiments.")
    when: dict[str, Any] = Field(
        default_factory=dict, description="Conditions as those of settings; all situations of the experiment without them."
    )


class Tuning(_Section):
    """How filters are tuned, on tuning seeds. Each filter with a search gets the same number of trials at each point."""

    trials: int = Field(ge=1, le=10_000, description="Trials of each filter at each point, the default first.")
    score: TunableScore = Field("rmse", description="What is made small: the mean over tuning seeds.")
    cycles: int | None = Field(None, ge=1, le=1_000_000, description="Measurements in a run; as in the experiment without this.")
    spin_up_cycles: int | None = Field(
        None, ge=0, description="First cycles that the score leaves out; as in the experiment without this."
    )
    points: list[TuningPoints] | None = Field(
        None, min_length=1, description="Where filters are tuned; in every situation of every experiment without this."
    )
    runtime: int = Field(720, ge=1, description="Minutes that one tuning job asks for; cut off, it goes on where it was.")


class _Figure(_Section):
    """What figures of all kinds have."""

    title: str = Field(min_length=1, description="Caption's first words.")
    filters: list[Name] | None = Field(
        None, min_length=1, description="Which filters of the experiment are shown, in the study's order; all without this."
    )


class _Point(_Section):
    """One point of an experiment: all that it varies is chosen, but for the seeds."""

    experiment: Name = Field(description="The experiment whose cells are shown.")
    observation: Name = Field(description="Which of the experiment's observations.")
    where: dict[str, float | int] = Field(
        default_factory=dict, description="One value of each axis of the experiment: gap, members or a parameter of the system."
    )


class TrajectoryFigure(_Figure):
    """Figure 3: truth and estimate, one panel a filter."""

    kind: Literal["trajectories"] = Field(description="trajectories: truth and estimate over time.")
    experiment: Name = Field(description="An experiment with one cell a seed, of three or more components.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(10, ge=1, description="How many of the last cycles are shown over time.")


class Panel(_Point):
    """One panel of a sweep figure."""

    axis: str = Field(
        min_length=1,
        description="The horizontal axis: gap, members or a parameter of the system; or time, for a single run. "
        "What else the experiment varies is fixed by where.",
    )
    seed: Seed | None = Field(None, description="For axis time: the test seed that is shown.")
    score: Score | None = Field(None, description="The vertical axis, instead of the figure's.")
    guide: float | None = Field(None, description="Power of the axis that a grey guide line follows, such as -0.5.")

    @model_validator(mode="after")
    def _keys_of_the_axis(self) -> Panel:
        if self.axis == TIME and self.seed is None:
            raise ValueError("axis 'time' shows a single run: it needs a seed")
        if self.axis == TIME and self.guide is not None:
            raise ValueError(f"guide {self.guide} is for axes other than 'time'")
        if self.axis != TIME and self.seed is not None:
            raise ValueError(f"seed {self.seed} is for axis 'time'; other axes show all test seeds")
        return self


class SweepFigure(_Figure):
    """Figures 4 and 5: a score against an axis, one line a filter, one panel an experiment, observation and score."""

    kind: Literal["sweep"] = Field(description="sweep: a score against an axis.")
    score: Score = Field("rmse", description="The vertical axis.")
    panels: list[Panel] = Field(min_length=1, description="Panels in reading order, lettered (a), (b), ...")
    columns: int = Field(2, ge=1, le=6, description="Panels in a row.")

    def score_of(self, panel: Panel) -> str:
        """The vertical axis of a panel."""
        return panel.score or self.score


class RankFigure(_Figure, _Point):
    """Rank histograms of the truth in the ensembles of one point of an experiment, one panel a filter."""

    kind: Literal["rank_histograms"] = Field(description="rank_histograms: how often the truth has each rank among the members.")
    ensemble: Literal["forecast", "analysis"] = Field("forecast", description="The ensemble that the truth is ranked in.")
    columns: int = Field(4, ge=1, le=6, description="Panels in a row.")


class VorticityFigure(_Figure, _Point):
    """Figure 5: vorticity of a flow, one row a time, with columns for truth, measurement and each filter."""

    kind: Literal["vorticity"] = Field(description="vorticity: fields of truth and analyses.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, max_length=8, description="The measurements, counted from 1, at which the fields are shown."
    )


class AnimationFigure(_Figure, _Point):
    """The same over time, from step to step: an animated PNG, and its last picture as PDF."""

    kind: Literal["animation"] = Field(description="animation: fields of truth, forecasts and analyses over time.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(4, ge=1, le=50, description="How many of the first cycles are shown.")


class SpectraFigure(_Figure, _Point):
    """Energy spectra of a flow at one point of an experiment: of the truth, and of each filter's analyses."""

    kind: Literal["spectra"] = Field(description="spectra: energy against the wavenumber.")


Figure = Annotated[
    TrajectoryFigure | SweepFigure | RankFigure | VorticityFigure | AnimationFigure | SpectraFigure, Field(discriminator="kind")
]


class StudyConfig(_Section):
    """The whole config."""

    results: str = Field(min_length=1, description="Folder of all outputs, relative to the working directory.")
    filters_directory: str = Field("config/filters", description="Folder of the filters' files NAME.yaml.")
    gpu: bool = Field(False, description="Whether jobs that can use a GPU ask for one.")
    accept_mixed_versions: bool = Field(False, description="Aggregate results that different versions of a filter's code made.")
    saved_members: Saved = Field(3, description="Analysis members kept in each filter's file.")
    seeds: Seeds = Field(description="Seeds.")
    filters: list[Name] = Field(min_length=1, description="Filters of the study, in the order of tables and legends.")
    pinned: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="Parameters, by filter, that override those of its file everywhere."
    )
    observations: dict[Name, ObservationSettings] = Field(min_length=1, description="What is measured, by name.")
    priors: dict[Name, PriorSettings] = Field(default_factory=dict, description="How priors are trained, by system.")
    experiments: dict[Name, Experiment] = Field(min_length=1, description="The experiments, by name.")
    tuning: Tuning | None = Field(None, description="How filters are tuned; without it, the values in their files stand.")
    figures: dict[Name, Figure] = Field(default_factory=dict, description="The figures, by name.")
    filter_definitions: dict[Name, FilterDefinition] = Field(
        default_factory=dict, description="Written into study.json by the workflow; leave it out of a config."
    )


@dataclass(frozen=True)
class Cell:
    """One truth with its measurements, and the experiments that use it."""

    path: str
    """Its folder, relative to the results: {system}/{parameters}/{observation}/gap~{gap}/members~{N}/seed~{seed}."""
    settings: CellSettings
    observation_name: str
    spin_up_cycles: int
    filters: tuple[str, ...]
    experiments: tuple[str, ...]
    saved_members: int
    reference: str | None = None
    """The filter whose posterior the others' distance is measured to."""

    @property
    def point(self) -> str:
        """The part of its path that cells of other seeds share."""
        return self.path.rsplit("/", 1)[0]

    @property
    def situation(self) -> dict[str, Any]:
        """What conditions of filter settings can name."""
        s = self.settings
        return {**s.parameters, "system": s.system, "observation": self.observation_name, "gap": s.gap, "members": s.members}


@dataclass(frozen=True)
class PriorTraining:
    """What stage train-prior is told."""

    path: str
    """Of the prior, relative to the results."""
    system: str
    parameters: dict[str, Any]
    observation: dict[str, Any]
    settings: PriorSettings


class Study:
    """A checked config and what follows from it."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.filters = config.filter_definitions
        self._tuned_at: dict[tuple[str, str], Cell | None] = {}

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """All cells by path, each once. Raises ConfigFault where two experiments describe one differently."""
        cells: dict[str, Cell] = {}
        for name, experiment in self.config.experiments.items():
            for cell in self._expand(name, experiment):
                known = cells.get(cell.path)
                if known is not None:
                    if (known.settings, known.spin_up_cycles) != (cell.settings, cell.spin_up_cycles):
                        raise ConfigFault(
                            f"experiments {known.experiments[0]!r} and {name!r} share the cell {cell.path} but describe it "
                            "differently: give them the same cycles, spin_up_cycles and initial_spread"
                        )
                    if None not in (known.reference, cell.reference) and known.reference != cell.reference:
                        raise ConfigFault(
                            f"experiments {known.experiments[0]!r} and {name!r} share the cell {cell.path}: "
                            "give them the same reference"
                        )
                    cell = replace(
                        cell,
                        filters=tuple(dict.fromkeys((*known.filters, *cell.filters))),
                        experiments=(*known.experiments, name),
                        saved_members=max(known.saved_members, cell.saved_members),
                        reference=known.reference or cell.reference,
                    )
                cells[cell.path] = cell
        return cells

    @property
    def tables(self) -> list[str]:
        """The names of all tables that stage aggregate writes."""
        return [
            name + kind
            for name, experiment in self.config.experiments.items()
            for kind in ("", "_paired", "_cost", *(["_exactness"] if experiment.reference else []))
        ] + (["tuning"] if self.points else [])

    def point_cells(self, point: _Point, seed: int | None = None) -> list[Cell]:
        """The cells of one point of an experiment: of all its seeds, or of one."""
        wanted = {**point.where, "observation": point.observation}
        return [
            cell
            for cell in self.cells.values()
            if point.experiment in cell.experiments
            and _holds(wanted, cell.situation)
            and (seed is None or cell.settings.seed == seed)
        ]

    def trajectory_cells(self, figure: TrajectoryFigure) -> list[Cell]:
        """The one cell that a figure of trajectories shows."""
        cells = [cell for cell in self.cells.values() if figure.experiment in cell.experiments]
        return [cell for cell in cells if cell.settings.seed == figure.seed]

    def figure_files(self, name: str) -> list[str]:
        """The files that a figure reads besides scores.parquet, relative to the results."""
        figure = self.config.figures[name]
        if isinstance(figure, SweepFigure):
            shown = [(panel.experiment, self.point_cells(panel, panel.seed)) for panel in figure.panels if panel.axis == TIME]
        elif isinstance(figure, TrajectoryFigure):
            shown = [(figure.experiment, self.trajectory_cells(figure))]
        else:
            shown = [(figure.experiment, self.point_cells(figure, getattr(figure, "seed", None)))]
        of_truth = [] if isinstance(figure, SweepFigure | RankFigure) else ["truth.nc"]
        files = {
            f"{cell.path}/{file}": None
            for experiment, cells in shown
            for cell in cells
            for file in (*(f"{f}.nc" for f in self.figure_filters(figure, experiment)), *of_truth)
        }
        return list(files)

    def figure_filters(self, figure: Figure, experiment: str) -> list[str]:
        """The filters of an experiment that a figure shows, in the study's order."""
        filters = self.experiment_filters(self.config.experiments[experiment])
        return [f for f in filters if figure.filters is None or f in figure.filters]

    def seeds(self, experiment: Experiment) -> list[int]:
        """The test seeds of an experiment."""
        return self.config.seeds.test if experiment.seeds is None else experiment.seeds

    def experiment_filters(self, experiment: Experiment) -> list[str]:
        """The filters that an experiment runs, in the study's order."""
        listed = [f for f in self.config.filters if f not in experiment.leave_out_filters]
        return list(dict.fromkeys([*listed, *experiment.add_filters]))

    @property
    def all_filters(self) -> list[str]:
        """Every filter that some experiment runs, the study's first."""
        used = [f for e in self.config.experiments.values() for f in self.experiment_filters(e)]
        return list(dict.fromkeys([f for f in self.config.filters if f in used] + used))

    def filter_module(self, name: str) -> str:
        """The module in masf/filters that runs what the study calls ``name``."""
        return self.filters[name].filter or name

    def filter_command(self, name: str) -> str | None:
        """The command of a filter that is not ours."""
        return self.filters[name].command

    def default_parameters(self, name: str, cell: Cell) -> dict[str, Any]:
        """What the file of a filter says for a cell: general parameters, then the settings that hold there."""
        definition = self.filters[name]
        parameters = dict(definition.parameters)
        for setting in self._settings(name, cell):
            parameters |= setting.parameters
        return parameters

    def filter_parameters(self, name: str, cell: Cell, tuned: Tuned | None = None) -> dict[str, Any]:
        """The parameters of a filter in a cell: its default ones, then tuned ones, then pinned ones."""
        return in_force(self.default_parameters(name, cell), tuned, self.config.pinned.get(name))[0]

    def _settings(self, name: str, cell: Cell) -> list[Setting]:
        return [setting for setting in self.filters[name].settings if _holds(setting.when, cell.situation)]

    def search(self, name: str, cell: Cell) -> dict[str, Choice]:
        """What tuning tries of a filter in the situation of a cell, pinned parameters left out; empty if it is not tuned."""
        search: dict[str, Choice | None] = dict(self.filters[name].search)
        for setting in self._settings(name, cell):
            search |= setting.search
        pinned = self.config.pinned.get(name, {})
        return {k: choice for k, choice in sorted(search.items()) if choice is not None and k not in pinned}

    @cached_property
    def points(self) -> dict[str, list[Cell]]:
        """The situations in which filters are tuned, by path: of each, the cells of the tuning seeds."""
        tuning = self.config.tuning
        if tuning is None:
            return {}
        points: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            if cell.point in points or not (tuning.points is None or any(_selects(p, cell) for p in tuning.points)):
                continue
            cycles = cell.settings.cycles if tuning.cycles is None else tuning.cycles
            spin_up = cell.spin_up_cycles if tuning.spin_up_cycles is None else tuning.spin_up_cycles
            points[cell.point] = [
                replace(
                    cell,
                    path=f"{cell.point}/seed~{seed}",
                    settings=replace(cell.settings, cycles=cycles, seed=seed),
                    spin_up_cycles=spin_up,
                )
                for seed in self.config.seeds.tuning
            ]
        return points

    def tuned_filters(self, point: str) -> list[str]:
        """The filters that are tuned at a point."""
        cell = self.points[point][0]
        return [name for name in cell.filters if self.search(name, cell)]

    def tuned_at(self, name: str, cell: Cell) -> Cell | None:
        """The point, as its first cell, whose tuned parameters a filter takes in a cell; None if it takes none.

        Of the points with the same system and observation at which the same parameters of the filter are tuned, it is the
        one at the least ``masf.tuned.distance``, which is 0 at the cell's own; of several, the first in the config's order.
        """
        key = (name, cell.point)
        if key not in self._tuned_at:
            self._tuned_at[key] = min(
                self._candidates(name, cell),
                key=lambda c: distance(self._coordinates(cell), self._coordinates(c)),
                default=None,
            )
        return self._tuned_at[key]

    def _candidates(self, name: str, cell: Cell) -> list[Cell]:
        search = self.search(name, cell)
        return [
            other
            for other, *_ in self.points.values()
            if search
            and name in other.filters
            and (cell.settings.system, cell.observation_name) == (other.settings.system, other.observation_name)
            and search.keys() == self.search(name, other).keys()
        ]

    def _coordinates(self, cell: Cell) -> dict[str, Any]:
        """The numbers that say where a cell lies among those of its system, defaults of the system filled in."""
        s = cell.settings
        filled = system_class(s.system).Parameters(**s.parameters).model_dump()
        return {k: v for k, v in {**filled, **cell.situation}.items() if is_number(v)}

    def tuning_path(self, name: str, cell: Cell) -> str | None:
        """The file of the tuned parameters that a filter takes in a cell, relative to the results; None if it takes none."""
        point = self.tuned_at(name, cell)
        return None if point is None else f"{point.point}/tuning/{name}.json"

    def needs_prior(self, name: str, cell: Cell) -> bool:
        """Whether a filter reads a pretrained prior in a cell: if its parameters, or any that tuning tries, ask for a network."""
        if self.filter_command(name) is not None:
            return False
        cls = filter_class(self.filter_module(name))
        if not cls.uses_prior:
            return False
        parameters = self.filter_parameters(name, cell)
        tried = [parameters]
        searches = {repr(search): search for search in (self.search(name, point) for point in self._candidates(name, cell))}
        for search in searches.values():
            tried += [parameters | {k: v} for k, choice in search.items() for v in extremes(choice)]
        return any(cls.needs_torch(cls.Parameters(**p)) for p in tried)

    def prior(self, cell: Cell) -> PriorTraining:
        """How the prior that this cell's filters use is trained; long rings share the prior of a short one."""
        s, settings = cell.settings, self.config.priors[cell.settings.system]
        observation = self.config.observations[cell.observation_name]
        ring = system_class(s.system).translation_invariant
        parameters = settings.training_parameters(s.parameters, observation, ring)
        path = f"{s.system}/{_fragment(parameters)}/{cell.observation_name}/prior/prior.safetensors"
        return PriorTraining(path, s.system, parameters, s.observation, settings)

    @cached_property
    def priors(self) -> dict[str, PriorTraining]:
        """All priors that the cells' filters may use, by path."""
        with_prior = (cell for cell in self.cells.values() if cell.settings.system in self.config.priors)
        return {prior.path: prior for prior in map(self.prior, with_prior)}

    def _expand(self, name: str, experiment: Experiment) -> Iterator[Cell]:
        axes = {k: experiment.axes[k] for k in sorted(experiment.parameters)}
        filters = tuple(self.experiment_filters(experiment))
        saved = self.config.saved_members if experiment.saved_members is None else experiment.saved_members
        for values in itertools.product(*axes.values()):
            parameters = dict(zip(axes, values, strict=True))
            for observation, gap, members, seed in itertools.product(
                experiment.observations, experiment.gaps, experiment.sizes, self.seeds(experiment)
            ):
                settings = CellSettings(
                    system=experiment.system,
                    parameters=parameters,
                    observation=self.config.observations[observation].model_dump(exclude_defaults=True),
                    gap=gap,
                    cycles=experiment.cycles,
                    members=members,
                    initial_spread=experiment.initial_spread,
                    seed=seed,
                )
                path = f"{experiment.system}/{_fragment(parameters)}/{observation}/gap~{gap}/members~{members}/seed~{seed}"
                yield Cell(
                    path, settings, observation, experiment.spin_up_cycles, filters, (name,), saved, experiment.reference
                )  # fmt: skip

    def to_json(self) -> str:
        """The resolved config, filters' files included, as study.json holds it."""
        return self.config.model_dump_json(indent=1, exclude_defaults=True)


def _fragment(parameters: dict[str, Any]) -> str:
    """A system's parameters as a part of a path."""
    return "+".join(f"{k}~{v:.12g}" for k, v in parameters.items())


def _holds(when: dict[str, Any], situation: dict[str, Any]) -> bool:
    return all(situation.get(k) in (v if isinstance(v, list) else [v]) for k, v in when.items())


def _selects(points: TuningPoints, cell: Cell) -> bool:
    return points.experiment in cell.experiments and _holds(points.when, cell.situation)


def load_study(path: Path, root: Path | None = None) -> Study:
    """The study in a config file (YAML or JSON). Raises ConfigFault where it cannot be used."""
    return make_study(read_yaml(path), source=str(path), root=root)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a mapping. Raises ConfigFault where it does not."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigFault(
            f"{path}: there is no such file; name a config, or work in a checkout, which has config/config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigFault(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigFault(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    return content


def make_study(config: dict[str, Any], source: str = "config", root: Path | None = None) -> Study:
    """The study that ``config`` describes, with the filters' files read from its filters_directory.

    Args:
        config: the content of a config file.
        source: how error messages name it.
        root: folder that a relative filters_directory is looked up in, if it is not in the working directory.

    Raises:
        ConfigFault: naming every key at fault, its value, and what is allowed.
    """
    checked = _checked(StudyConfig, config, source)
    if not checked.filter_definitions:
        checked = checked.model_copy(update={"filter_definitions": _definitions(checked, source, root)})
    study = Study(checked)
    if faults := list(_reference_faults(study)):
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    if faults := [*_cell_faults(study), *_point_faults(study)]:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in dict.fromkeys(faults)))
    return study


def _definitions(config: StudyConfig, source: str, root: Path | None) -> dict[str, FilterDefinition]:
    """The files of all filters that the config names."""
    folder = Path(config.filters_directory)
    if not folder.is_dir() and root is not None:
        folder = root / folder
    known = [path.stem for path in folder.glob("*.yaml")]
    named = [("filters", name) for name in config.filters]
    named += [(f"experiments.{k}.add_filters", name) for k, e in config.experiments.items() for name in e.add_filters]
    if faults := [f"{_unknown(key, name, 'filter', known)} (a file in {folder})" for key, name in named if name not in known]:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    paths = {name: folder / f"{name}.yaml" for _, name in named}
    return {name: _checked(FilterDefinition, read_yaml(path), str(path)) for name, path in paths.items()}


def _checked(model: type[Any], content: dict[str, Any], source: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigFault("\n".join(f"{source}: {line}" for line in describe(error, model, content))) from None


def describe(error: ValidationError, model: type[BaseModel] | None = None, content: Any = None) -> list[str]:
    """One line for each key at fault: the key, its value, and what is allowed. ``content`` is what was validated."""
    found: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False):
        location, value = _place(fault["loc"], content, fault["input"])
        key = ".".join(map(str, location)) or "config"
        if fault["type"] == "extra_forbidden":
            found[key] = [f"unknown key{_known_keys(model, fault['loc'])}"]
        elif fault["type"] == "missing":
            found[key] = ["this key is missing"]
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(value, dict) else f" = {json.dumps(value, default=str)[:120]}"
            found.setdefault(key + shown, []).append(message[0].lower() + message[1:])
    return [f"{key}: {', or '.join(dict.fromkeys(messages))}" for key, messages in found.items()]


def _place(location: tuple[Any, ...], content: Any, value: Any) -> tuple[list[Any], Any]:
    """The key that a fault is about and the value there, without pydantic's names for the alternatives that it tried."""
    if content is None:
        return list(location), value
    key: list[Any] = []
    for part in location:
        if isinstance(content, dict):
            if part in content:
                content = content[part]
            elif part != location[-1] or part == "[key]":
                continue  # the name of an alternative, not a key
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
        else:
            break  # an alternative of a value: what follows is about that alternative
        key.append(part)
    return key, content


def _known_keys(model: Any, location: tuple[Any, ...]) -> str:
    """The keys allowed where an unknown one stands, as far as the model tells."""
    schema = model.model_json_schema() if model is not None else {}
    node = schema
    for part in location[:-1]:
        node = _child(_resolve(node, schema), part)
    keys = sorted(_resolve(node, schema).get("properties", {}))
    return f"{_suggest(str(location[-1]), keys)}; allowed are {', '.join(keys)}" if keys else ""


def _child(node: dict[str, Any], part: Any) -> dict[str, Any]:
    """What a JSON schema says of one part of a location, as far as it does."""
    if "discriminator" in node:
        return {"$ref": node["discriminator"]["mapping"][part]}
    by_pattern = [*node.get("patternProperties", {}).values(), node.get("items"), {}]
    child = node.get("properties", {}).get(part, by_pattern[0])
    return child if isinstance(child, dict) else {}


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _unknown(key: str, value: str, kind: str, known: Any) -> str:
    known = sorted(known)
    return f"{key} = {value!r}: unknown {kind}{_suggest(value, known)}; choose one of {', '.join(known) or 'none'}"


def _reference_faults(study: Study) -> Iterator[str]:
    """Names that nothing bears, and figures that do not fit their experiments."""
    config = study.config
    for name, definition in study.filters.items():
        module = study.filter_module(name)
        if name in RESERVED_NAMES:
            yield f"filters = {name!r}: the name is reserved; choose another"
        if definition.command is not None:
            yield from _definition_faults(name, definition, None)
        elif module not in names("filters"):
            yield _unknown(f"filter {name!r}: filter", module, "filter", names("filters"))
        else:
            yield from _definition_faults(name, definition, filter_class(module).Parameters)
    labels = [definition.label for definition in study.filters.values()]
    for name, definition in study.filters.items():
        if labels.count(definition.label) > 1:
            yield f"filter {name!r}: label = {definition.label!r}: another filter has this label; give each its own"
    for name in config.pinned:
        if name not in study.filters:
            yield _unknown("pinned", name, "filter", study.filters)
    for system in config.priors:
        if system not in names("systems"):
            yield _unknown("priors", system, "system", names("systems"))
    for key, experiment in config.experiments.items():
        if experiment.system not in names("systems"):
            yield _unknown(f"experiments.{key}.system", experiment.system, "system", names("systems"))
        for observation in experiment.observations:
            if observation not in config.observations:
                yield _unknown(f"experiments.{key}.observations", observation, "observation", config.observations)
        for left_out in experiment.leave_out_filters:
            if left_out not in config.filters:
                yield _unknown(f"experiments.{key}.leave_out_filters", left_out, "filter", config.filters)
        if others := sorted(set(experiment.seeds or []) - set(config.seeds.test)):
            yield f"experiments.{key}.seeds = {experiment.seeds}: {others} are no test seeds; choose from {config.seeds.test}"
        if experiment.seeds is not None and len(set(experiment.seeds)) < len(experiment.seeds):
            yield f"experiments.{key}.seeds = {experiment.seeds}: names a seed twice"
        filters = study.experiment_filters(experiment)
        if not filters:
            yield f"experiments.{key}.leave_out_filters = {experiment.leave_out_filters}: leaves the experiment no filter"
        if experiment.reference is not None:
            yield from _exactness_faults(f"experiments.{key}", experiment, filters, config.saved_members)
    for key, figure in config.figures.items():
        yield from _figure_faults(study, f"figures.{key}", figure)
    if config.tuning is not None:
        yield from _tuning_faults(config, config.tuning)


def _tuning_faults(config: StudyConfig, tuning: Tuning) -> Iterator[str]:
    """Seeds that are missing, points that are nowhere, and runs with nothing to score."""
    if not config.seeds.tuning:
        yield "seeds.tuning: this key is missing: section tuning needs seeds that are not test seeds"
    if "tuning" in config.experiments:
        yield "experiments.tuning: the name is taken by the table of section tuning; choose another"
    for i, points in enumerate(tuning.points or []):
        if points.experiment not in config.experiments:
            yield _unknown(f"tuning.points.{i}.experiment", points.experiment, "experiment", config.experiments)
        for key in points.when:
            if key not in _conditions():
                yield _unknown(f"tuning.points.{i}.when", key, "condition", _conditions())


def _exactness_faults(key: str, experiment: Experiment, filters: list[str], saved_by_study: int) -> Iterator[str]:
    """A reference that the experiment does not run, or that has too few members for a distance."""
    assert experiment.reference is not None
    if experiment.reference not in filters:
        yield _unknown(f"{key}.reference", experiment.reference, "filter of this experiment", filters)
    saved = saved_by_study if experiment.saved_members is None else experiment.saved_members
    if saved < 2:
        yield f"{key}.saved_members = {saved}: distances to reference {experiment.reference!r} need at least 2"


def _definition_faults(name: str, definition: FilterDefinition, parameters: type[BaseModel] | None) -> Iterator[str]:
    """Names in a filter's file that nothing bears; their values are checked cell by cell, those of a command by itself."""
    known = None if parameters is None else list(parameters.model_fields)
    conditions = _conditions()
    for key in definition.search:
        if known is not None and key not in known:
            yield _unknown(f"filter {name!r}: search", key, "parameter", known)
    for i, setting in enumerate(definition.settings):
        for key in setting.parameters:
            if known is not None and key not in known:
                yield _unknown(f"filter {name!r}: settings.{i}.parameters", key, "parameter", known)
        for key in setting.search:
            if known is not None and key not in known:
                yield _unknown(f"filter {name!r}: settings.{i}.search", key, "parameter", known)
        for key in setting.when:
            if key not in conditions:
                yield _unknown(f"filter {name!r}: settings.{i}.when", key, "condition", conditions)


def _conditions() -> set[str]:
    """What conditions can name."""
    of_systems = [k for s in names("systems") for k in system_class(s).Parameters.model_fields]
    return {"system", "observation", "gap", "members", *of_systems}


def experiments_of(figure: Figure) -> list[str]:
    """The experiments that a figure shows."""
    return [panel.experiment for panel in figure.panels] if isinstance(figure, SweepFigure) else [figure.experiment]


def _figure_faults(study: Study, key: str, figure: Figure) -> Iterator[str]:
    experiments = study.config.experiments
    for name in experiments_of(figure):
        if name not in experiments:
            yield _unknown(f"{key}.experiment", name, "experiment", experiments)
            return
        if figure.filters is not None and not study.figure_filters(figure, name):
            yield f"{key}.filters = {figure.filters}: none of them runs in experiment {name!r}"
    run = {f for name in experiments_of(figure) for f in study.experiment_filters(experiments[name])}
    for name in figure.filters or []:
        if name not in run:
            yield _unknown(f"{key}.filters", name, "filter of its experiments", run)
    if isinstance(figure, TrajectoryFigure):
        experiment = experiments[figure.experiment]
        if experiment.varied or len(experiment.observations) > 1:
            yield f"{key}.experiment = {figure.experiment!r}: a trajectory figure needs an experiment with one cell for each seed"
        yield from _seed_faults(study, key, experiment, figure.seed)
    elif isinstance(figure, SweepFigure):
        for i, panel in enumerate(figure.panels):
            yield from _panel_faults(study, f"{key}.panels.{i}", panel, figure.score_of(panel))
    else:
        yield from _point_of_figure_faults(key, figure, experiments[figure.experiment])
        if not isinstance(figure, RankFigure):
            yield from _flow_figure_faults(study, key, figure, experiments[figure.experiment])


def _seed_faults(study: Study, key: str, experiment: Experiment, seed: int) -> Iterator[str]:
    """A seed that an experiment does not run."""
    if seed not in study.seeds(experiment):
        yield f"{key}.seed = {seed}: choose one of the experiment's test seeds {study.seeds(experiment)}"


def _point_of_figure_faults(key: str, point: _Point, experiment: Experiment, but: str | None = None) -> Iterator[str]:
    """What does not choose one point of an experiment; the axis ``but`` is not to be chosen."""
    if point.observation not in experiment.observations:
        yield _unknown(f"{key}.observation", point.observation, "observation", experiment.observations)
    axes = {name: values for name, values in experiment.axes.items() if name != but}
    for name, value in point.where.items():
        if name not in axes:
            yield _unknown(f"{key}.where", name, "axis", axes)
        elif value not in axes[name]:
            yield f"{key}.where.{name} = {value}: choose one of {axes[name]}"
    if missing := [name for name in experiment.varied if name in axes and name not in point.where]:
        yield f"{key}.where = {point.where}: name one value each of {', '.join(missing)}, which the experiment varies"


def _panel_faults(study: Study, key: str, panel: Panel, score: str) -> Iterator[str]:
    experiment = study.config.experiments[panel.experiment]
    if panel.axis != TIME and panel.axis not in experiment.axes:
        yield _unknown(f"{key}.axis", panel.axis, "axis", [*experiment.axes, TIME])
    yield from _point_of_figure_faults(key, panel, experiment, but=panel.axis)
    if panel.seed is not None:
        yield from _seed_faults(study, key, experiment, panel.seed)
    if panel.axis == TIME and score not in get_args(ScoreOverTime):
        allowed = ", ".join(get_args(ScoreOverTime))
        yield f"{key}: score {score!r} is one number for a run; for axis 'time' choose one of {allowed}"
    if score in get_args(Distance) and experiment.reference is None:
        yield f"{key}: score {score!r} needs a reference, and experiment {panel.experiment!r} names none"
    if score in get_args(FlowScore) and not _is_flow(experiment):
        yield f"{key}: score {score!r} is for flows, and system {experiment.system!r} is none"


def _flow_figure_faults(
    study: Study, key: str, figure: VorticityFigure | AnimationFigure | SpectraFigure, experiment: Experiment
) -> Iterator[str]:
    """A figure of a flow whose experiment is none, or keeps too little."""
    if not _is_flow(experiment):
        yield f"{key}.experiment = {figure.experiment!r}: figure {figure.kind!r} is for flows, and {experiment.system!r} is none"
    if isinstance(figure, SpectraFigure):
        saved = study.config.saved_members if experiment.saved_members is None else experiment.saved_members
        if saved < 1:
            yield f"{key}: spectra of members need saved_members of at least 1 in experiment {figure.experiment!r}"
        return
    yield from _seed_faults(study, key, experiment, figure.seed)
    shown = figure.cycles if isinstance(figure, VorticityFigure) else [figure.cycles]
    if beyond := [cycle for cycle in shown if cycle > experiment.cycles]:
        yield f"{key}.cycles = {figure.cycles}: {beyond} are beyond the experiment's {experiment.cycles} cycles"
    observation = study.config.observations.get(figure.observation)
    if observation is not None and observation.operator in {"stride", "matrix"}:
        yield (
            f"{key}.observation = {figure.observation!r}: operator {observation.operator!r} does not measure whole velocities, "
            "which the figure shows"
        )


def _is_flow(experiment: Experiment) -> bool:
    """Whether an experiment's system is a flow; systems that nothing bears are named elsewhere."""
    return experiment.system not in names("systems") or system_class(experiment.system).flow


def _cell_faults(study: Study) -> Iterator[str]:
    """Systems, observations and filters whose parameters are wrong or do not fit together."""
    checked: set[tuple[Any, ...]] = set()
    for cell in study.cells.values():
        where = f"experiments.{cell.experiments[0]}"
        s = cell.settings
        try:
            system = make_system(s.system, s.parameters)
            make_observation(study.config.observations[cell.observation_name], system.dimension, system.grid)
        except ValidationError as error:
            yield from (f"{where}.parameters.{line}" for line in describe(error, system_class(s.system).Parameters, s.parameters))
            continue
        except ValueError as error:
            yield f"observations.{cell.observation_name}: {error} (in {where})"
            continue
        for title, figure in study.config.figures.items():
            if figure.kind == "trajectories" and figure.experiment in cell.experiments and system.dimension < 3:
                yield f"figures.{title}.experiment = {figure.experiment!r}: has {system.dimension} components, not 3"
        for name in cell.filters:
            if study.filter_command(name) is not None:
                continue
            cls, parameters = filter_class(study.filter_module(name)), study.filter_parameters(name, cell)
            search = study.search(name, cell)
            key = (name, s.system, json.dumps(parameters, sort_keys=True, default=str), repr(search))
            if key in checked:
                continue
            checked.add(key)
            faults = list(_parameter_faults(f"filter {name!r}", cls, parameters, s.system, system))
            if not faults:
                tried = [parameters | {k: v} for k, choice in search.items() for v in extremes(choice)]
                faults = [
                    fault for p in tried for fault in _parameter_faults(f"filter {name!r}: search", cls, p, s.system, system)
                ]
            if faults:
                yield from faults
                continue
            if cls.linear_only and not system.linear:
                yield f"{where}: filter {name!r} is for linear systems only, and {s.system!r} is not: add it to leave_out_filters"
            if study.needs_prior(name, cell):
                yield from _prior_faults(study.config.priors, name, s.system, system)


def _parameter_faults(where: str, cls: type[Any], parameters: dict[str, Any], name: str, system: System) -> Iterator[str]:
    """Parameters of a filter that are out of range, or that do not fit the system."""
    try:
        chosen = cls.Parameters(**parameters)
    except ValidationError as error:
        yield from (f"{where}: {line}" for line in describe(error, cls.Parameters, parameters))
        return
    radius = getattr(chosen, "localization_radius", None)
    tapered = radius is not None and getattr(chosen, "covariance", "localized") == "localized"
    if tapered and system.grid is None and not (cls.uses_prior and cls.needs_torch(chosen)):
        yield f"{where}: localization_radius = {radius}: {name!r} has no distances; set it to null"
    weight_radius = getattr(chosen, "weight_radius", None)
    if weight_radius is not None and system.grid is None:
        yield f"{where}: weight_radius = {weight_radius}: {name!r} has no distances; set it to null"
    elif weight_radius is not None and system.ring is None and not tapered:
        yield f"{where}: weight_radius = {weight_radius}: on the grid of {name!r} it needs localization_radius; set it to null"
    elif weight_radius == 0 and system.ring is None:
        yield f"{where}: weight_radius = 0: on the grid of {name!r} it must be positive, or null"
    block = getattr(chosen, "block", 1)
    if tapered and system.grid is not None and any(length % block for length in system.grid):
        yield f"{where}: block = {block}: does not divide the grid of {name!r}; set it to a divisor"


def _point_faults(study: Study) -> Iterator[str]:
    """Points of tuning that select nothing, or at which nothing can be tuned as asked for."""
    tuning = study.config.tuning
    if tuning is None:
        return
    for i, points in enumerate(tuning.points or []):
        if not any(_selects(points, cell) for cell in study.cells.values()):
            yield f"tuning.points.{i}.when = {json.dumps(points.when)}: holds in no situation of experiment {points.experiment!r}"
    for point, (cell, *_) in study.points.items():
        if cell.spin_up_cycles >= cell.settings.cycles:
            yield f"tuning: spin_up_cycles {cell.spin_up_cycles} leaves none of {cell.settings.cycles} cycles to score at {point}"
        for name in study.tuned_filters(point):
            parameters = study.filter_parameters(name, cell)
            if study.filter_command(name) is None:
                try:
                    parameters = filter_class(study.filter_module(name)).Parameters(**parameters).model_dump()
                except ValidationError:
                    continue  # named by _cell_faults
            elif absent := sorted(study.search(name, cell).keys() - parameters.keys()):
                yield f"filter {name!r}: search: {', '.join(absent)}: tuning starts from a value in parameters (at {point})"
                continue
            for key, choice in study.search(name, cell).items():
                try:
                    with_current(choice, parameters[key])
                except ValueError as error:
                    yield f"filter {name!r}: search: {key}: {error} (at {point})"
    if study.points and not any(map(study.tuned_filters, study.points)):
        yield "tuning: no filter of the study declares a search at any point: add one to its file, or leave the section out"


def _prior_faults(priors: dict[str, PriorSettings], filter_: str, name: str, system: System) -> Iterator[str]:
    """A prior that is missing, or that does not fit its system."""
    if name not in priors:
        yield f"priors: filter {filter_!r} needs a pretrained prior for system {name!r}: add priors.{name}"
        return
    settings = priors[name]
    if fault := settings.network.fault(system):
        yield f"priors.{name}.network.kind = {settings.network.kind!r}: {fault} (system {name!r})"
    if any(radius is not None for radius in settings.localization_radii) and system.grid is None:
        yield f"priors.{name}.localization_radii = {settings.localization_radii}: {name!r} has no distances; set it to [null]"


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of config files, by file name."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        "config.schema.json": dialect | StudyConfig.model_json_schema(),
        "filter.schema.json": dialect | FilterDefinition.model_json_schema(),
    }
