"""Covariance localisation: tapering sample covariances with distance (Houtekamer and Mitchell 2001)."""

from __future__ import annotations

import numpy as np


def gaspari_cohn(distances: np.ndarray, radius: float) -> np.ndarray:
    """The fifth-order compactly supported correlation of Gaspari and Cohn (1999), eq. 4.10.

    Args:
        distances: any shape, in grid points.
        radius: half of the support: the taper is 5/24 at ``radius`` and 0 from 2 ``radius`` on.
    """
    z = np.abs(distances) / radius
    inner = (((-z / 4 + 1 / 2) * z + 5 / 8) * z - 5 / 3) * z**2 + 1
    outer = ((((z / 12 - 1 / 2) * z + 5 / 8) * z + 5 / 3) * z - 5) * z + 4 - 2 / (3 * np.maximum(z, 1.0))
    return np.where(z <= 1, inner, np.where(z < 2, outer, 0.0))


def ring_taper(points: int, radius: float) -> np.ndarray:
    """The Gaspari-Cohn taper (points, points) between the points of a ring.

    A support longer than the ring would overlap itself and leave negative eigenvalues. The taper is therefore wrapped around
    the ring (the sum over its periodic images, a correlation at any radius) and scaled to 1 at distance 0; up to a radius of
    a quarter of the ring this changes nothing.
    """
    turns = int(np.ceil(2 * radius / points))
    images = np.arange(points) + points * np.arange(-turns - 1, turns + 1)[:, None]
    row = gaspari_cohn(images, radius).sum(axis=0)
    offsets = np.subtract.outer(np.arange(points), np.arange(points)) % points
    return (row / row[0])[offsets]


def taper_matrix(ring: int | None, radius: float | None) -> np.ndarray | None:
    """The taper (d, d) for components on a ring of this length; None where there is nothing to localise.

    Raises:
        ValueError: if a radius is asked for where components have no place in space.
    """
    if radius is None:
        return None
    if ring is None:
        raise ValueError("localization_radius: this system's components have no distances; set it to null")
    return ring_taper(ring, radius)
