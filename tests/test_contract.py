"""What is said of arguments and of code of one's own that cannot be used: one sentence with what,
where, and what to do; and the contract that anybody's system and filter can be held to.
"""

# ruff: noqa: ARG001, ARG005 (methods of classes that are made on the spot)
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from array_api_compat import array_namespace

import masf
from masf.cli import commands
from masf.diffusion.linear_state import linear_state
from masf.ensembles.domains import LocalDomains
from masf.ensembles.localization import place_misfits
from masf.ensembles.serial import groups_of
from masf.filters.base import Setup
from masf.filters.enkf_localized import MeasurementTaper
from masf.filters.registry import filter_class, filter_names
from masf.observations.base import Transformed, checked_places
from masf.observations.noise import make_noise
from masf.observations.transforms import named_transform
from masf.systems.base import System
from masf.systems.registry import system_class, system_names

RUN = {"gap": 2, "cycles": 3, "members": 8}


@pytest.fixture(scope="module")
def lorenz96() -> System:
    return masf.make_system("lorenz96", dimension=6)


@pytest.fixture(scope="module")
def truth(lorenz96: System) -> xr.Dataset:
    return masf.simulate(lorenz96, masf.make_observation(lorenz96, "identity", noise=1.0), **RUN)


# --- arguments


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: masf.make_system("lorenz69"), "unknown system 'lorenz69'.*mean 'lorenz96'"),
        (lambda: system_class("lorezn63"), "unknown system 'lorezn63'.*mean 'lorenz63'"),
        (lambda: filter_class("lektf"), "unknown filter 'lektf'.*mean 'letkf'"),
        (
            lambda: masf.make_system("lorenz96", dimensoin=3),
            "system 'lorenz96': dimensoin: unknown key .did you mean 'dimension'",
        ),
        (
            lambda: masf.make_system("lorenz96", dt=-1, forcing=np.nan),
            r"system 'lorenz96': dt = -1: .*greater than 0; forcing = NaN: .*finite",
        ),
        (
            lambda: masf.make_observation(masf.make_system("lorenz63"), "stride", strid=2, noise=1),
            "observation 'stride': strid: unknown key .did you mean 'stride'",
        ),
        (
            lambda: masf.make_observation(masf.make_system("lorenz63"), "identity", noise=np.nan),
            "observation 'identity': noise = NaN: .*finite",
        ),
        (
            lambda: masf.make_observation("lorenz63", "identity", noise=1.0),
            r"system is 'lorenz63' \(str\): pass masf.make_system",
        ),
    ],
)
def test_wrong_names_and_values_are_one_sentence_without_an_address(
    call: Callable[[], Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("gap", 0, "gap is 0: expected at least 1"),
        ("gap", 2.5, "gap is 2.5: expected a number of steps, or a list"),
        ("cycles", [3], r"cycles is \[3\]: expected one whole number.*call once for each"),
        ("members", 1, "members is 1: expected at least 2"),
        ("members", "10", "members is '10': expected one whole number"),
        ("seed", -1, "seed is -1: expected at least 0"),
        ("seed", None, "seed is None: expected one whole number"),
        ("initial_spread", np.nan, "initial_spread is nan: expected a positive number"),
        ("initial_spread", "1", "initial_spread is '1': expected a positive number"),
    ],
)
def test_wrong_numbers_of_simulate(key: str, value: Any, said: str, lorenz96: System) -> None:
    observation = masf.make_observation(lorenz96, "identity", noise=1.0)
    with pytest.raises(ValueError, match=said):
        masf.simulate(lorenz96, observation, **{**RUN, key: value})


def test_numpys_whole_numbers_are_numbers(lorenz96: System, truth: xr.Dataset) -> None:
    observation = masf.make_observation(lorenz96, "identity", noise=1.0)
    run = {key: np.int64(value) for key, value in RUN.items()}
    xr.testing.assert_identical(masf.simulate(lorenz96, observation, **run), truth)


def test_wrong_arguments_of_make_problem(lorenz96: System, truth: xr.Dataset) -> None:
    observation = masf.make_observation(lorenz96, "identity", noise=1.0)
    y, x = truth["observation"].values, truth["initial_ensemble"].values.copy()

    def problem(ensemble: np.ndarray = x, gap: Any = 2) -> xr.Dataset:
        return masf.make_problem(lorenz96, observation, y, ensemble, gap=gap)

    with pytest.raises(ValueError, match="gap is 0: expected at least 1"):
        problem(gap=0)
    xr.testing.assert_identical(problem(gap=[2, 2, 2]), problem(gap=2))
    with pytest.raises(ValueError, match=r"gap is \[2, 2.5\]: expected a number of steps, or a"):
        problem(gap=[2, 2.5])
    with pytest.raises(ValueError, match="members is 1: expected at least 2"):
        problem(x[:1])
    x[4, 2], x[5, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"ensemble: member 5, component 3 is nan \(2 such values"):
        problem(x)
    with pytest.raises(ValueError, match=r"observation is 'identity' \(str\): pass masf.make_obs"):
        masf.make_problem(lorenz96, "identity", y, x, gap=2)


