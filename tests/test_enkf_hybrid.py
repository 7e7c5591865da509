"""Filter enkf_hybrid against dense closed forms on small grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from masf.arrays import Stream, centred, to_numpy
from masf.diffusion.linear_state import linear_state
from masf.diffusion.prior_settings import PriorSettings
from masf.ensembles.innovations import perturbed_innovations
from masf.ensembles.localization import grid_taper, in_grid_points
from masf.ensembles.static import StaticCovariance, climate_of, static_anomalies
from masf.filters.base import Setup
from masf.filters.registry import filter_class
from masf.observations.settings import observation_settings
from masf.stages.train_prior import train
from masf.systems import flow
from masf.systems.registry import make_system

SYSTEMS = {
    "kolmogorov": {"size": 8, "dt": 0.2, "forcing_wavenumber": 2},
    "lorenz96": {"dimension": 12, "dt": 0.05, "forcing": 8},
}
MASKS = {
    "kolmogorov": {"operator": "grid", "stride": 4},
    "lorenz96": {"operator": "stride", "stride": 3},
}
HYBRID = filter_class("enkf_hybrid")


def setup_of(name: str, noise: object = 0.3, **observed: object) -> tuple[Setup, np.ndarray]:
    """What a filter may know, and a forecast ensemble (6, d), in float64."""
    system, stream = make_system(name, SYSTEMS[name]), Stream(3, "test")
    settings = observation_settings({**MASKS[name], **observed, "noise": noise})
    observation = settings.build(system.dimension, system.grid)
    centre = system.typical_state(stream)
    members = centre + system.perturbations(6, np.empty(0), stream)
    return Setup(system, observation, centre, 1.0, Stream(0, "filter")), members


def dense(static: StaticCovariance, d: int) -> np.ndarray:
    return static.times(np.eye(d))


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_static_covariance_is_that_of_the_climate_averaged_over_all_places(name):
    system = make_system(name, SYSTEMS[name])
    states = np.random.default_rng(0).standard_normal((5, system.dimension)).cumsum(axis=1)
    found = dense(StaticCovariance(states, system.grid), system.dimension)
    grid = system.grid
    axes = tuple(range(2, 2 + len(grid)))
    anomalies = (states - states.mean(axis=0)).reshape(5, -1, *grid)
    shifted = [np.roll(anomalies, shift, axes).reshape(5, -1) for shift in np.ndindex(*grid)]
    expected = np.mean([x.T @ x / 4 for x in shifted], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
    variance = StaticCovariance(states, grid).variance
    assert variance == pytest.approx(np.trace(expected) / system.dimension)
    assert np.linalg.eigvalsh(found).min() > -1e-9 * np.abs(found).max()


def test_the_static_covariance_of_a_flow_has_no_divergence():
    setup, _ = setup_of("kolmogorov")
    static = HYBRID(HYBRID.Parameters(localization_radius=1.0), setup).static
    moved = static.times(np.random.default_rng(0).standard_normal((3, 128)))
    assert np.abs(moved).max() > 1e-3
    assert np.abs(flow.divergence(moved.reshape(3, 2, 8, 8))).max() < 1e-10


def expected_analysis(setup: Setup, x: np.ndarray, y: np.ndarray, filter_, radius) -> np.ndarray:
    """The filter's formulas, with all of its matrices (d, d)."""
    n, d = x.shape
    system, observation, share = setup.system, setup.observation, filter_.parameters.static_share
    _, anomalies = centred(x)
    of_ensemble = anomalies.T @ anomalies / (n - 1)
    static = dense(filter_.static, d)
    static *= np.trace(of_ensemble) / np.trace(static)
    if radius is not None:
        taper = grid_taper(system.grid, in_grid_points(radius, system))
        fields = d // len(taper)
        of_ensemble = of_ensemble * np.tile(taper, (fields, fields))
    hybrid = (1 - share) * of_ensemble + share * static
    h = observation.matrix
    gain = hybrid @ h.T @ np.linalg.inv(h @ hybrid @ h.T + observation.noise.covariance)
    innovations = perturbed_innovations(x, y, observation, filter_.stream)
    moved = x + innovations @ gain.T
    mean, anomalies = centred(moved)
    return mean + filter_.parameters.inflation * anomalies


