"""What is wrong with a study besides the types of its keys: names of things that do not exist, and
parts that do not fit together.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from masf.files.cell import Model, model_fault
from masf.filters.base import Filter, doubts_of_what_is_said, idle_parameters, linear_misfits
from masf.filters.input_files import missing
from masf.filters.registry import filter_class, filter_names
from masf.observations.base import Observation
from masf.observations.own_functions import file_transform
from masf.programs import files_among
from masf.study.cells import Cell, selects
from masf.study.conditions import condition_doubts, condition_faults
from masf.study.config import Experiment, StudyConfig, Tuning
from masf.study.filter_files import FilterDefinition
from masf.study.messages import ConfigFault, faults_of, unknown
from masf.study.salvage import without
from masf.study.search import Choice, extremes, with_current
from masf.study.study import Study
from masf.systems.base import System
from masf.systems.registry import make_system, system_class, system_names

RESERVED_NAMES = {"truth", "prior"}
"""Names that files of a cell already have, so that no filter may."""


class Fault(NamedTuple):
    """A fault of a study, and the entry without which the rest can be checked."""

    text: str
    section: str = ""
    """The section of the entry, ``tuned`` for tuned values; empty where nothing is in the way."""
    name: str = ""


def faults_of_study(study: Study, *, complete: bool = True) -> list[str]:
    """All that is wrong with a study, but for files that are not there; ``complete`` says whether
    it has all its filters, or those that can be read.
    """
    found = list(reference_faults(study))
    left_out: dict[str, set[str]] = defaultdict(set)
    for fault in found:
        if fault.section:
            left_out[fault.section].add(fault.name)
    rest = _without(study, left_out) if left_out else study
    lines = [fault.text for fault in found]
    if rest is not None:
        try:
            complete = complete and not left_out["filters"]
            lines += [*cell_faults(rest), *point_faults(rest, complete=complete)]
        except ConfigFault as fault:  # cells that two experiments describe differently
            lines.append(str(fault))
    return list(dict.fromkeys(lines))


def _without(study: Study, left_out: Mapping[str, set[str]]) -> Study | None:
    """A study without some entries; None where nothing is left."""
    config = without(study.config.model_dump(exclude_unset=True), left_out)
    if config is None:
        return None
    bad = left_out.get("filters", set())
    filters = {k: v for k, v in study.filters.items() if k not in bad}
    tuned = {k: v for k, v in study.tuned.items() if k not in bad | left_out.get("tuned", set())}
    update = {"config": config, "filters": filters, "tuned": tuned}
    return Study(study.resolved.model_copy(update=update))


def reference_faults(study: Study) -> Iterator[Fault]:
    """Names of things that do not exist, and figures that do not fit their experiments."""
    config = study.config
    for name, definition in study.filters.items():
        yield from (Fault(text, "filters", name) for text in _filter_file_faults(study, name))
        for text in _tuned_faults(study, name, study.filter_module(name)):
            yield Fault(text, "tuned", name)
        if [other.label for other in study.filters.values()].count(definition.label) > 1:
            yield Fault(
                f"filter {name!r}: label = {definition.label!r}: another filter has this label; "
                "give each its own"
            )
    for name in config.pinned:
        if name not in study.filters:
            yield Fault(unknown("pinned", name, "filter", study.filters), "pinned", name)
    for system in config.priors:
        if system not in system_names():
            yield Fault(unknown("priors", system, "system", system_names()))
    chosen_wrongly = set()
    for key, experiment in config.experiments.items():
        yield from (
            Fault(text, "experiments", key) for text in _parts_faults(config, key, experiment)
        )
        choices = list(_choice_faults(study, key, experiment))
        yield from map(Fault, choices)
        if choices:
            chosen_wrongly.add(key)
    for key, figure in config.figures.items():
        # What a figure shows of such an experiment follows from those faults.
        if chosen_wrongly.isdisjoint(figure.experiments):
            yield from (
                Fault(text, "figures", key) for text in figure.faults(study, f"figures.{key}")
            )
    if config.tuning is not None:
        yield from (
            Fault(text, "tuning", "tuning") for text in _tuning_faults(config, config.tuning)
        )


def _filter_file_faults(study: Study, name: str) -> Iterator[str]:
    """What is wrong with a filter's file."""
    definition, module = study.filters[name], study.filter_module(name)
    if name in RESERVED_NAMES:
        yield f"filters = {name!r}: the name is reserved; choose another"
    if definition.command is not None:
        yield from _definition_faults(name, definition, None)
    elif module not in filter_names():
        yield unknown(f"filter {name!r}: filter", module, "filter", filter_names())
    else:
        yield from _definition_faults(name, definition, filter_class(module).Parameters)


