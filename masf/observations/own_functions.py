"""Functions of one's own in a file, which an observation's key ``transform`` names.

    transform: functions/gauge.py:depth        derivative: slope

is the function ``depth`` of that file, of arrays of numpy and of torch, component by component, and
its derivative ``slope`` in the same file; torch finds the derivative where none is named. A name
says nothing of what stands in the file: the settings therefore hold the SHA-256 of its content,
too, and a file whose content is another one is refused.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from masf import places
from masf.atomic import sha256
from masf.faults import Refused
from masf.observations.transforms import Elementwise, Transform, TransformFault, guarded

FUNCTION_IN_FILE = r"^.+\.py:[^\W\d]\w*$"
"""How a config says such a function."""

TRIED = np.array([-2.3, -0.9, -0.31, 0.17, 0.62, 1.4, 3.1])
"""Where a function is tried before it is used."""
STEP, LOOSE = 1e-6, 1e-4
"""Of central differences, and how far a derivative may be off."""


def file_of(said: str) -> Path:
    """The file of a function that is said as ``path/to/file.py:name``: absolute, looked for in the
    working directory and then in this project, with ``~`` and variables filled in.

    Raises:
        ValueError: for a variable that is not set.
    """
    return Path(places.located(places.expanded(_split(said)[0]))).resolve()


def content_of(said: str) -> str | None:
    """The SHA-256 of that file; None where there is no such file."""
    try:
        path = file_of(said)
    except ValueError:
        return None  # `file_transform` says why: settings are read where their files are not, too
    return sha256(path) if path.is_file() else None


def file_transform(said: str, derivative: str | None, expected: str | None) -> Transform:
    """The function that a config says as ``path/to/file.py:name``.

    Args:
        said: what the config says.
        derivative: the name of its derivative in the same file; None leaves that to torch.
        expected: the SHA-256 of the file's content, where it is known.

    Raises:
        Refused: naming file and function: for a file that is missing, cannot be run, or has another
            content; for a name that is no function there; for a function that mixes the components
            of its array, or a derivative that is not its own.
    """
    name = _split(said)[1]
    try:
        path = file_of(said)
    except ValueError as error:
        raise Refused(f"transform {said!r}: {error}") from None
    if not path.is_file():
        raise Refused(
            f"transform {said!r}: there is no such file; paths are looked for in the working "
            "directory and then in this project"
        )
    found = sha256(path)
    if expected not in (None, found):
        raise Refused(
            f"transform {said!r}: the file has another content now than what was measured by it: "
            "put the old one back, or simulate the measurements again"
        )
    module = _module(path, found)
    value = guarded(_function(module, path, name), f"function {name!r} of {path}")
    slope = None
    if derivative is not None:
        slope = guarded(_function(module, path, derivative), f"function {derivative!r} of {path}")
    _require_elementwise(value, f"function {name!r} of {path}")
    if slope is not None:
        _require_derivative(value, slope, f"function {derivative!r} of {path}", name)
    return Transform(said, value, slope)


def _split(said: str) -> tuple[str, str]:
    path, _, name = said.rpartition(":")
    return path, name


@cache
def _module(path: Path, content: str) -> ModuleType:
    """The file, run as a module. ``content`` tells contents apart."""
    name = f"masf_function_in_file_{content[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # which classes in the file may ask for
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise Refused(f"{path}: cannot be run: {type(error).__name__}: {error}") from error
    return module


def _function(module: ModuleType, path: Path, name: str) -> Elementwise:
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(
            key for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        )  # fmt: skip
        raise Refused(
            f"{path}: has no function {name!r}; it has {', '.join(map(repr, known)) or 'none'}"
        )
    return function


def _require_elementwise(value: Elementwise, what: str) -> None:
    """Raises TransformFault for a function whose answer at one component depends on others, or on
    chance.
    """
    with np.errstate(all="ignore"):
        together = value(TRIED[None])[0]
        alone = np.concatenate([value(z[None]) for z in TRIED])
    if not np.allclose(together, alone, rtol=1e-9, atol=0, equal_nan=True):
        raise TransformFault(
            f"{what}: its answer at one component changes with the others, or from call to call; "
            "a transform is of single measurements: for others derive a class from "
            "masf.NonlinearObservation (docs/adding-an-observation.md)"
        )


def _require_derivative(value: Elementwise, slope: Elementwise, what: str, name: str) -> None:
    """Raises TransformFault for a ``slope`` that is not the derivative of ``value``."""
    with np.errstate(all="ignore"):
        found = slope(TRIED)
        expected = (value(TRIED + STEP) - value(TRIED - STEP)) / (2 * STEP)
    known = np.isfinite(expected)
    off = known & ~np.isclose(found, expected, rtol=LOOSE, atol=LOOSE)
    if np.any(off):
        i = int(np.argmax(off))
        raise TransformFault(
            f"{what}: is {found[i]:.6g} at {TRIED[i]:g}, where a difference of {name!r} gives "
            f"{expected[i]:.6g}: it is not its derivative; correct it, or leave out the key "
            "derivative, and torch finds it"
        )
