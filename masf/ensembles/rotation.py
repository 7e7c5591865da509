"""Random rotations of an ensemble that keep its mean and covariance (Sakov and Oke 2008)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred, like


@cache
def zero_sum_basis(n: int) -> np.ndarray:
    """Orthonormal columns (n, n - 1), each of sum 0: a reflection that takes the first unit vector
    to equal entries.
    """
    v = np.full(n, -1 / math.sqrt(n))
    v[0] += 1
    return (np.eye(n) - 2 * np.outer(v, v) / (v @ v))[:, 1:]


def random_rotation(n: int, x: Array, stream: Stream) -> Array:
    """An orthogonal matrix (n, n) that keeps vectors of equal entries, uniform among these; with
    the namespace of ``x``.
    """
    xp = array_namespace(x)
    q, r = xp.linalg.qr(stream.normal((n - 1, n - 1), x))
    # Signs from r make q uniform (Mezzadri 2007).
    q = q * xp.sign(xp.linalg.diagonal(r))
    basis = like(zero_sum_basis(n), x)
    return basis @ q @ basis.mT + 1 / n


def rotate(ensemble: Array, stream: Stream) -> Array:
    """``ensemble`` (N, d) with its anomalies mixed by a random rotation: as many members of the
    same mean and covariance.
    """
    mean, anomalies = centred(ensemble)
    return mean + random_rotation(len(ensemble), ensemble, stream) @ anomalies
