"""A study from its config file, checked in full before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from masf.atomic import replacing
from masf.study.checks import cell_faults, file_faults, point_faults, reference_faults
from masf.study.config import StudyConfig
from masf.study.filter_files import FilterDefinition
from masf.study.messages import ConfigFault, faults_of, unknown
from masf.study.resolved import STUDY_FORMAT, ResolvedStudy
from masf.study.study import Study
from masf.study.tuned_values import TunedValues, file_text, merged


def load_study(path: Path, root: Path | None = None) -> Study:
    """The study in a config file, YAML or JSON, or in a study.json. Raises ConfigFault where it
    cannot be used.
    """
    return study_in(read_mapping(path), source=str(path), root=root)


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file, or a JSON file by its suffix, that holds a mapping. Raises ConfigFault where it
    does not.
    """
    # YAML would take some numbers of JSON, such as 1e-05, for text.
    kind, read = ("JSON", json.loads) if Path(path).suffix == ".json" else ("YAML", _safe_yaml)
    try:
        content = read(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigFault(
            f"{path}: there is no such file; name a config, or work in a checkout, which has "
            "config/config.yaml"
        ) from None
    except OSError as error:
        raise ConfigFault(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigFault(f"{path}: cannot be read as {kind}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigFault(
            f"{path}: expected a mapping of keys to values, found {type(content).__name__}"
        )
    return content


def _safe_yaml(text: str) -> Any:
    """What ``text`` holds. Parsed in C where PyYAML has its library: files of tuned values are
    long, and every job's check reads them. Faults are worded by the parser in Python, which names
    the line.
    """
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError:
        return yaml.safe_load(text)


def study_in(content: dict[str, Any], source: str = "config", root: Path | None = None) -> Study:
    """The study that the content of a config, or of a study.json, describes; arguments are those of
    ``make_study``.
    """
    if "format" in content:
        return _checked_study(_checked(ResolvedStudy, content, source), source)
    return make_study(content, source, root)


def make_study(config: dict[str, Any], source: str = "config", root: Path | None = None) -> Study:
    """The study that ``config`` describes, with the filters' files read from its filters_directory.

    Args:
        config: the content of a config file.
        source: how error messages name it.
        root: folder that a relative filters_directory is looked up in, if it is not in the working
            directory.

    Raises:
        ConfigFault: naming every key at fault, its value, and what is allowed.
    """
    checked = _checked(StudyConfig, config, source)
    folder = _folder(checked.filters_directory, root)
    if not folder.is_dir():
        raise ConfigFault(
            f"{source}: filters_directory = {checked.filters_directory!r}: there is no such folder "
            f"({folder.absolute()}); name the folder of the filters' files"
        )
    filters = _definitions(checked, folder, source)
    beside = folder.parent / "tuned"
    tuned = beside if checked.tuned_directory is None else _folder(checked.tuned_directory, root)
    return _resolved(checked, filters, _tuned_values(filters, tuned), source)


def study_with(
    config: dict[str, Any],
    filters: Mapping[str, dict[str, Any]],
    tuned: Mapping[str, dict[str, Any]],
    source: str = "config",
) -> Study:
    """The study that ``config`` describes, where its filters' files would hold ``filters`` and
    ``tuned``, by name.
    """
    definitions = {
        name: _checked(FilterDefinition, content, f"{source}: filter {name!r}")
        for name, content in filters.items()
    }
    values = {
        name: _checked(TunedValues, content, f"{source}: tuned {name!r}")
        for name, content in tuned.items()
    }
    return _resolved(_checked(StudyConfig, config, source), definitions, values, source)


def _resolved(
    config: StudyConfig,
    filters: dict[str, FilterDefinition],
    tuned: dict[str, TunedValues],
    source: str,
) -> Study:
    study = _checked_study(
        ResolvedStudy(format=STUDY_FORMAT, config=config, filters=filters, tuned=tuned), source
    )
    # Of a study.json this is not asked: results are read where the filters' files are not, too.
    if faults := list(dict.fromkeys(file_faults(study))):
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    return study


def _checked_study(resolved: ResolvedStudy, source: str) -> Study:
    """The study, if its parts fit together. Raises ConfigFault where they do not."""
    study = Study(resolved)
    if faults := list(reference_faults(study)):
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    if faults := [*cell_faults(study), *point_faults(study)]:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in dict.fromkeys(faults)))
    return study


def _folder(name: str, root: Path | None) -> Path:
    """A folder that a config names: in the working directory, or else below ``root``."""
    folder = Path(name)
    return folder if folder.is_dir() or root is None else root / folder


def _tuned_values(filters: Iterable[str], folder: Path) -> dict[str, TunedValues]:
    """The files of tuned values of those filters that have one."""
    paths = {name: folder / f"{name}.yaml" for name in filters}
    return {name: read_tuned_values(path) for name, path in paths.items() if path.is_file()}


def read_tuned_values(path: Path) -> TunedValues:
    """A file config/tuned/NAME.yaml. Raises ConfigFault where it cannot be used."""
    return _checked(TunedValues, read_mapping(path), str(path))


def update_tuned_values(folder: Path, name: str, found: TunedValues) -> Path:
    """Writes what was found for a filter into its file of tuned values, beside what is there.
    Returns the file.

    Raises:
        ConfigFault: where the file that is there cannot be used.
    """
    path = folder / f"{name}.yaml"
    values = merged(read_tuned_values(path), found) if path.is_file() else found
    with replacing(path) as temporary:
        temporary.write_text(file_text(name, values), encoding="utf-8")
    return path


def _definitions(config: StudyConfig, folder: Path, source: str) -> dict[str, FilterDefinition]:
    """The files of all filters that the config names."""
    known = [path.stem for path in folder.glob("*.yaml")]
    named = [("filters", name) for name in config.filters]
    named += [
        (f"experiments.{k}.add_filters", name)
        for k, e in config.experiments.items()
        for name in e.add_filters
    ]
    if faults := [
        f"{unknown(key, name, 'filter', known)} (a file in {folder})"
        for key, name in named
        if name not in known
    ]:
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    paths = {name: folder / f"{name}.yaml" for _, name in named}
    return {
        name: _checked(FilterDefinition, read_mapping(path), str(path))
        for name, path in paths.items()
    }


def _checked(model: type[Any], content: dict[str, Any], source: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigFault(
            "\n".join(f"{source}: {line}" for line in faults_of(error, model, content))
        ) from None


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas of config files, by file name."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        "config.schema.json": dialect | StudyConfig.model_json_schema(),
        "filter.schema.json": dialect | FilterDefinition.model_json_schema(),
        "tuned.schema.json": dialect | TunedValues.model_json_schema(),
    }
