"""A study from its config file, checked in full before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from masf.study.checks import cell_faults, point_faults, reference_faults
from masf.study.config import StudyConfig
from masf.study.filter_files import FilterDefinition
from masf.study.messages import ConfigFault, describe, unknown
from masf.study.study import Study


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
    if faults := list(reference_faults(study)):
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    if faults := [*cell_faults(study), *point_faults(study)]:
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
    if faults := [f"{unknown(key, name, 'filter', known)} (a file in {folder})" for key, name in named if name not in known]:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    paths = {name: folder / f"{name}.yaml" for _, name in named}
    return {name: _checked(FilterDefinition, read_yaml(path), str(path)) for name, path in paths.items()}


def _checked(model: type[Any], content: dict[str, Any], source: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigFault("\n".join(f"{source}: {line}" for line in describe(error, model, content))) from None


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of config files, by file name."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        "config.schema.json": dialect | StudyConfig.model_json_schema(),
        "filter.schema.json": dialect | FilterDefinition.model_json_schema(),
    }
