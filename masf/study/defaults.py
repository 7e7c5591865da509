"""What ``masf run`` and ``import masf`` take where nothing is said: config/run.yaml for systems,
config/filters for filters.

So a cell has the same filter parameters here as in a study, and is checked by the same code, with
the same messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from masf.files.cell import CellSettings
from masf.filters.registry import filter_names
from masf.observations.base import ObservationSettings
from masf.observations.settings import observation_settings
from masf.plugins import suggestion
from masf.programs import missing_program
from masf.study.cells import Cell
from masf.study.config import Experiment, StudyConfig
from masf.study.load import make_study, read_mapping, study_with
from masf.study.study import Study
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
def _usual_study() -> Study:
    """What config/run.yaml describes."""
    path = config_folder() / "run.yaml"
    return make_study(
        read_mapping(path) | {"filters_directory": str(config_folder() / "filters")},
        source=str(path),
    )


def defaults() -> StudyConfig:
    """config/run.yaml."""
    return _usual_study().config


def experiment(system: str) -> Experiment:
    """What is taken for a system where nothing is said. Raises ValueError for an unknown system, or
    one without defaults.
    """
    if system not in system_names():
        raise ValueError(f"unknown system {system!r}{suggestion(system, system_names())}")
    found = defaults().experiments.get(system)
    if found is None:
        raise ValueError(
            f"system {system!r}: {config_folder() / 'run.yaml'} has no experiment of this name; "
            "add one"
        )
    return found


def usual_filters(experiment: Experiment) -> list[str]:
    """The filters that are run where none is named."""
    return _usual_study().experiment_filters(experiment)


def observation(name: str) -> ObservationSettings:
    """An observation of config/run.yaml. Raises ValueError for an unknown one."""
    known = defaults().observations
    if name not in known:
        raise ValueError(
            f"unknown observation {name!r}{suggestion(name, known)}; or write KEY=VALUE,... or JSON"
        )
    return known[name]


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
    known = defaults()
    described = observation_settings(settings.observation)
    # Conditions in the filters' files name observations.
    observed = next(
        (key for key, value in known.observations.items() if value == described), "observation"
    )
    priors = {
        k: v.model_dump(exclude_unset=True) | {"gaps": [settings.gap]}
        for k, v in known.priors.items()
    }
    priors.setdefault(settings.system, {"gaps": [settings.gap], "localization_radii": [None]})
    config = {
        "results": known.results,
        "seeds": {"test": [settings.seed]},
        "filters": [name],
        "pinned": {name: overrides},
        "observations": {observed: settings.observation},
        "priors": priors,
        "experiments": {
            settings.system: {
                "title": settings.system,
                "system": settings.system,
                "parameters": settings.parameters,
                "observations": [observed],
                "gaps": [settings.gap],
                "members": settings.members,
                "cycles": settings.cycles,
                "initial_spread": settings.initial_spread,
            }
        },
    }
    study = study_with(config, {name: _definition(name)}, _tuned(name), source=SOURCE)
    (cell,) = study.cells.values()
    found = FilterInCell(study, cell, name, study.filter_parameters(name, cell))
    if found.needs_prior and not has_prior and settings.system not in known.priors:
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


def _tuned(name: str) -> dict[str, dict[str, Any]]:
    """What config/tuned says of a filter, by its name; empty where it has no file."""
    path = config_folder() / "tuned" / f"{name}.yaml"
    return {name: read_mapping(path)} if path.is_file() else {}


def _definition(name: str) -> dict[str, Any]:
    """What config/filters says of a filter; one that has no file yet has the defaults of its
    module.
    """
    path = config_folder() / "filters" / f"{name}.yaml"
    if path.is_file():
        return read_mapping(path)
    if name not in filter_names():
        raise ValueError(f"unknown filter {name!r}{suggestion(name, known_filters())}")
    return {"label": name[:24]}
