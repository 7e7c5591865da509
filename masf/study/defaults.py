"""What ``masf run`` and ``import masf`` take where nothing is said: config/run.yaml for systems,
config/filters for filters, config/settings for settings of the literature.

So a cell has the same filter parameters here as in a study, and is checked by the same code, with
the same messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from masf.diffusion.prior_settings import PriorSettings
from masf.files.cell import CellSettings
from masf.filters.registry import filter_class, filter_names
from masf.gaps import pattern_of
from masf.observations.base import ObservationSettings
from masf.observations.settings import observation_settings
from masf.plugins import suggestion
from masf.programs import missing_program
from masf.study.cells import Cell
from masf.study.config import Experiment, StudyConfig
from masf.study.load import read_mapping, read_published_setting, study_with
from masf.study.messages import ConfigFault, faults_of, unknown
from masf.study.published import PublishedSetting
from masf.study.study import Study
from masf.systems.base import System
from masf.systems.registry import system_names

SOURCE = "this run"
"""How messages name the study of one cell."""


@cache
def config_folder() -> Path:
    """The folder of the configs: in a checkout beside the package, and in an installed package
    within it.
    """
    package = Path(__file__).parent.parent
    within = package / "config"
    return within if within.is_dir() else package.parent / "config"


@cache
def _content() -> dict[str, Any]:
    """config/run.yaml. Its entries are checked when they are asked for: a fault in what is said of
    one system is of no matter to another.

    Raises:
        ConfigFault: for a key that no config has.
    """
    content = read_mapping(_path())
    for key in content:
        if key not in StudyConfig.model_fields:
            raise ConfigFault(f"{_path()}: {unknown('key', key, 'key', StudyConfig.model_fields)}")
    return content


def _path() -> Path:
    return config_folder() / "run.yaml"


def _names(section: str) -> list[str]:
    """The names in a section of config/run.yaml."""
    return list(_content().get(section) or {})


@cache
def _entry(section: str, name: str) -> Any:
    """What config/run.yaml says under a name. Raises ConfigFault where that cannot be used."""
    said = {section: {name: _content()[section][name]}}
    try:
        return getattr(_SECTIONS[section].model_validate(said), section)[name]
    except ValidationError as error:
        lines = faults_of(error, _SECTIONS[section], said)
        raise ConfigFault("\n".join(f"{_path()}: {line}" for line in lines)) from None


def _section(name: str) -> type[BaseModel]:
    """A section of a config, as a config of its own."""
    fields: dict[str, Any] = {name: (StudyConfig.model_fields[name].annotation, ...)}
    return create_model(name, **fields)


_SECTIONS = {name: _section(name) for name in ("experiments", "observations", "priors")}


def parameters(system: str) -> dict[str, Any]:
    """The parameters that are taken for a system where none are given, besides its own defaults.
    Raises ConfigFault where config/run.yaml says something that cannot be used.
    """
    return _entry("experiments", system).parameters if system in _names("experiments") else {}


def experiment(system: str | None) -> Experiment:
    """What is taken for a system where nothing is said; without a name, for the first.

    Raises:
        ValueError: for an unknown system, or one without defaults.
        ConfigFault: where config/run.yaml says something that cannot be used.
    """
    known = _names("experiments")
    name = known[0] if system is None else system
    if name not in system_names():
        raise ValueError(f"unknown system {name!r}{suggestion(name, system_names())}")
    if name not in known:
        raise ValueError(f"system {name!r}: {_path()} has no experiment of this name; add one")
    return _entry("experiments", name)


def usual_filters(experiment: Experiment) -> list[str]:
    """The filters that are run where none is named."""
    return experiment.filters_of(_content().get("filters") or [])


def observation(name: str) -> ObservationSettings:
    """An observation of config/run.yaml. Raises ValueError for an unknown one."""
    known = _names("observations")
    if name not in known:
        raise ValueError(
            f"unknown observation {name!r}{suggestion(name, known)}; or write KEY=VALUE,... or JSON"
        )
    return _entry("observations", name)


def with_prior() -> list[str]:
    """The systems for which config/run.yaml says how to train a prior."""
    return _names("priors")


def prior(system: str) -> PriorSettings | None:
    """How config/run.yaml trains the prior of a system, if it does."""
    return _entry("priors", system) if system in with_prior() else None


def setting_names() -> list[str]:
    """The settings of the literature that there are."""
    return sorted(path.stem for path in (config_folder() / "settings").glob("*.yaml"))


def published_setting(name: str) -> PublishedSetting:
    """A setting of the literature by its name.

    Raises:
        ValueError: for an unknown name.
        ConfigFault: where its file cannot be used.
    """
    known = setting_names()
    if name not in known:
        raise ValueError(f"unknown setting {name!r}{suggestion(name, known)}")
    return read_published_setting(config_folder() / "settings" / f"{name}.yaml")


def _name_of(described: ObservationSettings) -> str:
    """The name that config/run.yaml has for an observation: conditions in the filters' files name
    it.
    """
    for name in _names("observations"):
        with suppress(ConfigFault):
            if _entry("observations", name) == described:
                return name
    return "observation"


def known_filters() -> list[str]:
    """All filters: those in masf/filters, and those of which config/filters says what they are."""
    return sorted(
        {*filter_names(), *(path.stem for path in (config_folder() / "filters").glob("*.yaml"))}
    )


@dataclass(frozen=True)
class FilterInCell:
    """One filter in one cell: what it is, and what its parameters are there."""

    study: Study
    cell: Cell
    name: str
    parameters: dict[str, Any]

    @property
    def module(self) -> str:
        return self.study.filter_module(self.name)

    @property
    def command(self) -> str | None:
        return self.study.filter_command(self.name)

    @property
    def takes_missing(self) -> bool:
        return self.study.takes_missing(self.name)

    @property
    def needs_prior(self) -> bool:
        return self.study.needs_prior(self.name, self.cell)

    def tuned_apart(self, overrides: Mapping[str, Any]) -> list[str]:
        """What overrides take out of values that were tuned together, of which the others stay: of
        each tuned setting a sentence.
        """
        settings = self.study.tuned_settings(self.name, self.cell)
        wins = {key: setting for setting in settings for key in setting.parameters}
        found = []
        for setting in settings:
            own = {k: v for k, v in setting.parameters.items() if wins[k] is setting}
            others = {k: v for k, v in own.items() if k not in overrides}
            gone = {k: v for k, v in own.items() if overrides.get(k, v) != v}
            if gone and others:
                was, stay = (
                    ", ".join(f"{k} = {json.dumps(v)}" for k, v in values.items())
                    for values in (gone, others)
                )
                found.append(f"{stay} were tuned together with {was}, which is another here")
        return found


def filter_in_cell(
    name: str, settings: CellSettings, overrides: dict[str, Any], *, has_prior: bool = False
) -> FilterInCell:
    """A filter in a cell: config/filters says its parameters for such a cell, and ``overrides``
    change them.

    Args:
        name: of the filter.
        settings: the cell.
        overrides: parameters of the filter.
        has_prior: whether a pretrained prior is at hand.

    Raises:
        ConfigFault: where something is unknown, out of range, or does not fit together.
        ValueError: for an unknown filter, or one whose prior or program is missing.
    """
    observed = _name_of(observation_settings(settings.observation))
    trained = prior(settings.system)
    usual = (
        {"localization_radii": [None]}
        if trained is None
        else trained.model_dump(exclude_unset=True)
    )
    gaps = sorted(set(pattern_of(settings.gap)))
    config = {
        "results": "results",
        "seeds": {"test": [settings.seed]},
        "filters": [name],
        "pinned": {name: overrides},
        "observations": {observed: settings.observation},
        "priors": {settings.system: usual | {"gaps": gaps}},
        "experiments": {
            settings.system: {
                "title": settings.system,
                "system": settings.system,
                "parameters": settings.parameters,
                "observations": [observed],
                "gaps": [settings.gap],
                "members": settings.members,
                "cycles": settings.cycles,
                # Of an ensemble that was handed in no spread is known, and parameters need none.
                **(
                    {}
                    if settings.initial_spread is None
                    else {"initial_spread": settings.initial_spread}
                ),
            }
        },
    }
    try:
        study = study_with(config, {name: filter_definition(name)}, _tuned(name), source=SOURCE)
    except ConfigFault as fault:
        raise ConfigFault(_with_remedy(str(fault), name)) from None
    (cell,) = study.cells.values()
    found = FilterInCell(study, cell, name, study.filter_parameters(name, cell))
    if found.needs_prior and not has_prior and trained is None:
        raise ValueError(
            f"filter {name!r} needs a pretrained prior for system {settings.system!r}, and "
            "config/run.yaml does not say how to "
            "train one: name the file of a prior, or set network to false"
        )
    if found.command is not None and (program := missing_program(found.command)):
        remedy = study.filters[name].install
        raise ValueError(
            f"filter {name!r}: there is no program "
            f"{program!r}{f'; install it by: {remedy}' if remedy else ''}"
        )
    return found


def usual_parameters(name: str, system: System) -> dict[str, Any]:
    """What config/filters says of a filter in any situation, for a system that is none of masf's.
    Radii are lengths of a system's own, and are left to the filter's class; where components have
    no places they are null.

    Raises:
        ValueError: for an unknown filter.
        ConfigFault: where its file cannot be used.
    """
    definition = filter_definition(name)
    if not {"filter", "command"}.isdisjoint(definition):
        return {}  # of another name, or no class
    usual = {
        key: value
        for key, value in (definition.get("parameters") or {}).items()
        if not key.endswith("radius")
    }
    if system.grid is None:
        fields = filter_class(name).Parameters.model_fields
        usual |= {key: None for key in fields if key.endswith("radius")}
    return usual


def _with_remedy(said: str, name: str) -> str:
    """What is said of a run's config, and where a filter's parameters are at fault, how to set
    them: there is no config that the user could edit.
    """
    keys = re.findall(rf"filter {name!r}: (\w+) = .*set it to null", said)
    if not keys:
        return said
    pairs = ",".join(f"{key}=null" for key in keys)
    return (
        f"{said}; on the command line as --filter {name}:{pairs}, in Python as the parameters "
        f"{dict.fromkeys(keys)}"
    )


def _tuned(name: str) -> dict[str, dict[str, Any]]:
    """What config/tuned says of a filter, by its name; empty where it has no file."""
    path = config_folder() / "tuned" / f"{name}.yaml"
    return {name: read_mapping(path)} if path.is_file() else {}


def filter_definition(name: str) -> dict[str, Any]:
    """What config/filters says of a filter; one that has no file yet has the defaults of its
    module.
    """
    path = config_folder() / "filters" / f"{name}.yaml"
    if path.is_file():
        return read_mapping(path)
    if name not in filter_names():
        raise ValueError(f"unknown filter {name!r}{suggestion(name, known_filters())}")
    return {"label": name[:24]}
