"""The Gaussian denoiser of an ensemble with local weights, as in the LETKF (Hunt, Kostelich,
Szunyogh 2007), on large grids.

At each grid point i the prior is the ensemble's own, of N - 1 degrees of freedom, and sees what is
near that point only: the precision of x_t at point j counts times the Gaspari-Cohn taper rho of the
distance. With anomalies X (N, d), Y = X A and whitened by W = Sigma^(-1/2),

    (K x)_i = X_i^T ((N - 1) I + G_i)^(-1) b_i      G_i = sum_j rho_ij (W Y)_j (W Y)_j^T
    b_i = sum_j rho_ij (W Y)_j (W x)_j

so that all G_i and b_i are convolutions on the torus. All fields at a point share G_i. With rho = 1
this is EnsembleDenoiser; at t = 1, where x_t is the measurement, D is the mean of the LETKF's
analysis. No matrix larger than N x N is formed.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, Stream, eye, slices
from masf.diffusion.denoisers.gaussian import GaussianDenoiser
from masf.diffusion.gains import OfGain, by_component
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper

NUMBERS_AT_ONCE = 2**24
"""Numbers that the sums of a batch of states hold in memory at a time."""
NUMBERS_IN_CACHE = 2**19
"""Numbers that are worked on at a time where each is read once or twice: an array that stays near
the processor takes a fourth of the time of one that is fetched from memory anew in each step.
"""


class LocalDenoiser(GaussianDenoiser):
    """D and C of the local priors; C_i is that of point i."""

    def __init__(
        self, process: ForwardProcess, mean: Array, anomalies: Array, taper: GridTaper
    ) -> None:
        """``mean`` (d,) and ``anomalies`` (N, d) of states that are (fields, *grid), flattened."""
        super().__init__(process, mean)
        self.anomalies, self.taper = anomalies, taper
        self.at_points = array_namespace(anomalies).permute_dims(self._fields(anomalies), (2, 1, 0))
        """(P, fields, N)"""
        self._last: tuple[float, Array, Array] | None = None

    def _fields(self, x: Array) -> Array:
        """States (..., d) as (..., fields, P)."""
        return x.reshape(*x.shape[:-1], -1, self.taper.points)

    def _at(self, t: float) -> tuple[Array, Array]:
        """Whitened W Y (N, fields, P), and the inverses of (N - 1) I + G_i (P, N, N)."""
        # Of one time only: they are large, and samplers ask for one time after the other.
        if self._last is None or self._last[0] != t:
            process = self.process
            y = self._fields(
                process.apply(process.A(t) / np.sqrt(process.Sigma(t)), self.anomalies)
            )
            self._last = t, y, self._inverses(y)
        return self._last[1], self._last[2]

    def _inverses(self, y: Array) -> Array:
        """The inverses of (N - 1) I + G_i (P, N, N), for W Y (N, fields, P)."""
        xp, n = array_namespace(y), len(y)
        row, column = np.tril_indices(n)
        lower = xp.concat([
            self.taper.sums(xp.sum(y[row[some]] * y[column[some]], axis=-2))
            for some in slices(len(row), NUMBERS_IN_CACHE // self.taper.points)
        ])  # fmt: skip
        place = np.empty((n, n), dtype=int)
        place[row, column] = place[column, row] = np.arange(len(row))
        inverses = []
        for some in slices(self.taper.points, NUMBERS_IN_CACHE // n**2):
            gram = xp.permute_dims(lower[:, some][place.ravel()], (1, 0)).reshape(-1, n, n)
            inner = xp.astype(gram, xp.float64)
            inverse = xp.linalg.inv(inner + (n - 1) * eye(n, inner))
            inverses.append(xp.astype(inverse, y.dtype))
        return xp.concat(inverses)

    def inverse(self, t: float) -> Array:
        """((N - 1) I + G_i)^(-1) at each point (P, N, N)."""
        return self._at(t)[1]

    def chunks(self, x: Array) -> list[Array]:
        """States (n, d) in parts (k, d) that ``weights`` takes at a time."""
        chunk = NUMBERS_AT_ONCE // (len(self.anomalies) * self.taper.points)
        return [x[some] for some in slices(len(x), chunk)]

    def weights(self, x: Array, t: float) -> Array:
        """((N - 1) I + G_i)^(-1) b_i (P, N, n): what each anomaly counts at each point, for
        departures x (n, d).
        """
        y, inverse = self._at(t)
        rows = self._fields(self.process.apply(1 / np.sqrt(self.process.Sigma(t)), x))[:, None]
        xp, sums = array_namespace(x), []
        for some in slices(len(x), NUMBERS_IN_CACHE // (len(y) * self.taper.points)):
            products = rows[some, :, 0] * y[:, 0]
            for f in range(1, y.shape[1]):
                products = products + rows[some, :, f] * y[:, f]
            sums.append(self.taper.sums(products))
        # One product of matrices a point.
        return inverse @ xp.permute_dims(xp.concat(sums), (2, 1, 0))

    def joined(self, at_points: Array) -> Array:
        """Values at points (P, fields, n) as states (n, d)."""
        return (
            array_namespace(at_points)
            .permute_dims(at_points, (2, 1, 0))
            .reshape(at_points.shape[-1], -1)
        )

    def gain(self, x: Array, t: float) -> Array:
        parts = [
            self.joined(self.at_points @ self.weights(part, t))
            for part in self.chunks(x.reshape(-1, x.shape[-1]))
        ]
        return array_namespace(x).concat(parts).reshape(x.shape)

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """By each component alone: no two points see the same covariance."""
        variance = self.process.basis.variance(self.anomalies)
        return by_component(self.process, variance, function, x)

    def posterior_variance(self, t: float) -> Array:
        variance = array_namespace(self.anomalies).sum(
            (self.at_points @ self.inverse(t)) * self.at_points, axis=-1
        )
        return variance.mT.reshape(-1)

    def prior_draws(self, n: int, x: Array, stream: Stream) -> Array:
        """Draws of the ensemble's covariance, untapered: that of each point's own prior."""
        count = len(self.anomalies)
        return stream.normal((n, count), x) @ self.anomalies / float(np.sqrt(count - 1))
