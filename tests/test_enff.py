"""The ensemble flow filter: against its authors' code on the same arrays, and against closed
forms.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from test_square_root_filters import make_filter

from masf.arrays import Array, Stream, like, to_numpy
from masf.filters.enff import EnFF, Paths, transported
from masf.observations.base import Observation, Transformed
from masf.observations.mask import Mask
from masf.observations.transforms import named_transform
from masf.systems.base import System
from masf.systems.registry import make_system

REFERENCE = Path(__file__).parent / "data" / "enff_analyses.npz"


class Given(Stream):
    """Stands for a stream whose next normal numbers are known."""

    def __init__(self, numbers: np.ndarray) -> None:
        super().__init__(0, "given")
        self._numbers = numbers

    def normal(self, shape: tuple[int, ...], x: Array) -> Array:
        assert shape == self._numbers.shape
        return like(self._numbers, x)


def ring(dimension: int) -> System:
    return make_system("linear_gaussian", {"dimension": dimension})


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as file:
        return dict(file)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("case", range(6))
def test_analyses_are_those_of_the_authors_code(case, library, reference):
    path, steps, sigma_min, guidance, stride, arctan = json.loads(str(reference["settings"]))[case]
    past, forecast, y, first, expected = (
        reference[f"{name}_{case}"] for name in ("past", "forecast", "y", "first", "analysis")
    )
    d = forecast.shape[1]
    observation: Observation = Mask(d, np.arange(0, d, stride), noise=0.7)
    if arctan:
        observation = Transformed(observation, named_transform("arctan", 1.0))
    drawn = (first - past) / sigma_min if path == "f2p" else first
    mean = np.zeros(d)
    if library == "torch":
        past, forecast, y, mean = map(torch.as_tensor, (past, forecast, y, mean))
    filter_ = make_filter(
        "enff",
        observation,
        ring(d),
        like=mean,
        path=path,
        steps=steps,
        sigma_min=sigma_min,
        guidance=guidance,
    )
    filter_.start(past)
    filter_.stream = Given(drawn)
    np.testing.assert_allclose(to_numpy(filter_.analyse(forecast, y)), expected, rtol=1e-8)


def test_the_flow_from_noise_ends_in_the_mixture_about_the_members():
    members, sigma = np.array([[-2.0], [1.0], [1.5]]), 0.3
    paths = Paths(np.zeros_like(members), members, (1.0, sigma))
    start = scipy.stats.norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None]
    end = transported(paths, start, 400, lambda x: 0 * x)

    def law(x: np.ndarray) -> np.ndarray:
        return np.mean([scipy.stats.norm.cdf(x, m, sigma) for m in members[:, 0]], axis=0)

    # Equal steps of a distribution: the distance is that of Euler's scheme.
    assert scipy.stats.kstest(end[:, 0], law).statistic < 0.01


def test_members_far_apart_go_to_their_own_forecasts_and_a_share_towards_the_measurement():
    """sigma is small, so that each weight is 1 or 0; the model did not move them."""
    forecast = np.array([[0.0, 5.0], [40.0, -3.0], [-60.0, 9.0]])
    observation, y, noise = Mask(2, [1], noise=2.0), np.array([1.0]), 1e-3
    drawn = np.random.default_rng(0).standard_normal((3, 2))
    filter_ = make_filter("enff", observation, ring(2), steps=8, sigma_min=noise, guidance=0.6)
    filter_.start(forecast)
    filter_.stream = Given(drawn)
    found = filter_.analyse(forecast, y)
    start = forecast + noise * drawn
    np.testing.assert_allclose(found[:, 0], start[:, 0], atol=1e-12)
    kept = (1 - 0.6 / 4 / 8) ** 8
    np.testing.assert_allclose(found[:, 1], y + kept * (start[:, 1] - y), atol=1e-12)


def test_members_that_the_model_moved_end_where_it_took_them():
    rng = np.random.default_rng(0)
    past, forecast = (100 * rng.standard_normal((4, 3)) for _ in range(2))
    paths = Paths(past, forecast, (0.1, 0.1))
    start = past + 0.1 * rng.standard_normal((4, 3))
    end = transported(paths, start, 5, lambda x: 0 * x)
    np.testing.assert_allclose(end, forecast + (start - past), atol=1e-9)


def test_the_path_begins_at_the_last_analysis_inflated_and_projected():
    observation = Mask(3, [0, 2], noise=0.5)
    rng = np.random.default_rng(0)
    forecasts, y = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 2))
    chosen = {"sigma_min": 0.4, "guidance": 0.2, "inflation": 1.3}
    filter_ = make_filter("enff", observation, ring(3), **chosen)
    assert isinstance(filter_, EnFF)
    filter_.project = lambda x: 0.9 * x
    filter_.start(rng.standard_normal((5, 3)))
    first = filter_.analyse(forecasts[0], y[0])
    filter_.stream = Stream(1, "test")
    second = filter_.analyse(forecasts[1], y[1])
    other = make_filter("enff", observation, ring(3), **chosen)
    other.project = filter_.project
    other.start(first)
    other.stream = Stream(1, "test")
    np.testing.assert_array_equal(other.analyse(forecasts[1], y[1]), second)