def _parts_faults(config: StudyConfig, key: str, experiment: Experiment) -> Iterator[str]:
    """Parts of an experiment that do not exist, without which it has no cells."""
    if experiment.system not in system_names():
        yield unknown(f"experiments.{key}.system", experiment.system, "system", system_names())
    model = experiment.model
    if model is not None and model.system not in (None, *system_names()):
        where = f"experiments.{key}.model.system"
        yield unknown(where, str(model.system), "system", system_names())
    for observation in experiment.observations:
        if observation not in config.observations:
            yield unknown(
                f"experiments.{key}.observations", observation, "observation", config.observations
            )


def _choice_faults(study: Study, key: str, experiment: Experiment) -> Iterator[str]:
    """Seeds and filters that an experiment chooses, and that are not there."""
    config = study.config
    for left_out in experiment.leave_out_filters:
        if left_out not in config.filters:
            yield unknown(
                f"experiments.{key}.leave_out_filters", left_out, "filter", config.filters
            )
    if others := sorted(set(experiment.seeds or []) - set(config.seeds.test)):
        yield (
            f"experiments.{key}.seeds = {experiment.seeds}: {others} are no test seeds; "
            f"choose from {config.seeds.test}"
        )
    filters = study.experiment_filters(experiment)
    if not filters:
        yield (
            f"experiments.{key}.leave_out_filters = {experiment.leave_out_filters}: leaves "
            "the experiment no filter"
        )
    if experiment.reference is not None:
        yield from _exactness_faults(
            f"experiments.{key}", experiment, filters, config.saved_members
        )


def _tuning_faults(config: StudyConfig, tuning: Tuning) -> Iterator[str]:
    """Seeds that are missing, points that are nowhere, and runs with nothing to score."""
    if not config.seeds.tuning:
        yield (
            "seeds.tuning: this key is missing: section tuning needs seeds that are not test seeds"
        )
    if "tuning" in config.experiments:
        yield "experiments.tuning: the name is taken by the table of section tuning; choose another"
    for i, points in enumerate(tuning.points or []):
        if points.experiment not in config.experiments:
            yield unknown(
                f"tuning.points.{i}.experiment", points.experiment, "experiment", config.experiments
            )
        yield from condition_faults(points.when, f"tuning.points.{i}.when")


def _exactness_faults(
    key: str, experiment: Experiment, filters: list[str], saved_by_study: int
) -> Iterator[str]:
    """A reference that the experiment does not run, or that has too few members for a distance."""
    assert experiment.reference is not None
    if experiment.reference not in filters:
        yield unknown(
            f"{key}.reference", experiment.reference, "filter of this experiment", filters
        )
    saved = saved_by_study if experiment.saved_members is None else experiment.saved_members
    if saved < 2:
        yield (
            f"{key}.saved_members = {saved}: distances to reference {experiment.reference!r} need "
            "at least 2"
        )


def _definition_faults(
    name: str, definition: FilterDefinition, parameters: type[BaseModel] | None
) -> Iterator[str]:
    """Unknown parameters and conditions in a filter's file; the values are checked cell by cell,
    those of a command by itself.
    """
    known = None if parameters is None else list(parameters.model_fields)
    for key in definition.search:
        if known is not None and key not in known:
            yield unknown(f"filter {name!r}: search", key, "parameter", known)
    for i, setting in enumerate(definition.settings):
        for key in setting.parameters:
            if known is not None and key not in known:
                yield unknown(f"filter {name!r}: settings.{i}.parameters", key, "parameter", known)
        for key in setting.search:
            if known is not None and key not in known:
                yield unknown(f"filter {name!r}: settings.{i}.search", key, "parameter", known)
        yield from condition_faults(setting.when, f"filter {name!r}: settings.{i}.when")