class Own(masf.Filter):
    """Leaves the members as they are."""

    class Parameters(masf.FilterParameters):
        gain: float = 1.0

    def analyse(self, state: Any, y: Any) -> Any:
        return state


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("enfk",), "unknown filter 'enfk'"),
        (("enkf", {"inflatoin": 1.1}), "filter 'enkf': inflatoin: unknown key"),
        ((Own, {"gian": 1.0}), "filter 'Own': gian: unknown key .did you mean 'gain'"),
        ((Own, {"gain": "big"}), "filter 'Own': gain = \"big\": .*valid number"),
        ((masf,), r"filter is <module 'masf'.*\(module\): pass the name"),
        ((type("Half", (masf.Filter,), {}),), "filter Half has no method analyse: add it"),
    ],
)
def test_wrong_filters_are_refused(arguments: Any, said: str, truth: xr.Dataset) -> None:
    with pytest.raises(masf.Refused if "unknown filter" not in said else ValueError, match=said):
        masf.assimilate(truth, *arguments)


def test_wrong_problems_and_priors_are_refused(truth: xr.Dataset) -> None:
    with pytest.raises(masf.Refused, match=r"problem is 'truth.nc' \(str\): pass what simulate"):
        masf.assimilate("truth.nc", "enkf")
    with pytest.raises(masf.Refused, match="settings of the prior: stpes: unknown key"):
        masf.train_prior(truth, settings={"stpes": 3})
    with pytest.raises(masf.FileFault, match=r"none\.safetensors"):
        masf.assimilate(truth, "masf", prior="none.safetensors")


class Table:
    """Something that is no array."""

    def __repr__(self) -> str:
        return "Table"


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("assimilate", {"saved_members": -1}, "saved_members is -1: expected at least 0"),
        ("assimilate", {"parameters": [1.0]}, r"parameters is \[1.0\]: pass a mapping"),
        ("assimilate", {"prior": "none"}, "none: does not exist; name a file"),
        ("assimilate", {"system": "lorenz63"}, r"system is 'lorenz63' \(str\): pass masf.make_sys"),
        ("assimilate", {"system": Own}, "system is the class Own, not an object"),
        (
            "assimilate",
            {"observation": {"noise": 1}},
            r"observation is .* \(dict\): pass masf.make",
        ),
        ("train_prior", {"seed": -1}, "seed is -1: expected at least 0"),
        (
            "train_prior",
            {"system": "lorenz63"},
            r"system is 'lorenz63' \(str\): pass masf.make_sys",
        ),
    ],
)
def test_wrong_arguments_are_one_sentence(
    name: str, arguments: dict[str, Any], said: str, truth: xr.Dataset
) -> None:
    filters = () if name == "train_prior" else ("etkf",)
    with pytest.raises(masf.Refused, match=said):
        getattr(masf, name)(truth, *filters, **arguments)


def test_what_is_no_name_of_a_system_is_refused() -> None:
    for name in (None, 3, masf.make_system("lorenz63")):
        with pytest.raises(ValueError, match=r"expected a name, one of .*lorenz63"):
            masf.make_system(name)


@pytest.mark.parametrize("call", ["score", "innovation_statistics", "innovation_figure"])
def test_wrong_estimates_and_cycles_are_refused(call: str, truth: xr.Dataset) -> None:
    function, estimate = getattr(masf, call), masf.assimilate(truth, "etkf")
    for wrong, said in (
        ("etkf", "estimates is 'etkf': pass what masf.assimilate made"),
        (None, "estimates is None"),
        ([], "estimates is empty"),
        (["etkf"], r"estimates\[0\] is 'etkf' \(str\): pass what"),
        ({"mine": truth}, r"estimates\['mine'\] is a dataset without the attribute 'filter'"),
    ):
        with pytest.raises(masf.Refused, match=said):
            function(wrong)
    # A slice that begins at -1 would be the last cycle.
    for cycles, said in ((-1, "is -1: expected at least 0"), (1.5, "is 1.5: expected one whole")):
        with pytest.raises(masf.Refused, match=f"spin_up_cycles {said}"):
            function(estimate, spin_up_cycles=cycles)
    with pytest.raises(masf.Refused, match="spin_up_cycles 3 leaves none of 3 cycles"):
        function(estimate, spin_up_cycles=3)


def test_what_is_no_reference_or_truth_is_refused(truth: xr.Dataset) -> None:
    estimate = masf.assimilate(truth, "etkf")
    with pytest.raises(masf.Refused, match=r"reference is 'kalman' \(str\): pass what"):
        masf.score(estimate, reference="kalman")
    with pytest.raises(ValueError, match="truth has no variable 'truth'"):
        masf.score(estimate, truth=estimate)
    with pytest.raises(ValueError, match="the dataset is no problem of masf"):
        masf.assimilate(estimate, "etkf")


