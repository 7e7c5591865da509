"""Where the words of a filter's command lie; apart from masf.stages.external, so that versions of
other stages do without it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masf import places


def located(command: str) -> list[str]:
    """The words of ``command`` as masf.places reads them, files among them looked for in the
    working directory and then in this project.
    """
    return [places.located(word) if "/" in word else word for word in places.words(command)]


def located_values(value: Any) -> Any:
    """Parameters of a command as they are handed to it: a text with a `/` that names a file is its
    path, found as those of ``located`` are. What names none stays as it is.
    """
    match value:
        case str() if (path := _file(value)) is not None:
            return str(path)
        case Mapping():
            return {key: located_values(child) for key, child in value.items()}
        case list() | tuple():
            return [located_values(child) for child in value]
    return value


def files_among(parameters: Any, key: str = "") -> dict[str, Path]:
    """The files that ``located_values`` finds, by key, such as ``weights`` or ``weights.0``."""
    match parameters:
        case str():
            path = _file(parameters)
            return {} if path is None else {key: path}
        case Mapping():
            children = list(parameters.items())
        case list() | tuple():
            children = list(enumerate(parameters))
        case _:
            return {}
    return {
        found: path
        for name, child in children
        for found, path in files_among(child, f"{key}.{name}" if key else str(name)).items()
    }


def _file(text: str) -> Path | None:
    if "/" not in text:
        return None
    try:
        path = Path(places.located(places.expanded(text)))
    except ValueError:
        return None
    return path.resolve() if path.is_file() else None


def missing_program(command: str) -> str | None:
    """The program of ``command`` if it cannot be run here."""
    program = located(command)[0]
    return None if shutil.which(program) else program


def files_of(command: str) -> list[Path]:
    """The files that ``command`` names. Links are left out: the interpreter of a virtual
    environment is one.
    """
    paths = [Path(word) for word in located(command) if "/" in word]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
