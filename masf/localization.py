"""Covariance localisation: tapering sample covariances with distance (Houtekamer and Mitchell 2001)."""

from __future__ import annotations

import numpy as np


def gaspari_cohn(distances: np.ndarray, radius: float) -> np.ndarray:
    """The fifth-order compactly supported correlation of Gaspari and Cohn (1999), eq. 4.10.

    On a ring it is a correlation (no negative eigenvalues) while its support fits: radius at most a quarter of the ring.

    Args:
        distances: any shape, in grid points.
        radius: half of the support: the taper is 5/24 at ``radius`` and 0 from 2 ``radius`` on.
    """
    z = np.abs(distances) / radius
    inner = (((-z / 4 + 1 / 2) * z + 5 / 8) * z - 5 / 3) * z**2 + 1
    outer = ((((z / 12 - 1 / 2) * z + 5 / 8) * z + 5 / 3) * z - 5) * z + 4 - 2 / (3 * np.maximum(z, 1.0))
    return np.where(z <= 1, inner, np.where(z < 2, outer, 0.0))


def taper_matrix(distances: np.ndarray | None, radius: float | None) -> np.ndarray | None:
    """The taper (d, d) for these distances; None where there is nothing to localise.

    Raises:
        ValueError: if a radius is asked for where components have no distances.
    """
    if radius is None:
        return None
    if distances is None:
        raise ValueError("localization_radius: this system's components have no distances; set it to null")
    return gaspari_cohn(distances, radius)
