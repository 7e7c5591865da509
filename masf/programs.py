"""Where the words of a filter's command lie; apart from masf.stages.external, so that versions of
other stages do without it.
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

_PROJECT = Path(__file__).parent.parent


def located(command: str) -> list[str]:
    """The words of ``command``, files among them looked for in the working directory and then in
    this project.
    """
    words = shlex.split(command)
    return [
        str(_PROJECT / w) if "/" in w and not Path(w).exists() and (_PROJECT / w).exists() else w
        for w in words
    ]


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
