"""Filters on the Kolmogorov flow: what they leave is a velocity of the model, and nothing of size d
x d is formed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from masf.arrays import Stream
from masf.atomic import FileFault
from masf.diffusion.denoisers.networks import UNet2d
from masf.diffusion.prior_settings import NetworkSettings, PriorSettings
from masf.ensembles.localization import taper_matrix
from masf.files.cell import CellSettings, build
from masf.files.trained_prior import load, save
from masf.filters.base import Setup
from masf.filters.enkf_localized import LocalizedEnKF, localized_increments
from masf.filters.registry import filter_class
from masf.observations.settings import observation_settings
from masf.stages.assimilate import run_filter
from masf.stages.simulate import simulate
from masf.stages.train_prior import train
from masf.systems import flow
from masf.systems.registry import make_system

FLOW = {"size": 16}
GRID = {"operator": "grid", "stride": 4, "noise": 0.1}
FILTERS = {
    "enkf": {},
    "etkf": {},
    "letkf": {"localization_radius": 1.2},
    "enkf_localized": {"localization_radius": 1.2},
    "ensf": {"steps": 50},
    "sf": {"steps": 50, "training_steps": 5, "training_batch": 4, "network_width": 4},
    "ssls": {"langevin_steps": 30, "training_steps": 5, "training_batch": 4, "network_width": 4},
    "masf": {"network": False, "localization_radius": 1.2},
    "masf_gaussian": {"localization_radius": 1.2},
    "masf_fresh": {"network": False, "localization_radius": 1.2, "steps": 4},
    "masf_guided": {"network": False, "localization_radius": 1.2, "steps": 10},
    "masf_mc": {"localization_radius": 1.2, "weight_radius": 1, "steps": 2},
    "masf_mc, exact": {
        "localization_radius": 1.2,
        "weight_radius": None,
        "sampler": "exact",
        "steps": 4,
    },
}


def cell(observation: dict = GRID, **changes) -> CellSettings:
    common = {"gap": 2, "cycles": 1, "members": 10, "initial_spread": 0.5, "seed": 100}
    return CellSettings("kolmogorov", FLOW, observation, **common | changes)


@pytest.fixture(scope="module")
def truth():
    return simulate(cell())


@pytest.mark.parametrize("name", FILTERS)
def test_filters_run_and_leave_velocities_of_the_model(name, truth):
    found, system, _ = run_filter(name.split(",")[0], FILTERS[name], truth, device="cpu")
    assert found.diverged_at is None
    analyses = found.members.reshape(-1, *system.shape)
    assert np.abs(flow.divergence(analyses)).max() < 1e-4 * np.abs(flow.vorticity(analyses)).max()
    np.testing.assert_allclose(system.project(found.members), found.members, atol=1e-4)
    observation = build(truth.settings)[1]
    misfits = [
        np.std(observation.apply(mean) - truth.observation[0])
        for mean in (found.forecast_mean[0], found.mean[2])
    ]
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
    np.testing.assert_allclose(
        (draws.reshape(-1, *system.shape) ** 2).mean(axis=(0, 2, 3)), 1, atol=0.05
    )
    velocities = draws.reshape(-1, *system.shape)
    assert np.abs(flow.divergence(velocities)).max() < 1e-10
    few = system.perturbations(3, np.empty(0), Stream(0, "test"))
    np.testing.assert_array_equal(few, draws[:3])


@pytest.mark.parametrize("chunk", [2**24, 500])
def test_localised_enkf_by_measurements_is_the_tapered_covariance_for_masks(chunk, monkeypatch):
    monkeypatch.setattr("masf.ensembles.localization.SMALLEST_WEIGHT", 0.0)
    monkeypatch.setattr("masf.filters.enkf_localized.NUMBERS_AT_ONCE", chunk)
    system, observation = build(cell())
    members = system.perturbations(10, np.empty(0), Stream(1, "test"))
    setup = Setup(system, observation, members[0], 1.0, Stream(0, "test"))
    near = LocalizedEnKF(LocalizedEnKF.Parameters(localization_radius=1.5), setup).near
    innovations = np.random.default_rng(0).standard_normal((10, observation.size))
    expected = localized_increments(members, innovations, observation, taper_matrix(system, 1.5))
    np.testing.assert_allclose(
        near.increments(members, innovations, observation), expected, rtol=1e-8, atol=1e-10
    )


def test_localised_enkf_refuses_more_measurements_than_it_can_solve_for():
    settings = cell({"operator": "identity", "noise": 0.1})
    system, observation = build(CellSettings(**settings.__dict__ | {"parameters": {"size": 56}}))
    setup = Setup(system, observation, np.zeros(system.dimension), 1.0, Stream(0, "test"))
    with pytest.raises(ValueError, match="6272 measurements: the most is 6000; use 'letkf'"):
        LocalizedEnKF(LocalizedEnKF.Parameters(localization_radius=1.5), setup)


# --- the U-Net and its prior


def test_unet_commutes_with_translations_of_the_torus_and_starts_as_zero():
    torch.manual_seed(0)
    network = UNet2d(3, (2, 16, 16), 4, 3, 1, 3)
    x = torch.randn(2, 3, 512)
    np.testing.assert_array_equal(network(x).detach(), 0)
    torch.nn.init.normal_(network.last.weight)
    network.double()
    fields = x.double().reshape(2, 3, 2, 16, 16)
    answer = network(fields.reshape(2, 3, -1)).reshape(2, 2, 16, 16)
    assert answer.abs().max() > 0.01
    for shift in ((0, 4), (8, 0)):
        moved = network(fields.roll(shift, (-2, -1)).reshape(2, 3, -1)).reshape(2, 2, 16, 16)
        torch.testing.assert_close(moved, answer.roll(shift, (-2, -1)))


def test_networks_that_do_not_serve_a_system_are_named():
    flow_, ring = (
        make_system("kolmogorov", {"size": 18}),
        make_system("lorenz96", {"dimension": 8, "dt": 0.01, "forcing": 8}),
    )
    assert "multiple of 4" in NetworkSettings().fault(flow_)
    assert "use 'mlp'" in NetworkSettings(kind="conv1d").fault(flow_)
    assert "square grid" in NetworkSettings(kind="unet2d").fault(ring)
    assert NetworkSettings(levels=2).fault(flow_) is None


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    settings = PriorSettings(
        network=NetworkSettings(width=4, blocks=1, kernel=3),
        gaps=[2],
        worlds=2,
        cycles=3,
        spin_up_cycles=1,
        members=8,
        extra_members=2,
        initial_spread=0.5,
        localization_radii=[1.2, 0.8],
        sampler_steps=2,
        rounds=2,
        times_per_ensemble=2,
        states_per_time=2,
        steps=20,
        batch=4,
        earliest_time=0.25,
        climate_steps=2,
    )
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save(
        train("kolmogorov", FLOW, observation_settings(GRID), settings, seed=0, device="cpu"), path
    )
    return path


@pytest.mark.parametrize("finetune_steps", [0, 3])
def test_masf_corrects_the_flow_by_a_trained_prior(prior, truth, finetune_steps):
    found, system, _ = run_filter(
        "masf", {"steps": 2, "finetune_steps": finetune_steps}, truth, prior=prior, device="cpu"
    )
    assert found.diverged_at is None
    assert np.isfinite(found.diagnostics["loss_prior"]).all()
    np.testing.assert_allclose(system.project(found.members), found.members, atol=1e-4)


def test_a_prior_of_the_flow_is_refused_for_another(prior):
    for system in (
        make_system("kolmogorov", {"size": 20}),
        make_system("kolmogorov", FLOW | {"reynolds": 500}),
    ):
        with pytest.raises(FileFault, match="was trained for another system"):
            load(prior, system, "cpu")


@pytest.mark.parametrize(
    ("name", "parameters"), [("particle", {}), ("masf_mc", {"covariance": "ensemble"})]
)
def test_filters_that_form_a_covariance_refuse_what_is_too_long_for_one(name, parameters):
    system, observation = build(CellSettings(**cell().__dict__ | {"parameters": {"size": 64}}))
    setup = Setup(system, observation, np.zeros(system.dimension), 1.0, Stream(0, "test"))
    cls = filter_class(name)
    with pytest.raises(ValueError, match=r"8192 x 8192\D* the most is 5000"):
        cls(cls.Parameters(**parameters), setup)


def test_a_mixture_with_local_weights_follows_the_flow():
    truth = simulate(cell({"operator": "grid", "stride": 2, "noise": 0.1}, cycles=8, members=20))
    parameters = {
        "localization_radius": 1.2,
        "weight_radius": 1,
        "steps": 1,
        "bandwidth": 0.7,
        "inflation": 1.3,
    }
    errors = {}
    for name, given in (("free_run", {}), ("masf_mc", parameters)):
        found, _, _ = run_filter(name, given, truth, device="cpu")
        errors[name] = np.sqrt(np.mean((found.mean[8:] - truth.truth[8:]) ** 2))
    assert errors["masf_mc"] < 0.3 * errors["free_run"]
    # Neither one kernel everywhere, nor all of them alike.
    assert 3 < found.diagnostics["effective_size"].mean() < 19


def test_weights_of_a_mixture_on_a_grid_need_a_positive_radius():
    system, observation = build(cell())
    setup = Setup(system, observation, np.zeros(system.dimension), 1.0, Stream(0, "test"))
    cls = filter_class("masf_mc")
    with pytest.raises(ValueError, match="weight_radius = 0: on this grid it is a radius"):
        cls(cls.Parameters(weight_radius=0), setup)


@pytest.mark.parametrize("name", ["letkf", "masf_gaussian"])
def test_a_cycle_at_256_by_256(name):
    """131,072 dimensions: nothing of d x d is formed, and the analysis is nearer to the truth."""
    system, stream = make_system("kolmogorov", {"size": 256, "dt": 0.02}), Stream(0, "test")
    observation = observation_settings({"operator": "grid", "stride": 16, "noise": 0.05}).build(
        system.dimension, system.grid
    )
    x = system.perturbations(7, np.empty(0, np.float32), stream)
    x = np.concatenate([x[:1], x[:1] + 0.3 * x[1:]])
    if name == "masf_gaussian":
        x = torch.as_tensor(x)
    cls = filter_class(name)
    setup = Setup(system, observation, x[0], 1.0, Stream(0, "filter"))
    filter_ = cls(cls.Parameters(localization_radius=0.6), setup)
    truth, forecast = system.step(x[:1], stream), filter_.forecast(filter_.start(x[1:]))
    analysis = filter_.project(filter_.analyse(forecast, observation.apply(truth)[0]))
    errors = [
        float(((part.mean(0) - truth[0]) ** 2).mean() ** 0.5) for part in (forecast, analysis)
    ]
    assert errors[1] < 0.8 * errors[0]
    velocities = np.asarray(analysis).reshape(-1, 2, 256, 256)
    assert np.abs(flow.divergence(velocities)).max() < 1e-3
