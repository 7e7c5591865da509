"""The contract of a system, of a filter and of an observation: what code that was written elsewhere
can be held to.

A system steps states of any batch, each for itself, the same on numpy and on torch, with random
numbers of the stream that it is handed and no others. A filter turns an ensemble into one of the
same shape and type, the same for the same seed, on both kinds of arrays, and leaves what it is
given as it is. An observation measures states of any batch, each for itself, on both, and all that
it says of what it measures agrees. What is checked is said at each check; :func:`check_system`,
:func:`check_filter` and :func:`check_observation` say all that is broken at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from masf.arrays import Array, Stream, on_device, require_states, to_numpy
from masf.faults import ContractFault, Refused, require_instance
from masf.filters.base import Filter, FilterParameters, Setup
from masf.observations.base import Observation
from masf.observations.consistency import consistency_faults
from masf.observations.settings import observation_settings
from masf.study.messages import validated
from masf.systems import registry
from masf.systems.base import System
from masf.systems.requirements import (
    batch_faults,
    geometry_faults,
    same_numbers,
    typical_state,
)

MEMBERS, CYCLES, GAP = 12, 2, 2
"""Of the runs that a filter is checked by."""
MANY, CHANCE = 200, 6
"""Members of the runs whose moments are compared, and of how many standard errors chance is."""
TYPICAL_PROBLEMS = (
    (
        "lorenz96",
        {"dt": 0.01, "dimension": 12, "forcing": 8.0},
        {"operator": "stride", "stride": 2, "noise": 0.5},
    ),
    ("linear_gaussian", {"dimension": 6}, {"operator": "identity", "noise": 0.5}),
    ("lorenz63", {"dt": 0.01}, {"operator": "identity", "noise": 0.5}),
)
"""What a filter is checked on: the first of these that suits it."""


class SameNumbers(Stream):
    """A stream that gives tensors the numbers that arrays of numpy get, to compare both."""

    def normal(self, shape: tuple[int, ...], x: Array) -> Array:
        drawn = self.numpy.standard_normal(shape)
        if is_torch_array(x):
            import torch

            return torch.as_tensor(drawn, dtype=x.dtype, device=x.device)
        return drawn.astype(x.dtype)


# --- systems


def system_faults(system: System, *, torch: bool = True) -> list[str]:
    """All that breaks the contract of a system, one sentence each.

    Args:
        system: an object.
        torch: whether torch is to give what numpy gives.
    """
    if faults := list(geometry_faults(system)):
        return faults
    name = type(system).__name__
    try:
        centre = typical_state(system, Stream(0, "check"))
        again = typical_state(system, Stream(0, "check"))
    except ContractFault as fault:
        return [str(fault)]
    if not np.array_equal(centre, again):
        faults.append(
            f"{name}.typical_state differs from call to call with the same seed: take random "
            "numbers from the stream that it is given"
        )
    x = centre.astype(np.float32)
    faults += batch_faults(system, centre)
    if faults:
        return faults
    faults += _step_faults(system, x)
    faults += _perturbation_faults(system, x)
    faults += _projection_faults(system, x)
    if torch:
        faults += _torch_faults(system, x)
    return faults


def _step_faults(system: System, x: np.ndarray) -> Iterator[str]:
    """Batches of more axes, types, inputs that are changed, noise that is not the stream's."""
    what, d = f"{type(system).__name__}.step", system.dimension
    batch = x + 0.1 * Stream(1, "check").normal((2, 3, d), x)
    kept = batch.copy()
    stepped = system.step(batch, Stream(0, "check"))
    try:
        require_states(what, stepped, kept, hint="; it is given states (..., d) of any batch")
    except ContractFault as fault:
        yield str(fault)
        return
    if stepped.dtype != np.float32:
        yield (f"{what} returned {stepped.dtype} for float32: cast constants with masf.arrays.like")
    if not np.array_equal(batch, kept):
        yield f"{what} changes the states that it is given: return new ones"
        batch = kept.copy()
    if not np.all(np.isfinite(stepped)):
        yield f"{what} of a typical state is not finite: dt {system.dt} is too long, or it is wrong"
    if not np.array_equal(stepped, system.step(batch, Stream(0, "check"))):
        yield f"{what} differs from call to call with the same seed: draw from the stream alone"
    elif not system.stochastic and not np.array_equal(
        stepped, system.step(batch, Stream(1, "check"))
    ):
        yield (
            f"{what} draws noise, and {type(system).__name__}.stochastic is False: set it to True, "
            "so that filters that run the model twice know it"
        )


