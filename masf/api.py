"""What ``import masf`` offers: the stages of a study in memory, with xarray datasets in place of
files.

A dataset here has the content of the file that the stage writes (results/README.md), so that what
is said of files holds of it, and a file that a study left, opened by xarray, serves as well.
"""

from __future__ import annotations

import atexit
import hashlib
import inspect
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from platformdirs import user_cache_path

from masf import __version__
from masf.arrays import LARGEST, Stream, ensemble_mean, without_mask
from masf.atomic import FileFault, require_writable
from masf.contract import check_filter, check_observation, check_system
from masf.diffusion.prior_settings import PriorSettings
from masf.faults import ContractFault, Refused, positive_number, require_instance, whole_number
from masf.files.cell import CellSettings
from masf.files.estimate import NEED_TRUTH
from masf.files.parameters import in_force
from masf.files.provenance import train_prior_version
from masf.files.shipped_priors import shipped_for_gap
from masf.files.trajectory import Trajectory
from masf.files.truth import Truth, truth_dataset, truth_of
from masf.filters.base import Filter, FilterParameters
from masf.filters.input_files import InputFile
from masf.gaps import Gap, as_gap, gap_of_steps, measurement_steps, pattern_of
from masf.observations.base import (
    NonlinearObservation,
    Observation,
    ObservationSettings,
    Transformed,
)
from masf.observations.consistency import (
    consistency_faults,
    rebuilds,
    recorded,
    require_observation,
)
from masf.observations.settings import OPERATORS, observation_settings
from masf.observations.transforms import own_transform
from masf.scores.averages import averages
from masf.scores.exactness import NEEDED, Reference
from masf.scores.innovations import INNOVATIONS, Innovations
from masf.scores.run import SCORES
from masf.scores.run import score as score_of
from masf.scores.tracking import climatological_spread, is_free_run, lost_track
from masf.stages.assimilate import assimilate_in_memory
from masf.stages.simulate import simulate_in_memory, warn_of_lost_noise
from masf.study import defaults
from masf.study.messages import ConfigFault, validated, validated_observation
from masf.systems import registry
from masf.systems.base import System, SystemParameters
from masf.systems.registry import has_name, is_ours, name_of, system_class, system_names
from masf.systems.requirements import require_system

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ConfigFault",
    "ContractFault",
    "FileFault",
    "Filter",
    "FilterParameters",
    "InputFile",
    "NonlinearObservation",
    "Observation",
    "Refused",
    "Stream",
    "System",
    "SystemParameters",
    "assimilate",
    "check_filter",
    "check_observation",
    "check_system",
    "innovation_figure",
    "innovation_statistics",
    "make_observation",
    "make_problem",
    "make_system",
    "score",
    "simulate",
    "train_prior",
]

log = logging.getLogger(__name__)

_SMALL_PRIOR = {
    "network": {"width": 32, "blocks": 2},
    "worlds": 8,
    "cycles": 20,
    "spin_up_cycles": 4,
    "rounds": 1,
    "steps": 600,
}
"""What is trained for a system that config/run.yaml says nothing of."""

FILL_VALUES_FROM = 10
"""How far a value is from all others, over the range of these, that may be a fill value."""
FEWEST_OTHERS = 4
"""How many others say what that range is."""

_A_SYSTEM = "pass masf.make_system(...), or an object of your own subclass of masf.System"
_AN_OBSERVATION = (
    "pass masf.make_observation(...), or an object of your own subclass of masf.Observation"
)

_ESTIMATES = "pass what masf.assimilate made, one or more of it, or a mapping of such by name"

Estimates = xr.Dataset | Iterable[xr.Dataset] | Mapping[str, xr.Dataset]
"""One or more, by name or called as their filters."""


def make_system(name: str, /, **parameters: float) -> System:
    """A system by its name.

    Args:
        name: as ``masf list systems`` says.
        parameters: of the system; those left out are the ones of config/run.yaml, or else the
            system's own. The system's ``repr`` says which were.

    Raises:
        ValueError: for an unknown name, or parameters that are unknown or out of range.
    """
    cls = system_class(name)
    content = {**defaults.parameters(name), **parameters}
    checked = validated(cls.Parameters, content, f"system {name!r}")
    # Only what was said counts as given.
    return cls(cls.Parameters.model_construct(_fields_set=set(parameters), **dict(checked)))