def _tuned_faults(study: Study, name: str, module: str) -> Iterator[str]:
    """Unknown parameters and conditions in a filter's tuned values; the values are checked cell by
    cell.
    """
    known = list(filter_class(module).Parameters.model_fields) if module in filter_names() else None
    for i, setting in enumerate(study.tuned[name].settings if name in study.tuned else []):
        for key in setting.parameters:
            if known is not None and key not in known:
                yield unknown(f"tuned {name!r}: settings.{i}.parameters", key, "parameter", known)
        yield from condition_faults(setting.when, f"tuned {name!r}: settings.{i}.when")


def doubts(study: Study) -> Iterator[str]:
    """What a study may mean otherwise than it says, where nothing can be said for certain."""
    observations = study.config.observations
    for name, definition in study.filters.items():
        settings = [setting.when for setting in definition.settings]
        yield from condition_doubts(settings, f"filter {name!r}: settings", observations)
        tuned = [s.when for s in study.tuned[name].settings] if name in study.tuned else []
        yield from condition_doubts(tuned, f"tuned {name!r}: settings", observations)
    seen = set()
    places: dict[str, list[str]] = {}
    for cell in study.cells.values():
        for name in cell.filters:
            if (name, cell.point) in seen or study.filter_command(name) is not None:
                continue
            seen.add((name, cell.point))
            tracked = {str(path) for path in study.input_files(name, cell)}
            for key, value in study.filter_parameters(name, cell).items():
                path = files_among({key: value}).get(key)
                if path is not None and str(path) not in tracked:
                    yield (
                        f"filter {name!r}: {key} = {value!r}: names a file, whose content nothing "
                        "follows: declare the parameter as InputFile (docs/adding-a-filter.md)"
                    )
            for doubt in _filter_doubts(study, name, cell):
                places.setdefault(f"filter {name!r}: {doubt}", []).append(cell.point)
    for doubt, (first, *others) in places.items():
        yield f"{doubt} ({first}{f' and {len(others)} times more' if others else ''})"


def _filter_doubts(study: Study, name: str, cell: Cell) -> list[str]:
    """What a filter says of its parameters in a cell whose parts have no fault."""
    s, cls = cell.settings, filter_class(study.filter_module(name))
    system = make_system(s.system, s.parameters) if s.model is None else _model(s.model)
    chosen = study.filter_parameters(name, cell)
    parameters = cls.Parameters(**chosen)
    pinned = study.config.pinned.get(name, {})
    tried = study.search(name, cell) if cell.point in study.points else {}
    return [
        *doubts_of_what_is_said(parameters, pinned),
        *cls.doubts(parameters, system, s.members),
        *_idle_search(cls, chosen, tried),
    ]


def _idle_search(
    cls: type[Filter], parameters: dict[str, Any], search: Mapping[str, Choice]
) -> Iterator[str]:
    """What tuning would try of a filter, though it changes nothing in any trial."""
    idle = [
        idle_parameters(cls.Parameters(**parameters | {key: value}))
        for key, choice in search.items()
        for value in extremes(choice)
    ]
    for key in search:
        if all(key in some for some in idle):
            yield (
                f"search.{key}: changes nothing without {idle[0][key]}, which no trial has, and "
                "takes trials from what does: pin it"
            )


