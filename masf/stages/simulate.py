"""Stage simulate: the truth, its measurements and the initial ensemble, from a cell's settings to
truth.nc.

A typical state b of the system is the mean of the initial distribution N(b, initial_spread^2 B),
from which the truth and all members are drawn alike: at time 0 the ensemble is a fair sample of
what is known. B is that of the system's ``perturbations``: the identity, or for fields that are
smooth a covariance with ones on its diagonal. Members have random numbers of their own: cells that
differ only in their size share truth and measurements, and a small ensemble is the beginning of a
large one. So have measurements that an observation's ``missing`` drops: cells that differ only in
that share share the truth and the values of what is measured, and what is missing of a smaller
share is missing of a larger one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from masf.arrays import Stream, require_states
from masf.files.cell import CellSettings, build, model_fault
from masf.files.netcdf import write
from masf.files.records import truth_code
from masf.files.truth import Truth, truth_dataset
from masf.observations.base import Observation
from masf.systems.base import System
from masf.systems.counting import ALONG_THE_LAST_AXIS
from masf.systems.registry import make_system
from masf.systems.requirements import typical_state

log = logging.getLogger(__name__)


def warn_of_lost_noise(measurements: np.ndarray, observation: Observation) -> None:
    """Says so where the noise of ``measurements`` (cycles, m) is finer than float32 tells numbers
    of their size apart, so that no filter can be as accurate as they are.
    """
    spacing = np.spacing(np.max(np.abs(np.nan_to_num(measurements)), axis=0).astype(np.float32))
    noise = np.sqrt(observation.noise.variance)
    if np.any(lost := noise < spacing):
        j = int(np.argmax(lost))
        log.warning(
            "noise %g of measurement %d is less than %g, the distance between two "
            "float32 numbers of its size: analyses have the error of that rounding; measure and "
            "model departures from a reference state",
            noise[j],
            j + 1,
            spacing[j],
        )


def simulate_to_file(settings: CellSettings, output: Path) -> None:
    """Writes truth.nc of a cell. Raises ValueError as ``simulate``."""
    write(output, simulate_in_memory(settings))


def simulate_in_memory(
    settings: CellSettings, built: tuple[System, Observation] | None = None
) -> xr.Dataset:
    """The content of truth.nc.

    Args:
        settings: of the cell.
        built: its system and observation, where the settings do not build them, such as a user's
            own.

    Raises:
        ValueError: as ``simulate``.
    """
    model, _ = built or build(settings)
    truth = simulate(settings, built)
    return truth_dataset(truth, model, truth_code(model, settings.system))


def simulate(settings: CellSettings, built: tuple[System, Observation] | None = None) -> Truth:
    """Truth (times, d), measurements (cycles, m) and initial ensemble (N, d) of a cell, in float32.

    ``built`` are a system and an observation that the settings do not build, such as a user's own.
    Where the settings name a model that is coarser than the truth's system, the truth is what the
    model resolves of it, and the ensemble is the model's.

    Raises:
        ValueError: for settings out of range, if the truth is not finite (a step too long for the
            system), or if the model's states are not what the truth's system resolves.
    """
    for name, least in (("cycles", 1), ("members", 2)):
        if getattr(settings, name) < least:
            raise ValueError(f"{name} is {getattr(settings, name)}: expected at least {least}")
    if settings.initial_spread is None or not settings.initial_spread > 0:
        raise ValueError(f"initial_spread is {settings.initial_spread}: expected a positive number")
    model, observation = built or build(settings)
    system = model if settings.model is None else make_system(settings.system, settings.parameters)
    stream = Stream(settings.seed, "simulate")
    centre = typical_state(system, stream).astype(np.float32)
    spread = np.float32(settings.initial_spread)
    ensemble_stream = Stream(settings.seed, "initial ensemble")
    resolved = _resolved(system, model)
    known = resolved(centre)
    drawn = model.perturbations(settings.members, known, ensemble_stream)
    require_states(
        f"{type(model).__name__}.perturbations", drawn, known, (settings.members, model.dimension)
    )
    ensemble = known + spread * drawn
    truth = np.empty((settings.steps[-1] + 1, model.dimension), dtype=np.float32)
    state = centre + spread * system.perturbations(1, centre, stream)[0]
    truth[0] = resolved(state)
    name = f"{type(system).__name__}.step"
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(1, len(truth)):
            stepped = system.step(state, stream)
            require_states(name, stepped, state, hint=ALONG_THE_LAST_AXIS)
            state = stepped.astype(np.float32, copy=False)
            truth[i] = resolved(state)
    if not np.all(np.isfinite(truth)):
        step, component = map(int, np.argwhere(~np.isfinite(truth))[0])
        raise ValueError(
            f"the truth is not finite from step {step} on, first in component {component + 1}: "
            f"dt {system.dt} is too long for system {settings.system!r}, an initial_spread of "
            f"{settings.initial_spread:g} about its typical state leads where it has no states, or "
            "its step is at fault"
        )
    observed = truth[settings.steps]
    measured = _measured(observation, observed)
    measurements = measured + observation.noise.draw((settings.cycles,), observed, stream)
    measurements = measurements.astype(np.float32)
    warn_of_lost_noise(measurements, observation)
    if share := settings.observation.get("missing", 0.0):
        drawn = Stream(settings.seed, "missing measurements").numpy.random(measurements.shape)
        measurements[drawn < share] = np.nan
    return Truth(settings, truth, measurements, known, ensemble)


def _measured(observation: Observation, observed: np.ndarray) -> np.ndarray:
    """What is measured (cycles, m) of states (cycles, d). Raises ValueError where it is not finite:
    NaN would be taken for a measurement that is missing.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        measured = observation.apply(observed)
    if not np.all(np.isfinite(measured)):
        cycle, row = map(int, np.argwhere(~np.isfinite(measured))[0])
        raise ValueError(
            f"{observation!r}: what is measured of the truth is {measured[cycle, row]} in "
            f"measurement {row + 1} of cycle {cycle + 1}, of states between "
            f"{observed[cycle].min():.4g} and {observed[cycle].max():.4g}: choose a transform that "
            "is finite there"
        )
    return measured


def _resolved(system: System, model: System) -> Callable[[np.ndarray], np.ndarray]:
    """What a model has of a system's states. Raises ValueError where that is no state of its."""
    if fault := model_fault(system, model):
        raise ValueError(fault)
    if system.dimension == model.dimension:
        return lambda state: state
    return system.resolved
