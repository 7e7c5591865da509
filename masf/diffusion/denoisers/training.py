"""Fitting a network by denoising: the loss is the mean square of target less answer, 1 or so for a
network of zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from masf.arrays import Stream
from masf.progress import progress_bar


def fit(
    network: nn.Module,
    features: Tensor,
    targets: Tensor,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    stream: Stream,
    progress: bool = False,
) -> None:
    """Trains ``network`` in place on ``features`` (n, channel, d) and ``targets`` (n, d).

    Adam, with a learning rate that rises over the first tenth of the steps and is annealed to zero
    by a cosine.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    rise = max(1, steps // 10)

    def factor(step: int) -> float:
        annealed = max(0, step - rise) / max(1, steps - rise)
        return min((step + 1) / rise, (1 + math.cos(math.pi * min(1.0, annealed))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    network.train()
    generator = stream.torch(features.device)
    for _ in progress_bar(range(steps), desc="train", unit="step") if progress else range(steps):
        chosen = torch.randint(len(features), (batch,), generator=generator, device=features.device)
        loss = (network(features[chosen]) - targets[chosen]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()


@torch.no_grad()
def loss(network: nn.Module, features: Tensor, targets: Tensor, chunk: int = 4096) -> float:
    """The denoising loss of ``network`` on these pairs."""
    pairs = zip(torch.split(features, chunk), torch.split(targets, chunk), strict=True)
    total = sum(float((network(f) - t).square().sum()) for f, t in pairs)
    return total / targets.numel()


def zero_loss(targets: Tensor) -> float:
    """The denoising loss of the Gaussian denoiser alone, a network of zeros."""
    return float(targets.square().mean())