def make_observation(system: System, operator: str, /, **keys: Any) -> Observation:
    """What is measured of a system, by the operator's name.

    Args:
        system: that is measured.
        operator: as in the section ``observations`` of a config, such as ``"stride"``.
        keys: of the operator, and ``noise``, as there. The ``transform`` may be a function of your
            own, of single measurements in an array of any shape; then ``derivative`` may be another
            one, where torch is not to find it. Such an observation is passed to ``assimilate``
            again.

    Raises:
        ValueError: for keys that are unknown, out of range, or do not fit the system.
    """
    if callable(keys.get("transform")):
        rest = {k: v for k, v in keys.items() if k not in ("transform", "derivative")}
        linear = make_observation(system, operator, **rest)
        return Transformed(linear, own_transform(keys["transform"], keys.get("derivative")))
    # As a config would say them.
    said = {k: _said(v) for k, v in keys.items()}
    require_instance("system", system, System, _A_SYSTEM)
    settings = validated_observation({"operator": operator, **said}, "observation")
    observation = settings.build(system.dimension, system.grid)
    observation.defaults = settings.taken_by_default()
    return observation


def simulate(
    system: System,
    observation: Observation,
    *,
    gap: Gap | Sequence[int],
    cycles: int,
    members: int = 100,
    initial_spread: float = 1.0,
    seed: int = 0,
) -> xr.Dataset:
    """A truth, its measurements and the initial ensemble: the content of truth.nc.

    Args:
        system: simulated from one of its typical states on.
        observation: what is measured of it.
        gap: model steps between two measurements, or a list of them that repeats.
        cycles: number of measurements.
        members: ensemble size N.
        initial_spread: standard deviation of the initial distribution.
        seed: fixes all random numbers.

    Returns:
        ``truth`` (model_time, *space), ``observation`` (cycle, obs), ``initial_ensemble`` (member,
        *space) and more.

    Raises:
        ValueError: for settings out of range, or if the truth is not finite.
        ContractFault: where a system or observation of your own does not what it must.
    """
    require_instance("system", system, System, _A_SYSTEM)
    if not is_ours(system):
        require_system(system)
    require_instance("observation", observation, Observation, _AN_OBSERVATION)
    require_observation(observation)
    spread = positive_number("initial_spread", initial_spread)
    settings = _settings(system, observation, gap, cycles, members, spread, seed)
    return simulate_in_memory(settings, (system, observation))


