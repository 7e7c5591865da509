"""The Gaspari-Cohn taper."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from masf.diffusion.prior_settings import PriorSettings
from masf.ensembles.domains import domains_of
from masf.ensembles.localization import (
    MOST_DOMAINS,
    gaspari_cohn,
    grid_taper,
    local_observations,
    make_taper,
    place_misfits,
    radius_misfits,
    taper_matrix,
    taper_row,
)
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.systems.lorenz96 import Lorenz96
from masf.systems.registry import make_system
from masf.systems.requirements import geometry_faults


@pytest.mark.parametrize(
    ("distance", "value"), [(0.0, 1.0), (4.0, 5 / 24), (8.0, 0.0), (8.1, 0.0), (1e3, 0.0)]
)
def test_values_that_the_paper_gives(distance, value):
    assert gaspari_cohn(np.array([distance]), 4.0)[0] == pytest.approx(value, abs=1e-15)


def test_the_two_pieces_meet_smoothly():
    h = 1e-4
    around = gaspari_cohn(
        np.array([[1 - 2 * h, 1 - h, 1 - h / 10, 1 + h / 10, 1 + h, 1 + 2 * h]]) * 7, 7.0
    )[0]
    assert around[2] == pytest.approx(around[3], abs=1e-4)
    below, above = around[1] - around[0], around[5] - around[4]
    assert below == pytest.approx(above, rel=1e-2)
    assert gaspari_cohn(np.array([2 * 7 - 1e-3]), 7.0)[0] == pytest.approx(0, abs=1e-12)


def test_taper_falls_from_one_to_zero_with_distance():
    values = gaspari_cohn(np.linspace(0, 20, 2001), 10.0)
    assert np.all(np.diff(values) <= 0)
    assert np.all(np.diff(values[:1900]) < 0)
    assert values.min() >= 0
    np.testing.assert_array_equal(
        gaspari_cohn(-np.arange(5.0), 3.0), gaspari_cohn(np.arange(5.0), 3.0)
    )


def torus_distances(grid: tuple[int, ...]) -> np.ndarray:
    squares = 0
    for x, n in zip(np.indices(grid), grid, strict=True):
        gap = np.abs(np.subtract.outer(x.ravel(), x.ravel()))
        squares = squares + np.minimum(gap, n - gap) ** 2
    return np.sqrt(squares)


@pytest.mark.parametrize("grid", [(4,), (10,), (20,), (40,), (41,), (6, 9)])
@pytest.mark.parametrize("radius", [0.5, 3.0, 6.0, 12.0, 20.0, 100.0])
def test_taper_is_a_correlation_on_any_grid_at_any_radius(grid, radius):
    taper = grid_taper(grid, radius)
    np.testing.assert_allclose(taper, taper.T, atol=1e-15)
    np.testing.assert_array_equal(np.diag(taper), 1)
    assert taper.min() >= 0
    assert taper.max() <= 1
    assert np.linalg.eigvalsh(taper)[0] > -1e-12


@pytest.mark.parametrize("grid", [(20,), (40,), (41,), (9, 12)])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.25])
def test_taper_is_the_plain_one_while_its_support_fits_the_grid(grid, share):
    radius = share * min(grid)
    np.testing.assert_allclose(
        grid_taper(grid, radius), gaspari_cohn(torus_distances(grid), radius), atol=1e-14
    )


@pytest.mark.parametrize("grid", [(40,), (7,), (16, 16), (8, 32)])
def test_a_radius_of_many_domains_tapers_nothing(grid):
    below = np.nextafter(MOST_DOMAINS * max(grid), 0)
    np.testing.assert_allclose(taper_row(grid, below), 1, atol=np.finfo(np.float32).eps)
    assert taper_row(grid, below).min() < 1  # ... which the sum over images says by itself
    np.testing.assert_array_equal(taper_row(grid, 2 * MOST_DOMAINS * max(grid)), 1)


@pytest.mark.parametrize(
    ("grid", "radius"), [((40,), 1e9), ((64, 64), 1e5), ((64, 64), MOST_DOMAINS * 64)]
)
def test_memory_of_a_taper_does_not_grow_with_its_radius(grid, radius):
    tracemalloc.start()
    taper_row(grid, radius)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20


class TwoFields:
    """Stands for a system with two fields on a grid of 6 x 8 points."""

    grid, dimension, spacing = (6, 8), 96, 1.0


def test_fields_at_a_point_have_no_distance():
    plain = grid_taper((6, 8), 2.0)
    np.testing.assert_array_equal(
        taper_matrix(TwoFields(), 2.0), np.block([[plain, plain], [plain, plain]])
    )


def local_share(size: int, radius: float) -> float:
    """The share of the box that a measurement at its corner reaches, by the LETKF's domains."""
    system = make_system("kolmogorov", {"size": size})
    observation = Mask(system.dimension, [0], 0.1)
    x = np.zeros((1, system.dimension))
    domains = domains_of(observation, system, radius, 1, x)
    return float(np.mean(domains.roots > 0))


