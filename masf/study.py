"""The study: the config, checked in full before anything runs, and the cells that it expands to.

The classes below are the one definition of the config; ``workflow/schemas/*.schema.json`` is written from them (``masf schema``).
A *cell* is one truth with its measurements: system, parameters, observation, gap and seed. Experiments that share a cell
share its files.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from masf.cell_settings import CellSettings
from masf.observations import ObservationSettings, make_observation
from masf.prior_settings import PriorSettings
from masf.registry import filter_class, make_system, names, system_class

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Lower-case letters, digits and underscores.")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Gap = Annotated[int, Field(ge=1, le=100_000)]
Axis = Annotated[list[float | int], Field(min_length=1)]

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
    """Parameters for some situations only."""

    when: dict[str, Any] = Field(
        min_length=1,
        description="Conditions that must all hold: system, observation, gap or a system parameter; a value or a list of values.",
    )
    parameters: dict[str, Any] = Field(min_length=1, description="Parameters that replace the general ones there.")


class FilterDefinition(_Section):
    """A file config/filters/NAME.yaml: what the study calls NAME."""

    filter: Name | None = Field(None, description="Module in masf/filters; the file's own name without this key.")
    label: str = Field(min_length=1, max_length=24, description="Name in tables and figures.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Parameters of the filter.")
    settings: list[Setting] = Field(default_factory=list, description="Parameters for some situations; later entries win.")
    search: dict[str, list[Any]] = Field(default_factory=dict, description="Values that tuning tries, on tuning seeds only.")
    resources: Resources = Field(default_factory=Resources, description="What one job asks for.")


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
    """Cells that belong together: every combination of parameters, observations and gaps, on every test seed."""

    title: str = Field(min_length=1, description="One line for tables and reports.")
    system: Name = Field(description="A system in masf/systems.")
    parameters: dict[str, float | int | Axis] = Field(description="The system's parameters; a list is an axis of the experiment.")
    observations: list[Name] = Field(min_length=1, description="Names from the section observations.")
    gaps: list[Gap] = Field(min_length=1, description="Steps between two measurements.")
    members: int = Field(ge=2, le=10_000_000, description="Ensemble size N.")
    initial_spread: float = Field(1.0, gt=0, description="Standard deviation of the initial distribution.")
    cycles: int = Field(ge=1, le=1_000_000, description="Measurements in a run.")
    spin_up_cycles: int = Field(0, ge=0, description="First cycles that the scores leave out.")
    add_filters: list[Name] = Field(default_factory=list, description="Filters for this experiment besides the study's.")
    leave_out_filters: list[Name] = Field(
        default_factory=list, description="Filters of the study that this experiment does not run."
    )

    @model_validator(mode="after")
    def _some_cycles_left(self) -> Experiment:
        if self.spin_up_cycles >= self.cycles:
            raise ValueError(f"spin_up_cycles {self.spin_up_cycles} leaves none of {self.cycles} cycles to score")
        return self


class TrajectoryFigure(_Section):
    """Figure 3: truth and estimate, one panel a filter."""

    kind: Literal["trajectories"] = Field(description="trajectories: truth and estimate over time.")
    title: str = Field(min_length=1, description="Caption's first words.")
    experiment: Name = Field(description="An experiment with one cell a seed, of three or more components.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(10, ge=1, description="How many of the last cycles are shown over time.")


class Panel(_Section):
    """One panel of a sweep figure."""

    experiment: Name = Field(description="The experiment whose cells are shown.")
    axis: str = Field(min_length=1, description="The horizontal axis: gap, or a parameter of the system; nothing else may vary.")
    observation: Name = Field(description="Which of the experiment's observations.")


class SweepFigure(_Section):
    """Figure 4: a score against an axis of an experiment, one line a filter, one panel an experiment and observation."""

    kind: Literal["sweep"] = Field(description="sweep: a score against an axis.")
    title: str = Field(min_length=1, description="Caption's first words.")
    score: Literal["rmse", "rmse_analysis", "rmse_forecast", "crps", "crps_forecast", "spread_skill"] = Field(
        "rmse", description="The vertical axis."
    )
    panels: list[Panel] = Field(min_length=1, description="Panels in reading order, lettered (a), (b), ...")
    columns: int = Field(2, ge=1, le=6, description="Panels in a row.")


Figure = Annotated[TrajectoryFigure | SweepFigure, Field(discriminator="kind")]


class StudyConfig(_Section):
    """The whole config."""

    results: str = Field(min_length=1, description="Folder of all outputs, relative to the working directory.")
    filters_directory: str = Field("config/filters", description="Folder of the filters' files NAME.yaml.")
    gpu: bool = Field(False, description="Whether jobs that can use a GPU ask for one.")
    accept_mixed_versions: bool = Field(False, description="Aggregate results that different versions of a filter's code made.")
    saved_members: int = Field(3, ge=0, le=10_000, description="Analysis members kept in each filter's file.")
    seeds: Seeds = Field(description="Seeds.")
    filters: list[Name] = Field(min_length=1, description="Filters of the study, in the order of tables and legends.")
    pinned: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="Parameters, by filter, that override those of its file everywhere."
    )
    observations: dict[Name, ObservationSettings] = Field(min_length=1, description="What is measured, by name.")
    priors: dict[Name, PriorSettings] = Field(default_factory=dict, description="How priors are trained, by system.")
    experiments: dict[Name, Experiment] = Field(min_length=1, description="The experiments, by name.")
    figures: dict[Name, Figure] = Field(default_factory=dict, description="The figures, by name.")
    filter_definitions: dict[Name, FilterDefinition] = Field(
        default_factory=dict, description="Written into study.json by the workflow; leave it out of a config."
    )


@dataclass(frozen=True)
class Cell:
    """One truth with its measurements, and the experiments that use it."""

    path: str
    """Its folder, relative to the results: {system}/{parameters}/{observation}/gap~{gap}/seed~{seed}."""
    settings: CellSettings
    observation_name: str
    spin_up_cycles: int
    filters: tuple[str, ...]
    experiments: tuple[str, ...]

    @property
    def setting(self) -> str:
        """The part of its path that cells of other gaps and seeds share: {system}/{parameters}/{observation}."""
        return self.path.rsplit("/", 2)[0]

    @property
    def prior_path(self) -> str:
        """The pretrained prior that this cell's filters use, relative to the results."""
        return f"{self.setting}/prior/prior.safetensors"

    @property
    def situation(self) -> dict[str, Any]:
        """What conditions of filter settings can name."""
        s = self.settings
        return {**s.parameters, "system": s.system, "observation": self.observation_name, "gap": s.gap}


