"""Stage assimilate: one filter, ours or a command, on one cell's measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from masf.arrays import Stream, on_device, resolve_device
from masf.files.cell import build
from masf.files.trajectory import Trajectory
from masf.files.truth import Truth
from masf.filters.base import Filter, Setup, ensemble_needs_members
from masf.filters.registry import filter_class
from masf.observations.operators import Observation
from masf.stages.cycle import assimilate
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.diffusion.denoisers.prior import Prior


def run_filter(
    name: str,
    parameters: dict[str, Any],
    truth: Truth,
    *,
    prior: Path | None = None,
    device: str = "auto",
    saved_members: int = 3,
    covariance: bool = False,
    command: str | None = None,
    cls: type[Filter] | None = None,
    built: tuple[System, Observation] | None = None,
) -> tuple[Trajectory, System, str]:
    """The estimate of filter ``name``, the cell's system, and where it was computed ("numpy", "cpu", "cuda" or "external").

    The filter gets random numbers of its own, apart from those that made the truth.

    Args:
        name: the filter's module in masf/filters; with ``command``, any name.
        parameters: of the filter.
        truth: the cell.
        prior: file of the pretrained prior, for filters that use one.
        device: where to compute.
        saved_members: how many analysis members to keep.
        covariance: whether to keep the covariance of each analysis.
        command: what runs a filter that is not ours, see masf.stages.external.
        cls: the filter's class, where it is in no module of masf/filters.
        built: system and observation, where the cell's settings do not build them.

    Raises:
        ValueError: for an unknown filter, parameters out of range, or a filter that does not fit the cell; a command that fails.
        FileFault: for a prior that is missing, damaged, or was trained for another system.
    """
    ensemble_needs_members(truth.initial_ensemble)
    system, observation = built or build(truth.settings)
    gap = truth.settings.gap

    def setup_on(torch_device: str | None, loaded: Prior | None = None) -> Setup:
        return Setup(
            system=system,
            observation=observation,
            initial_mean=on_device(truth.initial_mean, torch_device),
            initial_spread=truth.settings.initial_spread,
            stream=Stream(truth.settings.seed, f"filter {name}"),
            prior=loaded,
        )

    if command is not None:
        from masf.stages.external import run_command

        found = run_command(
            command, name, parameters, truth, setup_on(None), device=device, saved_members=saved_members, covariance=covariance
        )
        return found, system, "external"
    cls = cls or filter_class(name)
    chosen = cls.Parameters(**parameters)
    torch_device = resolve_device(device, needs_torch=cls.needs_torch(chosen))
    loaded = None
    if prior is not None and torch_device is not None and cls.uses_prior and cls.needs_torch(chosen):
        from masf.files.trained_prior import load

        loaded = load(prior, system, torch_device)
    trajectory = assimilate(
        cls(chosen, setup_on(torch_device, loaded)),
        truth.initial_ensemble,
        truth.observation,
        gap=gap,
        truth_at_cycles=truth.truth[gap::gap],
        torch_device=torch_device,
        saved_members=saved_members,
        covariance=covariance,
    )
    return trajectory, system, torch_device or "numpy"
