"""What each file records of what made it: one function a kind of file, for stages and for the API
in memory alike.

What only files have is recorded of files alone: ``truth_sha256``, the digest of truth.nc, and
``threads``, the number of threads that the command was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masf import __version__
from masf.atomic import sha256
from masf.files.parameters import ParameterSource
from masf.files.provenance import (
    assimilate_version,
    simulate_version,
    train_prior_version,
    tune_version,
)
from masf.observations.consistency import recorded
from masf.systems.base import System
from masf.systems.registry import has_name, name_of

if TYPE_CHECKING:
    from masf.diffusion.prior_settings import PriorSettings
    from masf.observations.base import Observation, ObservationSettings


def truth_code(system: System, name: str) -> str:
    """The code version in truth.nc; empty where the system is a user's own."""
    return simulate_version(name) if has_name(system) else ""


def prior_record(
    system: str,
    parameters: Mapping[str, Any],
    observation: ObservationSettings | Mapping[str, Any],
    settings: PriorSettings,
    *,
    seed: int,
    held_out_loss: float,
    held_out_loss_gaussian: float,
    device: str,
    threads: int,
    of_masf: bool = True,
) -> dict[str, str]:
    """The metadata of prior.safetensors, which are text, but for its format.

    Args:
        system: the name of the system that it was trained for.
        parameters: of the system.
        observation: what is measured.
        settings: of the training.
        seed: of the training.
        held_out_loss: the trained network's denoising loss.
        held_out_loss_gaussian: that of the Gaussian denoiser alone.
        device: where it was trained.
        threads: processor cores that the training used.
        of_masf: whether system and observation are masf's; of a user's own, no code version is
            known.
    """
    return {
        "masf_version": __version__,
        "code_version": train_prior_version(system) if of_masf else "",
        "system": system,
        "system_parameters": json.dumps(parameters, sort_keys=True),
        "observation": json.dumps(dict(observation), default=str)
        if isinstance(observation, Mapping)
        else observation.model_dump_json(),
        "settings": settings.model_dump_json(),
        "seed": str(seed),
        "held_out_loss": f"{held_out_loss:.6g}",
        "held_out_loss_gaussian": f"{held_out_loss_gaussian:.6g}",
        "device": device,
        "threads": str(threads),
    }


def tuning_record(
    module: str,
    system: str,
    command: str | None,
    *,
    truths: Iterable[Path],
    prior: Path | None,
    device: str,
    threads: int,
    files: Mapping[str, list[str]],
) -> dict[str, Any]:
    """What the trials in {filter}.json depend on besides their settings.

    Args:
        module: the filter's module in masf/filters.
        system: the name of the cells' system.
        command: what runs the filter, where it is not ours.
        truths: the files of the tuning seeds.
        prior: the file of the pretrained prior, where one was given.
        device: where the trials are computed, with the parameters in force.
        threads: as they were asked for.
        files: SHA-256 of the files among the filter's parameters, those that are tried included.
    """
    return {
        "code_version": tune_version(module, system, command),
        "truth_sha256": [sha256(path) for path in truths],
        "prior_sha256": _digest(prior),
        "device": device,
        "threads": threads,
        **({"parameter_files": dict(files)} if files else {}),
    }


def estimate_record(
    name: str,
    module: str,
    command: str | None,
    system: System,
    observation: Observation,
    *,
    parameters: Mapping[str, Any],
    source: ParameterSource,
    prior: Path | None,
    device: str,
    files: Mapping[str, str],
    of_masf: bool = True,
) -> dict[str, Any]:
    """The attributes of {filter}.nc that say what made it.

    Args:
        name: what tables call the filter.
        module: its module in masf/filters.
        command: what runs it, where it is not ours.
        system: the model that the filter forecast with; in studies, that of the truth.
        observation: what it took the measurements for.
        parameters: of the filter.
        source: where these came from.
        prior: the file of the pretrained prior, where one was given.
        device: where it was computed.
        files: SHA-256 of the files among the parameters, by the parameter.
        of_masf: whether filter, system and observation are masf's; of a user's own, no code
            version is known.
    """
    model = name_of(system)
    return {
        "filter": name,
        **({"filter_module": module} if command is None else {"filter_command": command}),
        "filter_parameters": json.dumps(parameters, sort_keys=True, default=str),
        **({"parameter_files": json.dumps(files, sort_keys=True)} if files else {}),
        "parameter_source": source.model_dump_json(),
        "code_version": assimilate_version(module, model, command) if of_masf else "",
        "model": model,
        "model_parameters": system.parameters.model_dump_json(),
        "model_observation": json.dumps(
            recorded(observation, system.grid), sort_keys=True, default=str
        ),
        "prior_sha256": _digest(prior),
        "device": device,
    }


def _digest(path: Path | None) -> str:
    return "" if path is None else sha256(path)
