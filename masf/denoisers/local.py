"""The Gaussian denoiser of an ensemble with local weights, as in the LETKF (Hunt, Kostelich, Szunyogh 2007), on large grids.

At each grid point i the prior is the ensemble's own, of N - 1 degrees of freedom, and sees what is near that point only: the
precision of x_t at point j counts times the Gaspari-Cohn taper rho of the distance. With anomalies X (N, d), Y = X A and
whitened by W = Sigma^(-1/2),

    (K x)_i = X_i^T ((N - 1) I + G_i)^(-1) b_i      G_i = sum_j rho_ij (W Y)_j (W Y)_j^T      b_i = sum_j rho_ij (W Y)_j (W x)_j

so that all G_i and b_i are convolutions on the torus. All fields at a point share G_i. With rho = 1 this is EnsembleDenoiser; at
t = 1, where x_t is the measurement, D is the mean of the LETKF's analysis. No matrix larger than N x N is formed.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, eye
from masf.denoisers.gaussian import GaussianDenoiser
from masf.localization import GridTaper
from masf.process import ForwardProcess

NUMBERS_AT_ONCE = 2**24
"""Numbers that the sums of a batch of states hold in memory at a time."""


class LocalDenoiser(GaussianDenoiser):
    """D and C of the local priors; C_i is that of point i."""

    def __init__(self, process: ForwardProcess, mean: Array, anomalies: Array, taper: GridTaper) -> None:
        """``mean`` (d,) and ``anomalies`` (N, d) of states that are (fields, *grid), flattened."""
        super().__init__(process, mean)
        self.anomalies, self.taper = anomalies, taper
        self._fields = self._at_points(anomalies)
        self._last: tuple[float, Array, Array] | None = None

    def _at_points(self, x: Array) -> Array:
        """States (..., d) as (..., fields, P)."""
        return x.reshape(*x.shape[:-1], -1, self.taper.points)

    def _at(self, t: float) -> tuple[Array, Array]:
        """Whitened W Y (N, fields, P), and the inverses of (N - 1) I + G_i (P, N, N)."""
        # Of one time only: they are large, and samplers ask for one time after the other.
        if self._last is None or self._last[0] != t:
            xp, process = array_namespace(self.anomalies), self.process
            y = self._at_points(process.apply(process.A(t) / np.sqrt(process.Sigma(t)), self.anomalies))
            n = len(y)
            row, column = np.tril_indices(n)
            lower = self.taper.sums(xp.sum(y[row] * y[column], axis=-2))
            place = np.empty((n, n), dtype=int)
            place[row, column] = place[column, row] = np.arange(len(row))
            gram = xp.permute_dims(lower[place.ravel()], (1, 0)).reshape(-1, n, n)
            inner = xp.astype(gram, xp.float64)
            inverse = xp.linalg.inv(inner + (n - 1) * eye(n, inner))
            self._last = t, y, xp.astype(inverse, y.dtype)
        return self._last[1], self._last[2]

    def gain(self, x: Array, t: float) -> Array:
        xp = array_namespace(x)
        y, inverse = self._at(t)
        rows = self._at_points(self.process.apply(1 / np.sqrt(self.process.Sigma(t)), x.reshape(-1, x.shape[-1])))
        chunk = max(1, NUMBERS_AT_ONCE // (len(y) * self.taper.points))
        parts = []
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk, None]
            products = part[:, :, 0] * y[:, 0]
            for f in range(1, y.shape[1]):
                products = products + part[:, :, f] * y[:, f]
            # (P, N, states): one product of matrices a point.
            weights = inverse @ xp.permute_dims(self.taper.sums(products), (2, 1, 0))
            gained = xp.permute_dims(self._fields, (2, 1, 0)) @ weights
            parts.append(xp.permute_dims(gained, (2, 1, 0)))
        return xp.concat(parts).reshape(x.shape)

    def posterior_variance(self, t: float) -> Array:
        xp = array_namespace(self.anomalies)
        at_points = xp.permute_dims(self._fields, (2, 0, 1))
        return xp.sum(at_points * (self._at(t)[1] @ at_points), axis=1).mT.reshape(-1)

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        """Draws of the ensemble's covariance, untapered: that of each point's own prior."""
        count = len(self.anomalies)
        return stream.normal((n, count), x) @ self.anomalies / float(np.sqrt(count - 1))