def make_problem(
    system: System,
    observation: Observation,
    measurements: np.ndarray,
    ensemble: np.ndarray,
    *,
    gap: Gap | Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """A problem of which the truth is not known: a dataset as that of ``simulate``, without
    ``truth``.

    Args:
        system: the model.
        observation: how it is measured.
        measurements: (cycles, m). One that is NaN, or masked in a masked array, is missing.
        ensemble: (N, d) at the start, or (N, *shape) of a system of several fields. It is all that
            is known of the initial distribution: filters that start from a distribution take its
            mean and covariance.
        gap: model steps between two measurements, the first of which comes after as many; or a list
            of them that repeats.
        steps: (cycles,) instead of ``gap``, the model step of each measurement, counted from the
            start.
        seed: fixes the filters' random numbers.

    Raises:
        ValueError: where shapes do not fit together, values are not finite, or all members are
            equal and the model has no noise that would tell them apart.
        ContractFault: where a system or observation of your own does not what it must.
    """
    y, x = _numbers("measurements", measurements), _numbers("ensemble", ensemble)
    require_instance("system", system, System, _A_SYSTEM)
    require_instance("observation", observation, Observation, _AN_OBSERVATION)
    if not is_ours(system):
        require_system(system, np.zeros(0))  # the ensemble's shape comes first
    require_observation(observation)
    _require_rows("measurements have", y, "cycles, measurements", observation.size)
    if x.ndim > 2 and x.shape[1:] == system.shape:
        x = x.reshape(len(x), system.dimension)
    _require_rows("ensemble has", x, "members, components", system.dimension)
    _require_finite("ensemble", x, "member")
    _require_finite("measurements", y, "cycle", may_be_missing=True)
    _warn_of_fill_values(y)
    y, x = y.astype(np.float32), x.astype(np.float32)
    if np.all(np.isnan(y)):
        raise Refused("measurements are all missing (NaN): nothing is measured")
    settings = _settings(system, observation, _gap(gap, steps, len(y)), len(y), len(x), None, seed)
    _require_spread(x, system)
    warn_of_lost_noise(y, observation)
    unknown = np.zeros((settings.steps[-1] + 1, system.dimension), dtype=np.float32)
    return truth_dataset(Truth(settings, unknown, y, ensemble_mean(x), x), system, "").drop_vars(
        "truth"
    )


def assimilate(
    problem: xr.Dataset,
    filter: str | type[Filter],  # noqa: A002
    parameters: Mapping[str, Any] | None = None,
    *,
    system: System | None = None,
    observation: Observation | None = None,
    prior: Path | str | None = None,
    device: str = "auto",
    saved_members: int = 3,
    covariance: bool = False,
) -> xr.Dataset:
    """Runs a filter through all measurements: the content of {filter}.nc.

    A filter that diverges is a result, not an error: attribute ``diverged`` is 1, and all is NaN
    from there on.

    Args:
        problem: from ``simulate`` or ``make_problem``, or truth.nc as xarray opens it.
        filter: its name, as ``masf list filters`` says; or a class of your own.
        parameters: of the filter. Those left out are what config/filters says for such a cell;
            where system or observation are your own, what it says for any, without radii; of a
            class of your own, its defaults.
        system: the model that the filter forecasts with, needed where the problem's is none of
            masf's. Another one than the truth's, of the same shape and step, is model error.
        observation: what the filter takes the measurements for, needed where the problem's is none
            of masf's. Attributes ``model``, ``model_parameters`` and ``model_observation`` of the
            result say what was taken.
        prior: file of the pretrained prior, for filters that use one, and no others; see
            ``train_prior``.
        device: where to compute: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        saved_members: analysis members to keep, at most.
        covariance: whether to keep the covariance of each analysis.

    Returns:
        ``mean`` and ``spread`` (model_time, *space), ``member`` (saved_member, cycle, *space) and,
        where the problem has a truth, ``rmse`` (model_time), ``crps`` (cycle) and more.

    Raises:
        ValueError: for an unknown filter, or for parameters that are unknown, out of range, or do
            not fit the cell; ConfigFault, where the check that studies have finds it.
        ContractFault: where a filter, system or observation of your own does not what it must.
        FileFault: for a prior that is missing, damaged, or was trained for another system.
    """
    return run(
        problem,
        filter,
        parameters,
        system=system,
        observation=observation,
        prior=prior,
        device=device,
        saved_members=saved_members,
        covariance=covariance,
    )[0]


def run(
    problem: xr.Dataset,
    filter: str | type[Filter],  # noqa: A002
    parameters: Mapping[str, Any] | None = None,
    *,
    system: System | None = None,
    observation: Observation | None = None,
    prior: Path | str | None = None,
    device: str = "auto",
    saved_members: int = 3,
    covariance: bool = False,
) -> tuple[xr.Dataset, Trajectory]:
    """As ``assimilate``; with it the trajectory, which has the seconds of each cycle."""
    cell, known = _cell(problem)
    whole_number("saved_members", saved_members, 0)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise Refused(
            f"parameters is {parameters!r:.80}: pass a mapping, such as {{'inflation': 1.1}}"
        )
    built = _built(problem, cell.settings, system, observation)
    model, measured = built
    rebuilt = rebuilds(measured, model.grid)
    if not rebuilt and (isinstance(filter, str) or _takes_from_masf(filter)):
        _require_consistent(measured, model.grid)
    known_to_masf = has_name(model) and rebuilt
    prior = None if prior is None else Path(prior)
    if prior is not None and not prior.is_file():
        raise FileFault(prior, "does not exist", "name a file that masf.train_prior made")
    _require_filter(filter)
    chosen = dict(parameters or {})
    name = filter if isinstance(filter, str) else filter.__name__
    module, command = name, None
    cls = None if isinstance(filter, str) else filter
    if cls is None and known_to_masf:
        forecast_with = replace(
            cell.settings,
            system=name_of(model),
            parameters=model.parameters.model_dump(),
            observation=dict(measured.settings),
            model=None,
        )
        found = defaults.filter_in_cell(name, forecast_with, chosen, has_prior=prior is not None)
        chosen, module, command = found.parameters, found.module, found.command
        if not found.takes_missing and np.any(np.isnan(cell.observation)):
            raise ValueError(
                f"filter {name!r}: cannot do without the measurements that are missing (NaN) here"
            )
    elif cls is None:
        chosen = defaults.usual_parameters(name, model) | chosen
    chosen, source = in_force(chosen, given=parameters or ())
    result, trajectory = assimilate_in_memory(
        cell,
        name,
        chosen,
        source,
        module=module,
        command=command,
        cls=cls,
        built=built,
        prior=prior,
        device=device,
        saved_members=saved_members,
        covariance=covariance,
    )
    return (result if known else result.drop_vars(sorted(NEED_TRUTH))), trajectory


def score(
    estimates: Estimates,
    *,
    spin_up_cycles: int = 0,
    reference: xr.Dataset | None = None,
    truth: xr.Dataset | None = None,
) -> pd.DataFrame:
    """The scores of estimates, one row each, in their order; NaN of one that diverged. ``lost``
    says whether one lost track of the truth and estimates some other state (masf.scores.tracking),
    NA where that is not known: it takes a free run of the same cell among the estimates, or
    ``truth``.

    Args:
        estimates: from ``assimilate``, or {filter}.nc as xarray opens it; a mapping names the rows,
            which are called as their filters without one: two estimates of one filter are two rows
            of one name.
        spin_up_cycles: how many of the first cycles to leave out.
        reference: the estimate of a filter whose posterior is exact, for distances to it. All must
            then have been made with ``covariance=True`` and two or more ``saved_members``.
        truth: the problem that they were made from, for ``lost`` and, of flows, for SSIM and CSI of
            their vorticity, which are NaN without it.

    Raises:
        ValueError: for an estimate without what a score needs, or if no cycle is left to score.
    """
    named = _named(estimates)
    if reference is not None:
        _require_estimate("reference", reference)
    needed = {"rmse", "spread", "rmse_forecast", "crps", *(NEEDED if reference is not None else ())}
    for name, data in [*named, *([("reference", reference)] if reference is not None else [])]:
        if missing := sorted(needed - set(data.variables)):
            why = (
                ": its truth is not known; masf.innovation_statistics judges it by its measurements"
            )
            raise Refused(
                f"estimate {name!r} lacks {', '.join(missing)}{'' if 'rmse' in data else why}"
            )
        _require_left(data, spin_up_cycles)

    def gap(data: xr.Dataset) -> Gap:
        return json.loads(data.attrs["settings"])["gap"]

    if truth is not None:
        _require_truth_of([data for _, data in named], truth)
    states = None if truth is None else _states(truth)
    # Those of a flow are (times, 2, n, n).
    flow = states is not None and states.ndim == 4 and states.shape[1] == 2
    compared = (
        None if reference is None else Reference.of(reference, gap(reference), spin_up_cycles)
    )
    rows = [
        score_of(
            data,
            gap=gap(data),
            spin_up_cycles=spin_up_cycles,
            reference=compared,
            velocities=states if flow else None,
        )
        | {"diverged": bool(data.attrs["diverged"])}
        for _, data in named
    ]
    columns = [key for key in SCORES if reference is not None or not key.endswith("_distance")]
    names = pd.Index([name for name, _ in named], name="filter")
    table = pd.DataFrame(rows, index=names, columns=[*columns, "diverged"])
    off = _without_measurements([data for _, data in named], spin_up_cycles, states)
    lost = [
        None
        if without is None
        else lost_track(
            data,
            gap=gap(data),
            spin_up_cycles=spin_up_cycles,
            without_measurements=without,
        )
        for (_, data), without in zip(named, off, strict=True)
    ]
    return table.assign(lost=pd.array(lost, dtype="boolean"))


def innovation_statistics(
    estimates: Estimates, *, spin_up_cycles: int = 0, by_component: bool = False
) -> pd.DataFrame:
    """Whether measurements are where forecasts say that they should be: a check of calibration that
    needs no truth.

    The innovation is a measurement less the mean that the forecast just before it makes of it; the
    *normalised* one is over the standard deviation that it should have, the root of H P H^T + R,
    and so has mean 0 and variance 1 (masf.scores.innovations has the details, correlated noise and
    measurements that are not linear included). A variance above 1 says that spread and noise
    together are too small, one below 1 that they are too large.

    Args:
        estimates: as for ``score``.
        spin_up_cycles: how many of the first cycles to leave out.
        by_component: whether to make a row for each of the m measurements of a cycle, counted from
            1, in place of one for all of them.

    Returns:
        Columns ``count``; ``bias`` and ``rms``, the mean innovation and the root of the mean
        square, in units of the measurement; ``mean`` and ``variance`` of the normalised
        innovations, with standard errors ``mean_error`` and ``variance_error``, which take cycles
        for independent; ``outside``, the share of the measurements below or above all of the first
        members, each with noise, that they are ranked among, and ``outside_expected``; and
        ``diverged``. NaN of an estimate that diverged, and of what was never measured.

    Raises:
        ValueError: for an estimate without innovations, or if no cycle is left.
    """
    found = _innovations(estimates, spin_up_cycles)
    if not by_component:
        names = pd.Index([name for name, _ in found], name="filter")
        return pd.DataFrame([of_all.statistics() for _, of_all in found], index=names)
    rows = {
        (name, j + 1): of_all.only(j).statistics()
        for name, of_all in found
        for j in range(of_all.size)
    }
    index = pd.MultiIndex.from_tuples(rows, names=["filter", "obs"])
    return pd.DataFrame(list(rows.values()), index=index)


def innovation_figure(estimates: Estimates, *, spin_up_cycles: int = 0) -> Figure:
    """The statistics of ``innovation_statistics`` drawn, a row of two panels for each estimate:
    mean and variance of the normalised innovations by measurement, and the rank histogram of the
    measurements. The row of an estimate that diverged is empty, and its title says so.

    Args:
        estimates: as for ``score``.
        spin_up_cycles: how many of the first cycles to leave out.

    Raises:
        ValueError: as ``innovation_statistics``.
    """
    found = _innovations(estimates, spin_up_cycles)
    from masf.report.figures.innovations import innovations  # late: Matplotlib takes its time

    return innovations(found)


def train_prior(
    problem: xr.Dataset,
    path: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    system: System | None = None,
    observation: Observation | None = None,
    seed: int = 7,
    device: str = "auto",
    afresh: bool = False,
) -> Path:
    """Trains a prior for the system, observation and gap of a problem, on truths of its own; or
    finds the one that is shipped with masf.

    One that is shipped is taken where neither path nor settings are given, it was trained for this
    system, these parameters and this observation, and the gap is within those that it was trained
    with.

    Args:
        problem: from ``simulate`` or ``make_problem``; of it, only what system and observation it
            has is used.
        path: where to write it. Without it the prior goes to the user's cache folder, and is there
            the next time; where that cannot be written, it is there until the process ends. With a
            system or an observation of your own it is needed: nothing else would tell when their
            code has changed.
        settings: as in a config's section ``priors``, over those of config/run.yaml, which make a
            small prior in about half a minute.
        system: the model, as for ``assimilate``: needed where the problem's is none of masf's.
        observation: what is measured, the same.
        seed: fixes simulation and training.
        device: where to compute.
        afresh: train also where a prior is shipped that would be taken.

    Returns:
        The file.

    Raises:
        ValueError: for settings out of range or that do not suit the system, or without a path that
            is needed.
        FileFault: for a path that cannot be written, before anything is trained.
    """
    cell, _ = _cell(problem)
    whole_number("seed", seed, 0)
    built = model, measured = _built(problem, cell.settings, system, observation)
    ours = has_name(model) and rebuilds(measured, model.grid)
    name = name_of(model)
    known = defaults.prior(name)
    usual = _SMALL_PRIOR if known is None else known.model_dump(exclude_unset=True)
    if model.grid is None:
        usual = {**usual, "localization_radii": [None]}
    content = {**usual, "gaps": sorted(set(pattern_of(cell.settings.gap))), **(settings or {})}
    training = validated(PriorSettings, content, "settings of the prior")
    if model.grid is None and any(radius is not None for radius in training.localization_radii):
        raise Refused(
            f"settings of the prior: localization_radii = {training.localization_radii}: the "
            f"components of {name} have no distances; set it to [None]"
        )
    parameters = model.parameters.model_dump()
    keys: ObservationSettings | dict[str, Any] = recorded(measured, model.grid)
    if ours:
        # What the problem was made from: it also says what share is missing.
        said = cell.settings.observation if observation is None else measured.settings
        keys = observation_settings(said)
        parameters = training.training_parameters(parameters, keys, model.translation_invariant)
    keeps = True
    if path is None:
        if not isinstance(keys, ObservationSettings):
            raise Refused(
                "path is None: name the file of the prior; with a system or an observation of "
                "your own, nothing else would tell when it has to be trained anew"
            )
        if settings is None and not afresh:
            found = shipped_for_gap(name, parameters, keys, cell.settings.gap)
            if found is not None and found.seed == seed:
                log.info("takes the prior shipped with masf: %s", found.path.name)
                return found.path
        path, keeps = _place_of_prior(_cached_prior(name, parameters, keys, training, seed))
        if path.is_file():
            log.info("takes the prior trained before: %s", path)
            return path
    path = Path(path)
    require_writable(path.parent)
    log.info(
        "trains a small prior for %s, gap %s: about half a minute",
        name,
        ", ".join(map(str, training.gaps)),
    )
    from masf.stages.train_prior import train_prior_to_file

    train_prior_to_file(
        path,
        system=name,
        parameters=parameters,
        observation=keys,
        settings=training,
        seed=seed,
        device=device,
        built=None if ours else built,
    )
    if keeps:
        log.info("keeps it for the next time: %s", path)
    return path


def _named(estimates: Estimates) -> list[tuple[Any, xr.Dataset]]:
    """Estimates and what they are called. Raises Refused for what is none, or for none at all."""
    if isinstance(estimates, xr.Dataset):
        estimates = [estimates]
    if isinstance(estimates, str) or not isinstance(estimates, Iterable):
        raise Refused(f"estimates is {estimates!r:.80}: {_ESTIMATES}")
    named = list(estimates.items() if isinstance(estimates, Mapping) else enumerate(estimates))
    if not named:
        raise Refused(f"estimates is empty: {_ESTIMATES}")
    for name, data in named:
        _require_estimate(f"estimates[{name!r}]", data)
    if isinstance(estimates, Mapping):
        return named
    return [(data.attrs["filter"], data) for _, data in named]


def _require_estimate(name: str, data: Any) -> None:
    require_instance(name, data, xr.Dataset, _ESTIMATES)
    if "filter" not in data.attrs:
        raise Refused(f"{name} is a dataset without the attribute 'filter': {_ESTIMATES}")


def _require_left(data: xr.Dataset, spin_up_cycles: int) -> None:
    """Raises Refused where no cycle of an estimate is left."""
    whole_number("spin_up_cycles", spin_up_cycles, 0)
    if spin_up_cycles >= (cycles := json.loads(data.attrs["settings"])["cycles"]):
        raise Refused(f"spin_up_cycles {spin_up_cycles} leaves none of {cycles} cycles to score")


def _innovations(estimates: Estimates, spin_up_cycles: int) -> list[tuple[Any, Innovations]]:
    """Those of each estimate, by what it is called. Raises ValueError where one has none, or no
    cycle is left.
    """
    named = _named(estimates)
    for name, data in named:
        if missing := sorted(set(INNOVATIONS) - set(data.variables)):
            raise ValueError(
                f"estimate {name!r} lacks {', '.join(missing)}: it was made by an older masf; run "
                "assimilate again"
            )
        _require_left(data, spin_up_cycles)
    return [(name, Innovations.of(data, spin_up_cycles)) for name, data in named]


def _require_truth_of(estimates: Sequence[xr.Dataset], truth: xr.Dataset) -> None:
    """Raises Refused for a truth of other settings than those of estimates; ensemble sizes, and
    what filters forecast with, may differ.
    """

    def said(data: xr.Dataset) -> dict[str, Any]:
        settings = json.loads(data.attrs["settings"])
        return {k: v for k, v in settings.items() if k not in ("members", "model")}

    for data in estimates:
        if "settings" not in truth.attrs or said(truth) != said(data):
            raise Refused(
                "truth is of another cell than the estimates: pass the problem that they were made "
                "from"
            )


def _states(truth: xr.Dataset) -> np.ndarray:
    """The truth (times, *space) of a problem. Raises Refused where it has none."""
    if "truth" not in truth:
        raise Refused("truth has no variable 'truth': pass what masf.simulate made")
    return truth["truth"].values


def _without_measurements(
    estimates: Sequence[xr.Dataset], spin_up_cycles: int, truth: np.ndarray | None
) -> list[float | None]:
    """How far off one is that measures nothing in the cell of each estimate: by a free run of it
    among them, or else by the ``truth`` (times, *space); None where there is neither.
    """
    climate = None if truth is None else climatological_spread(truth)
    free = {
        data.attrs["settings"]: averages(
            data,
            gap=json.loads(data.attrs["settings"])["gap"],
            spin_up_cycles=spin_up_cycles,
        )["rmse"]
        for data in estimates
        if is_free_run(data) and not data.attrs["diverged"]
    }
    return [free.get(data.attrs["settings"], climate) for data in estimates]


def _built(
    problem: xr.Dataset,
    settings: CellSettings,
    system: System | None,
    observation: Observation | None,
) -> tuple[System, Observation]:
    """The model and the observation that a filter works with: those that were passed, or else the
    problem's.

    Raises:
        ValueError: where the problem's own have to be passed, or what was passed does not fit it.
    """
    usual = settings.forecast
    truths = (
        registry.make_system(usual.system, usual.parameters)
        if usual.system in system_names()
        else None
    )
    if system is not None:
        require_instance("system", system, System, _A_SYSTEM)
    if observation is not None:
        require_instance("observation", observation, Observation, _AN_OBSERVATION)
    model = system or truths
    if model is None:
        raise ValueError(
            f"system {settings.system!r} is none of masf's: pass it to assimilate, as system=..."
        )
    initial = problem["initial_mean"].values
    shape = initial.shape
    if not is_ours(model):
        require_system(model, initial.reshape(-1))
    if model.shape != shape:
        raise ValueError(
            f"system {name_of(model)!r} has states of shape {model.shape}, and the problem's have "
            f"{shape}: pass a system of that shape"
        )
    if model.dt != settings.parameters.get("dt", model.dt):
        raise ValueError(
            f"system {name_of(model)!r} has dt {model.dt}, and the problem's steps are "
            f"{settings.parameters['dt']}: measurements would come at other times; pass a system "
            "of that dt"
        )
    if observation is None:
        operator = settings.observation.get("operator")
        if operator not in OPERATORS:
            raise ValueError(
                f"observation {operator!r} is none of masf's: pass it to assimilate, as "
                "observation=..."
            )
        # Of the truth's grid, where that is known: the places that were measured are on it.
        grid = (truths or model).grid
        observation = observation_settings(settings.observation).build(model.dimension, grid)
    columns = problem["observation"].shape[1]
    if (observation.size, observation.dimension) != (columns, model.dimension):
        raise ValueError(
            f"the observation makes {observation.size} measurements of {observation.dimension} "
            f"components, and the problem has {columns} of {model.dimension}: make measurements "
            "that are not to be used NaN"
        )
    return model, observation


def _require_filter(filter_: Any) -> None:
    """Raises Refused for what is neither a name nor a class of filters that can be made."""
    remedy = "pass the name of a filter, or your own subclass of masf.Filter (the class itself)"
    if isinstance(filter_, str):
        return
    if not inspect.isclass(filter_) or not issubclass(filter_, Filter):
        raise Refused(f"filter is {filter_!r:.80} ({type(filter_).__name__}): {remedy}")
    if missing := sorted(filter_.__abstractmethods__):
        raise ContractFault(f"filter {filter_.__name__} has no method {', '.join(missing)}: add it")


def _gap(gap: Gap | Sequence[int] | None, steps: Sequence[int] | None, cycles: int) -> Gap:
    """The gap of measurements, of which gap and steps say one. Raises ValueError where they do not,
    or do not fit.
    """
    if (gap is None) == (steps is None):
        raise ValueError("when measurements come: expected gap or steps, and one of them only")
    if steps is None:
        return as_gap(gap)
    if len(steps) != cycles:
        raise ValueError(f"steps has {len(steps)} numbers: expected {cycles}, one a measurement")
    return gap_of_steps(steps)


def _takes_from_masf(cls: type[Filter]) -> bool:
    """Whether a user's own filter builds on one of masf's, which relies on all of an
    observation.
    """
    return any(
        base.__module__.startswith("masf.filters.") and base is not Filter for base in cls.__mro__
    )


def _require_consistent(observation: Observation, grid: tuple[int, ...] | None) -> None:
    """Raises ValueError for a user's own observation whose parts do not fit together."""
    if faults := consistency_faults(observation, grid):
        raise ValueError(f"observation {type(observation).__name__}: {'; '.join(faults)}")


def _cached_prior(
    system: str,
    parameters: dict[str, Any],
    observation: ObservationSettings,
    training: PriorSettings,
    seed: int,
) -> Path:
    """A path that says all that the prior depends on."""
    fixed = [
        __version__, train_prior_version(system), parameters, observation.written(),
        training.model_dump(), seed,
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]
    return user_cache_path("masf") / "priors" / f"{system}-{digest}.safetensors"


def _place_of_prior(cached: Path) -> tuple[Path, bool]:
    """Where a prior of the cache lies or is to be written, and whether it is kept there after this
    process.
    """
    try:
        if cached.is_file():
            return cached, True
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cached.parent):
            return cached, True
    except OSError as error:
        log.warning(
            "cannot keep a prior in the cache folder (%s): it is trained for this time only; set "
            "XDG_CACHE_HOME to a folder that can be written to keep it",
            error,
        )
        return _until_the_end() / cached.name, False