def _perturbation_faults(system: System, x: np.ndarray) -> Iterator[str]:
    what, n = f"{type(system).__name__}.perturbations", 100
    drawn = system.perturbations(n, x, Stream(0, "check"))
    try:
        require_states(what, drawn, x, (n, system.dimension))
    except ContractFault as fault:
        yield str(fault)
        return
    if not np.array_equal(drawn, system.perturbations(n, x, Stream(0, "check"))):
        yield f"{what} differs from call to call with the same seed: draw from the stream alone"
    seen = system.resolved(drawn)
    variance, offset = float(np.mean(seen**2)), float(np.max(np.abs(seen.mean(axis=0))))
    if not 0.5 < variance < 2 or offset > 1:  # of smooth fields, whose components go together, too
        yield (
            f"{what}: draws have a mean of up to {offset:.2g} and a mean square of {variance:.2g}: "
            "expected mean 0 and variance 1"
        )


def _projection_faults(system: System, x: np.ndarray) -> Iterator[str]:
    what = f"{type(system).__name__}.project"
    states = x + 0.1 * Stream(2, "check").normal((3, system.dimension), x)
    projected = system.project(states)
    try:
        require_states(what, projected, states)
    except ContractFault as fault:
        yield str(fault)
        return
    if not same_numbers(system.project(projected), projected):
        yield f"{what} of what it projected moves it again: expected the same states"


def _torch_faults(system: System, x: np.ndarray) -> Iterator[str]:
    batch = x + 0.1 * Stream(3, "check").normal((3, system.dimension), x)
    calls: dict[str, Callable[[Array, Stream], Array]] = {
        "step": system.step,
        "project": lambda states, _: system.project(states),
        "perturbations": lambda states, stream: system.perturbations(3, states[0], stream),
    }
    for method, call in calls.items():
        expected = call(batch, SameNumbers(0, "check"))
        yield from _on_torch(f"{type(system).__name__}.{method}", call, batch, expected)


def _on_torch(
    what: str, call: Callable[[Array, Stream], Array], batch: np.ndarray, expected: np.ndarray
) -> Iterator[str]:
    """What a call does wrong on tensors that makes ``expected`` of the array ``batch``."""
    remedy = "write it for both by array_api_compat.array_namespace(x)"
    try:
        states = on_device(batch, "cpu")
        found = call(states, SameNumbers(0, "check"))
        require_states(what, found, states, expected.shape)
    except ContractFault as fault:
        yield f"on torch: {fault}; {remedy}"
    except Exception as error:  # whatever code of one's own raises
        first = (str(error).splitlines() or [""])[0][:120]
        yield f"{what} fails on torch tensors ({type(error).__name__}: {first}): {remedy}"
    else:
        if not same_numbers(to_numpy(found), expected):
            yield f"{what} gives other numbers on torch tensors than on numpy arrays; {remedy}"


def check_system(system: System | type[System], *, torch: bool = True, **parameters: Any) -> None:
    """Holds a system to its contract: see the module's docstring.

    Args:
        system: an object; or a class, which is made with ``parameters``.
        torch: whether it must run on torch, too. Without it, filters that use torch convert at the
            border.
        parameters: of a class, such as ``dt=0.01``.

    Raises:
        ContractFault: with all that is broken, one sentence each.
    """
    if inspect.isclass(system) and issubclass(system, System):
        if missing := sorted(system.__abstractmethods__):
            raise ContractFault(
                f"system {system.__name__} has no {', '.join(missing)}: add what is missing"
            )
        name = f"system {system.__name__!r}"
        system = system(validated(system.Parameters, parameters, name))
    require_instance("system", system, System, "pass a system, or a subclass of masf.System")
    if faults := system_faults(system, torch=torch):
        raise ContractFault("\n".join(faults))


# --- filters


def filter_faults(
    cls: type[Filter],
    parameters: FilterParameters,
    system: System,
    observation: Observation,
    *,
    torch: bool = True,
    prior: Any = None,
) -> list[str]:
    """All that breaks the contract of a filter on one system and observation, one sentence each.

    Args:
        cls: the filter's class.
        parameters: of the filter, that suit system and observation.
        system: the model.
        observation: what is measured.
        torch: whether torch is to give what numpy gives.
        prior: a trained prior, for filters that use one.
    """
    run = _Runs(cls, parameters, system, observation, prior)
    needs_torch = cls.needs_torch(parameters)
    kind = "cpu" if needs_torch else None
    try:
        first = run(kind)
        again = run(kind)
        faults = list(run.faults)
        if not all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)):
            faults.append(
                f"{cls.__name__} gives other numbers from run to run with the same seed: draw from "
                "self.stream alone"
            )
        run(kind, members=2)
    except ContractFault as fault:
        return [*run.faults, str(fault)]
    if torch and not needs_torch:
        remedy = "write it for both by array_api_compat.array_namespace(x)"
        try:
            # In float64, where both agree to many digits.
            wide = [run(kind, dtype=np.float64, same=True) for kind in (None, "cpu")]
            run("cpu")
        except ContractFault as fault:
            faults.append(f"on torch: {fault}; {remedy}")
        except Exception as error:
            said = (str(error).splitlines() or [""])[0][:120]
            faults.append(
                f"{cls.__name__} fails on torch tensors ({type(error).__name__}: {said}): {remedy}"
            )
        else:
            if not all(same_numbers(b, a) for a, b in zip(*wide, strict=True)) and not (
                _same_but_for_chance(run)
            ):
                faults.append(
                    f"{cls.__name__} gives other numbers on torch tensors than on numpy arrays; "
                    f"{remedy}"
                )
    return list(dict.fromkeys(faults))


