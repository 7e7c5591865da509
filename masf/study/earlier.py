"""What another study left in the folder of results, said before anything is replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from masf.study import paths
from masf.study.load import read_mapping
from masf.study.messages import ConfigFault
from masf.study.study import Study


def earlier_doubts(study: Study) -> Iterator[str]:
    """What the folder of results has of another study."""
    if others := sorted(
        _experiments(study.results / paths.STUDY) - study.config.experiments.keys()
    ):
        yield (
            f"results = {study.config.results!r}: has results of a study with other experiments "
            f"({', '.join(others)}), whose {paths.STUDY} and scores are replaced: name another "
            "folder to keep them"
        )
    made = {
        "tables": (study.tables, paths.TABLE_SUFFIXES),
        "figures": (study.figures, paths.FIGURE_SUFFIXES),
    }
    for kind, (names, suffixes) in made.items():
        if others := _others(study.results / kind, names, suffixes):
            yield (
                f"results = {study.config.results!r}: {kind} {', '.join(others)} are not of this "
                "study, and stay beside its own: move them away"
            )


def _experiments(path: Path) -> set[str]:
    """The experiments of a study.json; none where it is not there, or cannot be read."""
    with suppress(ConfigFault):
        config = read_mapping(path).get("config")
        if isinstance(config, dict) and isinstance(config.get("experiments"), dict):
            return set(config["experiments"])
    return set()


def _others(folder: Path, names: Collection[str], suffixes: Collection[str]) -> list[str]:
    """The names of what lies in a folder, with one of these ends, and is called otherwise."""
    found = {path.stem for path in folder.glob("*") if path.suffix[1:] in suffixes}
    return sorted(found - set(names))