def cell_faults(study: Study) -> Iterator[str]:
    """Systems, observations and filters whose parameters are wrong or do not fit together."""
    situations: dict[tuple[str, ...], list[Cell]] = {}
    for cell in study.cells.values():
        s = cell.settings
        situations.setdefault(
            (
                s.system,
                json.dumps(s.parameters, sort_keys=True),
                cell.observation_name,
                cell.model_in_words,
            ),
            [],
        ).append(cell)
    # Often the same is wrong in many situations of one system: it is said of the first.
    places: dict[tuple[str, str], str] = {}
    for cells in situations.values():
        experiment, s, observed = (
            cells[0].experiments[0],
            cells[0].settings,
            cells[0].observation_name,
        )
        try:
            truth = system = make_system(s.system, s.parameters)
            if s.model is not None:
                system = _model(s.model)
                if fault := model_fault(truth, system):
                    raise ModelFault(fault)
            # Whether the files of functions are there: file_faults.
            observation = study.config.observations[observed].build(
                system.dimension, system.grid, run_files=False
            )
        except ModelFault as error:
            yield f"experiments.{experiment}.model: {error}"
            continue
        except ValidationError as error:
            lines = faults_of(error, system_class(s.system).Parameters, s.parameters)
            yield from (f"experiments.{experiment}.parameters.{line}" for line in lines)
            continue
        except ValueError as error:
            yield f"observations.{observed}: {error} (in experiments.{experiment})"
            continue
        shown = {name for cell in cells for name in cell.experiments}
        for key, figure in study.config.figures.items():
            if not shown.isdisjoint(figure.experiments):
                yield from figure.system_faults(f"figures.{key}", system)
        place = f"experiments.{experiment}, system {s.system!r}, observation {observed!r}"
        names = dict.fromkeys(name for cell in cells for name in cell.filters)
        for name in names:
            if study.filter_command(name) is not None:
                for fault in linear_misfits(observation):
                    places.setdefault((f"filter {name!r}: {fault}", s.system), place)
        if share := study.config.observations[observed].missing:
            for name in names:
                if not study.takes_missing(name):
                    fault = (
                        f"filter {name!r}: cannot do without the measurements that "
                        f"observations.{observed}.missing = {share} leaves out; add it to "
                        "leave_out_filters"
                    )
                    places.setdefault((fault, s.system), place)
        for name, cell in _filters_of(study, cells):
            faults = list(_filter_faults(study, name, cell, system, observation))
            for fault in faults:
                places.setdefault((f"filter {name!r}: {fault}", s.system), place)
            if not faults and study.needs_prior(name, cell):
                yield from _prior_faults(study, name, cell)
    yield from (f"{fault} (in {place})" for (fault, _), place in places.items())


class ModelFault(ValueError):
    """A model that cannot forecast an experiment's truth."""


def _model(model: Model) -> System:
    """What filters forecast with. Raises ModelFault where its parameters are wrong."""
    try:
        return make_system(model.system, model.parameters)
    except ValidationError as error:
        lines = faults_of(error, system_class(model.system).Parameters, model.parameters)
        raise ModelFault("; ".join(f"parameters.{line}" for line in lines)) from error


def _filters_of(study: Study, cells: list[Cell]) -> Iterator[tuple[str, Cell]]:
    """The filters of masf that run in some cells, each once for every set of parameters that it
    has, or tries, there.
    """
    found = set()
    # Parameters are the same for all seeds.
    for cell in {(cell.point, cell.filters): cell for cell in cells}.values():
        for name in cell.filters:
            if study.filter_command(name) is not None:
                continue
            parameters = json.dumps(
                study.filter_parameters(name, cell), sort_keys=True, default=str
            )
            key = (name, parameters, repr(study.search(name, cell)), cell.point in study.points)
            if key not in found:
                found.add(key)
                yield name, cell


def _filter_faults(
    study: Study, name: str, cell: Cell, system: System, observation: Observation
) -> Iterator[str]:
    """Parameters of a filter in a cell, or values that tuning tries there, that are out of range or
    do not suit the cell; what tuning would try matters to the cell only where this study tunes.
    """
    cls, parameters = filter_class(study.filter_module(name)), study.filter_parameters(name, cell)
    faults = _parameter_faults(cls, parameters, system, observation)
    yield from faults
    if faults:
        return
    tuned = cell.point in study.points
    for key, choice in study.search(name, cell).items():
        for value in extremes(choice):
            tried = parameters | {key: value}
            faults = (
                _parameter_faults(cls, tried, system, observation)
                if tuned
                else _range_faults(cls, tried)
            )
            yield from (f"search: {fault}" for fault in faults)


