"""Stage assimilate: one filter, ours or a command, on one cell's measurements, from truth.nc to
{filter}.nc.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from masf.arrays import Stream, on_device, resolve_device
from masf.atomic import sha256
from masf.files.cell import build
from masf.files.cost import write_cost
from masf.files.estimate import estimate
from masf.files.netcdf import write
from masf.files.parameters import ParameterSource, in_force
from masf.files.records import estimate_record
from masf.files.trajectory import Trajectory
from masf.files.truth import Truth, read_truth
from masf.files.tuned import tuned_for
from masf.filters.base import Filter, Setup, doubts_of_what_is_said, ensemble_needs_members
from masf.filters.input_files import digests, input_files, require_files
from masf.filters.registry import filter_class
from masf.observations.base import Observation
from masf.observations.consistency import is_ours
from masf.programs import files_among
from masf.stages.border import on_tensors
from masf.stages.cycle import peak_memory_mib, run_cycles
from masf.study.messages import validated
from masf.systems.base import System
from masf.systems.registry import has_name

if TYPE_CHECKING:
    from masf.diffusion.denoisers.prior import Prior

log = logging.getLogger(__name__)


def assimilate_to_file(
    truth: Path,
    output: Path,
    *,
    name: str,
    parameters: Mapping[str, Any],
    module: str | None = None,
    command: str | None = None,
    tuned: Path | None = None,
    pinned: Mapping[str, Any] | None = None,
    prior: Path | None = None,
    saved_members: int = 3,
    saved_steps: int = 1,
    covariance: bool = False,
    device: str = "auto",
    threads: int = 1,
    cost: Path | None = None,
) -> None:
    """Writes {filter}.nc, and {filter}.cost.json where that is asked for.

    Args:
        truth: truth.nc.
        output: {filter}.nc.
        name: what tables call the filter.
        parameters: its default parameters.
        module: its module in masf/filters; its name without this.
        command: instead of a module, what runs a filter that is not ours.
        tuned: {filter}.json of stage tune, whose choice overrides the default.
        pinned: parameters that override both.
        prior: prior.safetensors, for filters that use one.
        saved_members: how many analysis members to keep.
        saved_steps: means and spreads are kept at every so many steps, and at analyses; 0: at these
            alone.
        covariance: whether to keep the covariance of each analysis.
        device: where to compute.
        threads: processor cores that numerical libraries are limited to, for the record.
        cost: {filter}.cost.json.

    Raises:
        ValueError: as ``run_filter``.
        FileFault: for a file that is missing or damaged, or does not fit the cell.
    """
    cell = read_truth(truth)
    found = None if tuned is None else tuned_for(name, cell.settings.system, tuned)
    chosen, source = in_force(parameters, found, pinned)
    data, trajectory = assimilate_in_memory(
        cell, name, chosen, source, module=module, command=command, prior=prior,
        device=device, saved_members=saved_members, saved_steps=saved_steps, covariance=covariance,
    )  # fmt: skip
    write(output, data.assign_attrs(truth_sha256=sha256(truth), threads=threads))
    if cost is not None:
        memory = (
            peak_memory_mib() if trajectory.peak_memory_mib is None else trajectory.peak_memory_mib
        )
        used = {
            "peak_memory_mib": round(memory, 1),
            "device": data.attrs["device"],
            "threads": threads,
        }
        write_cost(cost, trajectory, used)


def assimilate_in_memory(
    truth: Truth,
    name: str,
    parameters: dict[str, Any],
    source: ParameterSource,
    *,
    module: str | None = None,
    command: str | None = None,
    cls: type[Filter] | None = None,
    built: tuple[System, Observation] | None = None,
    prior: Path | None = None,
    device: str = "auto",
    saved_members: int = 3,
    saved_steps: int = 1,
    covariance: bool = False,
) -> tuple[xr.Dataset, Trajectory]:
    """The content of {filter}.nc but for what only files have, and the trajectory, which has the
    seconds of each cycle.

    Args:
        truth: the cell.
        name: what tables call the filter.
        parameters: of the filter.
        source: where these came from.
        module: the filter's module in masf/filters; its name without this.
        command: instead of a module, what runs a filter that is not ours.
        cls: instead of both, a user's own class.
        built: the model and the observation that the filter works with; without them the cell's
            settings build both.
        prior: file of the pretrained prior, for filters that use one.
        device: where to compute.
        saved_members: how many analysis members to keep.
        saved_steps: as for ``assimilate_to_file``.
        covariance: whether to keep the covariance of each analysis.

    Raises:
        ValueError, FileFault: as ``run_filter``.
    """
    module = module or name
    system, observation = built or build(truth.settings)
    kind = (cls or filter_class(module)) if command is None else None
    if prior is not None and (kind is None or not kind.uses_prior):
        raise ValueError(f"prior: filter {name!r} takes none: leave it out")
    # Before the run: what it reads is what is there now.
    files = read_by(module, parameters, command, cls)
    if kind is not None:
        checked, members = kind.Parameters(**parameters), len(truth.initial_ensemble)
        said = doubts_of_what_is_said(checked, [*source.given, *source.pinned])
        for doubt in [*said, *kind.doubts(checked, system, members)]:
            log.warning("filter %r: %s", name, doubt)
    trajectory, _, where = run_filter(
        module,
        parameters,
        truth,
        prior=prior,
        device=device,
        saved_members=saved_members,
        covariance=covariance,
        command=command,
        cls=cls,
        built=(system, observation),
        called=name,
    )
    of_masf = cls is None and has_name(system) and is_ours(observation)
    record = estimate_record(
        name,
        module,
        command,
        system,
        observation,
        parameters=parameters,
        source=source,
        prior=prior,
        device=where,
        files=files,
        of_masf=of_masf,
    )
    return estimate(trajectory, truth, system, record, saved_steps), trajectory


def read_by(
    module: str,
    parameters: Mapping[str, Any],
    command: str | None = None,
    cls: type[Filter] | None = None,
) -> dict[str, str]:
    """The content of the files among a filter's parameters: of each its SHA-256, by the
    parameter.

    Raises:
        ValueError: for an unknown filter, parameters out of range, or files that are not there.
    """
    if command is not None:
        return digests(files_among(parameters))
    checked = validated((cls or filter_class(module)).Parameters, parameters, f"filter {module!r}")
    require_files(checked)
    return digests(input_files(checked))


def computed_on(
    module: str, parameters: Mapping[str, Any], command: str | None, device: str
) -> str:
    """Where ``run_filter`` computes: "numpy", "cpu", "cuda" or, by a command, "external".

    Raises:
        ValueError: for an unknown filter, parameters out of range, or a device that is not there.
    """
    if command is not None:
        return "external"
    cls = filter_class(module)
    needs_torch = cls.needs_torch(cls.Parameters(**parameters))
    return resolve_device(device, needs_torch=needs_torch) or "numpy"


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
    called: str | None = None,
) -> tuple[Trajectory, System, str]:
    """The estimate of filter ``name``, the cell's system, and where it was computed ("numpy",
    "cpu", "cuda" or "external").

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
        built: the model and the observation that the filter works with, where they are not those
            that the cell's settings build.
        called: what messages of its run call it; ``name`` without.

    Raises:
        ValueError: for an unknown filter, parameters out of range, files among them that are not
            there, or a filter that does not fit the cell; a command that fails.
        FileFault: for a prior that is missing, damaged, or was trained for another system.
    """
    ensemble_needs_members(truth.initial_ensemble)
    system, observation = built or build(truth.settings)
    spread = truth.settings.initial_spread
    anomalies = truth.initial_ensemble - truth.initial_mean

    def setup_on(torch_device: str | None, loaded: Prior | None = None) -> Setup:
        return Setup(
            system=system,
            observation=observation,
            initial_mean=on_device(truth.initial_mean, torch_device),
            initial_spread=spread,
            initial_anomalies=on_device(anomalies, torch_device) if spread is None else None,
            stream=Stream(truth.settings.seed, f"filter {name}"),
            prior=loaded,
        )

    if command is not None:
        from masf.stages.external import run_command

        found = run_command(
            command,
            name,
            parameters,
            truth,
            setup_on(None),
            device=device,
            saved_members=saved_members,
            covariance=covariance,
        )
        return found, system, "external"
    cls = cls or filter_class(name)
    chosen = validated(cls.Parameters, parameters, f"filter {name!r}")
    require_files(chosen)
    torch_device = resolve_device(device, needs_torch=cls.needs_torch(chosen))
    model = system
    if torch_device is not None:
        system, observation = on_tensors(system, observation, truth.initial_ensemble, torch_device)
    loaded = None
    if (
        prior is not None
        and torch_device is not None
        and cls.uses_prior
        and cls.needs_torch(chosen)
    ):
        from masf.diffusion.linear_state import state_shape
        from masf.files.trained_prior import load

        loaded = load(prior, system, torch_device, state_shape(system, observation))
    trajectory = run_cycles(
        cls(chosen, setup_on(torch_device, loaded)),
        truth.initial_ensemble,
        truth.observation,
        gap=truth.settings.gap,
        truth_at_cycles=truth.truth[truth.settings.steps],
        torch_device=torch_device,
        saved_members=saved_members,
        covariance=covariance,
        seed=truth.settings.seed,
        called=called or name,
    )
    return trajectory, model, torch_device or "numpy"
