"""Parameters that are files, such as the weights of a network that was trained elsewhere.

A path says nothing of what lies there: weights that were trained again are another filter under the
same name. A filter therefore declares ``weights: InputFile``, and gets an absolute
``pathlib.Path``. The content of the file is then recorded with the estimate, and is an input of the
workflow's rule, so that another content runs the filter's cells again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, PlainSerializer

from masf import places
from masf.atomic import sha256


def _resolved(path: Path) -> Path:
    try:
        return Path(places.located(places.expanded(str(path)))).resolve()
    except ValueError:
        return path  # `missing` says why: a study is read where its files are not, too


InputFile = Annotated[Path, AfterValidator(_resolved), PlainSerializer(str)]
"""A file that a filter reads: looked for in the working directory and then in this project, with
`~`, `$VAR` and `${VAR}` filled in.
"""


def input_files(parameters: Any) -> dict[str, Path]:
    """The files among checked parameters, by key, such as ``weights`` or ``weights.0``: all values
    that are paths.
    """
    return dict(_paths("", parameters))


def _paths(key: str, value: Any) -> Iterator[tuple[str, Path]]:
    children: Mapping[Any, Any] = {}
    match value:
        case Path():
            yield key, value
        case BaseModel():
            children = {name: getattr(value, name) for name in type(value).model_fields}
        case Mapping():
            children = value
        case list() | tuple():
            children = dict(enumerate(value))
    for name, child in children.items():
        yield from _paths(f"{key}.{name}" if key else str(name), child)


def missing(files: Mapping[str, Path]) -> list[str]:
    """What to say of files that are not there."""
    return [fault for key, path in files.items() if (fault := _fault(key, path))]


def require_files(parameters: Any) -> None:
    """Raises ValueError where a file among checked parameters is not there."""
    if faults := missing(input_files(parameters)):
        raise ValueError("; ".join(faults))


def _fault(key: str, path: Path) -> str | None:
    if path.is_file():
        return None
    try:
        places.expanded(str(path))
    except ValueError as error:
        return f"{key} = {str(path)!r}: {error}"
    return (
        f"{key} = {str(path)!r}: there is no such file; paths are looked for in the working "
        "directory and then in this project"
    )


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file's content, by the same keys."""
    return {key: sha256(path) for key, path in files.items()}