def _parameter_faults(
    cls: type[Filter], parameters: dict[str, Any], system: System, observation: Observation
) -> list[str]:
    """Parameters of a filter that are out of range, or that do not suit system or observation."""
    if faults := _range_faults(cls, parameters):
        return faults
    return cls.misfits(cls.Parameters(**parameters), system, observation)


def _range_faults(cls: type[Filter], parameters: dict[str, Any]) -> list[str]:
    """Parameters of a filter that are out of range in any situation."""
    try:
        cls.Parameters(**parameters)
    except ValidationError as error:
        return faults_of(error, cls.Parameters, parameters)
    return []


def point_faults(study: Study, *, complete: bool = True) -> Iterator[str]:
    """Points of tuning that select nothing, or at which nothing can be tuned as asked for;
    ``complete`` says whether the study has all its filters.
    """
    tuning = study.config.tuning
    if tuning is None:
        return
    for i, points in enumerate(tuning.points or []):
        if not any(selects(points, cell) for cell in study.cells.values()):
            yield (
                f"tuning.points.{i}.when = {json.dumps(points.when)}: holds in no situation of "
                f"experiment {points.experiment!r}"
            )
    for point, (cell, *_) in study.points.items():
        if cell.spin_up_cycles >= cell.settings.cycles:
            yield (
                f"tuning: spin_up_cycles {cell.spin_up_cycles} leaves none of "
                f"{cell.settings.cycles} cycles to score at {point}"
            )
        for name in study.tuned_filters(point):
            parameters = study.filter_parameters(name, cell)
            if study.filter_command(name) is None:
                try:
                    parameters = (
                        filter_class(study.filter_module(name))
                        .Parameters(**parameters)
                        .model_dump()
                    )
                except ValidationError:
                    continue  # named by cell_faults
            elif absent := sorted(study.search(name, cell).keys() - parameters.keys()):
                yield (
                    f"filter {name!r}: search: {', '.join(absent)}: tuning starts from a value in "
                    f"parameters (at {point})"
                )
                continue
            for key, choice in study.search(name, cell).items():
                try:
                    with_current(choice, parameters[key])
                except ValueError as error:
                    yield f"filter {name!r}: search: {key}: {error} (at {point})"
    if complete and study.points and not any(map(study.tuned_filters, study.points)):
        yield (
            "tuning: no filter of the study declares a search at any point: add one to its file, "
            "or leave the section out"
        )


def file_faults(study: Study) -> Iterator[str]:
    """Functions in files that observations name and cannot be used, and files among the filters'
    parameters that are not there.
    """
    for name in dict.fromkeys(cell.observation_name for cell in study.cells.values()):
        settings = study.config.observations[name]
        if (said := settings.function_in_file) is not None:
            try:
                file_transform(said, settings.derivative, settings.transform_sha256)
            except ValueError as error:
                yield f"observations.{name}: {error}"
    for cell in {(cell.point, cell.filters): cell for cell in study.cells.values()}.values():
        for name in cell.filters:
            for parameters in study.tried(name, cell):
                try:
                    files = study.files_among(name, parameters)
                except ValidationError:
                    continue  # named by cell_faults
                yield from (f"filter {name!r}: {fault}" for fault in missing(files))


def _prior_faults(study: Study, filter_: str, cell: Cell) -> Iterator[str]:
    """A prior that is missing, or that does not fit the system that it is trained on, which may be
    a shorter ring than the cell's.
    """
    name, priors = cell.settings.forecast.system, study.config.priors
    if name not in priors:
        yield (
            f"priors: filter {filter_!r} needs a pretrained prior for system {name!r}: add "
            f"priors.{name}"
        )
        return
    trained_on = study.prior(cell).parameters
    if fault := priors[name].fault(make_system(name, trained_on)):
        yield f"priors.{name}.{fault} (system {name!r})"
