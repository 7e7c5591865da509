"""What is said of arguments and of code of one's own that cannot be used: one sentence with what,
where, and what to do; and the contract that anybody's system and filter can be held to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import masf
from masf.systems.base import System

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
        ("gap", 2.5, "gap is 2.5: expected one whole number"),
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
    with pytest.raises(ValueError, match=r"gap is \[2, 2, 2\]: expected one whole number"):
        problem(gap=[2, 2, 2])
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


def test_all_faults_are_value_errors() -> None:
    for fault in (masf.Refused, masf.FileFault, masf.ConfigFault, masf.ContractFault):
        assert issubclass(fault, ValueError)
