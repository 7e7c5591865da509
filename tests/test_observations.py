"""Observations: operators, noise, likelihood, and every way to write them wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.stats import multivariate_normal

from masf.arrays import Stream
from masf.blocks import Blocks
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.noise import make_noise
from masf.observations.pooling import Pooling
from masf.observations.settings import OPERATORS, AnyObservation, observation_settings

D = 5
H = np.array([[1.0, 2.0, 0.0, 0.0, -1.0], [0.0, 0.5, 0.5, 0.0, 0.0], [3.0, 0.0, 0.0, 1.0, 1.0]])
R = np.array([[1.0, 0.4, 0.1], [0.4, 2.0, -0.6], [0.1, -0.6, 0.5]])

NOISES = {"one": 0.7, "one for each": [0.5, 1.0, 2.0], "covariance": R.tolist()}
COVARIANCES = {"one": 0.49 * np.eye(3), "one for each": np.diag([0.25, 1.0, 4.0]), "covariance": R}
MEASURED = {
    "stride": {"operator": "stride", "stride": 2},
    "matrix": {"operator": "matrix", "matrix": H.tolist()},
}
MATRICES = {"stride": np.eye(D)[::2], "matrix": H}


def make(
    dimension: int = D, grid: tuple[int, ...] | None = None, **settings: object
) -> Observation:
    return observation_settings(settings).build(dimension, grid)


def states(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((*shape, D))


def test_identity_observes_every_component():
    observation = make(operator="identity", noise=1.0)
    np.testing.assert_array_equal(observation.matrix, np.eye(D))
    np.testing.assert_array_equal(observation.apply(states(3)), states(3))


@pytest.mark.parametrize(
    ("stride", "offset", "observed"),
    [(1, 0, [0, 1, 2, 3, 4]), (2, 0, [0, 2, 4]), (2, 1, [1, 3]), (3, 4, [4])],
)
def test_stride_observes_the_components_that_it_names(stride, offset, observed):
    observation = make(operator="stride", stride=stride, offset=offset, noise=1.0)
    assert observation.size == len(observed)
    np.testing.assert_array_equal(observation.apply(states(3)), states(3)[:, observed])
    np.testing.assert_array_equal(observation.matrix, np.eye(D)[observed])


@pytest.mark.parametrize(
    ("settings", "rows", "columns"),
    [
        ({"operator": "grid", "stride": 3}, [0, 3], [0, 3, 6]),
        ({"operator": "grid", "stride": 2, "offset": 1}, [1, 3], [1, 3, 5, 7]),
        ({"operator": "centre", "width": 2}, [1, 2], [3, 4]),
        ({"operator": "centre", "width": 3}, [0, 1, 2], [2, 3, 4]),
        ({"operator": "centre", "width": 4}, [0, 1, 2, 3], [2, 3, 4, 5]),
    ],
    ids=str,
)
def test_masks_of_a_grid_observe_all_fields_at_the_points_that_they_name(settings, rows, columns):
    grid, fields = (4, 8), 2
    x = np.random.default_rng(0).standard_normal((3, fields, *grid))
    observation = make(x[0].size, grid, **settings, noise=1.0)
    expected = x[:, :, rows][..., columns].reshape(3, -1)
    np.testing.assert_array_equal(observation.apply(x.reshape(3, -1)), expected)
    np.testing.assert_array_equal(x.reshape(3, -1) @ observation.matrix.T, expected)


@pytest.mark.parametrize("grid", [(8,), (4, 8)], ids=str)
def test_hole_observes_all_fields_at_the_points_that_centre_leaves_out(grid):
    fields, points = 2, int(np.prod(grid))
    centre, hole = (
        make(fields * points, grid, operator=o, width=3, noise=1.0).indices
        for o in ("centre", "hole")
    )
    assert len(centre) == fields * 3 ** len(grid)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([centre, hole])), np.arange(fields * points)
    )
    np.testing.assert_array_equal(hole, np.sort(hole))


def test_grid_is_stride_on_a_ring():
    indices = [
        make(12, (12,), operator=operator, stride=5, offset=1, noise=1.0).indices
        for operator in ("grid", "stride")
    ]
    np.testing.assert_array_equal(*indices)


@pytest.mark.parametrize("grid", [None, (64,), (4, 8)])
def test_random_points_are_a_share_of_all_and_depend_on_the_seed_alone(grid):
    fields, settings = (
        (2 if grid == (4, 8) else 1),
        {"operator": "random", "fraction": 0.25, "noise": 1.0},
    )
    indices = make(64, grid, **settings).indices
    assert len(indices) == 16
    np.testing.assert_array_equal(indices, make(64, grid, **settings).indices)
    assert not np.array_equal(indices, make(64, grid, **settings, seed=1).indices)
    per_field = indices.reshape(fields, -1)
    assert np.all(np.diff(per_field) > 0)
    # Every field is observed at the same points.
    np.testing.assert_array_equal(
        per_field - per_field[:, :1], np.tile(per_field[0] - per_field[0, 0], (fields, 1))
    )
    np.testing.assert_array_equal(
        make(64, grid, **(settings | {"fraction": 1.0})).indices, np.arange(64)
    )


@pytest.mark.parametrize(("grid", "size"), [((12,), 3), ((4, 8), 2), ((4, 8), 4), ((2, 4, 6), 2)])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_average_pooling_takes_means_of_blocks(grid, size, shape):
    fields = 2
    d = fields * int(np.prod(grid))
    observation = make(d, grid, operator="average_pooling", size=size, noise=1.0)
    # Which block each point is in, numbered in the order of the blocks, and of the fields.
    places = np.indices(grid) // size
    block = np.ravel_multi_index(tuple(places), tuple(n // size for n in grid)).ravel()
    block = np.concatenate([block + field * (block.max() + 1) for field in range(fields)])
    matrix = (block == np.arange(observation.size)[:, None]) / size ** len(grid)
    np.testing.assert_allclose(observation.matrix, matrix, atol=1e-16)
    x, v = (np.random.default_rng(0).standard_normal((*shape, n)) for n in (d, observation.size))
    for convert in (np.asarray, torch.as_tensor):
        np.testing.assert_allclose(observation.apply(convert(x)), x @ matrix.T, atol=1e-14)
        np.testing.assert_allclose(observation.adjoint(convert(v)), v @ matrix, atol=1e-14)
    centres = [
        np.mean(np.indices(grid).reshape(len(grid), -1)[:, block[: len(block) // 2] == i], axis=1)
        for i in range(block.max() // 2 + 1)
    ]
    np.testing.assert_allclose(observation.places(grid), centres * 2, atol=1e-13)


def test_masks_and_pooling_of_many_components_form_no_matrix():
    n = 128
    x = np.random.default_rng(0).standard_normal((2, 2 * n * n)).astype(np.float32)
    for settings in (
        {"operator": "grid", "stride": 10},
        {"operator": "average_pooling", "size": 4},
    ):
        observation = make(2 * n * n, (n, n), **settings, noise=0.1)
        basis = observation.basis()
        y = observation.apply(x)
        assert y.dtype == basis.apply(basis.s, x).dtype == np.float32
        observation.likelihood_score(x, y)
        basis.variance(x)
        assert not {"matrix", "covariance"} & {*vars(observation), *vars(observation.noise)}


@pytest.mark.parametrize("operator", MEASURED)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_apply_is_the_matrix_on_any_batch(operator, shape):
    observation = make(**MEASURED[operator], noise=1.0)
    np.testing.assert_allclose(
        observation.apply(states(*shape)),
        np.einsum("ij,...j", MATRICES[operator], states(*shape)),
        atol=1e-14,
    )


@pytest.mark.parametrize("noise", NOISES)
def test_covariance_is_what_the_noise_says(noise):
    observation = make(**MEASURED["matrix"], noise=NOISES[noise])
    np.testing.assert_allclose(observation.noise.covariance, COVARIANCES[noise], atol=1e-15)
    np.testing.assert_array_equal(observation.noise.variance, np.diag(observation.noise.covariance))
    assert observation.noise.independent == (noise != "covariance")


def test_a_diagonal_covariance_is_treated_as_one_standard_deviation_each():
    observation = make(operator="stride", stride=2, noise=np.diag([0.25, 1.0, 4.0]).tolist())
    np.testing.assert_array_equal(observation.noise.variance, [0.25, 1.0, 4.0])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    "array", [np.empty(0), torch.empty(0, dtype=torch.float64)], ids=["numpy", "torch"]
)
def test_noise_has_mean_zero_and_covariance_r(noise, array, assert_moments):
    observation = make(**MEASURED["matrix"], noise=NOISES[noise])
    draws = observation.noise.draw((50, 400), array, Stream(1, "test"))
    assert draws.shape == (50, 400, 3)
    assert draws.dtype == array.dtype
    assert_moments(np.asarray(draws).reshape(-1, 3), np.zeros(3), COVARIANCES[noise])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("operator", MEASURED)
def test_log_likelihood_is_the_normal_density_up_to_a_constant(noise, operator):
    observation = make(**MEASURED[operator], noise=NOISES[noise])
    x, y = states(7), np.array([0.3, -1.0, 2.0])
    expected = multivariate_normal(y, COVARIANCES[noise]).logpdf(x @ MATRICES[operator].T)
    found = observation.log_likelihood(x, y)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-12)
    np.testing.assert_allclose(observation.log_likelihood(x[2], y), found[2], rtol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("operator", MEASURED)
def test_likelihood_score_is_the_gradient_of_the_log_likelihood(noise, operator):
    observation = make(**MEASURED[operator], noise=NOISES[noise])
    y = np.array([0.3, -1.0, 2.0])
    x = torch.as_tensor(states(4)).requires_grad_()
    observation.log_likelihood(x, torch.as_tensor(y)).sum().backward()
    np.testing.assert_allclose(
        observation.likelihood_score(states(4), y), x.grad, rtol=1e-9, atol=1e-12
    )
    in_torch = observation.likelihood_score(x.detach(), torch.as_tensor(y))
    np.testing.assert_allclose(in_torch, x.grad, rtol=1e-9, atol=1e-12)


def test_adjoint_adds_up_a_component_that_is_measured_twice():
    observation = Mask(D, [1, 3, 1], noise=1.0)
    np.testing.assert_array_equal(observation.adjoint(np.array([1.0, 2.0, 4.0])), [0, 5, 0, 2, 0])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("operator", MEASURED)
def test_numpy_and_torch_agree(noise, operator):
    observation = make(**MEASURED[operator], noise=NOISES[noise])
    x, y = states(7), np.array([0.3, -1.0, 2.0])
    tensor = torch.as_tensor(x)
    np.testing.assert_allclose(observation.apply(tensor), observation.apply(x), atol=1e-13)
    np.testing.assert_allclose(
        observation.log_likelihood(tensor, torch.as_tensor(y)),
        observation.log_likelihood(x, y),
        rtol=1e-12,
    )


def own_operators() -> dict[str, Observation]:
    """Of each class, observations of two fields on a grid of 4 x 6, with noise of each kind."""
    rng = np.random.default_rng(3)
    d = 48
    found = {}
    for kind in ("one", "one for each", "covariance"):

        def noise(m: int, kind: str = kind) -> object:
            each = np.linspace(0.5, 1.5, m)
            correlated = np.diag(each) + 0.1
            return {"one": 0.7, "one for each": each, "covariance": correlated}[kind]

        found |= {
            f"mask, {kind}": Mask(d, [3, 40, 7], noise(3)),
            f"mask of one twice, {kind}": Mask(d, [3, 7, 3], noise(3)),
            f"pooling, {kind}": Pooling(Blocks((4, 6), 2), 2, noise(12)),
            f"matrix, {kind}": Matrix(rng.standard_normal((5, d)), noise(5)),
        }
    return found


OWN = own_operators()
OWN |= {f"part of {name}": whole.only(np.array([0, 2])) for name, whole in OWN.items()}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_operator_adjoint_and_matrix_agree(name, convert):
    observation, rng = OWN[name], np.random.default_rng(0)
    x = convert(rng.standard_normal((2, 3, observation.dimension)))
    v = convert(rng.standard_normal((2, 3, observation.size)))
    assert observation.matrix.shape == (observation.size, observation.dimension)
    np.testing.assert_allclose(
        observation.apply(x), np.asarray(x) @ observation.matrix.T, atol=1e-13
    )
    np.testing.assert_allclose(
        observation.adjoint(v), np.asarray(v) @ observation.matrix, atol=1e-13
    )
    # <H x, v> = <x, H^T v>
    np.testing.assert_allclose(
        (observation.apply(x) * v).sum(-1), (x * observation.adjoint(v)).sum(-1), atol=1e-13
    )
    # What a class knows of its H is what the base class finds from apply.
    np.testing.assert_allclose(Observation.matrix.func(observation), observation.matrix, atol=1e-15)


@pytest.mark.parametrize("name", OWN)
def test_places_are_those_of_the_rows_of_the_matrix(name):
    observation = OWN[name]
    if "matrix" in name:
        with pytest.raises(ValueError, match="no place to localise by"):
            observation.places((4, 6))
        return
    expected = Observation.places(observation, (4, 6))
    np.testing.assert_allclose(observation.places((4, 6)), expected, atol=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_basis_measures_component_by_component(name):
    observation = OWN[name]
    basis, rng = observation.basis(), np.random.default_rng(1)
    x = rng.standard_normal((3, observation.dimension))
    # Lifted, H x is s z in the basis, and R is r s there.
    lifted = basis.lift(observation.apply(x))
    np.testing.assert_allclose(lifted, basis.apply(basis.s, x), atol=1e-12)
    lift = basis.lift(np.eye(observation.size)).T
    covariance = lift @ observation.noise.covariance @ lift.T
    null = np.where(basis.s == 0, 0, basis.r)
    np.testing.assert_allclose(
        covariance, basis.apply(null, np.eye(observation.dimension)), atol=1e-12
    )


@pytest.mark.parametrize("name", OWN)
def test_what_other_programs_get_is_h_and_r(name):
    observation = OWN[name]
    arrays = observation.arrays() | observation.noise.arrays()
    h = np.eye(observation.dimension)[arrays["H_indices"]] if "mask" in name else arrays["H"]
    r = arrays["R"] if "covariance" in name else np.diag(arrays["R_diagonal"])
    np.testing.assert_array_equal(h, observation.matrix)
    np.testing.assert_array_equal(r, observation.noise.covariance)


EXAMPLES = {
    "identity": {},
    "stride": {"stride": 3, "offset": 1},
    "components": {"components": [4, 1, 1]},
    "grid": {"stride": 3},
    "centre": {"width": 3},
    "hole": {"width": 3},
    "random": {"fraction": 0.5, "seed": 3},
    "average_pooling": {"size": 2},
    "matrix": {"matrix": [[1.0] * 12]},
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_observation_says_in_full_what_the_config_said(operator):
    said = {"operator": operator, **EXAMPLES[operator], "noise": 0.5}
    settings = observation_settings(said)
    assert settings.build(12, (12,)).settings == settings.written() == said
    assert TypeAdapter(AnyObservation).validate_python(said) == settings


@pytest.mark.parametrize("operator", OPERATORS)
def test_settings_know_what_shift_along_a_ring_they_repeat_after(operator):
    settings = observation_settings({"operator": operator, **EXAMPLES[operator], "noise": 0.5})
    h = settings.build(12, (12,)).matrix
    rows = {tuple(row) for row in h}

    def repeats(shift: int) -> bool:
        return {tuple(np.roll(row, shift)) for row in h} == rows

    least = next(shift for shift in range(1, 13) if repeats(shift))
    if settings.period is None:
        # One row over all, or chosen points: nothing that a shorter ring would have.
        assert least == 12 or operator == "matrix"
    else:
        assert settings.period == least


def test_whole_points_are_those_where_both_fields_are_measured():
    points = 16
    for operator, example in EXAMPLES.items():
        keys = example | (
            {"matrix": np.eye(2 * points)[:3].tolist()} if operator == "matrix" else {}
        )
        settings = observation_settings({"operator": operator, **keys, "noise": 1.0})
        measured = np.any(settings.build(2 * points, (4, 4)).matrix, axis=0).reshape(2, points)
        if settings.whole_points:
            np.testing.assert_array_equal(*measured)
        else:
            assert np.any(measured[0] != measured[1])


@pytest.mark.parametrize(("grid", "side"), [((12,), 3), ((4, 6), 2), ((2, 4, 6), 2)], ids=str)
def test_blocks_hold_each_point_once(grid, side):
    blocks, fields = Blocks(grid, side), 2
    d = fields * int(np.prod(grid))
    x = np.arange(3 * d, dtype=float).reshape(3, d)
    parts = blocks.split(x)
    assert parts.shape == (np.prod(blocks.shape), 3, fields * blocks.count)
    np.testing.assert_array_equal(blocks.join(parts), x)
    # The points of a block are within its side, and the mean is that of its part.
    places = np.stack([np.tile(axis.ravel(), fields) for axis in np.indices(grid)])
    extent = np.ptp(blocks.split(places.astype(float)), axis=-1)
    np.testing.assert_array_equal(extent, np.full(extent.shape, side - 1))
    of_fields = parts.reshape(-1, 3, fields, blocks.count).mean(axis=-1)
    np.testing.assert_allclose(blocks.mean(x), of_fields.transpose(1, 2, 0).reshape(3, -1))
    np.testing.assert_allclose(blocks.mean(blocks.spread(blocks.mean(x))), blocks.mean(x))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"operator": "stride", "offset": D, "noise": 1.0},
            "'offset' is 5: it must be below the dimension 5",
        ),
        (
            {"operator": "identity", "stride": 2, "noise": 1.0},
            "takes no key 'stride'; did you mean operator 'stride', 'grid'",
        ),
        (
            {"operator": "identity", "offset": 1, "noise": 1.0},
            "takes no key 'offset'; did you mean operator 'stride', 'grid'",
        ),
        (
            {"operator": "stride", "seed": 3, "noise": 1.0},
            "takes no key 'seed'; did you mean operator 'random'",
        ),
        (
            {"operator": "grid", "stride": 2, "noise": 1.0},
            "operator 'grid' needs a system whose components sit on a grid",
        ),
        (
            {"operator": "centre", "width": 2, "noise": 1.0},
            "operator 'centre' needs a system whose",
        ),
        (
            {"operator": "average_pooling", "size": 5, "noise": 1.0},
            "operator 'average_pooling' needs a system whose",
        ),
        (
            {"operator": "strid", "noise": 1.0},
            "unknown observation operator 'strid' .did you mean 'stride'",
        ),
        ({"noise": 1.0}, "needs the key 'operator': choose one of average_pooling, .*, stride"),
        ({"operator": ["stride"], "noise": 1.0}, "unknown observation operator"),
        ({"operator": "centre", "noise": 1.0}, "(?s)width.*required"),
        ({"operator": "hole", "noise": 1.0}, "(?s)width.*required"),
        ({"operator": "hole", "width": 2, "noise": 1.0}, "operator 'hole' needs a system whose"),
        (
            {"grid": (D,), "operator": "hole", "width": 5, "noise": 1.0},
            r"'width' is 5: the hole leaves none of the grid \(5,\)",
        ),
        ({"operator": "random", "noise": 1.0}, "(?s)fraction.*required"),
        ({"operator": "average_pooling", "noise": 1.0}, "(?s)size.*required"),
        ({"operator": "random", "fraction": 0.05, "noise": 1.0}, "leaves none of 5 points"),
        (
            {"grid": (D,), "operator": "average_pooling", "size": 2, "noise": 1.0},
            r"'size' is 2: it must divide .* \(5,\)",
        ),
        (
            {"grid": (D,), "operator": "centre", "width": 6, "noise": 1.0},
            r"'width' is 6: at most .* \(5,\)",
        ),
        (
            {"grid": (D,), "operator": "grid", "offset": 5, "noise": 1.0},
            r"'offset' is 5: it must be below .* \(5,\)",
        ),
        ({"operator": "identity", "matrix": H.tolist(), "noise": 1.0}, "takes no key 'matrix'"),
        ({"operator": "stride", "matrix": H.tolist(), "noise": 1.0}, "takes no key 'matrix'"),
        ({"operator": "matrix", "noise": 1.0}, "(?s)matrix.*required"),
        (
            {"operator": "matrix", "matrix": [[1.0, 0.0], [1.0]], "noise": 1.0},
            "rows of different lengths",
        ),
        ({"operator": "matrix", "matrix": [], "noise": 1.0}, "matrix"),
        (
            {"operator": "matrix", "matrix": [[1.0, 0.0]], "noise": 1.0},
            r"has shape \(1, 2\): expected \(any, 5\)",
        ),
        ({"operator": "matrix", "matrix": [[0.0] * D], "noise": 1.0}, "all zero"),
        (
            {"operator": "identity", "noise": [1.0, 2.0]},
            "2 standard deviations: expected one, or 5",
        ),
        ({"operator": "identity", "noise": R.tolist()}, r"shape \(3, 3\): expected \(5, 5\)"),
        (
            {**MEASURED["matrix"], "noise": (R + np.eye(3, k=1)).tolist()},
            "symmetric and positive definite",
        ),
        (
            {**MEASURED["matrix"], "noise": (R - np.eye(3)).tolist()},
            "symmetric and positive definite",
        ),
        (
            {**MEASURED["matrix"], "noise": (np.ones((3, 3)) - 2 * np.eye(3)).tolist()},
            "symmetric and positive definite",
        ),
        ({**MEASURED["matrix"], "noise": [[1.0, 0.0], [0.0]]}, "noise"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_reason(settings, fault):
    with pytest.raises(ValueError, match=fault):
        make(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"operator": "identity", "noise": 0.0},
        {"operator": "identity", "noise": -1.0},
        {"operator": "identity", "noise": [1.0, 1.0, 1.0, 1.0, 0.0]},
        {"operator": "identity", "noise": float("nan")},
        {"operator": "matrix", "matrix": [[float("inf")] * D], "noise": 1.0},
        {"operator": "stride", "stride": 0, "noise": 1.0},
        {"operator": "stride", "offset": -1, "noise": 1.0},
        {"operator": "identity"},
        {"operator": "identity", "noise": 1.0, "strides": 2},
        {"operator": "random", "fraction": 1.1, "noise": 1.0},
        {"operator": "average_pooling", "size": 1, "noise": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        observation_settings(settings)


@pytest.mark.parametrize(
    ("make_wrongly", "fault"),
    [
        (lambda: Blocks((D,), 2), "blocks of side 2 do not fill a grid of 5"),
        (lambda: Mask(D, [0, 2], [1.0, -1.0]), "must be positive"),
        (lambda: Mask(D, [0, 2], float("nan")), "must be positive"),
        (lambda: Mask(D, [0, D], 1.0), "observed components must be in 0 ... 4"),
        (lambda: Mask(D, [], 1.0), "no component is observed"),
        (lambda: Matrix(np.ones((2, 2, D)), 1.0), "observation matrix has shape"),
        (lambda: Matrix(np.zeros((2, D)), 1.0), "all zero"),
        (lambda: make_noise([[1.0, 0.0], [0.0]], 2), "rows of different lengths"),
    ],
)
def test_observation_refuses_arguments_that_do_not_fit(make_wrongly, fault):
    with pytest.raises(ValueError, match=fault):
        make_wrongly()


def test_matrix_takes_neither_stride_nor_offset():
    with pytest.raises(ValueError, match="stride"):
        make(**MEASURED["matrix"], stride=2, noise=1.0)
