"""Measurements that are not linear in the state: what they are, and what filters make of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import masf
from masf.arrays import Stream
from masf.diffusion.denoisers.gaussian import DenseDenoiser
from masf.diffusion.denoisers.learned import Climate, feature_count
from masf.diffusion.denoisers.networks import CircularConvNet
from masf.diffusion.denoisers.prior import Prior, make_network
from masf.diffusion.linear_state import AugmentedState, linear_state, state_shape
from masf.diffusion.prior_settings import NetworkSettings, PriorSettings
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import noised_path
from masf.ensembles.innovations import perturbed_innovations
from masf.ensembles.localization import SMALLEST_WEIGHT, GridTaper, gaspari_cohn, grid_taper
from masf.files.prior import read_prior
from masf.filters.base import Setup
from masf.filters.registry import filter_class, filter_names
from masf.observations.base import NonlinearObservation, Observation, Transformed
from masf.observations.consistency import consistency_faults
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.noise import make_noise
from masf.observations.settings import observation_settings
from masf.observations.transforms import STEEP, TransformName, own_transform
from masf.systems.base import System
from masf.systems.registry import make_system

NAMES: tuple[TransformName, ...] = TransformName.__args__
FORMULAS = {
    "arctan": np.arctan,
    "cube": lambda z: z**3,
    "square": lambda z: z**2,
    "abs": np.abs,
    "exp": np.exp,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}
D = 6
H = np.random.default_rng(0).standard_normal((4, D)) / 2
R = 0.2 * np.eye(4) + 0.05
LINEAR = {
    "identity": {"operator": "identity", "noise": 0.3},
    "stride": {"operator": "stride", "stride": 2, "noise": [0.3, 0.5, 0.7]},
    "average_pooling": {"operator": "average_pooling", "size": 2, "noise": 0.3},
    "matrix": {"operator": "matrix", "matrix": H.tolist(), "noise": R.tolist()},
}


def make(kind: str, **keys: object) -> Observation:
    return observation_settings({**LINEAR[kind], **keys}).build(D, (D,))


def states(n: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((n, D))


# --- the observation itself


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("name", NAMES)
def test_a_transform_is_its_formula_of_what_the_operator_measures(kind, name):
    linear, observation, x = make(kind), make(kind, transform=name), states(5)
    expected = FORMULAS[name](linear.apply(x))
    np.testing.assert_allclose(observation.apply(x), expected, rtol=1e-13)
    in_torch = observation.apply(torch.as_tensor(x))
    np.testing.assert_allclose(in_torch, expected, rtol=1e-12, atol=1e-15)
    assert (observation.size, observation.dimension) == (linear.size, D)
    assert linear.linear
    assert not observation.linear
    if kind != "matrix":
        np.testing.assert_array_equal(observation.places((D,)), linear.places((D,)))


@pytest.mark.parametrize("name", sorted({*STEEP} & {*NAMES}))
def test_steepness_multiplies_what_is_measured(name):
    x = states(5)
    steep = make("stride", transform=name, steepness=2.5)
    np.testing.assert_allclose(steep.apply(x), FORMULAS[name](2.5 * x[:, ::2]), rtol=1e-12)


@pytest.mark.parametrize("name", [*NAMES, "own", "own, with a derivative"])
@pytest.mark.parametrize("kind", LINEAR)
def test_the_score_is_the_gradient_of_the_log_likelihood_on_both_backends(kind, name):
    x, step = states(4), 1e-6
    if name in NAMES:
        steepness = {"steepness": 1.7} if name in STEEP else {}
        observation = make(kind, transform=name, **steepness)
    else:
        derivative = (lambda z: 3 * z**2 - 1) if "derivative" in name else None
        observation = Transformed(make(kind), own_transform(lambda z: z**3 - z, derivative))
    y = observation.apply(x[0]) + 0.5
    differences = [
        observation.log_likelihood(x + e, y) - observation.log_likelihood(x - e, y)
        for e in step * np.eye(D)
    ]
    expected = np.stack(differences, axis=-1) / (2 * step)
    found = observation.likelihood_score(x, y)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    in_torch = observation.likelihood_score(torch.as_tensor(x), torch.as_tensor(y))
    assert isinstance(in_torch, torch.Tensor)
    np.testing.assert_allclose(in_torch, expected, rtol=1e-6, atol=1e-6)
    assert not consistency_faults(observation)


def test_single_precision_stays_single_and_large_values_overflow_nothing():
    x = np.array([[-300.0, 300.0, 0.0, 1.0, -1.0, 2.0]], dtype=np.float32)
    for name in ("sigmoid", "tanh", "arctan"):
        observation = make("identity", transform=name)
        with np.errstate(over="raise"):
            found = observation.apply(x)
            score = observation.likelihood_score(x, found)
        assert found.dtype == score.dtype == np.float32
        np.testing.assert_allclose(found, FORMULAS[name](x.astype(np.float64)), atol=1e-6)
    own = Transformed(make("identity"), own_transform(lambda z: z**2))
    assert own.likelihood_score(x, own.apply(x)).dtype == np.float32


@pytest.mark.parametrize("kind", LINEAR)
def test_where_some_are_missing_the_others_are_measured_as_they_were(kind):
    whole, x = make(kind, transform="arctan"), states(5)
    rows = np.arange(0, whole.size, 2)
    part = whole.only(rows)
    np.testing.assert_array_equal(part.apply(x), whole.apply(x)[:, rows])
    np.testing.assert_array_equal(part.noise.covariance, whole.noise.covariance[np.ix_(rows, rows)])
    v = np.zeros((5, whole.size))
    v[:, rows] = x[:, : len(rows)]
    np.testing.assert_allclose(part.pullback(x, v[:, rows]), whole.pullback(x, v), rtol=1e-13)
    assert not part.linear
    if kind != "matrix":
        np.testing.assert_array_equal(part.places((D,)), whole.places((D,))[rows])


@pytest.mark.parametrize("kind", LINEAR)
def test_a_linear_operator_has_its_adjoint_for_derivative(kind):
    observation, v = make(kind), np.ones((3, make(kind).size))
    np.testing.assert_array_equal(observation.pullback(states(3), v), observation.adjoint(v))


def test_what_a_measurement_that_is_not_linear_lacks_is_refused_by_name():
    observation = make("stride", transform="cube")
    for ask, what in (
        (lambda: observation.adjoint(np.ones(3)), "adjoint"),
        (lambda: observation.matrix, "matrix H"),
        (observation.basis, "basis"),
        (observation.arrays, "matrix H to hand to a program"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"Transformed is not linear in the state: it has no {what}.*; a filter can take "
            r"its derivative, pullback\(x, v\), or refuse it in misfits",
        ):
            ask()
    with pytest.raises(ValueError, match="transformed already"):
        Transformed(observation, own_transform(np.abs))


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"transform": "arctangent"}, "(?s)transform.*'arctan', 'cube'"),
        (
            {"transform": "arctan", "steepness": 2.0},
            "for transform sigmoid or tanh or speed_sigmoid, and the",
        ),
        ({"steepness": 2.0}, "'steepness' is 2.0: it is for transform sigmoid or tanh"),
        ({"transform": "tanh", "steepness": 0.0}, "(?s)steepness.*greater than 0"),
        ({"transform": "speed", "threshold": 2.0}, "'threshold' is 2.0: it is for transform speed"),
        ({"transform": "speed"}, "'transform' is speed: it is of all fields at each point"),
    ],
    ids=str,
)
def test_transforms_written_wrongly_are_refused(keys, fault):
    with pytest.raises(ValueError, match=fault):
        make("stride", **keys)


def test_settings_say_the_transform_and_build_it_again():
    said = {"operator": "stride", "stride": 2, "noise": 0.5, "transform": "tanh", "steepness": 2.0}
    observation = observation_settings(said).build(D, None)
    assert observation.settings == said
    assert repr(observation) == (
        "Transformed(operator='stride', noise=0.5, transform='tanh', steepness=2.0, stride=2, "
        "dimension=6)"
    )


FLOW = {"size": 8, "forcing_wavenumber": 2}


def flow_speed(**keys: object) -> tuple[System, Observation]:
    system = masf.make_system("kolmogorov", **FLOW)
    settings = observation_settings({"operator": "grid", "stride": 4, "noise": 0.1} | keys)
    return system, settings.build(system.dimension, system.grid)


@pytest.mark.parametrize(
    ("keys", "formula"),
    [
        ({"transform": "speed"}, np.sqrt),
        (
            {"transform": "speed_sigmoid", "steepness": 2.0, "threshold": 0.5},
            lambda q: 1 / (1 + np.exp(-2.0 * (q - 0.5))),
        ),
    ],
    ids=["speed", "sigmoid"],
)
def test_speeds_are_of_all_fields_at_a_point_and_have_their_gradient(keys, formula):
    system, observation = flow_speed(**keys)
    x = np.random.default_rng(0).standard_normal((3, system.dimension))
    points = x.reshape(3, 2, 8, 8)[..., ::4, ::4].reshape(3, 2, 4)
    np.testing.assert_allclose(observation.apply(x), formula((points**2).sum(axis=1)), rtol=1e-12)
    assert observation.size == 4
    np.testing.assert_array_equal(observation.places((8, 8)), [[0, 0], [0, 4], [4, 0], [4, 4]])
    assert not consistency_faults(observation)
    y = observation.apply(x[0]) + 0.05
    found = observation.likelihood_score(x, y)
    i, step = 4 * 8 + 4, 1e-6  # a point that is measured
    for component in (i, 64 + i):
        e = step * np.eye(system.dimension)[component]
        differences = observation.log_likelihood(x + e, y) - observation.log_likelihood(x - e, y)
        np.testing.assert_allclose(found[:, component], differences / (2 * step), rtol=1e-5)
    in_torch = observation.likelihood_score(torch.as_tensor(x), torch.as_tensor(y))
    np.testing.assert_allclose(in_torch, found, rtol=1e-10, atol=1e-12)
    at_rest = observation.likelihood_score(0 * x, y)
    assert np.all(at_rest == 0)
    part = observation.only(np.array([1, 3]))
    np.testing.assert_array_equal(part.apply(x), observation.apply(x)[:, [1, 3]])
    # One further field of the augmented state.
    assert linear_state(system, observation).shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["enkf_localized", "letkf", "masf_gaussian", "masf_mc", "ensf"])
def test_filters_take_speeds(name):
    system, observation = flow_speed(transform="speed")
    truth = masf.simulate(system, observation, gap=2, cycles=3, members=10)
    keys = {} if name == "ensf" else {"localization_radius": 3.0}
    found = masf.assimilate(truth, name, keys)
    assert np.isfinite(found["mean"].values).all()
    assert json.loads(found.attrs["model_observation"])["transform"] == "speed"


# --- files and Python


def test_truth_holds_transformed_measurements_and_what_makes_them_again():
    system = masf.make_system("lorenz96", dimension=8)
    run = {"gap": 2, "cycles": 400, "members": 5, "seed": 3}
    transformed, linear = (
        masf.simulate(system, masf.make_observation(system, "stride", stride=2, **keys), **run)
        for keys in ({"noise": 0.05, "transform": "arctan"}, {"noise": 0.05})
    )
    np.testing.assert_array_equal(transformed["truth"], linear["truth"])
    measured = np.arctan(transformed["truth"].values[2::2, ::2])
    errors = transformed["observation"].values - measured
    assert abs(errors.std() / 0.05 - 1) < 0.1
    assert json.loads(transformed.attrs["settings"])["observation"]["transform"] == "arctan"
    found = masf.assimilate(transformed, "etkf")
    assert json.loads(found.attrs["model_observation"])["transform"] == "arctan"


class Speed(NonlinearObservation):
    """sqrt(x_0^2 + x_1^2), of which torch finds the derivative."""

    def apply(self, x):
        return (x[..., :1] ** 2 + x[..., 1:2] ** 2) ** 0.5


class WronglyDerived(NonlinearObservation):
    def apply(self, x):
        return x**2

    def pullback(self, x, v):
        return 0 * x


def test_functions_of_ones_own_go_through_or_are_refused():
    system = masf.make_system("lorenz63")
    squares = masf.make_observation(system, "identity", transform=lambda z: z**2 / 40, noise=0.5)
    again = masf.make_observation(
        system, "identity", transform=lambda z: z**2 / 40, derivative=lambda z: z / 20, noise=0.5
    )
    speed = Speed(3, make_noise(0.5, 1), {})
    run = {"gap": 5, "cycles": 10, "members": 30}
    for own, name in ((squares, "Transformed"), (speed, "Speed")):
        truth = masf.simulate(system, own, **run)
        with pytest.raises(ValueError, match=rf"{name}' is none of masf's: pass it"):
            masf.assimilate(truth, "etkf")
        for filter_ in ("etkf", "ensf"):
            found = masf.assimilate(truth, filter_, observation=own)
            assert masf.score(found)["rmse"].item() < 8
    truth = masf.simulate(system, squares, **run)
    pair = [masf.assimilate(truth, "ensf", observation=o)["mean"].values for o in (squares, again)]
    np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match=r"the derivative of WronglyDerived .* correct derivative"):
        masf.assimilate(truth, "etkf", observation=WronglyDerived(3, make_noise(0.5, 3), {}))
    numpy_only = masf.make_observation(
        system, "identity", transform=lambda z: np.asarray(z) ** 2 / 40, noise=0.5
    )
    assert masf.score(masf.assimilate(truth, "etkf", observation=numpy_only))["rmse"].item() < 8
    with pytest.raises(ValueError, match=r"torch cannot differentiate it .* give its derivative"):
        masf.assimilate(truth, "ensf", observation=numpy_only)
    with pytest.raises(ValueError, match="derivative is 2: expected a function"):
        masf.make_observation(system, "identity", transform=abs, derivative=2, noise=0.5)


def test_a_measurement_without_a_place_is_not_localised_by_it():
    setup = setup_of(Speed(12, make_noise(0.5, 1), {}), dimension=12)
    said = (
        r"localization_radius = 3\.0: observation Speed does not say where its measurements sit, .*"
        r"define places\(self, grid\) in the class; or set it to null"
    )
    for name in ("letkf", "enkf_localized"):
        cls = filter_class(name)
        with pytest.raises(ValueError, match=said):
            cls(cls.Parameters(localization_radius=3.0), setup)
        cls(cls.Parameters(localization_radius=None), setup)


# --- filters


def setup_of(observation: Observation, dimension: int = D) -> Setup:
    system = make_system("linear_gaussian", {"dimension": dimension, "persistence": 0.95})
    mean = np.linspace(-1, 1, dimension)
    return Setup(system, observation, mean, 1.0, Stream(0, "test"))


def analysed(name: str, observation: Observation, ensemble: np.ndarray, y: np.ndarray, **keys):
    cls = filter_class(name)
    filter_ = cls(cls.Parameters(**keys), setup_of(observation))
    return filter_.analyse(filter_.start(ensemble), y)


NEED_LINEAR = {"kalman"}


@pytest.mark.parametrize("name", sorted(NEED_LINEAR))
def test_filters_that_need_linear_measurements_refuse_others_with_the_reason(name):
    cls = filter_class(name)
    system = setup_of(make("stride")).system
    parameters = cls.Parameters()
    fault = "takes measurements that are linear in the state, and these pass through transform"
    assert fault not in " ".join(cls.misfits(parameters, system, make("stride")))
    assert fault in " ".join(cls.misfits(parameters, system, make("stride", transform="cube")))


QUICK = {
    "particle": {"particles": 500},
    "sf": {"steps": 5, "training_steps": 2, "network_width": 8},
    "ssls": {"langevin_steps": 3, "training_steps": 2, "network_width": 8},
}


def test_all_other_filters_take_them():
    observation, truth = make("stride", transform="arctan"), states(1)[0]
    for name in sorted({*filter_names()} - NEED_LINEAR):
        cls = filter_class(name)
        without = {"network": False} if cls.uses_prior else {}
        parameters = cls.Parameters(**QUICK.get(name, {}), **without)
        setup = setup_of(observation)
        if cls.misfits(parameters, setup.system, observation):
            # Whose model may have no noise of its own, and whose measurements are linear.
            assert name in {"ienks", "enkf_hybrid"}
            continue
        ensemble, y = truth + states(30), observation.apply(truth)
        if cls.needs_torch(parameters):
            ensemble, y = torch.as_tensor(ensemble).float(), torch.as_tensor(y).float()
            setup = Setup(setup.system, observation, torch.zeros(D), 1.0, Stream(0, "test"))
        filter_ = cls(parameters, setup)
        before = filter_.start(ensemble)
        after = filter_.members(filter_.analyse(before, y))
        assert after.shape[1] == D
        assert np.all(np.isfinite(np.asarray(after)))


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("n", [3, 40], ids=["fewer members than measurements", "more"])
def test_enkf_regresses_on_what_members_would_measure(kind, n):
    observation, x = make(kind, transform="arctan"), states(n)
    y = observation.apply(states(n + 1)[-1])
    innovations = perturbed_innovations(x, y, observation, Stream(0, "test"))
    h = observation.apply(x)
    joint = np.cov(np.concatenate([x, h], axis=1).T)
    gain = joint[:D, D:] @ np.linalg.inv(joint[D:, D:] + observation.noise.covariance)
    expected = x + innovations @ gain.T
    assert np.abs(expected - x).max() > 0.1
    np.testing.assert_allclose(analysed("enkf", observation, x, y), expected, rtol=1e-8, atol=1e-9)
    untapered = analysed("enkf_localized", observation, x, y, localization_radius=None)
    np.testing.assert_allclose(untapered, expected, rtol=1e-8, atol=1e-9)
    if kind == "matrix":
        return
    places = observation.places((D,))[:, 0]

    def taper(a: np.ndarray) -> np.ndarray:
        steps = np.abs(a[:, None] - places)
        return gaspari_cohn(np.minimum(steps, D - steps), 1.4)

    near = taper(np.arange(D))
    near[near <= SMALLEST_WEIGHT] = 0
    local = (near * joint[:D, D:]) @ np.linalg.inv(
        taper(places) * joint[D:, D:] + observation.noise.covariance
    )
    tapered = analysed("enkf_localized", observation, x, y, localization_radius=1.4)
    np.testing.assert_allclose(tapered, x + innovations @ local.T, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", LINEAR)
def test_etkf_and_letkf_have_the_mean_and_covariance_of_that_regression(kind):
    observation, x = make(kind, transform="sigmoid", steepness=2.0), states(40)
    y = observation.apply(states(41)[-1])
    h = observation.apply(x)
    joint = np.cov(np.concatenate([x, h], axis=1).T)
    gain = joint[:D, D:] @ np.linalg.inv(joint[D:, D:] + observation.noise.covariance)
    mean = x.mean(axis=0) + gain @ (y - h.mean(axis=0))
    covariance = joint[:D, :D] - gain @ joint[D:, :D]
    for name, keys in (("etkf", {}), ("letkf", {"localization_radius": None})):
        found = analysed(name, observation, x, y, **keys)
        np.testing.assert_allclose(found.mean(axis=0), mean, rtol=1e-9)
        np.testing.assert_allclose(np.cov(found.T), covariance, rtol=1e-8, atol=1e-9)


def test_letkf_analyses_each_point_by_the_measurements_near_it():
    observation, x = make("stride", transform="arctan"), states(20)
    y = observation.apply(states(21)[-1])
    found = analysed("letkf", observation, x, y, localization_radius=0.6)
    # Within the taper's support of 1.2 are, of the measured components themselves, these alone.
    for i, deviation in zip((0, 2, 4), (0.3, 0.5, 0.7), strict=True):
        alone = Transformed(Mask(D, [i], deviation), observation.transform)
        expected = analysed("etkf", alone, x, y[[i // 2]])
        np.testing.assert_allclose(found[:, i], expected[:, i], rtol=1e-9)


def test_the_particle_filter_weighs_by_the_density_of_what_is_measured():
    observation, y = (
        Transformed(Matrix([[1.0]], 0.3), make("stride", transform="square").transform),
        1.5,
    )
    x = np.random.default_rng(0).standard_normal((200_000, 1))
    cls = filter_class("particle")
    setup = setup_of(observation, dimension=1)
    found = cls(cls.Parameters(bandwidth=0.01), setup).analyse(x, np.array([y]))[:, 0]
    grid = np.linspace(-5, 5, 4001)
    density = np.exp(-(grid**2) / 2 - (y - grid**2) ** 2 / (2 * 0.3**2))
    density /= density.sum()
    for power in (2, 4):
        expected = density @ grid**power
        assert abs(np.mean(found**power) - expected) < 0.01 * expected
    assert abs(np.mean(found)) < 0.02  # both modes alike
    assert abs(density @ grid) < 1e-12 < abs(density @ np.abs(grid))


# --- the process of the augmented state


def family_filter(name: str, observation: Observation, dimension: int = D, **keys):
    cls = filter_class(name)
    return cls(cls.Parameters(**keys), setup_of(observation, dimension))


def own_measurements(filter_, x: np.ndarray) -> np.ndarray:
    """What the forward process makes of members, y_i ~ N(h(x_i), R), by the numbers that a filter
    with one step is going to draw.
    """
    state = filter_.linear_state
    process = ForwardProcess.for_ensemble(state.basis, state.of(x))
    (_, end) = noised_path(process, state.of(x), [0.0, 1.0], Stream(0, "test"))
    lift = state.basis.lift(np.eye(filter_.observation.size))
    return np.linalg.lstsq(lift.T, process.apply(process.observed * 1.0, end).T)[0].T


def tapered(x: np.ndarray, observation: Observation, radius: float | None) -> tuple:
    """Cov(x, h) and Cov(h, h) of members, tapered by distances on the ring where there is a
    radius.
    """
    joint = np.cov(np.concatenate([x, observation.apply(x)], axis=1).T)
    cross, measured = joint[:D, D:], joint[D:, D:]
    if radius is None:
        return cross, measured
    rho = grid_taper((D,), radius)
    points = np.floor(observation.places((D,))[:, 0] + 0.5).astype(int) % D
    return cross * rho[:, points], measured * rho[np.ix_(points, points)]


@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("name", ["square", "abs", "arctan", "cube", "sigmoid"])
def test_masf_gaussian_is_the_enkf_with_nonlinear_measurements_member_by_member(name, kind, radius):
    if kind == "matrix" and radius is not None:
        return  # whose rows have no place
    observation, x = make(kind, transform=name), states(30)
    y = observation.apply(states(31)[-1])
    filter_ = family_filter("masf_gaussian", observation, localization_radius=radius)
    cross, measured = tapered(x, observation, radius)
    gain = cross @ np.linalg.inv(measured + observation.noise.covariance)
    own = own_measurements(filter_, x)
    noise = own - observation.apply(x)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=1e-12)
    assert np.abs(np.cov(noise.T) / observation.noise.covariance[0, 0]).max() < 5
    expected = x + (y - own) @ gain.T
    assert np.abs(expected - x).max() > 0.05
    found = filter_.analyse(filter_.start(x), y)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("name", ["square", "abs", "arctan", "cube", "sigmoid"])
@pytest.mark.parametrize("steps", [1, 6])
def test_a_member_whose_own_measurement_is_the_measurement_comes_back_unchanged(name, kind, steps):
    observation, x = make(kind, transform=name), states(8)
    filter_ = family_filter("masf_gaussian", observation, localization_radius=None, steps=steps)
    state = filter_.linear_state
    process = ForwardProcess.for_ensemble(state.basis, state.of(x))
    end = noised_path(process, state.of(x), filter_.times, Stream(0, "test"))[-1]
    lift = state.basis.lift(np.eye(observation.size))
    y = np.linalg.lstsq(lift.T, process.apply(process.observed * 1.0, end)[3])[0]
    found = filter_.analyse(filter_.start(x), y)
    np.testing.assert_allclose(found[3], x[3], rtol=1e-7, atol=1e-9)
    assert np.abs(found - x).max() > 0.05


@pytest.mark.parametrize("radius", [None, 1.5])
@pytest.mark.parametrize("kind", LINEAR)
def test_linear_measurements_are_the_same_by_way_of_the_augmented_state(kind, radius):
    if radius is not None and kind in {"matrix", "average_pooling"}:
        return  # tapered by components where linear, by places where augmented
    linear, x = make(kind), states(30)
    augmented = Transformed(linear, own_transform(lambda z: z))
    y = linear.apply(states(31)[-1])
    for perturbation in (0.0, 0.4, 1.0):
        found = [
            family_filter(
                "masf_gaussian",
                observation,
                localization_radius=radius,
                perturbation=perturbation,
            )
            for observation in (linear, augmented)
        ]
        plain, joint = (f.analyse(f.start(x), y) for f in found)
        np.testing.assert_allclose(joint.mean(axis=0), plain.mean(axis=0), rtol=1e-7, atol=1e-9)
        if perturbation == 0:  # no noise enters
            np.testing.assert_allclose(joint, plain, rtol=1e-7, atol=1e-9)
    assert np.abs(joint - x).max() > 0.1


@pytest.mark.parametrize("perturbation", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", LINEAR)
def test_with_any_perturbation_the_covariance_is_that_of_the_regression(kind, perturbation):
    observation, x = make(kind, transform="arctan"), states(4000)
    y = observation.apply(states(4001)[-1])
    found = analysed(
        "masf_gaussian", observation, x, y, localization_radius=None, perturbation=perturbation
    )
    cross, measured = tapered(x, observation, None)
    gain = cross @ np.linalg.inv(measured + observation.noise.covariance)
    expected = np.cov(x.T) - gain @ cross.T
    tolerance = 1e-6 if perturbation == 0 else 0.08
    np.testing.assert_allclose(np.cov(found.T), expected, atol=tolerance)


@pytest.mark.parametrize("kind", LINEAR)
def test_missing_measurements_are_those_of_an_observation_without_them(kind):
    whole, x = make(kind, transform="arctan"), states(30)
    rows = np.arange(0, whole.size, 2)
    y = whole.apply(states(31)[-1])[rows]
    keys = {"localization_radius": None, "perturbation": 0.0}
    filter_ = family_filter("masf_gaussian", whole, **keys)
    for _ in range(2):  # again, after another cycle that had all of them
        filter_.observe(whole.only(rows))
        cross, measured = tapered(x, whole.only(rows), None)
        gain = cross @ np.linalg.inv(measured + whole.noise.covariance[np.ix_(rows, rows)])
        found = filter_.analyse(filter_.start(x), y)
        expected = x.mean(axis=0) + gain @ (y - whole.only(rows).apply(x).mean(axis=0))
        np.testing.assert_allclose(found.mean(axis=0), expected, rtol=1e-7, atol=1e-9)
        filter_.observe(whole)
        filter_.analyse(x, whole.apply(x[0]))


@pytest.mark.parametrize("basis", ["joint", "plain"])
def test_places_at_which_nothing_is_measured_change_no_gain_but_their_own(basis):
    """They are left out where equations are solved: to rounding, the gain is that of the whole."""
    observation, x = make("stride", transform="arctan"), states(30)
    state = AugmentedState(masf.make_system("lorenz96", dimension=D), observation)
    joint, plain = state.of(x), make("stride")
    if basis == "plain":  # as a component of the state itself that all members have alike
        x[:, 3] = 0.0
        joint = x
    process = ForwardProcess.for_ensemble(state.basis if basis == "joint" else plain.basis(), joint)
    p = np.cov(joint.T)
    denoiser, t = DenseDenoiser(process, joint.mean(axis=0), p), 0.4
    a, sigma = process.A(t), process.Sigma(t)
    pa = p * a
    expected = np.linalg.solve((pa.T * a).T + np.diag(sigma), pa.T).T
    np.testing.assert_allclose(denoiser.gain_matrix(t), expected, rtol=1e-10, atol=1e-13)
    assert np.any(np.all(expected == 0, axis=1))
    in_torch = DenseDenoiser(process, torch.as_tensor(joint.mean(axis=0)), torch.as_tensor(p))
    np.testing.assert_allclose(in_torch.gain_matrix(t), expected, rtol=1e-10, atol=1e-13)


def test_on_a_grid_what_is_measured_stands_next_to_its_place():
    system = make_system("kolmogorov", {"size": 16, "forcing_wavenumber": 2})
    keys = {"operator": "grid", "stride": 4, "noise": 0.1}
    observation, linear = (
        observation_settings({**keys, **more}).build(system.dimension, system.grid)
        for more in ({"transform": "square"}, {})
    )
    state, x = linear_state(system, observation), np.random.default_rng(0).random((3, 512))
    assert state.shape == (4, 16, 16)
    seen = state.seen(x).reshape(3, 2, 16, 16)
    np.testing.assert_array_equal(seen[..., ::4, ::4], x.reshape(3, 2, 16, 16)[..., ::4, ::4] ** 2)
    assert np.count_nonzero(seen) == observation.apply(x).size
    # Local weights, with no matrix: augmented by the identity it is the linear filter.
    setup = replace(setup_of(linear, 512), system=system)
    identity = Transformed(linear, own_transform(lambda z: z))
    cls = filter_class("masf_gaussian")
    parameters = cls.Parameters(localization_radius=1.2, perturbation=0.0)
    plain, joint = (
        cls(parameters, replace(setup, observation=o)).analyse(x, np.full(32, 0.5))
        for o in (linear, identity)
    )
    assert isinstance(cls(parameters, setup).fit.taper, GridTaper)
    np.testing.assert_allclose(joint, plain, rtol=1e-5, atol=1e-7)
    assert np.abs(joint - x).max() > 0.1


def test_passes_with_nonlinear_measurements_move_the_past_by_its_covariance_with_them():
    system = make_system("lorenz96", {"dt": 0.02, "dimension": D, "forcing": 8.0})
    observation, past = make("stride", transform="arctan"), states(9)
    cls = filter_class("masf_gaussian")
    keys = {"passes": 2, "finish": "past", "passes_radius": None, "perturbation": 0.0}
    setup = replace(setup_of(observation), system=system)
    filter_ = cls(cls.Parameters(**keys, localization_radius=None), setup)
    y, x, noise = observation.apply(states(10)[-1]), past, observation.noise.covariance
    present = filter_.forecast(filter_.start(past))
    for _ in range(2):
        h = observation.apply(system.step(x, Stream(0, "none")))
        joint = np.cov(np.concatenate([x, h], axis=1).T)
        gain = joint[:D, D:] @ np.linalg.inv(joint[D:, D:] + 2 * noise)
        whitened = np.linalg.cholesky(noise * 2)
        mean = x.mean(axis=0) + gain @ (y - h.mean(axis=0))
        # The square root for all measurements at once, of what they see in units of the noise.
        c = np.linalg.solve(whitened, np.linalg.solve(whitened, joint[D:, D:]).T)
        values, vectors = np.linalg.eigh(c)
        k = values / (1 + values)
        b = (1 - np.sqrt(1 - k)) / k
        reduced = (vectors * b) @ vectors.T
        anomalies = np.linalg.solve(whitened, (h - h.mean(axis=0)).T)
        x = mean + (x - x.mean(axis=0)) - (gain @ whitened @ reduced @ anomalies).T
    np.testing.assert_allclose(
        filter_.analyse(present, y), system.step(x, Stream(0, "none")), rtol=1e-5, atol=1e-7
    )


def test_masf_mc_of_one_kernel_is_masf_gaussian_on_rings_and_grids():
    observation, x = make("stride", transform="arctan"), states(12)
    y = observation.apply(states(13)[-1])
    keys = {"localization_radius": 1.5, "perturbation": 0.0}
    gaussian = analysed("masf_gaussian", observation, x, y, **keys)
    for weights in (None, 1):
        mixture = {"bandwidth": 1.0, "steps": 1, "weight_radius": weights}
        found = analysed("masf_mc", observation, x, y, **keys, **mixture)
        np.testing.assert_allclose(found, gaussian, rtol=1e-6, atol=1e-8)
    system = make_system("kolmogorov", {"size": 8, "forcing_wavenumber": 2})
    settings = observation_settings({"operator": "grid", "stride": 4, "noise": 0.1} | SQUARED)
    observation = settings.build(system.dimension, system.grid)
    setup = replace(setup_of(observation, 128), system=system)
    x, found = np.random.default_rng(0).random((9, 128)), {}
    for name in ("masf_gaussian", "masf_mc"):
        cls = filter_class(name)
        mixture = {"bandwidth": 1.0, "steps": 1} if name == "masf_mc" else {}
        filter_ = cls(cls.Parameters(**keys, **mixture), setup)
        found[name] = filter_.analyse(filter_.start(x), observation.apply(x[0]))
    np.testing.assert_allclose(*found.values(), rtol=1e-6, atol=1e-8)


SQUARED = {"transform": "square"}


# --- networks that answer for what is measured, too


SMALL = {
    "lorenz96": {"network": {"width": 8, "blocks": 1}, "localization_radii": [3.0, None]},
    "lorenz63": {"network": {"width": 16, "blocks": 1}, "localization_radii": [None]},
    "kolmogorov": {
        "network": {"width": 4, "blocks": 1, "levels": 2, "kernel": 3},
        "localization_radii": [2.4],
    },
}
PARAMETERS = {
    "lorenz96": {"dimension": 12},
    "lorenz63": {},
    "kolmogorov": {"size": 8, "forcing_wavenumber": 2},
}


def untrained(name: str, observed: dict) -> tuple[Setup, torch.Tensor, torch.Tensor]:
    """A setup with an untrained network, a forecast ensemble and a measurement, as tensors."""
    system = masf.make_system(name, **PARAMETERS[name])
    observation = observation_settings(observed).build(system.dimension, system.grid)
    settings = PriorSettings.model_validate({"gaps": [1], **SMALL[name]})
    network = make_network(settings, system, state_shape(system, observation))
    prior = Prior(network, Climate(np.zeros(2), np.ones(2)), settings, {})
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((20, system.dimension)))
    setup = Setup(system, observation, x[0] * 0, 1.0, Stream(0, "test"), prior)
    return setup, x, observation.apply(x[0]) + 0.1


@pytest.mark.parametrize("observed", [LINEAR["stride"] | {"noise": 0.3}, LINEAR["identity"]])
@pytest.mark.parametrize("name", SMALL)
def test_an_untrained_network_leaves_the_enkf_of_what_is_measured(name, observed):
    if name == "kolmogorov" and observed["operator"] == "stride":
        observed = {"operator": "grid", "stride": 2, "noise": 0.3}
    setup, x, y = untrained(name, observed | {"transform": "square"})
    radius, found = SMALL[name]["localization_radii"][0], {}
    for filter_name, keys in (("masf", {}), ("masf_gaussian", {"localization_radius": radius})):
        cls = filter_class(filter_name)
        shared = {"perturbation": 0.0, "passes_radius": None, "steps": 1}
        filter_ = cls(cls.Parameters(**shared, **keys), replace(setup, stream=Stream(0, "test")))
        setup.prior.network.double()
        found[filter_name] = filter_.analyse(filter_.start(x), y)
        assert found[filter_name].shape == x.shape
    torch.testing.assert_close(*found.values(), rtol=1e-6, atol=1e-7)
    assert (found["masf"] - x).abs().max() > 0.1


@pytest.mark.parametrize("name", SMALL)
def test_networks_learn_what_is_measured_and_masf_runs_with_them(tmp_path, name):
    """Of squares, whose law with the state no Gaussian has."""
    system = masf.make_system(name, **PARAMETERS[name])
    kind = "grid" if name == "kolmogorov" else "stride"
    noise, gap = (0.3, 2) if name == "kolmogorov" else (3.0, 20)
    observation = masf.make_observation(system, kind, stride=2, noise=noise, transform="square")
    problem = masf.simulate(system, observation, gap=gap, cycles=3, members=20)
    settings = {"worlds": 12, "cycles": 12, "spin_up_cycles": 2, "members": 20}
    settings |= {"extra_members": 10, "rounds": 1, "steps": 600, "climate_steps": 50}
    settings |= {"training_dimension": 12, "inflation": 1.1}
    path = masf.train_prior(problem, tmp_path / "p.safetensors", settings | SMALL[name])
    losses, _ = read_prior(path, "np")
    assert float(losses["held_out_loss"]) < 0.95 * float(losses["held_out_loss_gaussian"])
    for filter_name in ("masf", "masf_fresh"):
        found = masf.assimilate(problem, filter_name, {"steps": 2}, prior=path)
        assert np.isfinite(found["mean"].values).all()
        assert np.isfinite(found["diagnostic_loss_prior"]).all()
    linear = masf.make_observation(system, kind, stride=2, noise=noise)
    with pytest.raises(masf.FileFault, match="another dimension, network or kind of measurement"):
        masf.assimilate(
            masf.simulate(system, linear, gap=gap, cycles=1, members=20), "masf", prior=path
        )


def test_a_network_on_a_ring_of_several_fields_commutes_with_translations():
    network = CircularConvNet(5, 8, 2, 3, fields=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, 5, 2, 12)
    found, moved = (network(z.flatten(-2)).reshape(4, 2, 12) for z in (x, x.roll(3, -1)))
    torch.testing.assert_close(moved, found.roll(3, -1), rtol=1e-4, atol=1e-5)
    assert (found[:, 0] - found[:, 1]).abs().max() > 0.1


def test_a_network_takes_what_there_is_where_measurements_are_missing():
    setup, x, y = untrained("lorenz96", LINEAR["identity"] | {"transform": "square"})
    setup.prior.network.double()
    torch.nn.init.normal_(setup.prior.network.last.weight, std=0.1)
    cls = filter_class("masf")
    filter_ = cls(cls.Parameters(), setup)
    rows = np.arange(0, 12, 3)
    filter_.observe(setup.observation.only(rows))
    found = filter_.analyse(filter_.start(x), y[rows])
    assert found.shape == x.shape
    assert torch.isfinite(found).all()


def test_convolutions_over_measurements_without_a_place_are_refused():
    system = masf.make_system("lorenz96", dimension=12)
    speed = Speed(12, make_noise(0.5, 1), {})
    settings = PriorSettings.model_validate({"gaps": [1], **SMALL["lorenz96"]})
    with pytest.raises(ValueError, match="convolutions need measurements that have a place"):
        make_network(settings, system, state_shape(system, speed))
    mlp = settings.model_copy(update={"network": NetworkSettings(kind="mlp", width=8)})
    network = make_network(mlp, system, state_shape(system, speed))
    features = feature_count(13, len(settings.localization_radii))
    assert network(torch.zeros(2, features, 13)).shape == (2, 13)
