"""Networks that correct the Gaussian denoiser, from features (batch, channel, component) to (batch, component).

The last layer starts at zero, so that an untrained network leaves the Gaussian answer as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CircularConv(nn.Conv1d):
    """One-dimensional convolution on a ring, for states (batch, channel, 1, component) laid out with the channel innermost.

    In that layout a convolution is one product of matrices, on a CPU more than twice as fast as ``Conv1d``, whose weights it has.
    """

    def forward(self, x: Tensor) -> Tensor:
        reach = self.kernel_size[0] // 2
        if reach:
            x = torch.cat([x[..., -reach:], x, x[..., :reach]], dim=-1)
        return nn.functional.conv2d(x, self.weight.unsqueeze(-2), self.bias)


class CircularConvNet(nn.Module):
    """Residual one-dimensional convolutions on a ring: equivariant to translations, for any number of components."""

    def __init__(self, features: int, channels: int, blocks: int, kernel: int) -> None:
        super().__init__()

        def conv(n_in: int, n_out: int) -> CircularConv:
            return CircularConv(n_in, n_out, kernel)

        self.first = conv(features, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), conv(channels, channels), nn.SiLU(), conv(channels, channels)) for _ in range(blocks)
        )
        self.last = CircularConv(channels, 1, 1)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features.unsqueeze(-2).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        return self.last(nn.functional.silu(x)).flatten(-3)


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
