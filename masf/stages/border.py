"""The border between torch and code of one's own that knows numpy only.

Where a filter computes with torch, a system or an observation of one's own is tried on tensors
first. Methods that fail on them, or give other numbers than on arrays, are handed arrays, and what
they return is made tensors again: right, and slower, by two copies a call.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from array_api_compat import is_torch_array

from masf.arrays import Array, on_device, require_states, to_numpy
from masf.contract import SameNumbers
from masf.observations.base import NonlinearObservation, Observation
from masf.observations.consistency import is_ours
from masf.systems import registry
from masf.systems.base import System
from masf.systems.requirements import same_numbers

log = logging.getLogger(__name__)

Owner = TypeVar("Owner", System, Observation)

_said: set[str] = set()
"""Classes of which it was said that they are converted."""


def on_tensors(
    system: System, observation: Observation, states: np.ndarray, torch_device: str
) -> tuple[System, Observation]:
    """The system and the observation as tensors can be given to them; masf's own as they are.

    Args:
        system: the model.
        observation: what is measured.
        states: (N, d) on which they are tried.
        torch_device: where the tensors will be.
    """
    x = states[:2].astype(np.float32)
    if not registry.is_ours(system):
        system = _converted(system, torch_device, {
            "step": (x, SameNumbers(0, "border")),
            "project": (x,),
            "perturbations": (2, x[0], SameNumbers(0, "border")),
        })  # fmt: skip
    if not is_ours(observation):
        v = np.asarray(observation.apply(x), dtype=np.float32)
        tried: dict[str, tuple[Any, ...]] = {"apply": (x,)}
        if observation.linear:
            tried["adjoint"] = (v,)
        elif type(observation).pullback is not NonlinearObservation.pullback:
            tried["pullback"] = (x, v)
        for name in ("log_likelihood", "likelihood_score"):
            if getattr(type(observation), name) is not getattr(Observation, name):
                tried[name] = (x, v[0])
        observation = _converted(observation, torch_device, tried)
    return system, observation


def _converted(owner: Owner, torch_device: str, tried: dict[str, tuple[Any, ...]]) -> Owner:
    """A copy of ``owner`` whose methods take tensors; itself where all do already.

    Args:
        owner: a system or an observation.
        torch_device: where the tensors will be.
        tried: what each method is tried on.
    """
    failing = [
        name
        for name, given in tried.items()
        if not _takes_tensors(getattr(owner, name), given, torch_device)
    ]
    if not failing:
        return owner
    name = type(owner).__name__
    if name not in _said:
        _said.add(name)
        log.warning(
            "%s: %s takes numpy arrays only, and is handed some: slower than one that is written "
            "for both by array_api_compat.array_namespace(x)",
            name,
            ", ".join(failing),
        )
    converted = copy.copy(owner)
    for method in failing:
        vars(converted)[method] = _through_numpy(getattr(owner, method))
    return converted


def _takes_tensors(call: Callable[..., Any], given: tuple[Any, ...], torch_device: str) -> bool:
    """Whether a method makes of tensors what it makes of arrays."""
    tensors = [
        on_device(value, torch_device) if isinstance(value, np.ndarray) else copy.deepcopy(value)
        for value in given
    ]
    expected = call(*(copy.deepcopy(value) for value in given))
    try:
        found = call(*tensors)
        like = next(value for value in tensors if is_torch_array(value))
        require_states("", found, like, np.shape(expected))
    except Exception:  # whatever code of one's own raises
        return False
    return same_numbers(to_numpy(found), np.asarray(expected))


def _through_numpy(call: Callable[..., Any]) -> Callable[..., Any]:
    def through(*given: Any) -> Array:
        x = next((value for value in given if is_torch_array(value)), None)
        found = call(*(to_numpy(value) if is_torch_array(value) else value for value in given))
        if x is None or not isinstance(found, np.ndarray):
            return found
        import torch

        # A copy: what is returned may be what was given, whose memory a tensor shares.
        return torch.tensor(found, dtype=x.dtype, device=x.device)

    return through