def test_tables_of_pandas_are_arrays_and_what_is_none_is_refused(
    lorenz96: System, truth: xr.Dataset
) -> None:
    observation = masf.make_observation(lorenz96, "identity", noise=1.0)
    y, x = truth["observation"].values, truth["initial_ensemble"]
    table = pd.DataFrame(y).astype("Float32")
    table.iloc[1, 2] = pd.NA
    table[6 - 1] = table[5].astype(object)
    found = masf.make_problem(lorenz96, observation, table, x, gap=2)["observation"].values
    np.testing.assert_array_equal(np.argwhere(np.isnan(found)), [[1, 2]])
    np.testing.assert_array_equal(found[~np.isnan(found)], y[~np.isnan(found)])
    for wrong, said in (
        ([["a"] * 6], "could not convert"),
        (y + 1j, "complex"),
        ([[1.0, 2.0], [3.0]], "inhomogeneous"),
        (pd.DataFrame(np.full((3, 6), "dry")), "could not convert"),
        (Table(), "Table"),
    ):
        with pytest.raises(masf.Refused, match=f"measurements: .* cannot be read .*{said}"):
            masf.make_problem(lorenz96, observation, wrong, x, gap=2)
    covariance = np.diag([1.0, 2, 3, 4, 5, 6])
    noise = masf.make_observation(lorenz96, "identity", noise=pd.DataFrame(covariance)).noise
    np.testing.assert_array_equal(noise.covariance, covariance)


def test_fill_values_that_lost_their_mask_are_refused(lorenz96: System, truth: xr.Dataset) -> None:
    observation = masf.make_observation(lorenz96, "identity", noise=1.0)
    y, x = truth["observation"].values.copy(), truth["initial_ensemble"].values.copy()
    for fill in (9.97e36, -1e20, np.inf):
        y[1, 2] = fill
        with pytest.raises(masf.Refused, match=r"measurements: cycle 2, component 3 is .*or NaN"):
            masf.make_problem(lorenz96, observation, y, x, gap=2)
        with pytest.raises(ValueError, match="holds values of observation that are not finite, or"):
            masf.assimilate(truth.assign(observation=(("cycle", "obs"), y)), "etkf")
    x[3, 4] = 9.97e36
    with pytest.raises(masf.Refused, match=r"ensemble: member 4, component 5 is 9\.97e"):
        masf.make_problem(lorenz96, observation, truth["observation"].values, x, gap=2)


def test_a_part_of_the_measurements_is_not_taken_for_the_first(truth: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"makes 6 measurements of 6 .* has 4 of 6: make .* NaN"):
        masf.assimilate(truth.isel(obs=slice(2, 6)), "etkf")


def test_all_faults_are_value_errors() -> None:
    for fault in (masf.Refused, masf.FileFault, masf.ConfigFault, masf.ContractFault):
        assert issubclass(fault, ValueError)


def test_reprs_say_what_a_thing_is(lorenz96: System) -> None:
    observation = masf.make_observation(lorenz96, "stride", stride=2, noise=1.5)
    assert repr(observation.noise) == "IndependentNoise(1.5, size=3)"
    stream = masf.Stream(3, "tests")
    assert repr(stream) == "Stream(seed=3, purpose='tests')"
    mean = np.zeros(6, dtype=np.float32)
    own = Own(Own.Parameters(gain=0.5), Setup(lorenz96, observation, mean, 1.0, stream))
    assert repr(own) == f"Own(gain=0.5) of {lorenz96!r}, {observation!r}"


# --- code of one's own, as it is met in a run


class Halving(masf.System):
    """Each step halves the distance to 1."""

    Parameters = masf.SystemParameters
    shape = (3,)

    def step(self, x: Any, stream: masf.Stream) -> Any:
        return 1 + (x - 1) / 2

    def typical_state(self, stream: masf.Stream) -> np.ndarray:
        return np.array([0.5, 1.0, 1.5])


def own_system(**members: Any) -> System:
    return type("Mine", (Halving,), members)(masf.SystemParameters(dt=0.1))