CORRELATED = [[0.2 if i == j else 0.05 for j in range(4)] for i in range(4)]


@pytest.mark.parametrize(
    ("name", "radius", "noise"),
    [
        ("kolmogorov", 1.2, 0.3),
        ("kolmogorov", None, [0.1] * 4 + [0.5] * 4),
        ("lorenz96", 2.5, CORRELATED),
        ("lorenz96", None, 0.3),
    ],
)
@pytest.mark.parametrize("in_torch", [False, True])
def test_the_analysis_is_that_of_the_dense_hybrid(name, radius, noise, in_torch, monkeypatch):
    monkeypatch.setattr("masf.ensembles.localization.SMALLEST_WEIGHT", 0.0)
    monkeypatch.setattr("masf.filters.enkf_hybrid.NUMBERS_AT_ONCE", 2_000)  # several chunks
    setup, x = setup_of(name, noise)
    parameters = HYBRID.Parameters(
        static_share=0.3, localization_radius=radius, inflation=1.1, climate_steps=20
    )
    filter_ = HYBRID(parameters, setup)
    y = setup.observation.apply(x[0]) + 0.1
    _ = filter_.static
    filter_.stream = Stream(1, "noise")
    expected = expected_analysis(setup, x, y, filter_, radius)
    if in_torch:
        static, torch_setup = (
            filter_.static,
            replace(setup, initial_mean=torch.as_tensor(setup.initial_mean)),
        )
        filter_ = HYBRID(parameters, torch_setup)
        climate = np.random.default_rng(0).standard_normal((4, x.shape[1]))
        filter_.static = StaticCovariance(torch.as_tensor(climate), setup.system.grid)
        # The free run's noise is torch's own; the covariance is that of numpy's run.
        filter_.static._spectrum = torch.as_tensor(static._spectrum)
        filter_.static.variance = static.variance
        eta = setup.observation.noise.draw((len(x),), x, Stream(1, "noise"))
        monkeypatch.setattr(
            "masf.filters.enkf_hybrid.perturbed_innovations",
            lambda state, y, observation, _: (
                y - observation.apply(state) + torch.as_tensor(centred(eta)[1])
            ),
        )
        found = to_numpy(filter_.analyse(torch.as_tensor(x), torch.as_tensor(y)))
    else:
        filter_.stream = Stream(1, "noise")
        found = filter_.analyse(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_a_share_of_none_is_the_localised_enkf():
    setup, x = setup_of("kolmogorov")
    y = setup.observation.apply(x[0])
    localised = filter_class("enkf_localized")
    found = HYBRID(HYBRID.Parameters(static_share=0, localization_radius=1.2), setup)
    _ = found.static
    expected = localised(localised.Parameters(localization_radius=1.2), setup)
    found.stream, expected.stream = Stream(1, "noise"), Stream(1, "noise")
    np.testing.assert_allclose(found.analyse(x, y), expected.analyse(x, y), atol=1e-9)


def test_it_says_what_it_cannot_serve():
    system = make_system("lorenz63", {"dt": 0.01})
    observation = observation_settings({"operator": "identity", "noise": 1.0}).build(3, None)
    setup = Setup(system, observation, np.zeros(3), 1.0, Stream(0, "filter"))
    with pytest.raises(ValueError, match="have no places: leave the filter out"):
        HYBRID(HYBRID.Parameters(), setup)
    setup, _ = setup_of("lorenz96", transform="square")
    with pytest.raises(ValueError, match="takes measurements that are linear"):
        HYBRID(HYBRID.Parameters(localization_radius=2.0), setup)
    system = setup.system
    with pytest.raises(ValueError, match="over 3 steps is not finite: lower climate_steps"):
        climate_of(system, np.full((2, 12), np.nan), 3, Stream(0, "test"))


# --- the same in the Gaussian denoiser of the MASF family, by states of the climate beside members


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_states_of_the_climate_beside_members_make_the_hybrid_covariance(share):
    rng = np.random.default_rng(0)
    _, members = centred(rng.standard_normal((6, 4)))
    static = static_anomalies(3 * rng.standard_normal((50, 4)), 9, share)
    assert static.anomalies.shape == (9, 4)
    both = static.beside(members)
    ours, theirs = (x.T @ x / (len(x) - 1) for x in (members, static.anomalies))
    expected = (1 - share) * ours + share * np.trace(ours) / np.trace(theirs) * theirs
    np.testing.assert_allclose(both.T @ both / (len(both) - 1), expected, atol=1e-12)
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-12)
    few = static_anomalies(rng.standard_normal((3, 4)), 9, share)  # all there are
    assert few.anomalies.shape == (3, 4)


