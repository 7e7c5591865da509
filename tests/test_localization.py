"""The Gaspari-Cohn taper."""

from __future__ import annotations

import numpy as np
import pytest

from masf.localization import gaspari_cohn, taper_matrix


@pytest.mark.parametrize(("distance", "value"), [(0.0, 1.0), (4.0, 5 / 24), (8.0, 0.0), (8.1, 0.0), (1e3, 0.0)])
def test_values_that_the_paper_gives(distance, value):
    assert gaspari_cohn(np.array([distance]), 4.0)[0] == pytest.approx(value, abs=1e-15)


def test_the_two_pieces_meet_smoothly():
    h = 1e-4
    around = gaspari_cohn(np.array([[1 - 2 * h, 1 - h, 1 - h / 10, 1 + h / 10, 1 + h, 1 + 2 * h]]) * 7, 7.0)[0]
    assert around[2] == pytest.approx(around[3], abs=1e-4)
    below, above = around[1] - around[0], around[5] - around[4]
    assert below == pytest.approx(above, rel=1e-2)
    assert gaspari_cohn(np.array([2 * 7 - 1e-3]), 7.0)[0] == pytest.approx(0, abs=1e-12)


def test_taper_falls_from_one_to_zero_with_distance():
    values = gaspari_cohn(np.linspace(0, 20, 2001), 10.0)
    assert np.all(np.diff(values) <= 0)
    assert np.all(np.diff(values[:1900]) < 0)
    assert values.min() >= 0
    np.testing.assert_array_equal(gaspari_cohn(-np.arange(5.0), 3.0), gaspari_cohn(np.arange(5.0), 3.0))


def ring_distances(n: int) -> np.ndarray:
    gap = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.minimum(gap, n - gap)


@pytest.mark.parametrize("n", [4, 10, 20, 40, 41])
@pytest.mark.parametrize("radius", [0.5, 3.0, 6.0, 12.0, 20.0, 100.0])
def test_taper_is_a_correlation_on_any_ring_at_any_radius(n, radius):
    taper = taper_matrix(n, radius)
    np.testing.assert_allclose(taper, taper.T, atol=1e-15)
    np.testing.assert_array_equal(np.diag(taper), 1)
    assert taper.min() >= 0
    assert taper.max() <= 1
    assert np.linalg.eigvalsh(taper)[0] > -1e-12


@pytest.mark.parametrize("n", [20, 40, 41])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.25])
def test_taper_is_the_plain_one_while_its_support_fits_the_ring(n, share):
    np.testing.assert_allclose(taper_matrix(n, share * n), gaspari_cohn(ring_distances(n), share * n), atol=1e-14)


def test_no_radius_tapers_nothing_and_no_geometry_cannot_be_tapered():
    assert taper_matrix(5, None) is None
    assert taper_matrix(None, None) is None
    with pytest.raises(ValueError, match="no distances; set it to null"):
        taper_matrix(None, 3.0)
