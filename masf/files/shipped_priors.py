"""Priors that are shipped with masf, and where one of them may be used.

A prior is one of a system with its parameters, and of an observation; a file of another format, or
of settings that this version does not know, is none. What the training was told stands in the file,
so that the command that made it can be said, and given again.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from masf.atomic import FileFault, replacing
from masf.diffusion.prior_settings import PriorSettings
from masf.faults import Refused
from masf.files.prior import read_prior
from masf.gaps import Gap, pattern_of
from masf.observations.base import ObservationSettings
from masf.observations.settings import observation_settings
from masf.systems.registry import system_class, system_names

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent.parent / "priors"


@dataclass(frozen=True)
class ShippedPrior:
    """A file, and what its training was told."""

    path: Path
    system: str
    parameters: dict[str, Any]
    """Of the system, its defaults filled in."""
    observation: ObservationSettings
    settings: PriorSettings
    seed: int

    @property
    def command(self) -> str:
        """What makes it again, quoted for the shell."""
        options = {
            "system": self.system,
            "parameters": json.dumps(self.parameters, sort_keys=True),
            "observation": json.dumps(
                self.observation.model_dump(exclude_defaults=True), sort_keys=True
            ),
            "settings": json.dumps(self.settings.model_dump(exclude_defaults=True), sort_keys=True),
            "seed": str(self.seed),
            "output": self.path.name,
        }
        return shlex.join(
            ["masf", "train-prior", *(w for k, v in options.items() for w in (f"--{k}", v))]
        )

    def is_of(
        self, system: str, parameters: Mapping[str, Any], observation: ObservationSettings
    ) -> bool:
        """Whether it denoises what is measured so of such a system."""
        if (system, observation) != (self.system, self.observation):
            return False
        return _filled_in(system, parameters) == self.parameters

    def serves(self, gap: Gap) -> bool:
        """Whether the steps between measurements are among those that it was trained with, or
        between them.
        """
        gaps = pattern_of(gap)
        return min(self.settings.gaps) <= min(gaps) and max(gaps) <= max(self.settings.gaps)


def _filled_in(system: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return system_class(system).Parameters(**parameters).model_dump()


@cache
def priors_in(folder: Path) -> tuple[ShippedPrior, ...]:
    """The priors in a folder, without files that this version cannot use."""
    found = (_read(path) for path in sorted(folder.glob("*.safetensors")))
    return tuple(prior for prior in found if prior is not None)


def _read(path: Path) -> ShippedPrior | None:
    try:
        metadata, _ = read_prior(path, "np")
        system = metadata["system"]
        if system not in system_names():
            return None
        return ShippedPrior(
            path,
            system,
            _filled_in(system, json.loads(metadata["system_parameters"])),
            observation_settings(json.loads(metadata["observation"])),
            PriorSettings.model_validate_json(metadata["settings"]),
            int(metadata["seed"]),
        )
    except (FileFault, KeyError, ValidationError, ValueError) as error:
        log.warning("%s: is not used, as this version of masf cannot read it: %s", path, error)
        return None


def _shipped(
    system: str, parameters: Mapping[str, Any], observation: ObservationSettings
) -> Iterator[ShippedPrior]:
    return (prior for prior in priors_in(FOLDER) if prior.is_of(system, parameters, observation))


def shipped_for_gap(
    system: str,
    parameters: Mapping[str, Any],
    observation: ObservationSettings,
    gap: Gap,
) -> ShippedPrior | None:
    """The shipped prior of a system and an observation that was trained for such gaps; None where
    there is none.

    Args:
        system: its name.
        parameters: of the system; a ring's dimension is that of the training, see
            ``PriorSettings.training_parameters``.
        observation: what is measured.
        gap: steps between measurements.
    """
    return next((p for p in _shipped(system, parameters, observation) if p.serves(gap)), None)


def shipped_as_trained(
    system: str,
    parameters: Mapping[str, Any],
    observation: ObservationSettings,
    settings: PriorSettings,
    seed: int,
) -> ShippedPrior | None:
    """The shipped prior that a training with these settings and this seed made; None where there is
    none. Arguments as those of :func:`shipped_for_gap`.
    """
    wanted = settings.model_dump(), seed  # a config's are of a class of their own
    return next(
        (
            prior
            for prior in _shipped(system, parameters, observation)
            if (prior.settings.model_dump(), prior.seed) == wanted
        ),
        None,
    )


def copy_as_trained(
    output: Path,
    system: str,
    parameters: Mapping[str, Any],
    observation: ObservationSettings,
    settings: PriorSettings,
    seed: int,
) -> None:
    """Writes a copy of the prior that :func:`shipped_as_trained` finds. Raises Refused where there
    is none.
    """
    found = shipped_as_trained(system, parameters, observation, settings, seed)
    if found is None:
        raise Refused(
            f"no prior of system {system!r} that was trained so is shipped with masf "
            f"({FOLDER / 'README.md'} lists them): leave out --shipped to train one"
        )
    with replacing(output) as temporary:
        shutil.copyfile(found.path, temporary)
    log.info("takes the prior shipped with masf: %s", found.path.name)