def run_own_system(system: System, name: str = "enkf") -> xr.Dataset:
    observation = masf.make_observation(system, "identity", noise=1.0)
    problem = masf.simulate(system, observation, **RUN)
    return masf.assimilate(problem, name, system=system)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        # Of the right shape, and silently wrong.
        ({"step": lambda s, x, _: x - x.mean()}, "Mine.step of a state depends on the others"),
        ({"step": lambda s, x, _: x + x.sum(axis=0)}, "component . is .* among three states and"),
        # Of other shapes.
        (
            {"step": lambda s, x, _: x.mean(axis=-1, keepdims=True)},
            r"Mine.step returned shape \(3, 1\): expected \(3, 3\); compute along the last axis",
        ),
        (
            {"step": lambda s, x, _: np.array([x[0], x[1], x[2], x[0]])},
            r"Mine.step returned shape \(4, 3\): expected \(3, 3\)",
        ),
        (
            {"step": lambda s, x, _: x * np.ones((2, 1, 1), "f4") if x.ndim == 2 else x},
            r"Mine.step returned shape \(2, 3, 3\): expected \(3, 3\)",
        ),
        ({"step": lambda s, x, _: 0.5}, "Mine.step returned float: expected a numpy array"),
        ({"step": lambda s, x, _: None}, "Mine.step returned NoneType: expected a numpy array"),
        ({"step": lambda s, x, _: x.astype(int)}, "numbers of type int64: expected float32"),
        (
            {"step": lambda s, x, _: np.where([0, 1, 0], np.nan, x).astype("f4")},
            "the truth is not finite from step 1 on, first in component 2: dt 0.1 is too long",
        ),
        (
            {"typical_state": lambda s, _: np.zeros(4)},
            r"Mine.typical_state returned shape \(4,\): expected \(3,\)",
        ),
        (
            {"typical_state": lambda s, _: np.array([0, np.nan, 0])},
            "Mine.typical_state: component 2 is nan: expected finite",
        ),
        (
            {"typical_state": lambda s, _: "rest"},
            r"Mine.typical_state returned str: expected an array of shape \(3,\)",
        ),
        ({"shape": [3]}, r"Mine.shape is \[3\]: expected a tuple of positive whole numbers"),
        ({"shape": 3}, "Mine.shape is 3: expected a tuple"),
        ({"space": ("x", "y")}, "Mine.space is .*: expected a tuple with a name for each of the 1"),
        ({"grid": (2,)}, r"Mine.grid is \(2,\): .* divides the dimension 3"),
        (
            {"perturbations": lambda s, n, x, _: np.zeros((n, 2), "f4")},
            r"Mine.perturbations returned shape \(8, 2\): expected \(8, 3\)",
        ),
    ],
)
def test_a_system_that_is_none_says_what_is_wrong(members: dict[str, Any], said: str) -> None:
    system = own_system(**members)
    with pytest.raises(ValueError, match=said) as caught:
        run_own_system(system)
    assert "\n" not in str(caught.value)


def test_a_system_that_is_one_runs() -> None:
    estimate = run_own_system(own_system())
    assert estimate.attrs["diverged"] == 0
    typical_as_list = own_system(typical_state=lambda s, _: [0.5, 1.0, 1.5])
    xr.testing.assert_equal(run_own_system(typical_as_list), estimate)


def test_parameters_that_are_none_are_refused() -> None:
    with pytest.raises(masf.ContractFault, match=r"Halving.parameters is dict: expected an object"):
        run_own_system(Halving({"dt": 0.1}))


def test_a_step_that_fails_in_one_cycle_says_in_which() -> None:
    calls = []

    def step(self: System, x: Any, stream: masf.Stream) -> Any:
        calls.append(len(x) if x.ndim == 2 else 0)
        return x[:, :2] if calls.count(8) == 4 else 1 + (x - 1) / 2

    with pytest.raises(masf.ContractFault, match=r"Mine.step returned .* \(in cycle 2\)"):
        run_own_system(own_system(step=step))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"analyse": lambda f, x, y: x[0, :3]},
            r"Mine.analyse returned shape \(3,\): expected \(8, 6\)",
        ),
        (
            {"analyse": lambda f, x, y: x[:4]},
            r"Mine.analyse returned shape \(4, 6\): expected \(8, 6\); an analysis has as many",
        ),
        ({"analyse": lambda f, x, y: None}, "Mine.analyse returned NoneType: expected a numpy"),
        ({"analyse": lambda f, x, y: x.tolist()}, "Mine.analyse returned list: expected a numpy"),
        ({"analyse": lambda f, x, y: x.astype("c8")}, "numbers of type complex64"),
        ({"forecast": lambda f, x: x[:, :3]}, r"Mine.forecast returned shape \(8, 3\)"),
        ({"start": lambda f, x: x[:, :3]}, r"Mine.start returned shape \(8, 3\)"),
        (
            {"moments": lambda f, x: (x.mean(), x.std())},
            r"Mine.moments \(mean\) returned .*float32: expected .*shape \(6,\)"
            r"|Mine.moments \(mean\) returned shape \(\): expected \(6,\)",
        ),
        ({"moments": lambda f, x: x.mean(axis=0)}, "Mine.moments returned ndarray: expected a tup"),
        ({"members": lambda f, x: x[0]}, r"Mine.members returned shape \(6,\): expected \(8, 6\)"),
        ({"diagnostics": lambda f: {"a": "b"}}, "Mine.diagnostics: 'a' is 'b': expected a number"),
    ],
)
def test_a_filter_that_is_none_says_what_is_wrong(
    members: dict[str, Any], said: str, truth: xr.Dataset
) -> None:
    with pytest.raises(masf.ContractFault, match=said):
        masf.assimilate(truth, type("Mine", (Own,), members))