@pytest.mark.parametrize(("name", "radius"), [("lorenz96", 2.5), ("lorenz96", None)])
@pytest.mark.parametrize("transform", [None, "arctan"])
def test_masf_gaussian_moves_the_mean_by_the_gain_of_the_hybrid(name, radius, transform):
    setup, x = setup_of(name, **({"transform": transform} if transform else {}))
    cls = filter_class("masf_gaussian")
    parameters = cls.Parameters(
        static_share=0.4, static_members=15, climate_steps=40, localization_radius=radius,
        inflation=1.0, perturbation=0.0,
    )  # fmt: skip
    filter_ = cls(parameters, setup)
    y = setup.observation.apply(x[0]) + 0.1
    found = filter_.analyse(filter_.start(x), y).mean(axis=0)
    # As z = (x, h(x)), in which the measurement is linear.
    state, d = linear_state(setup.system, setup.observation), setup.system.dimension
    z = state.of(x)
    mean, anomalies = centred(z)
    both = filter_.fit.static.beside(anomalies)
    hybrid = both.T @ both / (len(both) - 1)
    plain = anomalies.T @ anomalies / (len(anomalies) - 1)
    assert np.abs(hybrid - plain).max() > 0.01
    if radius is not None:
        hybrid = hybrid * state.taper(radius, x)
    rows = np.arange(0, d, 3) if transform is None else d + np.arange(0, d, 3)
    h = np.eye(len(mean))[rows]
    gain = hybrid @ h.T @ np.linalg.inv(h @ hybrid @ h.T + setup.observation.noise.covariance)
    np.testing.assert_allclose(found, (mean + gain @ (y - h @ mean))[:d], rtol=1e-6)


def test_a_static_share_needs_a_covariance_that_can_take_it():
    cls = filter_class("masf_gaussian")
    setup, _ = setup_of("lorenz96")
    parameters = cls.Parameters(static_share=0.4, covariance="diagonal")
    (fault,) = cls.misfits(parameters, setup.system, setup.observation)
    assert "static_share = 0.4: a diagonal covariance takes none of it" in fault


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_network_corrects_the_hybrid_that_it_was_trained_with(name):
    observed = observation_settings({**MASKS[name], "noise": 0.3})
    settings = PriorSettings(
        network={"width": 4, "blocks": 1, "kernel": 3, "levels": 2}, gaps=[2], worlds=2, cycles=3,
        spin_up_cycles=1, members=8, extra_members=2, localization_radii=[1.5, 0.8], rounds=1,
        steps=5, batch=4, climate_steps=20, static_share=0.3, static_members=6,
    )  # fmt: skip
    prior = train(name, SYSTEMS[name], observed, settings, seed=1, device="cpu")
    setup, x = setup_of(name)
    setup = replace(setup, initial_mean=torch.as_tensor(setup.initial_mean).float(), prior=prior)
    cls = filter_class("masf")
    filter_ = cls(cls.Parameters(steps=1), setup)
    assert len(filter_.fit.family.static.anomalies) == 6
    y = torch.as_tensor(setup.observation.apply(x[0])).float()
    found = filter_.analyse(filter_.start(torch.as_tensor(x).float()), y)
    assert torch.isfinite(found).all()
    assert "loss_prior" in filter_.diagnostics()
