"""A network that learns the score of a standardised ensemble by denoising, for the score filters sf
and ssls.

With x_t = alpha z + beta eps, where z has mean 0 and variance 1, and v = alpha^2 + beta^2, the
score of x_t is -E[eps | x_t] / beta, and

    eps^ = beta x_t / v + (alpha / sqrt(v)) net(x_t / sqrt(v), ...)
    target of net: (alpha eps - beta z) / sqrt(v)

so that the target has unit variance at every noise level (the v-parametrisation of Salimans and Ho
2022), and a network of zeros gives the score of N(0, v I). Besides x_t / sqrt(v) the network sees
alpha and beta; on a ring and in a flow, where it is made of circular convolutions, also the
forecast's mean and spread, on which the score depends from place to place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from masf.arrays import Stream, like
from masf.diffusion.damped import Standardised
from masf.diffusion.denoisers.networks import MLP, CircularConvNet, UNet2d
from masf.diffusion.denoisers.training import fit, loss
from masf.systems.base import System

KERNEL = 5
"""Kernel length of the circular convolutions on a ring."""
KERNEL_2D, MOST_LEVELS = 3, 3
"""Kernel length of those on a square grid, and levels of their U-Net, at most."""

COPIES_AT_ONCE = 16
"""Noised copies of each member that a training draws, at most."""

Levels = Callable[[Tensor], tuple[Tensor, Tensor]]
"""alpha and beta (n,) from n numbers, uniform on [0, 1)."""


class ScoreNetwork:
    """The score network of one filter, trained again in each cycle from where it stands."""

    def __init__(self, system: System, x: Tensor, stream: Stream, parameters: Any) -> None:
        """For states of ``system``; ``x`` gives the device, ``parameters`` are the
        TrainingParameters of the filter.
        """
        p = parameters
        self.parameters, self.stream = p, stream
        # A ring shorter than the kernel is no place for convolutions.
        ring = system.ring is not None and system.ring >= KERNEL
        self.convolutional = ring or system.flow
        pattern = system.pattern()
        self._pattern = [] if pattern is None else list(like(pattern, x))
        torch.manual_seed(int(self.stream.numpy.integers(2**31)))
        network: nn.Module
        if ring:
            network = CircularConvNet(5, p.network_width, p.network_blocks, KERNEL)
        elif system.flow:
            levels = max(
                k for k in range(1, MOST_LEVELS + 1) if system.shape[-1] % 2 ** (k - 1) == 0
            )
            network = UNet2d(
                5 + len(self._pattern),
                system.shape,
                p.network_width,
                levels,
                p.network_blocks,
                KERNEL_2D,
            )
        else:
            network = MLP(3, system.dimension, p.network_width, p.network_blocks)
        self.network = network.to(x.device)
        self._context = torch.empty(0)
        self._cycles = 0
        self._loss = math.nan

    def features(self, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """The network's input (n, channels, d) for x_t = x (n, d) and alpha, beta (n,)."""
        root = torch.sqrt(alpha**2 + beta**2)
        levels = torch.stack([alpha, beta], dim=-1)[..., None].expand(-1, -1, x.shape[-1])
        return torch.cat(
            [
                (x / root[:, None])[:, None],
                levels,
                self._context.expand(len(x), *self._context.shape),
            ],
            dim=1,
        )

    def train(self, members: Tensor, scaled: Standardised, levels: Levels) -> None:
        """Trains on noised copies of the standardised ``members`` (N, d), each at a noise level of
        its own.
        """
        p = self.parameters
        steps = p.training_steps_per_cycle if self._cycles else p.training_steps
        self._cycles += 1
        spread = torch.log(scaled.std)
        around = (
            [scaled.mean - scaled.mean.mean(), spread - spread.mean()] if self.convolutional else []
        )
        context = [c / c.std().clamp(min=1e-6) for c in around] + self._pattern
        self._context = torch.stack(context) if context else members.new_empty(0, members.shape[-1])
        copies = min(COPIES_AT_ONCE, max(1, -(-steps * p.training_batch // len(members))))
        clean = members.repeat(copies, 1)
        uniform = torch.rand(
            len(clean),
            generator=self.stream.torch(members.device),
            device=members.device,
            dtype=members.dtype,
        )
        alpha, beta = levels(uniform)
        noise = self.stream.normal(tuple(clean.shape), clean)
        x = alpha[:, None] * clean + beta[:, None] * noise
        targets = (alpha[:, None] * noise - beta[:, None] * clean) / torch.sqrt(alpha**2 + beta**2)[
            :, None
        ]
        features = self.features(x, alpha, beta)
        fit(
            self.network, features, targets,
            steps=steps, batch=p.training_batch, learning_rate=p.learning_rate, stream=self.stream,
        )  # fmt: skip
        self._loss = loss(self.network, features[: len(members)], targets[: len(members)])

    def diagnostics(self) -> dict[str, float]:
        """The loss on copies of all members after training; 1 or so for the score of N(0, v I)."""
        return {"loss": self._loss}

    @torch.no_grad()
    def score(self, x: Tensor, alpha: float, beta: float) -> Tensor:
        """-E[eps | x_t = x] / beta for states (n, d)."""
        v = alpha**2 + beta**2
        levels = x.new_full((len(x),), alpha), x.new_full((len(x),), beta)
        return -x / v - alpha / (beta * v**0.5) * self.network(self.features(x, *levels))