def test_the_cycle_and_the_component_are_named(
    truth: xr.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Own):
        cycle = 0

        def analyse(self, state: Any, y: Any) -> Any:
            self.cycle += 1
            return self.late(state) if self.cycle == 2 else state

        def late(self, state: Any) -> Any:
            return state[:3]

    with pytest.raises(masf.ContractFault, match=r"Late.analyse .* \(in cycle 2\)"):
        masf.assimilate(truth, Late)
    broken = type("Broken", (Late,), {"late": lambda f, x: 1 / 0})
    with pytest.raises(ZeroDivisionError) as caught:
        masf.assimilate(truth, broken)
    assert caught.value.__notes__ == ["in cycle 2 of filter Broken"]
    lost = type("Lost", (Late,), {"late": lambda f, x: np.where(np.arange(6) == 4, np.nan, x)})
    assert masf.assimilate(truth, lost).attrs["diverged"] == 1
    assert "cycle 2: the ensemble is not finite after the analysis, in 1 of 6" in caplog.text
    assert "first in 5" in caplog.text


# --- the whole contract


FEW = {
    "particle": {"particles": 200},
    "sf": {"training_steps": 3, "training_steps_per_cycle": 2, "steps": 20},
    "ssls": {"training_steps": 3, "training_steps_per_cycle": 2},
}
"""Parameters that make a filter quick."""
UNSEEDED = np.random.default_rng()
SMALL = {"kolmogorov": {"size": 16}}


@pytest.mark.parametrize("name", filter_names())
def test_every_filter_keeps_the_contract(name: str) -> None:
    cls = filter_class(name)
    parameters = FEW.get(name, {})
    if "network" in cls.Parameters.model_fields:
        parameters = {**parameters, "network": False}
    masf.check_filter(cls, parameters)


@pytest.mark.parametrize("name", system_names())
def test_every_system_keeps_the_contract(name: str) -> None:
    masf.check_system(masf.make_system(name, **SMALL.get(name, {})))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"step": lambda s, x, _: x - x.mean()}, "depends on the others"),
        ({"step": lambda s, x, _: x.astype("f8")}, "Mine.step returned float64 for float32: cast"),
        ({"step": lambda s, x, _: x.__imul__(x.dtype.type(0.5))}, "Mine.step changes the states"),
        (
            {"step": lambda s, x, _: x + UNSEEDED.normal(size=x.shape).astype("f4")},
            "Mine.step differs from call to call with the same seed",
        ),
        (
            {"step": lambda s, x, stream: x + stream.normal(x.shape, x)},
            "Mine.step draws noise, and Mine.stochastic is False: set it to True",
        ),
        (
            {"step": lambda s, x, _: np.array([[a / 2 for a in row] for row in np.atleast_2d(x)])},
            r"Mine.step returned shape \(1, 3\): expected \(3,\); it is given one state",
        ),
        (
            {"step": lambda s, x, _: np.stack([x[..., 0], x[..., 1], x[..., 2]], axis=x.ndim - 1)},
            r"Mine.step .*torch",
        ),
        (
            {"step": lambda s, x, _: x / 2 if isinstance(x, np.ndarray) else x / 3},
            "Mine.step gives other numbers on torch tensors than on numpy arrays",
        ),
        (
            {"typical_state": lambda s, _: UNSEEDED.normal(size=3)},
            "Mine.typical_state differs from call to call",
        ),
        (
            {"perturbations": lambda s, n, x, stream: 9 * stream.normal((n, 3), x)},
            "Mine.perturbations: .*mean square of 70: expected mean 0 and variance 1",
        ),
        ({"project": lambda s, x: 0.9 * x}, "Mine.project of what it projected moves it again"),
    ],
)
def test_check_system_finds_what_is_broken(members: dict[str, Any], said: str) -> None:
    masf.check_system(own_system())
    with pytest.raises(masf.ContractFault, match=said):
        masf.check_system(own_system(**members))


