"""Filters on the Kolmogorov flow: what they leave is a velocity of the model, and nothing of size d x d is formed."""

from __future__ import annotations

import numpy as np
import pytest

from masf import flow
from masf.arrays import Stream
from masf.assimilation import run_filter
from masf.cell_settings import CellSettings
from masf.filters.base import Setup
from masf.filters.enkf_localized import LocalizedEnKF, localized_increments
from masf.localization import taper_matrix
from masf.registry import make_system
from masf.simulation import build, simulate

FLOW = {"size": 16}
GRID = {"operator": "grid", "stride": 4, "noise": 0.1}
FILTERS = {
    "enkf": {},
    "etkf": {},
    "letkf": {"localization_radius": 3},
    "enkf_localized": {"localization_radius": 3},
    "ensf": {"steps": 50},
    "masf": {"network": False, "localization_radius": 3},
    "masf_gaussian": {"localization_radius": 3},
    "masf_fresh": {"network": False, "localization_radius": 3, "steps": 4},
    "masf_guided": {"network": False, "localization_radius": 3, "steps": 10},
}  # fmt: skip


def cell(observation: dict = GRID, **changes) -> CellSettings:
    common = {"gap": 2, "cycles": 1, "members": 10, "initial_spread": 0.5, "seed": 100}
    return CellSettings("kolmogorov", FLOW, observation, **common | changes)


@pytest.fixture(scope="module")
def truth():
    return simulate(cell())


@pytest.mark.parametrize("name", FILTERS)
def test_filters_run_and_leave_velocities_of_the_model(name, truth):
    found, system, _ = run_filter(name, FILTERS[name], truth, device="cpu")
    assert found.diverged_at is None
    analyses = found.members.reshape(-1, *system.shape)
    assert np.abs(flow.divergence(analyses)).max() < 1e-4 * np.abs(flow.vorticity(analyses)).max()
    np.testing.assert_allclose(system.project(found.members), found.members, atol=1e-4)
    observation = build(truth.settings)[1]
    misfits = [np.std(observation.apply(mean) - truth.observation[0]) for mean in (found.forecast_mean[0], found.mean[2])]
    assert misfits[1] < misfits[0]


def test_projection_keeps_velocities_of_the_model_and_is_orthogonal():
    system, stream = make_system("kolmogorov", FLOW), Stream(0, "test")
    x = stream.normal((3, system.dimension), np.empty(0))
    projected = system.project(x)
    np.testing.assert_allclose(system.project(projected), projected, atol=1e-12)
    np.testing.assert_allclose(np.sum((x - projected) * projected, axis=-1), 0, atol=1e-10)
    one = system.typical_state(stream)
    np.testing.assert_allclose(system.project(one), one, atol=1e-12)


def test_initial_perturbations_are_velocities_of_the_model_with_unit_variance():
    system = make_system("kolmogorov", FLOW)
    draws = system.perturbations(400, np.empty(0), Stream(0, "test"))
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=0.25)
    np.testing.assert_allclose((draws.reshape(-1, *system.shape) ** 2).mean(axis=(0, 2, 3)), 1, atol=0.05)
    velocities = draws.reshape(-1, *system.shape)
    assert np.abs(flow.divergence(velocities)).max() < 1e-10
    few = system.perturbations(3, np.empty(0), Stream(0, "test"))
    np.testing.assert_array_equal(few, draws[:3])


@pytest.mark.parametrize("chunk", [2**24, 500])
def test_localised_enkf_by_measurements_is_the_tapered_covariance_for_masks(chunk, monkeypatch):
    monkeypatch.setattr("masf.localization.SMALLEST_WEIGHT", 0.0)
    monkeypatch.setattr("masf.filters.enkf_localized.NUMBERS_AT_ONCE", chunk)
    system, observation = build(cell())
    members = system.perturbations(10, np.empty(0), Stream(1, "test"))
    setup = Setup(system, observation, members[0], 1.0, Stream(0, "test"))
    near = LocalizedEnKF(LocalizedEnKF.Parameters(localization_radius=4), setup).near
    innovations = np.random.default_rng(0).standard_normal((10, observation.size))
    expected = localized_increments(members, innovations, observation, taper_matrix(system, 4))
    np.testing.assert_allclose(near.increments(members, innovations, observation), expected, rtol=1e-8, atol=1e-10)


def test_localised_enkf_refuses_more_measurements_than_it_can_solve_for():
    settings = cell({"operator": "identity", "noise": 0.1})
    system, observation = build(CellSettings(**settings.__dict__ | {"parameters": {"size": 56}}))
    setup = Setup(system, observation, np.zeros(system.dimension), 1.0, Stream(0, "test"))
    with pytest.raises(ValueError, match="6272 measurements: the most is 6000; use 'letkf'"):
        LocalizedEnKF(LocalizedEnKF.Parameters(localization_radius=4), setup)
