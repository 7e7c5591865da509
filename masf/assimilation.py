"""Stage assimilate: one filter on one cell's measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masf.arrays import Stream, on_device, resolve_device
from masf.cycle import Trajectory, assimilate
from masf.dataset import Truth
from masf.filters.base import Setup, ensemble_needs_members
from masf.registry import filter_class
from masf.simulate import build
from masf.systems.base import System


def run_filter(
    name: str,
    parameters: dict[str, Any],
    truth: Truth,
    *,
    prior: Path | None = None,
    device: str = "auto",
    saved_members: int = 3,
    covariance: bool = False,
) -> tuple[Trajectory, System, str]:
    """The estimate of filter ``name``, the cell's system, and where it was computed ("numpy", "cpu" or "cuda").

    The filter gets random numbers of its own, apart from those that made the truth.

    Raises:
        ValueError: for an unknown filter, parameters out of range, or a filter that does not fit the cell.
    """
    cls = filter_class(name)
    chosen = cls.Parameters(**parameters)
    ensemble_needs_members(truth.initial_ensemble)
    torch_device = resolve_device(device, needs_torch=cls.needs_torch(chosen))
    system, observation = build(truth.settings)
    setup = Setup(
        system=system,
        observation=observation,
        initial_mean=on_device(truth.initial_mean, torch_device),
        initial_spread=truth.settings.initial_spread,
        stream=Stream(truth.settings.seed, f"filter {name}"),
        prior=prior,
    )
    gap = truth.settings.gap
    trajectory = assimilate(
        cls(chosen, setup),
        truth.initial_ensemble,
        truth.observation,
        gap=gap,
        truth_at_cycles=truth.truth[gap::gap],
        torch_device=torch_device,
        saved_members=saved_members,
        covariance=covariance,
    )
    return trajectory, system, torch_device or "numpy"
