"""A study from its config file, checked in full before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from masf import places
from masf.atomic import replacing
from masf.filters.registry import filter_names
from masf.study import paths
from masf.study.checks import faults_of_study, file_faults
from masf.study.config import StudyConfig
from masf.study.filter_files import FilterDefinition
from masf.study.literature import Variant, expanded, labels
from masf.study.markup import RepeatedKey, read_json, read_yaml, require_keys_once
from masf.study.messages import ConfigFault, faults_of, unknown
from masf.study.published import PublishedSetting
from masf.study.resolved import STUDY_FORMAT, ResolvedStudy
from masf.study.salvage import salvaged, without
from masf.study.shipped import shipped_name, shipped_runs, told_apart
from masf.study.study import Study
from masf.study.tuned_values import TunedValues, file_text, merged


def load_study(
    path: Path, root: Path | None = None, *, figure: FigureChange | None = None
) -> Study:
    """The study in a config file, YAML or JSON, or in a study.json, with a figure changed where
    this is asked for. Raises ConfigFault where it cannot be used.
    """
    content = read_mapping(path)
    return study_in(_changed(content, figure), source=str(path), root=root)


@dataclass(frozen=True)
class FigureChange:
    """What is to be different in a figure from what the config says: ``figures.NAME`` gets these
    ``filters``, and its style these keys.
    """

    name: str
    style: Mapping[str, Any]
    filters: list[str] | None = None


def _changed(content: dict[str, Any], change: FigureChange | None) -> dict[str, Any]:
    """The content of a config or study.json with a figure changed; one that it does not have is
    left for the stage to refuse.
    """
    if change is None:
        return content
    resolved = "format" in content
    config = content.get("config") if resolved else content
    figures = config.get("figures") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not isinstance(figures, dict):
        return content
    # A part of a figure, such as figure4_relative, has what stands in the config for the whole.
    name = max(
        (n for n in figures if change.name == n or change.name.startswith(f"{n}_")),
        key=len,
        default=None,
    )
    if name is None or not isinstance(figures[name], dict):
        return content
    own = figures[name]
    changed = own | {"style": {**(own.get("style") or {}), **change.style}}
    if change.filters is not None:
        changed["filters"] = change.filters
    config = config | {"figures": figures | {name: changed}}
    return content | {"config": config} if resolved else config


def load_results(folder: Path, *, figure: FigureChange | None = None) -> Study:
    """The study whose finished results lie in ``folder``, wherever they were made, with a figure
    changed where this is asked for. Raises ConfigFault where it holds no study.json that can be
    used.
    """
    path = folder / paths.STUDY
    if not path.is_file():
        raise ConfigFault(
            f"{folder}: holds no {paths.STUDY}; name the folder of a study's results, such as "
            "results/quick"
        )
    content = read_mapping(path)
    config = content.get("config")
    if isinstance(config, dict):
        content = content | {"config": config | {"results": str(folder)}}
    return study_in(_changed(content, figure), source=str(path))


def cycles_left_out(path: Path, attributes: Mapping[str, Any]) -> int:
    """How many of the first cycles the scores of an estimate left out where it was made: what
    ``masf run`` says in the file, or else what a study.json in a folder above says of its cell; 0
    where neither does.

    Args:
        path: the estimate, {filter}.nc.
        attributes: its global attributes.
    """
    from masf.files.estimate import SPIN_UP

    if SPIN_UP in attributes:
        return int(attributes[SPIN_UP])
    folder = path.resolve().parent
    for results in folder.parents:
        if (results / paths.STUDY).is_file():
            with suppress(ConfigFault):  # of another version, or damaged
                cell = load_study(results / paths.STUDY).all_cells.get(
                    folder.relative_to(results).as_posix()
                )
                return 0 if cell is None else cell.spin_up_cycles
    return 0


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file, or a JSON file by its suffix, that holds a mapping. Raises ConfigFault where it
    does not.
    """
    # YAML would take some numbers of JSON, such as 1e-05, for text.
    kind, read = ("JSON", read_json) if Path(path).suffix == ".json" else ("YAML", read_yaml)
    try:
        content = read(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigFault(
            f"{path}: there is no such file; name a config, or work in a checkout, which has "
            "config/config.yaml"
        ) from None
    except OSError as error:
        raise ConfigFault(f"{path}: cannot be read: {error.strerror or error}") from None
    except RepeatedKey as error:
        raise ConfigFault(f"{path}: {error}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigFault(f"{path}: cannot be read as {kind}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigFault(
            f"{path}: expected a mapping of keys to values, found {type(content).__name__}"
        )
    return content


def require_keys_once_in(path: Path) -> None:
    """Raises ConfigFault where a config file, which someone else reads, has a key twice in one
    mapping.
    """
    try:
        require_keys_once(path.read_text(encoding="utf-8"))
    except RepeatedKey as error:
        raise ConfigFault(f"{path}: {error}") from None


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
    literature = _with_settings(config, source, root) if config.get("settings") else None

    def read(checked: StudyConfig) -> Files:
        folder = _folder(checked.filters_directory, root)
        if not folder.is_dir():
            said = f"filters_directory = {checked.filters_directory!r}: there is no such folder"
            return Files(faults=[
                f"{source}: {said} ({folder.absolute()}); name the folder of the filters' files"
            ])  # fmt: skip
        beside = folder.parent / "tuned"
        directory = checked.tuned_directory
        files = _read_files(
            checked,
            folder,
            beside if directory is None else _folder(directory, root),
            source,
            {} if literature is None else literature.variants,
        )
        if literature is not None:
            files.settings = literature.settings
        return files

    return _study_of(config if literature is None else literature.content, read, source)


@dataclass(frozen=True)
class _Literature:
    """A config with its section ``settings`` written out, and what the settings' files say."""

    content: dict[str, Any]
    variants: dict[str, Variant]
    settings: dict[str, PublishedSetting]


def _with_settings(config: dict[str, Any], source: str, root: Path | None) -> _Literature:
    """A config with its section ``settings`` written out. Raises ConfigFault where that is
    impossible.
    """
    said = config.get("settings_directory")
    beside = Path(str(config.get("filters_directory", "config/filters"))).parent / "settings"
    folder = _folder(places.folder(str(beside if said is None else said)), root)
    if not folder.is_dir():
        raise ConfigFault(
            f"{source}: settings: there is no folder {folder} of their files; name it by "
            "settings_directory"
        )
    section = config["settings"]
    paths_of = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    # Only those that are named are read: a fault in another one is of no matter here.
    read = {
        name: read_published_setting(path)
        for name, path in paths_of.items()
        if isinstance(section, dict) and name in section
    }
    if isinstance(section, dict) and (unknown_names := [n for n in section if n not in paths_of]):
        faults = [unknown("settings", str(n), "setting", paths_of) for n in unknown_names]
        raise ConfigFault("\n".join(f"{source}: {fault} (a file in {folder})" for fault in faults))
    found = expanded(config, read, source)
    return _Literature(found.content, found.variants, read)


def study_with(
    config: dict[str, Any],
    filters: Mapping[str, dict[str, Any]],
    tuned: Mapping[str, dict[str, Any]],
    source: str = "config",
) -> Study:
    """The study that ``config`` describes, where its filters' files would hold ``filters`` and
    ``tuned``, by name.
    """

    def read(_: StudyConfig) -> Files:
        found = Files()
        for name, content in filters.items():
            place = f"{source}: filter {name!r}"
            found.add(name, "filters", partial(_checked, FilterDefinition, content, place))
        for name, content in tuned.items():
            place = f"{source}: tuned {name!r}"
            found.add(name, "tuned", partial(_checked, TunedValues, content, place))
        return found

    return _study_of(config, read, source)


@dataclass
class Files:
    """What the files of filters and of tuned values say, and what is wrong with those that cannot
    be read.
    """

    filters: dict[str, FilterDefinition] = field(default_factory=dict)
    tuned: dict[str, TunedValues] = field(default_factory=dict)
    settings: dict[str, PublishedSetting] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    """Filters without a file that can be read."""

    def add(self, name: str, kind: Literal["filters", "tuned"], read: Callable[[], Any]) -> None:
        """Takes in what ``read`` returns of a filter, or the ConfigFault that it raises."""
        try:
            getattr(self, kind)[name] = read()
        except ConfigFault as fault:
            self.faults.append(str(fault))
            if kind == "filters":
                self.bad.add(name)


def _study_of(content: dict[str, Any], read: Callable[[StudyConfig], Files], source: str) -> Study:
    """The study that a config and files describe. Raises ConfigFault for all that is wrong with
    either.
    """
    faults: list[str] = []
    config: StudyConfig | None
    try:
        config = StudyConfig.model_validate(content)
    except ValidationError as error:
        faults += [f"{source}: {line}" for line in faults_of(error, StudyConfig, content)]
        config = salvaged(content, error)
    if config is not None:
        files = read(config)
        faults += files.faults
        if files.bad:
            config = without(config.model_dump(exclude_unset=True), {"filters": files.bad})
        if config is not None and files.filters:
            study = Study(
                ResolvedStudy(
                    format=STUDY_FORMAT,
                    config=config,
                    filters=files.filters,
                    tuned=files.tuned,
                    settings=files.settings,
                )
            )
            # Of a study.json it is not asked whether the filters' files are there: results are
            # read where they are not, too.
            found = faults_of_study(study, complete=not files.bad) or list(
                dict.fromkeys(file_faults(study))
            )
            faults += [f"{source}: {fault}" for fault in found]
            if not faults:
                return study
    raise ConfigFault("\n".join(dict.fromkeys(faults)))


def _checked_study(resolved: ResolvedStudy, source: str) -> Study:
    """The study, if its parts fit together. Raises ConfigFault where they do not."""
    study = Study(resolved)
    if faults := faults_of_study(study):
        raise ConfigFault("\n".join(f"{source}: {fault}" for fault in faults))
    return study


def _folder(name: str, root: Path | None) -> Path:
    """A folder that a config names: in the working directory, or else below ``root``."""
    folder = Path(name)
    return folder if folder.is_dir() or root is None else root / folder


def _read_definition(path: Path) -> FilterDefinition:
    return _checked(FilterDefinition, read_mapping(path), str(path))


def read_tuned_values(path: Path) -> TunedValues:
    """A file config/tuned/NAME.yaml. Raises ConfigFault where it cannot be used."""
    return _checked(TunedValues, read_mapping(path), str(path))


def update_tuned_values(folder: Path, found: Mapping[str, TunedValues]) -> list[Path]:
    """Writes what was found for filters, by name, into their files of tuned values, beside what is
    there. Returns the files.

    Raises:
        ConfigFault: as ``updated_tuned_values``; nothing is written then.
    """
    updated = updated_tuned_values(folder, found)
    for path, text in updated.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(updated)


def updated_tuned_values(folder: Path, found: Mapping[str, TunedValues]) -> dict[Path, str]:
    """The files of tuned values of filters, by path, as they are once they have what was found.

    Raises:
        ConfigFault: where a file that is there cannot be used, or values would be lost.
    """
    updated = {}
    for name, values in found.items():
        path = folder / f"{name}.yaml"
        old = read_tuned_values(path) if path.is_file() else TunedValues(settings=[])
        try:
            updated[path] = file_text(name, merged(old, values))
        except ValueError as error:
            raise ConfigFault(f"{path}: {error}") from error
    return updated


def tuned_folder(results: Path) -> Path | None:
    """The folder of tuned values of the study whose results lie in ``results``, from the working
    directory; None where they hold no study.json.
    """
    if not (path := results / paths.STUDY).is_file():
        return None
    config = load_study(path).config
    beside = Path(config.filters_directory).parent / "tuned"
    return beside if config.tuned_directory is None else Path(config.tuned_directory)


def _read_files(
    config: StudyConfig, folder: Path, tuned: Path, source: str, variants: Mapping[str, Variant]
) -> Files:
    """The files of all filters that the config names, and of their tuned values; ``variants`` are
    what the files of other filters say, under names of their own.
    """
    known = [path.stem for path in folder.glob("*.yaml")]
    named = [("filters", name) for name in config.filters]
    named += [
        (f"experiments.{k}.add_filters", name)
        for k, e in config.experiments.items()
        for name in e.add_filters
    ]
    found = Files()
    for key, name in named:
        if name in variants and variants[name].filter in known:
            continue
        if name not in known:
            fault = (
                f"{key} = {name!r}: there is such a filter, but not its file: write "
                f"{folder}/{name}.yaml, for example `label: {name[:32]}`"
                if name in filter_names()
                else f"{unknown(key, name, 'filter', known)} (a file in {folder})"
            )
            found.faults.append(f"{source}: {fault}")
            found.bad.add(name)
    own = {name: name for _, name in named if name in known}
    own |= {name: variant.filter for name, variant in variants.items() if variant.filter in known}
    for name, of in own.items():
        path, values = folder / f"{of}.yaml", tuned / f"{of}.yaml"
        found.add(name, "filters", partial(_read_definition, path))
        if values.is_file():
            found.add(name, "tuned", partial(read_tuned_values, values))
    _name_variants(found, variants)
    if config.compare_with is not None:
        _add_shipped(found, folder)
    return found


def _add_shipped(found: Files, folder: Path) -> None:
    """Adds what is said of the filters whose runs come with masf: labels that mark them, and their
    sources.
    """
    for name in dict.fromkeys(run.filter for run in shipped_runs()):
        if shipped_name(name) in found.filters:
            found.faults.append(
                f"filter {shipped_name(name)!r}: runs that come with masf are called so, with "
                "compare_with: give yours another name"
            )
            continue
        of, told = told_apart(name)
        path = folder / f"{of}.yaml"
        usual = _read_definition(path) if path.is_file() else FilterDefinition(label=of[:20])
        found.filters[shipped_name(name)] = usual.model_copy(
            update={
                "label": " ".join(filter(None, [usual.label[:19], told, "(shipped)"])),
                "look": None, "filter": of, "command": None, "install": None, "missing": False,
                "parameters": {}, "settings": [], "search": {},
            }
        )  # fmt: skip


def _name_variants(found: Files, variants: Mapping[str, Variant]) -> None:
    """Gives what was read of variants labels of their own, and the module of the filter that they
    are.
    """
    read = {name: variant for name, variant in variants.items() if name in found.filters}
    of_filters = {variant.filter: found.filters[name].label for name, variant in read.items()}
    for name, label in labels(read, of_filters).items():
        definition = found.filters[name]
        module = None if definition.command else definition.filter or read[name].filter
        found.filters[name] = definition.model_copy(
            update={"label": label, "look": None, "search": {}, "filter": module}
        )


def read_published_setting(path: Path) -> PublishedSetting:
    """A file config/settings/NAME.yaml. Raises ConfigFault where it cannot be used."""
    return _checked(PublishedSetting, read_mapping(path), str(path))


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
        "setting.schema.json": dialect | PublishedSetting.model_json_schema(),
    }
