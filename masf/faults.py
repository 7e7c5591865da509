"""What is refused, as exceptions that a caller may tell apart; all are ValueErrors.

Each says in one sentence what is wrong, where, and what to do. Their parts: FileFault
(masf.atomic) of files, ConfigFault (masf.study.messages) of configs, ContractFault of code of one's
own, and Refused itself of arguments.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any


class Refused(ValueError):
    """What cannot be done as asked: what is wrong, where, and what to do."""


class ContractFault(Refused):
    """A system, an observation or a filter of one's own that does not do what its class must."""


def whole_number(name: str, value: Any, least: int) -> int:
    """``value`` as a Python int. Raises Refused where it is no whole number or below ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        once = ""
        if isinstance(value, Iterable) and not isinstance(value, str):
            once = "; for several, call once for each"
        raise Refused(
            f"{name} is {value!r}: expected one whole number, at least {least}{once}"
        ) from None
    if number < least:
        raise Refused(f"{name} is {number}: expected at least {least}")
    return number


def positive_number(name: str, value: Any) -> float:
    """``value`` as a Python float. Raises Refused where it is no number above 0."""
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise Refused(f"{name} is {value!r}: expected a positive number")
    return float(value)


def require_instance(name: str, value: Any, cls: type, remedy: str) -> None:
    """Raises Refused for a value that is no object of a class, with what to pass instead."""
    if isinstance(value, cls):
        return
    if inspect.isclass(value):
        raise Refused(f"{name} is the class {value.__name__}, not an object of it: {remedy}")
    raise Refused(f"{name} is {value!r:.80} ({type(value).__name__}): {remedy}")