def _same_but_for_chance(run: _Runs) -> bool:
    """Whether numpy and torch give mean and spread that differ by chance at most: numbers may
    differ where noise goes along eigenvectors, whose signs are any.
    """
    by_numpy, by_torch = (run(kind, members=MANY, dtype=np.float64) for kind in (None, "cpu"))
    for i in range(0, len(by_numpy), 3):
        (mean, spread), (other, its) = by_numpy[i : i + 2], by_torch[i : i + 2]
        error = CHANCE / np.sqrt(MANY)
        if np.any(np.abs(mean - other) > error * np.hypot(spread, its)):
            return False
        if np.any(np.abs(np.log(its / spread)) > error):
            return False
    return True


class _Runs:
    """Short runs of a filter, that look at all that it returns.

    Attributes:
        faults: what was found besides what stops a run.
    """

    def __init__(
        self,
        cls: type[Filter],
        parameters: FilterParameters,
        system: System,
        observation: Observation,
        prior: Any,
    ) -> None:
        self.cls, self.parameters, self.prior = cls, parameters, prior
        self.system, self.observation = system, observation
        self.faults: dict[str, None] = {}
        source = Stream(0, "check a filter")
        self.centre = typical_state(system, source).astype(np.float32)
        self.start = self.centre + system.perturbations(MANY, self.centre, source)
        self.truth = system.advance(self.start[0], GAP * CYCLES, source)

    def __call__(
        self,
        torch_device: str | None,
        *,
        members: int = MEMBERS,
        dtype: Any = np.float32,
        same: bool = False,
    ) -> list[np.ndarray]:
        """Mean, spread and members after each analysis. Raises ContractFault.

        Args:
            torch_device: where to run, None for numpy.
            members: of the ensemble.
            dtype: of all arrays.
            same: whether torch shall get the random numbers that numpy gets.
        """
        name, d = self.cls.__name__, self.system.dimension
        stream = (SameNumbers if same else Stream)(1, "check a filter")

        def array(values: np.ndarray) -> Array:
            # A copy: what a filter writes into shall not be what the next run starts from.
            if torch_device is None:
                return values.astype(dtype)
            import torch

            return torch.tensor(values.astype(dtype), device=torch_device)

        setup = Setup(self.system, self.observation, array(self.centre), 1.0, stream, self.prior)
        filter_ = self.cls(self.parameters, setup)
        x, y = array(self.start[:members]), array(self.observation.apply(self.truth))
        is_ensemble = self.cls.members is Filter.members
        state = self._unchanged(f"{name}.start", filter_.start, x)
        results, keys = [], None
        for _ in range(CYCLES):
            for _ in range(GAP):
                before, state = state, filter_.forecast(state)
                if is_ensemble:
                    require_states(f"{name}.forecast", state, before)
                    self._same_type(f"{name}.forecast", state, x)
            count = len(filter_.members(state))
            before = state
            state = self._unchanged(f"{name}.analyse", partial(filter_.analyse, before), y)
            if is_ensemble:
                require_states(f"{name}.analyse", state, before, hint="; keep all members")
                self._same_type(f"{name}.analyse", state, x)
            state = filter_.project(state)
            found = filter_.members(state)
            require_states(f"{name}.members", found, x, (count, d))
            moments = filter_.moments(state)
            if not isinstance(moments, tuple) or len(moments) != 2:
                raise ContractFault(f"{name}.moments: expected a tuple of mean and spread")
            for which, moment in zip(("mean", "standard deviation"), moments, strict=True):
                require_states(f"{name}.moments ({which})", moment, x, (d,))
            require_states(f"{name}.covariance", filter_.covariance(state), x, (d, d))
            said = filter_.diagnostics()
            for key, value in said.items():
                if not isinstance(value, (int, float)):
                    self.faults[f"{name}.diagnostics: {key!r} is {value!r:.80}: not a float"] = None
            if keys is not None and keys != said.keys():
                self.faults[
                    f"{name}.diagnostics has other keys from cycle to cycle: use the same"
                ] = None
            keys = said.keys()
            parts = [to_numpy(moments[0]), to_numpy(moments[1]), to_numpy(found)]
            if not all(np.all(np.isfinite(part)) for part in parts):
                raise ContractFault(f"{name}.analyse is not finite with {members} members")
            results += parts
        return results

    def _same_type(self, what: str, found: Array, x: Array) -> None:
        if found.dtype != x.dtype:
            self.faults[
                f"{what} returned {found.dtype} for {x.dtype}: cast constants with masf.arrays.like"
            ] = None

    def _unchanged(self, what: str, call: Callable[[Array], Any], given: Array) -> Any:
        """What ``call`` makes of ``given``, which it should leave as it is."""
        kept = to_numpy(given).copy()
        made = call(given)
        if not np.array_equal(to_numpy(given), kept):
            self.faults[f"{what} changes the array that it is given: return a new one"] = None
        return made


