"""A pretrained prior: the network that corrects the Gaussian denoiser, and what it needs to be
used.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from masf.diffusion.denoisers.learned import Climate, feature_count, field_feature_count
from masf.diffusion.denoisers.networks import MLP, CircularConvNet, UNet2d
from masf.diffusion.prior_settings import PriorSettings
from masf.systems.base import System


@dataclass
class Prior:
    """A trained network and what it needs to be used."""

    network: nn.Module
    climate: Climate
    settings: PriorSettings
    metadata: dict[str, str]


def make_network(prior: PriorSettings, system: System) -> nn.Module:
    """An untrained network for this system: convolutions on a ring, a U-Net for fields, or a
    perceptron.

    Raises:
        ValueError: for settings that do not serve the system.
    """
    if fault := prior.fault(system):
        raise ValueError(f"prior: {fault}")
    settings = prior.network
    kind = settings.resolved_kind(system)
    features = feature_count(system.dimension, prior.localization_radii)
    if system.flow:
        features = field_feature_count(system.pattern(), prior.localization_radii)
    if kind == "unet2d":
        return UNet2d(
            features,
            system.shape,
            settings.width,
            settings.levels,
            settings.blocks,
            settings.kernel,
        )
    if kind == "conv1d":
        return CircularConvNet(features, settings.width, settings.blocks, settings.kernel)
    return MLP(features, system.dimension, settings.width, settings.blocks)