class Study:
    """A checked config and what follows from it."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.filters = config.filter_definitions

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
                            "differently: give them the same members, cycles, spin_up_cycles and initial_spread"
                        )
                    filters = tuple(dict.fromkeys((*known.filters, *cell.filters)))
                    cell = Cell(
                        cell.path,
                        cell.settings,
                        cell.observation_name,
                        cell.spin_up_cycles,
                        filters,
                        (*known.experiments, name),
                    )
                cells[cell.path] = cell
        return cells

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

    def filter_parameters(self, name: str, cell: Cell) -> dict[str, Any]:
        """The parameters of a filter in a cell: general, then the settings that hold there, then pinned ones."""
        definition = self.filters[name]
        parameters = dict(definition.parameters)
        for setting in definition.settings:
            if _holds(setting.when, cell.situation):
                parameters |= setting.parameters
        return parameters | self.config.pinned.get(name, {})

    def needs_prior(self, name: str, cell: Cell) -> bool:
        """Whether a filter reads a pretrained prior in a cell; without a network it does not."""
        cls = filter_class(self.filter_module(name))
        return cls.uses_prior and cls.needs_torch(cls.Parameters(**self.filter_parameters(name, cell)))

    def prior_settings(self, cell: Cell) -> PriorSettings:
        """How the prior of this cell is trained."""
        return self.config.priors[cell.settings.system]

    def _expand(self, name: str, experiment: Experiment) -> Iterator[Cell]:
        axes = {k: v if isinstance(v, list) else [v] for k, v in sorted(experiment.parameters.items())}
        filters = tuple(self.experiment_filters(experiment))
        for values in itertools.product(*axes.values()):
            parameters = dict(zip(axes, values, strict=True))
            fragment = "+".join(f"{k}~{v:.12g}" for k, v in parameters.items())
            for observation, gap, seed in itertools.product(experiment.observations, experiment.gaps, self.config.seeds.test):
                settings = CellSettings(
                    system=experiment.system,
                    parameters=parameters,
                    observation=self.config.observations[observation].model_dump(exclude_defaults=True),
                    gap=gap,
                    cycles=experiment.cycles,
                    members=experiment.members,
                    initial_spread=experiment.initial_spread,
                    seed=seed,
                )
                path = f"{experiment.system}/{fragment}/{observation}/gap~{gap}/seed~{seed}"
                yield Cell(path, settings, observation, experiment.spin_up_cycles, filters, (name,))

    def to_json(self) -> str:
        """The resolved config, filters' files included, as study.json holds it."""
        return self.config.model_dump_json(indent=1, exclude_defaults=True)


def _holds(when: dict[str, Any], situation: dict[str, Any]) -> bool:
    return all(situation.get(k) in (v if isinstance(v, list) else [v]) for k, v in when.items())


def load_study(path: Path, root: Path | None = None) -> Study:
    """The study in a config file (YAML or JSON). Raises ConfigFault where it cannot be used."""
    return make_study(read_yaml(path), source=str(path), root=root)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds a mapping. Raises ConfigFault where it does not."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigFault(f"{path}: there is no such file; expected a config such as config/config.yaml") from None
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
    if faults := list(_cell_faults(study)):
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
        if module not in names("filters"):
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
        if not study.experiment_filters(experiment):
            yield f"experiments.{key}.leave_out_filters = {experiment.leave_out_filters}: leaves the experiment no filter"
    for key, figure in config.figures.items():
        yield from _figure_faults(config, f"figures.{key}", figure)