def test_a_radius_of_the_flow_is_a_length_the_same_on_any_grid():
    shares = [local_share(size, 0.6) for size in (64, 128, 256)]
    # The taper is 1e-3, where it is cut off, at 1.76 radii.
    expected = np.pi * (1.76 * 0.6) ** 2 / (2 * np.pi) ** 2
    np.testing.assert_allclose(shares, expected, rtol=0.03)
    tapers = [
        make_taper(make_system("kolmogorov", {"size": n}), 0.6, np.zeros(1)) for n in (64, 128)
    ]
    coarse, fine = (taper_row(taper.grid, taper.radius) for taper in tapers)
    np.testing.assert_allclose(fine[::2, ::2], coarse, atol=1e-12)
    # The analyses of a ring, whose radii are in grid points, are as before.
    ring = make_system("lorenz96", {"dimension": 40, "dt": 0.01, "forcing": 8})
    assert ring.spacing == 1.0
    np.testing.assert_array_equal(taper_matrix(ring, 4.0), grid_taper((40,), 4.0))


def test_a_radius_of_the_flow_in_grid_points_is_refused():
    system = make_system("kolmogorov", {"size": 64})
    (fault,) = radius_misfits(6.0, system)
    assert "localization_radius = 6: is a length" in fault
    assert "6.28 across" in fault
    assert "for 6 grid points set it to 0.59" in fault
    assert radius_misfits(0.6, system) == []
    assert (
        radius_misfits(100.0, make_system("lorenz96", {"dimension": 40, "dt": 0.01, "forcing": 8}))
        == []
    )
    settings = PriorSettings(gaps=[1], localization_radii=[5, 3])
    assert settings.fault(system).startswith("localization_radii = 5: is a length")
    faults = geometry_faults(
        WithoutSpacing(
            make_system("lorenz96", {"dimension": 40, "dt": 0.01, "forcing": 8}).parameters
        )
    )
    assert list(faults) == [
        "WithoutSpacing.spacing is 0.0: expected a positive number, such as 1.0"
    ]


class WithoutSpacing(Lorenz96):
    """A system whose grid points are no distance apart."""

    spacing = 0.0


def test_no_radius_tapers_nothing_and_no_geometry_cannot_be_tapered():
    lorenz63 = make_system("lorenz63", {"dt": 0.01})
    assert taper_matrix(TwoFields(), None) is None
    assert taper_matrix(lorenz63, None) is None
    with pytest.raises(ValueError, match="no distances; set it to null"):
        taper_matrix(lorenz63, 3.0)


# --- measurements near a point


@pytest.mark.parametrize("radius", [0.4, 1.7, 3.0, 50.0])
@pytest.mark.parametrize("chunk", [10, 2**22])
def test_local_observations_are_those_with_weight(radius, chunk, monkeypatch):
    monkeypatch.setattr("masf.ensembles.localization.DISTANCES_AT_ONCE", chunk)
    observed = np.array([0, 3, 17, 40, 47, 48 + 3, 95])
    places = Mask(96, observed, noise=1.0).places((6, 8))
    indices, weights = local_observations(places, (6, 8), radius)
    found = np.zeros((48, len(observed)))
    np.add.at(found, (np.arange(48)[:, None], indices), weights)
    expected = gaspari_cohn(torus_distances((6, 8))[:, observed % 48], radius)
    np.testing.assert_allclose(found, np.where(expected > 1e-3, expected, 0), atol=1e-14)
    assert indices.shape[1] == np.max(np.sum(expected > 1e-3, axis=1))


def test_rows_of_a_matrix_sit_at_their_centre_of_mass_on_the_torus():
    pooling = np.zeros((4, 2, 6, 8))
    pooling[0, :, 1:3, 4:6] = 0.25  # both fields, around (1.5, 4.5)
    pooling[1, 0, [5, 0, 5, 0], [7, 7, 0, 0]] = -1.0  # across both edges, around (5.5, 7.5)
    pooling[2, 1, 3, 2] = 2.0
    pooling[3, 0, 0, 1:4] = [1, 2, 1]
    places = Matrix(pooling.reshape(4, 96), noise=1.0).places((6, 8))
    np.testing.assert_allclose(places, [[1.5, 4.5], [5.5, 7.5], [3, 2], [0, 2]], atol=1e-12)
    mask = Mask(96, [48 + 10, 10], noise=1.0)
    np.testing.assert_allclose(mask.places((6, 8)), [[1, 2], [1, 2]])


@pytest.mark.parametrize(
    "row",
    [np.ones(8), np.zeros(8), np.eye(8)[0] + np.eye(8)[4]],
    ids=["all", "nothing", "opposite"],
)
def test_rows_without_a_place_are_refused(row):
    observation = Matrix(np.stack([np.eye(8)[2], row]), noise=1.0)
    with pytest.raises(
        ValueError, match=r"Matrix, matrix row 2: measures nothing, or more than half of the grid"
    ):
        observation.places((8,))
    system = make_system("linear_gaussian", {"dimension": 8})
    (fault,) = place_misfits(2.0, system, observation)
    assert fault.startswith("localization_radius = 2.0: observation Matrix, matrix row 2: ")
    assert fault.endswith("; or set it to null")


def test_a_place_just_below_0_is_rounded_to_0_and_not_to_the_length_of_the_grid():
    row = np.zeros(8)
    row[[7, 0, 1]] = 1, 2, 1 - 1e-15  # at -1e-16, of which numpy's remainder is 8
    assert Matrix(row[None], noise=1.0).places((8,)) == [[0]]
