"""Where the words of a filter's command lie; apart from masf.stages.external, so that versions of
other stages do without it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from masf import places


def located(command: str) -> list[str]:
    """The words of ``command`` as masf.places reads them, files among them looked for in the
    working directory and then in this project.
    """
    return [places.located(word) if "/" in word else word for word in places.words(command)]


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
