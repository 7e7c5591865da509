"""Fitting a network by denoising: the loss is the mean square of target less answer, 1 or so for a
network of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from masf.arrays import Stream
from masf.progress import progress_bar

SHOWN_EVERY = 5
"""Steps between two losses on the bar: each waits for the device."""


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
    resumed: dict[str, Any] | None = None,
    keep: Callable[[Callable[[], dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """Trains ``network`` in place on ``features`` (n, channel, d) and ``targets`` (n, d).

    Adam, with a learning rate that rises over the first tenth of the steps and is annealed to zero
    by a cosine.

    Args:
        network: the network.
        features: its input.
        targets: what it should answer.
        steps: of the training.
        batch: pairs in a step.
        learning_rate: the peak.
        stream: random numbers: which pairs are in a step.
        progress: whether to show a bar, with the loss of late and the time that is left.
        resumed: the state that an earlier run of the same training was in, to go on from.
        keep: is handed, after each step, what makes the state then.

    Returns:
        The state at the end.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    rise = max(1, steps // 10)

    def factor(step: int) -> float:
        annealed = max(0, step - rise) / max(1, steps - rise)
        return min((step + 1) / rise, (1 + math.cos(math.pi * min(1.0, annealed))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    network.train()
    generator = stream.torch(features.device)
    first = 0

    def state(step: int) -> dict[str, Any]:
        return {
            "step": step,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "generator": generator.get_state(),
        }

    if resumed is not None:
        first = resumed["step"]
        network.load_state_dict(resumed["network"])
        optimizer.load_state_dict(resumed["optimizer"])
        schedule.load_state_dict(resumed["schedule"])
        generator.set_state(resumed["generator"])
    bar = progress_bar(
        range(first, steps), initial=first, total=steps, desc="train", unit="step",
        disable=None if progress else True,
    )  # fmt: skip
    late = math.nan
    for step in bar:
        chosen = torch.randint(len(features), (batch,), generator=generator, device=features.device)
        loss = (network(features[chosen]) - targets[chosen]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if progress and step % SHOWN_EVERY == 0:
            found = float(loss.detach())
            late = found if math.isnan(late) else 0.9 * late + 0.1 * found
            bar.set_postfix_str(f"loss {late:.3f}", refresh=False)
        if keep is not None:
            keep(partial(state, step + 1))
    network.eval()
    return state(steps)


@torch.no_grad()
def loss(network: nn.Module, features: Tensor, targets: Tensor, chunk: int = 4096) -> float:
    """The denoising loss of ``network`` on these pairs."""
    pairs = zip(torch.split(features, chunk), torch.split(targets, chunk), strict=True)
    total = sum(float((network(f) - t).square().sum()) for f, t in pairs)
    return total / targets.numel()


def zero_loss(targets: Tensor) -> float:
    """The denoising loss of the Gaussian denoiser alone, a network of zeros."""
    return float(targets.square().mean())
