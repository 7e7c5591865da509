"""Networks that correct the Gaussian denoiser, from features (batch, channel, component) to (batch, component).

The last layer starts at zero, so that an untrained network leaves the Gaussian answer as it is.
"""

from __future__ import annotations

from torch import Tensor, nn


class CircularConvNet(nn.Module):
    """Residual one-dimensional convolutions on a ring: equivariant to translations, for any number of components."""

    def __init__(self, features: int, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()

        def conv(n_in: int, n_out: int) -> nn.Conv1d:
            return nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2, padding_mode="circular")

        self.first = conv(features, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), conv(channels, channels), nn.SiLU(), conv(channels, channels)) for _ in range(blocks)
        )
        self.last = nn.Conv1d(channels, 1, 1)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features)
        for block in self.blocks:
            x = x + block(x)
        return self.last(nn.functional.silu(x)).squeeze(-2)


class MLP(nn.Module):
    """Residual fully connected layers over all components at once, for few components."""

    def __init__(self, features: int, dimension: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(features * dimension, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(blocks))
        self.last = nn.Linear(width, dimension)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features.flatten(-2))
        for block in self.blocks:
            x = x + block(x)
        return self.last(nn.functional.silu(x))


def zero(layer: nn.Conv1d | nn.Linear) -> None:
    """Sets a layer's weights and bias to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