def check_filter(
    cls: type[Filter],
    parameters: Mapping[str, Any] | None = None,
    *,
    system: System | None = None,
    observation: Observation | None = None,
    prior: Any = None,
    torch: bool = True,
) -> None:
    """Holds a filter to its contract: see the module's docstring.

    Args:
        cls: the filter's class.
        parameters: of the filter; those left out are the defaults of its class.
        system: what it is checked on, with ``observation``; without them, the first of some small
            problems that suits it.
        observation: what is measured.
        prior: a trained prior, for a filter that cannot do without.
        torch: whether it must run on torch as on numpy. Of a filter that needs torch, that alone is
            checked.

    Raises:
        ContractFault: with all that is broken, one sentence each.
        Refused: where there is nothing to check it on.
    """
    if not inspect.isclass(cls) or not issubclass(cls, Filter):
        raise Refused(f"filter is {cls!r:.80}: pass a subclass of masf.Filter (the class itself)")
    name = cls.__name__
    if missing := sorted(cls.__abstractmethods__):
        raise ContractFault(f"filter {name} has no method {', '.join(missing)}: add it")
    if not inspect.isclass(cls.Parameters) or not issubclass(cls.Parameters, FilterParameters):
        raise ContractFault(
            f"{name}.Parameters is {cls.Parameters!r:.80}: expected a subclass of "
            "masf.FilterParameters"
        )
    chosen = validated(cls.Parameters, parameters or {}, f"filter {name!r}")
    if system is not None and observation is not None:
        problems = iter([(system, observation)])
    elif system is None and observation is None:
        problems = _typical_problems()
    else:
        raise Refused("system and observation: pass both, or neither")
    said: list[str] = []
    for model, measured in problems:
        misfits = cls.misfits(chosen, model, measured)
        if not isinstance(misfits, list) or not all(isinstance(fault, str) for fault in misfits):
            raise ContractFault(f"{name}.misfits returned {misfits!r:.80}: expected a list of text")
        if not misfits:
            break
        said += misfits
    else:
        raise Refused(
            f"filter {name} suits nothing that it can be checked on: {'; '.join(said)}; pass a "
            "system and an observation that suit it"
        )
    if faults := filter_faults(cls, chosen, model, measured, torch=torch, prior=prior):
        raise ContractFault("\n".join(faults))


def _typical_problems() -> Iterator[tuple[System, Observation]]:
    for name, parameters, keys in TYPICAL_PROBLEMS:
        system = registry.make_system(name, dict(parameters))
        yield system, observation_settings(keys).build(system.dimension, system.grid)


# --- observations


def observation_faults(observation: Observation, *, torch: bool = True) -> list[str]:
    """All that breaks the contract of an observation, one sentence each.

    Args:
        observation: an object.
        torch: whether torch is to give what numpy gives.
    """
    if (faults := consistency_faults(observation)) or not torch:
        return faults
    name = type(observation).__name__
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, observation.dimension)).astype(np.float32)
    v = rng.standard_normal((3, observation.size)).astype(np.float32)
    applied = observation.apply
    faults = list(_on_torch(f"{name}.apply", lambda states, _: applied(states), x, applied(x)))
    if observation.linear:
        adjoint = observation.adjoint
        faults += _on_torch(f"{name}.adjoint", lambda values, _: adjoint(values), v, adjoint(v))
    elif not faults:
        try:
            observation.pullback(x, v)
        except ValueError as error:
            faults.append(str(error))
    return faults


def check_observation(observation: Observation, *, torch: bool = True) -> None:
    """Holds an observation to its contract: states of any batch are measured each for itself and
    left as they are, and all that the observation says is the same H, or of what is not linear the
    derivative of the same h.

    Args:
        observation: an object.
        torch: whether it must run on torch, too, and torch be able to differentiate what is not
            linear. Without it, filters that use torch convert at the border, and those that need a
            derivative take ``pullback``.

    Raises:
        ContractFault: with all that is broken, one sentence each.
    """
    require_instance("observation", observation, Observation, "pass an object of a subclass of it")
    if faults := observation_faults(observation, torch=torch):
        raise ContractFault("\n".join(faults))
