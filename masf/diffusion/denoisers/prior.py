"""A pretrained prior: the network that corrects the Gaussian denoiser, and what it needs to be
used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from masf.diffusion.denoisers.learned import (
    MIXED,
    Climate,
    feature_count,
    field_feature_count,
    row_length,
)
from masf.diffusion.denoisers.networks import MLP, CircularConvNet, UNet2d, Weighing
from masf.diffusion.prior_settings import PriorSettings
from masf.systems.base import System, grid_shape


@dataclass
class Prior:
    """A trained network and what it needs to be used."""

    network: nn.Module
    climate: Climate
    settings: PriorSettings
    metadata: dict[str, str]


def make_network(
    prior: PriorSettings, system: System, shape: tuple[int, ...] | None = None
) -> nn.Module:
    """An untrained network for this system: convolutions on a ring, a U-Net for fields, or a
    perceptron.

    Args:
        prior: its settings.
        system: whose states it denoises.
        shape: of the states with what is measured of them, where that is denoised, too:
            (fields, *grid), or (length,) where measurements have no places.

    Raises:
        ValueError: for settings that do not serve the system.
    """
    if fault := prior.fault(system):
        raise ValueError(f"prior: {fault}")
    shape = shape or grid_shape(system)
    if len(shape) == 1 and prior.network.resolved_kind(system) != "mlp":
        raise ValueError(
            f"prior: network.kind = {prior.network.kind!r}: convolutions need measurements that "
            "have a place; set it to mlp"
        )
    settings = prior.network
    kind = settings.resolved_kind(system)
    seen = len(prior.localization_radii), len(prior.bandwidths)
    features = feature_count(row_length(shape), *seen)
    if system.flow:
        features = field_feature_count(system.pattern(), *seen)
    answers = 1 + prior.answers
    network: nn.Module
    if kind == "unet2d":
        network = UNet2d(
            features,
            shape,
            settings.width,
            settings.levels,
            settings.blocks,
            settings.kernel,
            answers,
        )
    elif kind == "conv1d":
        network = CircularConvNet(
            features, settings.width, settings.blocks, settings.kernel, shape[0], answers
        )
    else:
        network = MLP(features, math.prod(shape), settings.width, settings.blocks, answers)
    return Weighing(network, MIXED, prior.answers) if prior.answers else network