@cache
def _until_the_end() -> Path:
    """A folder of this process."""
    folder = tempfile.mkdtemp(prefix="masf-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _settings(
    system: System,
    observation: Observation,
    gap: Gap | Sequence[int],
    cycles: int,
    members: int,
    initial_spread: float | None,
    seed: int,
) -> CellSettings:
    require_instance("system", system, System, _A_SYSTEM)
    require_instance("observation", observation, Observation, _AN_OBSERVATION)
    if observation.dimension != system.dimension:
        raise ValueError(
            f"the observation is of {observation.dimension} components, and the system has "
            f"{system.dimension}"
        )
    return CellSettings(
        system=name_of(system),
        parameters=system.parameters.model_dump(),
        observation=recorded(observation, system.grid),
        gap=as_gap(gap),
        cycles=whole_number("cycles", cycles, 1),
        members=whole_number("members", members, 2),
        initial_spread=initial_spread,
        seed=whole_number("seed", seed, 0),
    )


def _said(value: Any) -> Any:
    """A value as a config would say it: arrays and tables as lists, where a masked number is
    None.
    """
    if isinstance(value, (pd.DataFrame, xr.DataArray)):
        value = value.to_numpy()
    return value.tolist() if hasattr(value, "tolist") else value


def _numbers(name: str, values: Any) -> np.ndarray:
    """Values that were passed as float64, NaN where they are masked or, in pandas, missing. Raises
    Refused for what is no array of real numbers.
    """
    if isinstance(values, (pd.DataFrame, pd.Series)):
        values = values.convert_dtypes().to_numpy(dtype=object, na_value=np.nan)
    try:
        if np.iscomplexobj(values):
            raise TypeError("complex numbers")
        return without_mask(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise Refused(
            f"{name}: {type(values).__name__} cannot be read as an array of numbers ({error})"
        ) from None


def _require_rows(what: str, values: np.ndarray, axes: str, length: int) -> None:
    """Raises Refused for what is no array of these two ``axes``, with rows of a ``length``."""
    if values.ndim == 2 and values.shape[1] == length and len(values) > 0:
        return
    hint = ""
    if values.ndim == 2 and values.shape[0] == length:
        hint = ": is it transposed? pass it as .T"
    elif values.ndim == 1 and length == 1:
        hint = ": pass it as [:, None]"
    raise Refused(f"{what} shape {values.shape}: expected ({axes}), {length} columns{hint}")


def _require_spread(ensemble: np.ndarray, system: System) -> None:
    """Raises Refused for members (N, d) that are all equal, in the precision that filters take them
    in, where the model would leave them so: no filter can do anything with these.
    """
    if system.stochastic or np.any(ensemble != ensemble[0]):
        return
    raise Refused(
        f"ensemble: all {len(ensemble)} members are equal in {ensemble.dtype} numbers, and the "
        "model has no noise: expected members that differ as much as the start is uncertain; draw "
        "them, such as by rng.normal(mean, spread, size=(N, d))"
    )


def _require_finite(
    name: str, values: np.ndarray, row: str, *, may_be_missing: bool = False
) -> None:
    """Raises Refused for values (rows, columns) that are not all numbers below LARGEST, with the
    first of them; some ``may_be_missing``, which is NaN. What is larger, such as the fill values of
    NetCDF, overflows where a model takes its square.
    """
    known = np.abs(values) < LARGEST
    bad = np.argwhere(~(known | np.isnan(values)) if may_be_missing else ~known)
    if len(bad):
        i, j = map(int, bad[0])
        more = f" ({len(bad)} such values)" if len(bad) > 1 else ""
        expected = f"finite numbers below {LARGEST:g}"
        raise Refused(
            f"{name}: {row} {i + 1}, component {j + 1} is {values[i, j]:g}{more}: expected "
            f"{expected}{', or NaN where one is missing' if may_be_missing else ''}"
        )


def _warn_of_fill_values(y: np.ndarray) -> None:
    """Says so where one value is repeated among measurements (cycles, m), and is far from all
    others of its column, each time: what files hold in place of a missing number.
    """
    found: Counter[float] = Counter()
    for sign in (1, -1):
        signed = sign * y
        least = np.fmin.reduce(signed, axis=0)
        others = np.where(signed == least, np.nan, signed)
        nearest, farthest = np.fmin.reduce(others, axis=0), np.fmax.reduce(others, axis=0)
        spread = farthest - nearest
        repeated, others_there = np.sum(signed == least, axis=0), np.sum(~np.isnan(others), axis=0)
        suspect = (others_there >= FEWEST_OTHERS) & (spread > 0)
        suspect &= nearest - least > FILL_VALUES_FROM * spread
        for value, times in zip(sign * least[suspect], repeated[suspect], strict=True):
            found[float(value)] += int(times)
    for value, times in found.items():
        if times == 1:
            continue
        cycle, j = map(int, np.argwhere(y == value)[0])
        log.warning(
            "measurements: %g comes %d times, first in cycle %d, component %d, and lies far from "
            "all others: if it stands for a missing measurement, make it NaN",
            value, times, cycle + 1, j + 1,
        )  # fmt: skip


def _cell(problem: xr.Dataset) -> tuple[Truth, bool]:
    """The problem as arrays, and whether its truth is known."""
    require_instance(
        "problem", problem, xr.Dataset,
        "pass what simulate or make_problem made, or xarray.open_dataset of a truth.nc",
    )  # fmt: skip
    known = "truth" in problem
    if not known:
        settings = json.loads(problem.attrs.get("settings", "{}"))
        if not settings or "initial_mean" not in problem:
            raise ValueError(
                "the dataset is no problem of masf: make one by simulate or make_problem, or "
                "open truth.nc"
            )
        last = measurement_steps(settings["gap"], settings["cycles"])[-1]
        shape = (last + 1, *problem["initial_mean"].shape)
        problem = problem.assign(
            truth=(("model_time", *problem["initial_mean"].dims), np.zeros(shape, dtype=np.float32))
        )
    return truth_of(problem), known