def test_check_system_takes_classes_and_says_what_they_lack() -> None:
    masf.check_system(Halving, dt=0.1)
    with pytest.raises(masf.Refused, match="system 'Halving': dt: this key is missing"):
        masf.check_system(Halving)
    with pytest.raises(masf.ContractFault, match="system Half has no shape, step, typical_state"):
        masf.check_system(type("Half", (masf.System,), {}), dt=0.1)
    numpy_only = own_system(step=lambda s, x, _: x.copy() / 2)
    with pytest.raises(
        masf.ContractFault, match=r"Mine.step fails on torch tensors .*copy.*array_namespace\(x\)"
    ):
        masf.check_system(numpy_only)
    masf.check_system(numpy_only, torch=False)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"analyse": lambda f, x, y: x[0]}, r"Mine.analyse returned shape \(12,\)"),
        ({"analyse": lambda f, x, y: x + np.float64([0.5])}, "Mine.analyse returned float64"),
        (
            {"analyse": lambda f, x, y: x + float(UNSEEDED.normal())},
            "Mine gives other numbers from run to run with the same seed",
        ),
        (
            {"analyse": lambda f, x, y: x + y.__imul__(2)[0]},
            "Mine.analyse changes the array that it is given",
        ),
        (
            {"analyse": lambda f, x, y: np.linalg.inv(np.cov(x.T)) @ x if len(x) < 3 else x},
            "Mine.analyse|LinAlgError|Singular",
        ),
        (
            {"analyse": lambda f, x, y: x / 2 if isinstance(x, np.ndarray) else x / 3},
            "Mine gives other numbers on torch tensors than on numpy arrays",
        ),
        ({"analyse": lambda f, x, y: np.sort(x, axis=0)}, "Mine.analyse returned ndarray"),
        ({"analyse": lambda f, x, y: x * float("nan")}, "Mine.analyse is not finite"),
        ({"diagnostics": lambda f: {"a": "b"}}, "Mine.diagnostics: 'a' is 'b'"),
        ({"misfits": classmethod(lambda *_: None)}, "Mine.misfits returned None: expected a list"),
        ({"Parameters": dict}, "Mine.Parameters is .*dict.*: expected a subclass"),
    ],
)
def test_check_filter_finds_what_is_broken(members: dict[str, Any], said: str) -> None:
    masf.check_filter(Own)
    with pytest.raises((masf.ContractFault, np.linalg.LinAlgError), match=said):
        masf.check_filter(type("Mine", (Own,), members))


def test_check_filter_says_where_there_is_nothing_to_check_it_on(lorenz96: System) -> None:
    picky = type("Picky", (Own,), {"misfits": classmethod(lambda *_: ["no flow"])})
    with pytest.raises(masf.Refused, match=r"Picky suits nothing .*: no flow"):
        masf.check_filter(picky)
    with pytest.raises(masf.Refused, match="pass both, or neither"):
        masf.check_filter(Own, system=lorenz96)
    with pytest.raises(masf.Refused, match=r"pass a subclass of masf\.Filter"):
        masf.check_filter("enkf")
    with pytest.raises(masf.Refused, match="filter 'Own': gian: unknown key"):
        masf.check_filter(Own, {"gian": 1})


# --- observations


class Jumps(masf.Observation):
    """Differences between neighbours, for numpy and torch."""

    def apply(self, x: Any) -> Any:
        return x[..., 1:] - x[..., :-1]

    def adjoint(self, v: Any) -> Any:
        zero = 0 * v[..., :1]
        xp = array_namespace(v)
        return xp.concat([zero, v], axis=-1) - xp.concat([v, zero], axis=-1)


class Distance(masf.NonlinearObservation):
    """Not linear, for numpy and torch."""

    def apply(self, x: Any) -> Any:
        return (x[..., :1] ** 2 + x[..., 1:2] ** 2) ** 0.5


def changing(_: Any, x: Any) -> Any:
    x *= 1.0
    return x[..., 1:] - x[..., :-1]


def own_observation(
    base: type[masf.Observation] = Jumps, size: int = 2, **members: Any
) -> masf.Observation:
    return type("Own", (base,), members)(3, make_noise(0.5, size), {})


@pytest.mark.parametrize("observation", [own_observation(), own_observation(Distance, 1)])
def test_check_observation_passes_what_keeps_the_contract(observation: masf.Observation) -> None:
    masf.check_observation(observation)


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (
            own_observation(apply=lambda s, x: np.array([x[0], x[1]])),
            r"Own\.apply, given shape \(3, 3\), returned shape \(2, 3\): .*last axis",
        ),
        (
            own_observation(apply=lambda s, x: np.stack([x[:, 0], x[:, 1]], -1)),
            r"Own\.apply, given shape \(3,\), fails \(IndexError: too many indices.*last axis",
        ),
        (
            own_observation(size=3),
            r"given shape \(3,\), returned shape \(2,\): expected \(3,\), as many as the noise has",
        ),
        (own_observation(apply=changing), r"Own\.apply changes the array .*: return a new one"),
        (
            own_observation(apply=lambda s, x: (x - x.mean(axis=0))[..., :2]),
            r"Own\.apply, given shape \(3, 3\), gives other numbers for a state than for that",
        ),
    ],
)
def test_an_observation_that_is_no_such_thing_is_refused_before_it_is_used(
    observation: masf.Observation, said: str
) -> None:
    system = masf.make_system("lorenz63")
    y, x = np.zeros((3, observation.size)), np.eye(4, 3)
    for call in (
        lambda: masf.check_observation(observation),
        lambda: masf.simulate(system, observation, **RUN),
        lambda: masf.make_problem(system, observation, y, x, gap=2),
    ):
        with pytest.raises(masf.ContractFault, match=said):
            call()


