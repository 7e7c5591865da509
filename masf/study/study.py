"""The study: a checked config, and what follows from it.

A *cell* is one truth with its measurements and initial ensemble (masf.study.cells). Experiments
share cells.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from masf.diffusion.prior_settings import PriorSettings
from masf.files.cell import CellSettings
from masf.files.parameters import in_force
from masf.files.shipped_priors import shipped_as_trained
from masf.files.tuned import Tuned
from masf.filters.input_files import input_files
from masf.filters.registry import FREE_RUN, filter_class
from masf.gaps import pattern_of
from masf.programs import files_among
from masf.study import paths
from masf.study.cells import Cell, PriorTraining, selects
from masf.study.conditions import holds
from masf.study.config import Experiment
from masf.study.figures.base import FigureSection, PointOfExperiment
from masf.study.filter_files import Setting
from masf.study.literature import PUBLISHED
from masf.study.messages import ConfigFault
from masf.study.resolved import ResolvedStudy
from masf.study.search import Choice, extremes, is_number
from masf.study.shipped import Run, shipped_name, shipped_runs, situation, variant
from masf.study.situations import distance
from masf.study.tuned_values import TunedSetting
from masf.systems.registry import system_class, system_names


def _cell_key(settings: CellSettings, spin_up_cycles: int) -> tuple[str, int, int, int]:
    """What runs share whose scores can be paired."""
    return situation(settings), settings.seed, settings.cycles, spin_up_cycles


class Study:
    """A checked config and what follows from it."""

    def __init__(self, resolved: ResolvedStudy) -> None:
        self.resolved = resolved
        self.config = resolved.config
        self.filters = resolved.filters
        self.tuned = resolved.tuned
        self._tuned_at: dict[tuple[str, str], Cell | None] = {}
        self._files_at: dict[tuple[str, str], list[Path]] = {}

    @property
    def results(self) -> Path:
        """The folder of all outputs, as seen from the working directory; see masf.study.paths for
        what lies there.
        """
        return Path(self.config.results)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """All cells by path, each once. Raises ConfigFault where two experiments describe one
        differently.
        """
        cells: dict[str, Cell] = {}
        for name, experiment in self.config.experiments.items():
            for cell in self._expand(name, experiment):
                known = cells.get(cell.path)
                if known is not None:
                    if (known.settings, known.spin_up_cycles) != (
                        cell.settings,
                        cell.spin_up_cycles,
                    ):
                        raise ConfigFault(
                            f"experiments {known.experiments[0]!r} and {name!r} share the cell "
                            f"{cell.path} but describe it "
                            "differently: give them the same cycles, spin_up_cycles and "
                            "initial_spread"
                        )
                    if (
                        None not in (known.reference, cell.reference)
                        and known.reference != cell.reference
                    ):
                        raise ConfigFault(
                            f"experiments {known.experiments[0]!r} and {name!r} share the cell "
                            f"{cell.path}: "
                            "give them the same reference"
                        )
                    cell = replace(
                        cell,
                        filters=tuple(dict.fromkeys((*known.filters, *cell.filters))),
                        experiments=(*known.experiments, name),
                        saved_members=max(known.saved_members, cell.saved_members),
                        # What serves both; gcd(0, n) is n.
                        saved_steps=math.gcd(known.saved_steps, cell.saved_steps),
                        reference=known.reference or cell.reference,
                    )
                cells[cell.path] = cell
        return cells

    @cached_property
    def all_cells(self) -> dict[str, Cell]:
        """The cells of test seeds and those of tuning seeds, by path."""
        return self.cells | {cell.path: cell for cells in self.points.values() for cell in cells}

    def batch(self, wildcards: Mapping[str, Any], filter_name: str | None = None) -> list[Cell]:
        """The cells of one job of stage simulate, or of stage assimilate for a filter.

        Args:
            wildcards: of the cells; without ``seed``, all test seeds of the situation.
            filter_name: the filter, whose cells alone are meant.
        """
        if "seed" in wildcards:
            return [self.all_cells[paths.CELL.format_map(wildcards)]]
        at_point = self._at_points[paths.POINT.format_map(wildcards)]
        return [cell for cell in at_point if filter_name is None or filter_name in cell.filters]

    @cached_property
    def _at_points(self) -> dict[str, list[Cell]]:
        """The cells of test seeds, by their situation's path."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            found.setdefault(cell.point, []).append(cell)
        return found

    def batches(self, filter_name: str | None = None) -> list[list[Cell]]:
        """The cells of each job of stage simulate, or of stage assimilate for a filter."""
        if not self.config.seeds.together:
            cells = self.all_cells if filter_name is None else self.cells
            return [[c] for c in cells.values() if filter_name is None or filter_name in c.filters]
        found = [
            self.batch(cells[0].wildcards_together, filter_name)
            for cells in self._at_points.values()
        ]
        return [batch for batch in found if batch]

    def seeds_together(self, filter_name: str | None = None) -> dict[tuple[int, ...], list[str]]:
        """The seeds that jobs have together, and the situations' paths where they have these: of
        stage simulate, or of stage assimilate for a filter. Most situations first.
        """
        found: dict[tuple[int, ...], list[str]] = {}
        for batch in self.batches(filter_name):
            seeds = tuple(cell.settings.seed for cell in batch)
            found.setdefault(seeds, []).append(batch[0].point)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def tables(self) -> list[str]:
        """The names of all tables that stage aggregate writes."""
        return [
            name + kind
            for name, experiment in self.config.experiments.items()
            for kind in ("", "_paired", "_cost", *(["_exactness"] if experiment.reference else []))
        ] + [
            "settings",
            *(["tuning"] if self.points else []),
            *([PUBLISHED] if self.resolved.settings else []),
        ]

    @property
    def scored_truths(self) -> list[str]:
        """The truths that stage aggregate reads, relative to the results: those of flows, for
        scores of fields; where there is no free run, for how far off one is that measures nothing;
        and where shipped runs shall have had the same.
        """
        return [
            cell.truth
            for cell in self.cells.values()
            if system_class(cell.settings.system).flow
            or self.free_runs.isdisjoint(cell.filters)
            or self.shipped.get(cell.path)
        ]

    def point_cells(self, point: PointOfExperiment, seed: int | None = None) -> list[Cell]:
        """The cells of one point of an experiment: of all its seeds, or of one."""
        wanted = {**point.where, "observation": point.observation}
        return [
            cell
            for cell in self.cells.values()
            if point.experiment in cell.experiments
            and holds(wanted, cell.conditions)
            and (seed is None or cell.settings.seed == seed)
        ]

    @cached_property
    def figures(self) -> dict[str, FigureSection]:
        """All that is drawn, by name: the figures of the config, some of which make several."""
        return {
            part: figure
            for name, definition in self.config.figures.items()
            for part, figure in definition.parts(self, name).items()
        }

    def figure_files(self, name: str) -> list[str]:
        """The files that a figure reads besides scores.parquet, relative to the results."""
        return self.figures[name].files(self)

    def figure_filters(self, figure: FigureSection, experiment: str) -> list[str]:
        """The filters of an experiment that a figure shows, in the study's order."""
        filters = self.experiment_filters(self.config.experiments[experiment])
        return [f for f in filters if figure.filters is None or f in figure.filters]

    def figure_lines(self, figure: FigureSection, experiment: str) -> list[str]:
        """The filters of an experiment whose scores a figure shows."""
        if not figure.of_scores:
            return self.figure_filters(figure, experiment)
        filters = self.shown_filters(experiment)
        return [f for f in filters if figure.filters is None or f in figure.filters]

    def seeds(self, experiment: Experiment) -> list[int]:
        """The test seeds of an experiment."""
        return self.config.seeds.test if experiment.seeds is None else experiment.seeds

    @cached_property
    def shipped(self) -> dict[str, dict[str, Run]]:
        """The runs that come with masf and that the study is compared with: by the path of the cell
        that has their settings, and by what the study calls their filter. In a situation only
        filters are taken of which one study has a run on each of this study's seeds, so that
        differences are paired, and that no experiment of it runs itself. Of several such studies it
        is the first.
        """
        if self.config.compare_with is None or not self._parts_are_there:
            return {}
        known: dict[tuple[str, int, int, int], dict[tuple[str, str], Run]] = defaultdict(dict)
        for run in shipped_runs():
            of_cell = known[_cell_key(run.settings, run.spin_up_cycles)]
            of_cell[run.source, shipped_name(run.filter)] = run
        points: dict[str, list[Cell]] = defaultdict(list)
        for cell in self.cells.values():
            points[cell.point].append(cell)
        found: dict[str, dict[str, Run]] = {}
        for cells in points.values():
            runs = {c.path: known.get(_cell_key(c.settings, c.spin_up_cycles), {}) for c in cells}
            own = {shipped_name(self._variant(name, c)) for c in cells for name in c.filters}
            first, *others = runs.values()
            source: dict[str, str] = {}
            for study, name in first:  # in the order of the studies
                if name not in own and all((study, name) in of_cell for of_cell in others):
                    source.setdefault(name, study)
            for path, of_cell in runs.items():
                found[path] = {name: of_cell[study, name] for name, study in source.items()}
        return found

    def _variant(self, name: str, cell: Cell) -> str:
        """What runs of a filter in a cell would be called if they came with masf."""
        module = self.filter_module(name)
        if self.filter_command(name) is not None:
            return module
        passes = self.filter_parameters(name, cell).get("passes", 1)
        return variant(module, several=passes > 1)

    @property
    def _parts_are_there(self) -> bool:
        """Whether all that experiments name is there, without which they have no cells: else the
        checks say so.
        """
        return all(
            experiment.system in system_names()
            and self.config.observations.keys() >= set(experiment.observations)
            for experiment in self.config.experiments.values()
        )

    def shipped_filters(self, experiment: str) -> list[str]:
        """The filters whose shipped runs stand beside those of an experiment."""
        if not self.shipped:
            return []
        names = {
            name
            for cell in self.cells.values()
            if experiment in cell.experiments
            for name in self.shipped.get(cell.path, {})
        }
        return sorted(names)

    def shown_filters(self, experiment: str) -> list[str]:
        """The filters of an experiment that have scores: its own, in the study's order, and
        shipped ones.
        """
        own = self.experiment_filters(self.config.experiments[experiment])
        return [*own, *self.shipped_filters(experiment)]

    @cached_property
    def with_scores(self) -> list[str]:
        """Every filter that has scores somewhere in the study: those that it runs, then shipped
        ones.
        """
        shipped = {name for runs in self.shipped.values() for name in runs}
        return [*self.all_filters, *sorted(shipped)]

    def experiment_filters(self, experiment: Experiment) -> list[str]:
        """The filters that an experiment runs, in the study's order."""
        return experiment.filters_of(self.config.filters)

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

    def takes_missing(self, name: str) -> bool:
        """Whether a filter can do with measurements of which some are missing."""
        if self.filter_command(name) is not None:
            return self.filters[name].missing
        return filter_class(self.filter_module(name)).missing != "refused"

    @cached_property
    def free_runs(self) -> frozenset[str]:
        """The filters that take in no measurement: what others are measured against, and never the
        best.
        """
        return frozenset(
            name
            for name in self.all_filters
            if self.filter_command(name) is None and self.filter_module(name) == FREE_RUN
        )

    def default_parameters(self, name: str, cell: Cell) -> dict[str, Any]:
        """What the files of a filter say for a cell: general parameters, then the settings that
        hold there, then tuned ones.
        """
        parameters = dict(self.filters[name].parameters)
        for setting in self._settings(name, cell):
            parameters |= setting.parameters
        for tuned in self.tuned_settings(name, cell):
            parameters |= tuned.parameters
        return parameters

    def filter_parameters(
        self, name: str, cell: Cell, tuned: Tuned | None = None
    ) -> dict[str, Any]:
        """The parameters of a filter in a cell: its default ones, then tuned ones, then pinned
        ones.
        """
        return in_force(self.default_parameters(name, cell), tuned, self.config.pinned.get(name))[0]

    def _settings(self, name: str, cell: Cell) -> list[Setting]:
        return [
            setting
            for setting in self.filters[name].settings
            if holds(setting.when, cell.conditions)
        ]

    def tuned_settings(self, name: str, cell: Cell) -> list[TunedSetting]:
        """What config/tuned says of a filter in a cell; the last wins."""
        tuned = self.tuned[name].by_weight() if name in self.tuned else []
        return [setting for setting in tuned if holds(setting.when, cell.conditions)]

    def search(self, name: str, cell: Cell) -> dict[str, Choice]:
        """What tuning tries of a filter in the situation of a cell, pinned parameters left out;
        empty if it is not tuned.
        """
        search: dict[str, Choice | None] = dict(self.filters[name].search)
        for setting in self._settings(name, cell):
            search |= setting.search
        pinned = self.config.pinned.get(name, {})
        return {
            k: choice
            for k, choice in sorted(search.items())
            if choice is not None and k not in pinned
        }

    @cached_property
    def points(self) -> dict[str, list[Cell]]:
        """The situations in which filters are tuned, by path: of each, the cells of the tuning
        seeds.
        """
        tuning = self.config.tuning
        if tuning is None:
            return {}
        points: dict[str, list[Cell]] = {}
        for cell in self.cells.values():
            if cell.point in points or not (
                tuning.points is None or any(selects(p, cell) for p in tuning.points)
            ):
                continue
            cycles = cell.settings.cycles if tuning.cycles is None else tuning.cycles
            spin_up = (
                cell.spin_up_cycles if tuning.spin_up_cycles is None else tuning.spin_up_cycles
            )
            points[cell.point] = [
                replace(
                    cell,
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
        """The point, as its first cell, whose tuned parameters a filter takes in a cell; None if it
        takes none.

        Of the points with the same system and observation at which the same parameters of the
        filter are tuned, it is the one at the least ``masf.study.situations.distance``, which is 0
        at the cell's own; of several, the first in the config's order.
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
            and (cell.settings.system, cell.observation_name, cell.model_in_words)
            == (other.settings.system, other.observation_name, other.model_in_words)
            and search.keys() == self.search(name, other).keys()
        ]

    def _coordinates(self, cell: Cell) -> dict[str, Any]:
        """The numbers that say where a cell lies among those of its system, defaults of the system
        filled in.
        """
        s = cell.settings
        filled = system_class(s.system).Parameters(**s.parameters).model_dump()
        return {k: v for k, v in {**filled, **cell.situation}.items() if is_number(v)}

    def tuning_path(self, name: str, cell: Cell) -> str | None:
        """The file of the tuned parameters that a filter takes in a cell, relative to the results;
        None if it takes none.
        """
        point = self.tuned_at(name, cell)
        return None if point is None else point.tuned(name)

    def input_files(self, name: str, cell: Cell) -> list[Path]:
        """The files that a filter reads in a cell: those among its parameters, and among any that
        tuning tries.
        """
        key = (name, cell.point)  # the same for all seeds
        if key not in self._files_at:
            found = [self.files_among(name, parameters) for parameters in self.tried(name, cell)]
            self._files_at[key] = sorted({path for files in found for path in files.values()})
        return self._files_at[key]

    def files_among(self, name: str, parameters: dict[str, Any]) -> dict[str, Path]:
        """The files among parameters of a filter, by the parameter."""
        if self.filter_command(name) is not None:
            return files_among(parameters)
        return input_files(filter_class(self.filter_module(name)).Parameters(**parameters))

    def needs_prior(self, name: str, cell: Cell) -> bool:
        """Whether a filter reads a pretrained prior in a cell: if its parameters, or any that
        tuning tries, ask for a network.
        """
        if self.filter_command(name) is not None:
            return False
        cls = filter_class(self.filter_module(name))
        return cls.uses_prior and any(
            cls.needs_torch(cls.Parameters(**p)) for p in self.tried(name, cell)
        )

    def tried(self, name: str, cell: Cell) -> list[dict[str, Any]]:
        """The parameters of a filter in a cell, and with each value that tuning may choose for
        it.
        """
        parameters = self.filter_parameters(name, cell)
        tried = [parameters]
        searches = {
            repr(search): search
            for search in (self.search(name, point) for point in self._candidates(name, cell))
        }
        for search in searches.values():
            tried += [parameters | {k: v} for k, choice in search.items() for v in extremes(choice)]
        return tried

    def prior(self, cell: Cell) -> PriorTraining:
        """How the prior that this cell's filters use is trained; long rings share the prior of a
        short one.
        """
        s, model = cell.settings, cell.settings.forecast
        settings: PriorSettings = self.config.priors[model.system]
        observation = self.config.observations[cell.observation_name]
        ring = system_class(model.system).translation_invariant
        parameters = settings.training_parameters(model.parameters, observation, ring)
        if not settings.gaps:
            gaps = self._gaps_of_priors[model.system, str(parameters), cell.observation_name]
            settings = settings.model_copy(update={"gaps": sorted(gaps)})
        shipped = (
            None
            if self.config.train_afresh
            else shipped_as_trained(
                model.system, parameters, observation, settings, self.config.seeds.training
            )
        )
        return PriorTraining(
            model.system, parameters, s.observation, cell.observation_name, settings,
            None if shipped is None else shipped.path,
        )  # fmt: skip

    @cached_property
    def _gaps_of_priors(self) -> dict[tuple[str, str, str], set[int]]:
        """The steps between measurements in the cells that each prior serves whose gaps the config
        does not say: by system, parameters in training, and observation.
        """
        found: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for cell in self.all_cells.values():
            model = cell.settings.forecast
            settings = self.config.priors.get(model.system)
            if settings is None or settings.gaps:
                continue
            parameters = settings.training_parameters(
                model.parameters,
                self.config.observations[cell.observation_name],
                system_class(model.system).translation_invariant,
            )
            key = model.system, str(parameters), cell.observation_name
            found[key].update(pattern_of(cell.settings.gap))
        return found

    @cached_property
    def priors(self) -> dict[str, PriorTraining]:
        """All priors that the cells' filters may use, by path."""
        with_prior = (
            cell
            for cell in self.cells.values()
            if cell.settings.forecast.system in self.config.priors
        )
        return {prior.path: prior for prior in map(self.prior, with_prior)}

    def saved_steps(self, experiment: Experiment) -> int:
        """At every how many model steps means and spreads of an experiment are kept."""
        own = experiment.saved_steps
        return self.config.saved_steps if own is None else own

    def _expand(self, name: str, experiment: Experiment) -> Iterator[Cell]:
        axes = {k: experiment.axes[k] for k in sorted(experiment.parameters)}
        filters = tuple(self.experiment_filters(experiment))
        saved = (
            self.config.saved_members
            if experiment.saved_members is None
            else experiment.saved_members
        )
        for values in itertools.product(*axes.values()):
            parameters = dict(zip(axes, values, strict=True))
            for observation, gap, members, seed in itertools.product(
                experiment.observations, experiment.gaps, experiment.sizes, self.seeds(experiment)
            ):
                settings = CellSettings(
                    system=experiment.system,
                    parameters=parameters,
                    observation=self.config.observations[observation].written(),
                    gap=gap,
                    cycles=experiment.cycles,
                    members=members,
                    initial_spread=experiment.initial_spread,
                    seed=seed,
                    model=experiment.model_for(parameters),
                )
                yield Cell(
                    settings,
                    observation,
                    experiment.spin_up_cycles,
                    filters,
                    (name,),
                    saved,
                    experiment.reference,
                    self.saved_steps(experiment),
                )

    def to_json(self) -> str:
        """The study as study.json holds it."""
        return self.resolved.model_dump_json(indent=1, exclude_defaults=True)
