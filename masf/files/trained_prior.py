"""prior.safetensors, written and read with its network; masf.files.prior reads it without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from masf.atomic import FileFault, replacing
from masf.diffusion.denoisers.learned import Climate
from masf.diffusion.denoisers.prior import Prior, make_network
from masf.diffusion.prior_settings import PriorSettings
from masf.files.prior import FORMAT, read_prior
from masf.systems.base import System
from masf.systems.registry import name_of


def save(prior: Prior, path: Path) -> None:
    """Writes a prior, by way of a temporary name."""
    tensors = {
        f"network.{k}": v.detach().cpu().contiguous() for k, v in prior.network.state_dict().items()
    }
    tensors["climate.mean"] = torch.as_tensor(prior.climate.mean)
    tensors["climate.std"] = torch.as_tensor(prior.climate.std)
    metadata = prior.metadata | {"format": FORMAT}
    metadata |= {"sha256": _digest(tensors, metadata)}
    with replacing(path) as temporary:
        # One entry, because safetensors writes several in no fixed order.
        save_file(tensors, temporary, metadata={"masf": json.dumps(metadata, sort_keys=True)})


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """What tells a reader of bytes that changed on disk: safetensors itself has no checksums."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def load(path: Path, system: System, device: str, shape: tuple[int, ...] | None = None) -> Prior:
    """Reads a prior that was trained for this kind of system.

    Args:
        path: the file.
        system: whose states it denoises.
        device: where its network is to be.
        shape: of the states with what is measured of them, as that of ``make_network``.

    Raises:
        FileFault: if the file is missing, is not a prior, or does not fit the system.
    """
    metadata, tensors = read_prior(path, "pt")
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise FileFault(
            path, "is damaged: its checksum is that of other content", "run stage train-prior again"
        )
    del metadata["format"]
    try:
        settings = PriorSettings.model_validate_json(metadata["settings"])
    except (KeyError, ValueError) as error:
        raise FileFault(
            path, "was made by another version of masf", "run stage train-prior again"
        ) from error
    name = name_of(system)
    if metadata.get("system") != name:
        raise FileFault(
            path,
            f"was trained for another system ({metadata.get('system')}, not {name})",
            "name the right prior",
        )
    # With the defaults that its training left out.
    for key, value in (
        system.Parameters(**json.loads(metadata["system_parameters"])).model_dump().items()
    ):
        if key != "dimension" and getattr(system.parameters, key) != value:
            found = f"{key} {value:g}, not {getattr(system.parameters, key):g}"
            raise FileFault(
                path, f"was trained for another system ({found})", "name the right prior"
            )
    network = make_network(settings, system, shape)
    try:
        network.load_state_dict(
            {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
        )
    except RuntimeError as error:
        raise FileFault(
            path,
            "was trained for another dimension, network or kind of measurement",
            "run stage train-prior again",
        ) from error
    climate = Climate(tensors["climate.mean"].numpy(), tensors["climate.std"].numpy())
    return Prior(network.to(device).eval(), climate, settings, metadata)