@pytest.mark.parametrize(
    ("observation", "said"),
    [
        (
            own_observation(adjoint=lambda s, v: np.concatenate([-v[:1], v[:1] - v[1:], v[1:]])),
            r"Own\.adjoint, given shape \(3, 2\), returned shape",
        ),
        (
            own_observation(Distance, 1, pullback=lambda s, x, v: v[..., None] * x),
            r"Own\.pullback, given shape \(3,\), returned shape \(1, 3\): expected \(3,\)",
        ),
    ],
)
def test_check_observation_tries_all_methods_on_batches(
    observation: masf.Observation, said: str
) -> None:
    with pytest.raises(masf.ContractFault, match=said):
        masf.check_observation(observation)


def test_an_observation_for_numpy_alone_serves_filters_that_need_no_torch() -> None:
    def cast(_: Any, x: Any) -> Any:
        return (x[..., :1] ** 2).astype(x.dtype)

    observation = own_observation(Distance, 1, apply=cast)
    with pytest.raises(masf.ContractFault, match=r"Own\.apply fails on torch.*array_namespace"):
        masf.check_observation(observation)
    masf.check_observation(observation, torch=False)
    truth = masf.simulate(masf.make_system("lorenz63"), observation, **RUN)
    masf.assimilate(truth, "etkf", observation=observation)
    with pytest.raises(ValueError, match=r"torch cannot differentiate it .*'astype'.*derivative"):
        masf.assimilate(truth, "ensf", observation=observation)


def own_places(found: Any, *, linear: bool = True) -> masf.Observation:
    """Every second of 12 components, or its square, of which ``places`` returns what is given."""

    class Gauges(masf.Observation if linear else masf.NonlinearObservation):  # type: ignore[misc]
        def apply(self, x: Any) -> Any:
            return x[..., ::2] if linear else x[..., ::2] ** 2

        def adjoint(self, v: Any) -> Any:
            return v @ np.eye(12)[::2]

        def places(self, grid: tuple[int, ...]) -> Any:
            return found

    return Gauges(12, make_noise(0.5, 6), {})


EVERY_SECOND = np.arange(0, 12, 2)[:, None]
WRONG_PLACES = [
    (EVERY_SECOND[:3], r"shape \(3, 1\): expected numbers of shape \(6, 1\), a row for each"),
    (EVERY_SECOND[:, 0], r"shape \(6,\): expected numbers of shape \(6, 1\)"),
    (np.full((6, 1), np.nan), r"nan for measurement 1 along axis 1: .* in \[0, 12\)"),
    (EVERY_SECOND + 2, r"12 for measurement 6 along axis 1: .* in \[0, 12\)"),
    (EVERY_SECOND - 1, r"-1 for measurement 1 along axis 1: .* in \[0, 12\)"),
    ("here", r"'here': expected numbers of shape"),
    (None, r"None: expected numbers of shape"),
]


@pytest.mark.parametrize(("found", "said"), WRONG_PLACES)
def test_wrong_places_are_refused_by_the_check_and_wherever_they_are_asked(
    found: Any, said: str
) -> None:
    system = masf.make_system("lorenz96", dimension=12)
    said = r"Gauges\.places returned " + said
    wrong, wrong_curved = own_places(found), own_places(found, linear=False)
    for observation in (wrong, wrong_curved):
        with pytest.raises(masf.ContractFault, match=said):
            masf.check_observation(observation, torch=False)
    left = np.arange(4)
    x = np.zeros((2, 12))
    for ask in (
        lambda: wrong.only(left).places((12,)),
        lambda: Transformed(wrong, named_transform("cube")).places((12,)),
        lambda: LocalDomains(wrong, (12,), 2.0, 1, x),
        lambda: groups_of(wrong, system, 2.0, x),
        lambda: MeasurementTaper(wrong, (12,), 2.0, x),
        lambda: linear_state(system, wrong_curved),
    ):
        with pytest.raises(masf.ContractFault, match=said):
            ask()
    (fault,) = place_misfits(2.0, system, wrong)
    assert re.match(r"localization_radius = 2\.0: " + said, fault)


def test_places_are_an_array_of_numbers_or_a_list_of_rows_on_a_grid_of_any_axes() -> None:
    for found in (EVERY_SECOND, EVERY_SECOND.tolist(), EVERY_SECOND + 0.5):
        masf.check_observation(own_places(found), torch=False)
        np.testing.assert_array_equal(checked_places(own_places(found), (12,)), found)
    of_two_axes = np.stack(np.unravel_index(EVERY_SECOND[:, 0], (3, 4)), axis=-1)
    masf.check_observation(own_places(of_two_axes), torch=False)
    np.testing.assert_array_equal(checked_places(own_places(of_two_axes), (3, 4)), of_two_axes)
    with pytest.raises(masf.ContractFault, match=r"2 for measurement 5 along axis 1: .*\[0, 2\)"):
        checked_places(own_places(of_two_axes), (2, 6))


