"""Places as people write them: `~`, `$VAR` and `${VAR}` as a shell reads them, and what is no
folder of this machine refused.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PROJECT = Path(__file__).parent.parent

# Characters that stand for those that quotes protect from the shell.
_PROTECTED = {"$": "\ue000", "~": "\ue001"}


def expanded(text: str) -> str:
    """``text`` with environment variables, and a home folder at its start, filled in.

    Raises:
        ValueError: for a variable that is not set, or a home folder that is not known.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if not os.environ.get(name):
            raise ValueError(
                f"environment variable {name} is not set, or empty: set it, or write the path out"
            )
        return os.environ[name]

    filled = _VARIABLE.sub(value, text)
    if not filled.startswith("~"):
        return filled
    try:
        return str(Path(filled).expanduser())
    except RuntimeError:
        user = filled.partition("/")[0]
        raise ValueError(f"no home folder is known for {user}: write the path out") from None


def folder(text: str) -> str:
    """The path of a folder, expanded and without detours; to be applied again, it changes nothing.

    Raises:
        ValueError: where it is no folder of this machine, or holds what Snakemake reads as a
            wildcard.
    """
    if _URL.match(text):
        raise ValueError(
            "is an address: expected a folder of this machine, such as results/mine; copy the "
            "results there afterwards"
        )
    path = os.path.normpath(expanded(text))
    if found := [c for c in "{}$" if c in path] or ["~"] * path.startswith("~"):
        raise ValueError(
            f"has {' and '.join(found)} in it, which the workflow would not take for letters of "
            "a name: choose a path without"
        )
    return path


def folder_of_results(text: str) -> str:
    """As ``folder``, for what a study writes. Raises ValueError for the root of all folders,
    too.
    """
    path = folder(text)
    if not path.strip("/"):
        raise ValueError("is the root of all folders: choose one below it, such as results/mine")
    return path


def located(path: str) -> str:
    """A file's path: as it is if there is such a file from the working directory, or else below
    this project if there is one.
    """
    below = _PROJECT / path
    return str(below) if not Path(path).exists() and below.exists() else path


def words(command: str) -> list[str]:
    """The words of a command, `~` and variables filled in where a shell would: not in single
    quotes, nor after a backslash, and `~` not in double quotes either.

    Raises:
        ValueError: for quotes that do not close, a `$` that only a shell can follow, or as
            ``expanded``.
    """
    found = [expanded(word) for word in shlex.split(_protected(command))]
    for word in found:
        if "$" in word:
            raise ValueError(
                f"{word!r} is for a shell, and none runs it: put it in single quotes if it is "
                "meant as it stands"
            )
    return [_unprotected(word) for word in found]


def _protected(command: str) -> str:
    """``command`` with other characters in place of those that quotes keep from being filled
    in.
    """
    said, quote, escaped = "", "", False
    for character in command:
        kept = escaped or quote == "'" or (quote == '"' and character == "~")
        said += _PROTECTED.get(character, character) if kept else character
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = quote != "'"
        elif character in {"'", '"'} and quote in {"", character}:
            quote = "" if quote else character
    return said


def _unprotected(word: str) -> str:
    for character, other in _PROTECTED.items():
        word = word.replace(other, character)
    return word
