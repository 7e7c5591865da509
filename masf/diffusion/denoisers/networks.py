"""Networks that correct the Gaussian denoiser, from features (batch, channel, component) to
``answers`` for each component, flattened: (batch, answers * component).

The last layer starts at zero, so that an untrained network leaves the Gaussian answer as it is.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class CircularConv(nn.Conv1d):
    """One-dimensional convolution on a ring, for states (batch, channel, 1, component) laid out
    with the channel innermost.

    In that layout a convolution is one product of matrices, on a CPU more than twice as fast as
    ``Conv1d``, whose weights it has.
    """

    def forward(self, x: Tensor) -> Tensor:
        reach = self.kernel_size[0] // 2
        if reach:
            x = torch.cat([x[..., -reach:], x, x[..., :reach]], dim=-1)
        return nn.functional.conv2d(x, self.weight.unsqueeze(-2), self.bias)


class CircularConvNet(nn.Module):
    """Residual one-dimensional convolutions on a ring: equivariant to translations, for any number
    of points, for features and answers that are (fields, points), flattened.
    """

    def __init__(
        self,
        features: int,
        channels: int,
        blocks: int,
        kernel: int,
        fields: int = 1,
        answers: int = 1,
    ) -> None:
        super().__init__()
        self.fields = fields

        def conv(n_in: int, n_out: int) -> CircularConv:
            return CircularConv(n_in, n_out, kernel)

        self.first = conv(features * fields, channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), conv(channels, channels), nn.SiLU(), conv(channels, channels))
            for _ in range(blocks)
        )
        self.last = CircularConv(channels, answers * fields, 1)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        rows = features.reshape(len(features), -1, 1, features.shape[-1] // self.fields)
        x = self.first(rows.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = x + block(x)
        return self.last(nn.functional.silu(x)).flatten(1)


class UNet2d(nn.Module):
    """A U-Net of circular two-dimensional convolutions, for features and answers that are (fields,
    n, n), flattened.

    Each level halves the grid and doubles the channels. Equivariant to translations by multiples of
    2^(levels - 1) points.
    """

    def __init__(
        self,
        features: int,
        shape: tuple[int, ...],
        channels: int,
        levels: int,
        blocks: int,
        kernel: int,
        answers: int = 1,
    ) -> None:
        """``shape`` is (fields, n, n), with n a multiple of 2^(levels - 1); ``blocks`` are those of
        each level, down and up.
        """
        super().__init__()
        self.shape = shape

        def conv(n_in: int, n_out: int) -> nn.Conv2d:
            return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, padding_mode="circular")

        def stage(width: int) -> nn.Module:
            return nn.Sequential(
                *(
                    Residual(nn.SiLU(), conv(width, width), nn.SiLU(), conv(width, width))
                    for _ in range(blocks)
                )
            )

        widths = [channels * 2**i for i in range(levels)]
        steps = list(itertools.pairwise(widths))
        self.first = conv(features * shape[0], channels)
        self.down = nn.ModuleList(stage(width) for width in widths)
        self.coarsen = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.join = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in steps)
        self.up = nn.ModuleList(stage(width) for width in widths[:-1])
        self.last = nn.Conv2d(channels, answers * shape[0], 1)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features.reshape(len(features), -1, *self.shape[1:]))
        skipped = []
        for stage, coarsen in zip(self.down, self.coarsen, strict=False):
            skipped.append(stage(x))
            x = coarsen(skipped[-1])
        x = self.down[-1](x)
        for i in range(len(self.up) - 1, -1, -1):
            # Channels are reduced before the grid is refined: the other order costs more and gives
            # the same.
            x = nn.functional.interpolate(self.narrow[i](x), scale_factor=2, mode="nearest")
            x = self.up[i](self.join[i](torch.cat([x, skipped[i]], dim=1)))
        return self.last(nn.functional.silu(x)).flatten(1)


class Residual(nn.Module):
    """x + f(x), for layers f one after the other."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class MLP(nn.Module):
    """Residual fully connected layers over all components at once, for few components."""

    def __init__(
        self, features: int, dimension: int, width: int, blocks: int, answers: int = 1
    ) -> None:
        super().__init__()
        self.first = nn.Linear(features * dimension, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(blocks)
        )
        self.last = nn.Linear(width, answers * dimension)
        zero(self.last)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features.flatten(-2))
        for block in self.blocks:
            x = x + block(x)
        return self.last(nn.functional.silu(x))


class Weighing(nn.Module):
    """A correction, and weights for answers that are among the features: n_0 + sum_k n_k f_k.

    The network inside gives n_0 and the n_k; f_k are ``answers`` channels from ``first`` on.
    """

    def __init__(self, network: nn.Module, first: int, answers: int) -> None:
        super().__init__()
        self.network, self.first, self.answers = network, first, answers

    def forward(self, features: Tensor) -> Tensor:
        weights = self.network(features).unflatten(1, (1 + self.answers, -1))
        weighed = features[:, self.first : self.first + self.answers]
        return weights[:, 0] + (weights[:, 1:] * weighed).sum(dim=1)


def zero(layer: nn.Conv1d | nn.Conv2d | nn.Linear) -> None:
    """Sets a layer's weights and bias to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