def test_places_of_a_class_made_for_two_axes_are_checked_without_a_grid() -> None:
    def rows_and_columns(self: Any, grid: tuple[int, ...]) -> Any:
        _, columns = grid
        points = np.arange(0, 12, 2)
        return np.stack([points // columns, points % columns + self.off], axis=-1)

    of_two = type("OfTwo", (type(own_places(None)),), {"places": rows_and_columns, "off": 0})
    masf.check_observation(of_two(12, make_noise(0.5, 6), {}), torch=False)
    of_two.off = np.nan
    with pytest.raises(masf.ContractFault, match=r"nan for measurement 1 along axis 2"):
        masf.check_observation(of_two(12, make_noise(0.5, 6), {}), torch=False)


def test_a_run_says_wrong_places_of_the_systems_own_grid() -> None:
    system = masf.make_system("lorenz96", dimension=12)
    wrong = own_places(EVERY_SECOND[:3])
    truth = masf.simulate(system, wrong, **RUN)
    for name in ("letkf", "enkf_localized", "etkf"):
        with pytest.raises(ValueError, match=r"Gauges\.places returned shape \(3, 1\)"):
            masf.assimilate(truth, name, observation=wrong)


def test_a_class_that_does_not_suit_the_system_is_named() -> None:
    system = masf.make_system("lorenz63")
    truth = masf.simulate(system, masf.make_observation(system, "identity", noise=1.0), **RUN)
    with pytest.raises(ValueError, match=r"filter LETKF: localization_radius = 3.0: .* no dist"):
        masf.assimilate(truth, filter_class("letkf"), {"localization_radius": 3.0})


def test_a_number_as_the_noise_of_an_own_observation() -> None:
    with pytest.raises(masf.Refused, match=r"noise of observation Jumps is 0\.2 .*make_noise"):
        Jumps(3, 0.2, {})


# --- the command


def test_masf_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            commands(["check", *words], standalone_mode=False)
        return int(stop.value.code or 0), capsys.readouterr().out

    assert run("etkf", "--parameters", "inflation=1.1") == (0, "ETKF: keeps the contract\n")
    assert run("lorenz63")[0] == 0
    file = tmp_path / "mine.py"
    file.write_text(
        "import masf\n\n"
        "class Good(masf.Filter):\n"
        "    def analyse(self, state, y):\n        return state\n\n"
        "class Bad(Good):\n"
        "    def analyse(self, state, y):\n        return state[:3]\n",
        encoding="utf-8",
    )
    code, said = run(str(file))
    assert code == 1
    assert "Good: keeps the contract\nBad: broken\n  Bad.analyse returned shape (3, 12)" in said
    with pytest.raises(click.UsageError, match=r"unknown system or filter 'ektf'.*mean 'etkf'"):
        commands(["check", "ektf"], standalone_mode=False)
    with pytest.raises(click.UsageError, match="there is no such file"):
        commands(["check", "none.py"], standalone_mode=False)
    with pytest.raises(click.UsageError, match="defines no subclass"):
        commands(["check", __file__.replace("test_contract", "problems")], standalone_mode=False)


def test_masf_check_of_observations_and_of_what_has_to_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import masf\n"
        "import numpy as np\n"
        "from masf.observations.noise import make_noise\n\n"
        "class Own(masf.System):\n"
        "    class Parameters(masf.SystemParameters):\n        rate: float\n"
        "    shape = (3,)\n"
        "    def step(self, x, stream):\n        return self.parameters.rate * x\n"
        "    def typical_state(self, stream):\n        return np.ones(3)\n\n"
        "class Wind(masf.NonlinearObservation):\n"
        "    def apply(self, x):\n        return x[..., :2] ** 2\n\n"
        "class Gust(Wind):\n    pass\n\n"
        "class Placed(Wind):\n    def places(self, grid):\n        return np.arange(2)\n\n"
        "wind = Wind(3, make_noise(0.5, 2), {})\n"
        "torn = Wind(3, make_noise(0.5, 3), {})\n"
        "placed = Placed(3, make_noise(0.5, 2), {})\n",
        encoding="utf-8",
    )
    with pytest.raises(
        click.UsageError, match=r"Own has no default of dt, rate: add --parameters dt=VALUE,rate="
    ):
        commands(["check", str(file)], standalone_mode=False)
    with pytest.raises(SystemExit) as stop:
        commands(["check", str(file), "--parameters", "dt=0.1,rate=0.9"], standalone_mode=False)
    assert stop.value.code == 1
    said = capsys.readouterr().out
    assert "Own: keeps the contract\nWind wind: keeps the contract\nWind torn: broken\n" in said
    assert "Gust: not checked\n  the file makes no object of Gust: add a line" in said
    assert "Placed placed: broken\n  Placed.places returned shape (2,): expected" in said