def _definition_faults(name: str, definition: FilterDefinition, parameters: type[BaseModel]) -> Iterator[str]:
    """Names in a filter's file that nothing bears; their values are checked cell by cell."""
    known = list(parameters.model_fields)
    conditions = {"system", "observation", "gap", *(k for s in names("systems") for k in system_class(s).Parameters.model_fields)}
    for key in definition.search:
        if key not in known:
            yield _unknown(f"filter {name!r}: search", key, "parameter", known)
    for i, setting in enumerate(definition.settings):
        for key in setting.parameters:
            if key not in known:
                yield _unknown(f"filter {name!r}: settings.{i}.parameters", key, "parameter", known)
        for key in setting.when:
            if key not in conditions:
                yield _unknown(f"filter {name!r}: settings.{i}.when", key, "condition", conditions)


def _figure_faults(config: StudyConfig, key: str, figure: TrajectoryFigure | SweepFigure) -> Iterator[str]:
    wanted = [figure.experiment] if figure.kind == "trajectories" else [p.experiment for p in figure.panels]
    for name in wanted:
        if name not in config.experiments:
            yield _unknown(f"{key}.experiment", name, "experiment", config.experiments)
            return
    if figure.kind == "trajectories":
        experiment = config.experiments[figure.experiment]
        axes = [v for v in experiment.parameters.values() if isinstance(v, list) and len(v) > 1]
        if axes or len(experiment.gaps) * len(experiment.observations) > 1:
            yield f"{key}.experiment = {figure.experiment!r}: a trajectory figure needs an experiment with one cell for each seed"
        if figure.seed not in config.seeds.test:
            yield f"{key}.seed = {figure.seed}: choose one of the test seeds {config.seeds.test}"
        return
    for i, panel in enumerate(figure.panels):
        experiment = config.experiments[panel.experiment]
        axes_known = ["gap", *experiment.parameters]
        if panel.axis not in axes_known:
            yield _unknown(f"{key}.panels.{i}.axis", panel.axis, "axis", axes_known)
        varied = {k for k, v in experiment.parameters.items() if isinstance(v, list) and len(v) > 1}
        varied |= {"gap"} if len(experiment.gaps) > 1 else set()
        if others := sorted(varied - {panel.axis}):
            yield f"{key}.panels.{i}.axis = {panel.axis!r}: experiment {panel.experiment!r} also varies {', '.join(others)}"
        if panel.observation not in experiment.observations:
            yield _unknown(f"{key}.panels.{i}.observation", panel.observation, "observation", experiment.observations)


def _cell_faults(study: Study) -> Iterator[str]:
    """Systems, observations and filters whose parameters are wrong or do not fit together."""
    checked: set[tuple[Any, ...]] = set()
    for cell in study.cells.values():
        where = f"experiments.{cell.experiments[0]}"
        s = cell.settings
        try:
            system = make_system(s.system, s.parameters)
            make_observation(study.config.observations[cell.observation_name], system.dimension)
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
            cls, parameters = filter_class(study.filter_module(name)), study.filter_parameters(name, cell)
            key = (name, s.system, json.dumps(parameters, sort_keys=True, default=str))
            if key in checked:
                continue
            checked.add(key)
            try:
                chosen = cls.Parameters(**parameters)
            except ValidationError as error:
                yield from (f"filter {name!r}: {line}" for line in describe(error, cls.Parameters, parameters))
                continue
            radius = getattr(chosen, "localization_radius", None)
            tapered = radius is not None and getattr(chosen, "covariance", "localized") == "localized"
            if tapered and system.ring is None and not study.needs_prior(name, cell):
                yield f"filter {name!r}: localization_radius = {radius}: {s.system!r} has no distances; set it to null"
            weight_radius = getattr(chosen, "weight_radius", None)
            if weight_radius is not None and system.ring is None:
                yield f"filter {name!r}: weight_radius = {weight_radius}: {s.system!r} has no distances; set it to null"
            if cls.linear_only and not system.linear:
                yield f"{where}: filter {name!r} is for linear systems only, and {s.system!r} is not: add it to leave_out_filters"
            if study.needs_prior(name, cell):
                yield from _prior_faults(study.config.priors, name, s.system, system.ring)


def _prior_faults(priors: dict[str, PriorSettings], filter_: str, system: str, ring: int | None) -> Iterator[str]:
    """A prior that is missing, or that does not fit its system."""
    if system not in priors:
        yield f"priors: filter {filter_!r} needs a pretrained prior for system {system!r}: add priors.{system}"
        return
    settings = priors[system]
    if settings.network.kind == "conv1d" and ring is None:
        yield f"priors.{system}.network.kind = 'conv1d': needs a translation-invariant system, which {system!r} is not; use 'mlp'"
    if any(radius is not None for radius in settings.localization_radii) and ring is None:
        yield f"priors.{system}.localization_radii = {settings.localization_radii}: {system!r} has no distances; set it to [null]"


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of config files, by file name."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        "config.schema.json": dialect | StudyConfig.model_json_schema(),
        "filter.schema.json": dialect | FilterDefinition.model_json_schema(),
    }
