"""The denoiser of a mixture of Gaussians that share one covariance, in closed form: a kernel
density of an ensemble.

    p_0 = (1 / N) sum_j N(c_j, B)      D(x, t) = sum_j w_j D_j      D_j = c_j + K (x - A c_j)
    K = B A (A B A + Sigma)^(-1)

with weights w_j ~ N(x; A c_j, A B A + Sigma) that sum to 1. The covariance depends on x through the
spread of the D_j:

    C(x, t) = B - K A B + sum_j w_j (D_j - D) (D_j - D)^T.

In many components the weights degenerate: one component takes all, as one particle does in a
particle filter. *Local* weights avoid that on a ring (ours): component i of D takes the w_j that
the marginal densities of a window around i give.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, Stream, centred, ensemble_mean, eye
from masf.diffusion.denoisers.gaussian import DenseDenoiser
from masf.diffusion.gains import OfGain, by_covariance
from masf.diffusion.posterior import Posterior
from masf.diffusion.process import ForwardProcess


def ring_windows(points: int, radius: int) -> np.ndarray:
    """(points, w): for each point of a ring, the points at most ``radius`` away; all of them where
    the ring is too short.
    """
    if 2 * radius + 1 >= points:
        return np.tile(np.arange(points), (points, 1))
    return (np.arange(points)[:, None] + np.arange(-radius, radius + 1)) % points


class MixtureDenoiser:
    """The posteriors of the equal mixture of N(c_j, B)."""

    def __init__(
        self,
        process: ForwardProcess,
        centres: Array,
        covariance: Array,
        windows: np.ndarray | None = None,
    ) -> None:
        """The mixture.

        Args:
            process: the forward process.
            centres: (N, d).
            covariance: B (d, d).
            windows: (k, w) the components that weigh component i, k + i, 2 k + i, ... of the
                state, the same for all fields at a point; None for weights from all components.
        """
        self.process = process
        self.centres = centres
        self.mean = ensemble_mean(centres)
        # The same for all components of the mixture: D_j = kernel(x - A c_j) + c_j.
        self.kernel = DenseDenoiser(
            process, array_namespace(centres).zeros_like(self.mean), covariance
        )
        self.windows = windows
        self._known: dict[float, tuple[Array, Array, Array]] = {}

    def _at(self, t: float) -> tuple[Array, Array, Array]:
        """At time t: whitening (k, w, w) of the windows, the whitened centres (k, N, w), and (I - K
        A) c_j (N, d).
        """
        if t not in self._known:
            xp, process = array_namespace(self.centres), self.process
            a, sigma = process.A(t), process.Sigma(t)
            ab = process.apply(a, self.kernel.covariance)
            marginal = process.apply(a, ab.mT) + process.apply(sigma, eye(len(self.mean), ab))
            if self.windows is None:
                blocks = marginal[None]
            else:
                windows = xp.asarray(self.windows, device=device(marginal))
                blocks = marginal[windows[:, :, None], windows[:, None, :]]
            lower = xp.linalg.cholesky(blocks)
            whitening = xp.linalg.solve(lower, xp.zeros_like(lower) + eye(lower.shape[-1], lower))
            anomalies = self.centres - self.mean
            kept = anomalies - self.kernel.gain(process.apply(a, anomalies), t)
            self._known[t] = whitening, self._whitened(process.apply(a, anomalies), whitening), kept
        return self._known[t]

    def _whitened(self, x: Array, whitening: Array) -> Array:
        """Departures x (n, d), window by window, in coordinates where the components are standard
        normal: (k, n, w).
        """
        if self.windows is None:
            return x[None] @ whitening.mT
        xp = array_namespace(x)
        return (
            xp.permute_dims(x[:, xp.asarray(self.windows, device=device(x))], (1, 0, 2))
            @ whitening.mT
        )

    def _log_weights(self, x: Array, t: float) -> Array:
        """Logarithms of the weights (k, n, N), up to a constant in j, for states (n, d); k is 1, or
        the number of windows.
        """
        xp = array_namespace(x)
        whitening, centres, _ = self._at(t)
        departures = self._whitened(x - self.process.apply(self.process.A(t), self.mean), whitening)
        return departures @ centres.mT - xp.sum(centres**2, axis=-1)[:, None, :] / 2

    def _moments(self, logits: Array, kept: Array) -> tuple[Array, Array]:
        """Mean and variance of kept_j (N, d) under the weights that ``logits`` (k, n, N) give, each
        (n, d).
        """
        xp = array_namespace(logits)
        weights = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        self._weights = weights
        # All sums over j in one product: of w_j, w_j kept_j, w_j kept_j^2. Fields at a point have
        # their weights in common.
        count, d = kept.shape
        columns = kept[None]
        if self.windows is not None:
            by_point = kept.reshape(count, d // len(logits), len(logits))
            columns = xp.permute_dims(by_point, (2, 0, 1))
        sums = weights @ xp.concat([columns, columns**2, xp.ones_like(columns[..., :1])], axis=-1)
        half = columns.shape[-1]
        mean, square = sums[..., :half] / sums[..., -1:], sums[..., half:-1] / sums[..., -1:]
        mean, square = (self._joined(part) for part in (mean, square))
        return mean, xp.clip(square - mean**2, min=0.0)

    def _joined(self, parts: Array) -> Array:
        """States (n, d) of parts (k, n, fields), or (1, n, d) without windows."""
        if self.windows is None:
            return parts[0]
        turned = array_namespace(parts).permute_dims(parts, (1, 2, 0))
        return turned.reshape(len(turned), -1)

    def __call__(self, x: Array, t: float) -> Posterior:
        """For states (n, d): D_j = m + K (x - A m) + kept_j, of which kept_j alone differs from
        component to component.
        """
        logits = self._log_weights(x, t)
        kept, spread = self._moments(logits, self._at(t)[2])
        gain = self.kernel.gain(x - self.process.apply(self.process.A(t), self.mean), t)
        variance = self.kernel.posterior_variance(t) + spread
        return Posterior(
            self.mean + gain + kept, variance, partial(self._residual, x, t, logits, kept)
        )

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """By the covariance of the mixture as a whole."""
        anomalies = self.centres - self.mean
        whole = self.kernel.covariance + anomalies.mT @ anomalies / (len(anomalies) - 1)
        return by_covariance(self.process, whole, function, x)

    @property
    def effective_size(self) -> float:
        """Effective number of components, (sum_j w_j)^2 / sum_j w_j^2, in the last answer: mean
        over states and components.
        """
        xp, weights = array_namespace(self._weights), self._weights
        return float(xp.mean(xp.sum(weights, axis=-1) ** 2 / xp.sum(weights**2, axis=-1)))

    def _residual(
        self, x: Array, t: float, logits: Array, mean_kept: Array, stream: Stream
    ) -> Array:
        """Draws from p(x_0 | x_t = x), less D: each state (n, d) draws a component of the mixture,
        and from that component.

        With windows each component of the state draws its own, but by the same Gumbel variables, so
        that neighbours mostly agree.
        """
        xp = array_namespace(x)
        kept = self._at(t)[2]
        # The greater of log w_j + Gumbel is j with probability w_j; -log of half a chi-square of 2
        # degrees is Gumbel.
        exponential = xp.sum(stream.normal((len(x), len(kept), 2), x) ** 2, axis=-1) / 2
        drawn = xp.argmax(logits - xp.log(exponential), axis=-1)
        columns = xp.arange(kept.shape[1], device=device(kept))
        if self.windows is None:
            choice = kept[drawn[0]]
        else:
            choice = kept[xp.tile(drawn.mT, (1, kept.shape[1] // len(drawn))), columns]
        return choice - mean_kept + self.kernel.deviations(x, t, stream)


class MixtureFit:
    """Takes an ensemble for a kernel density (filter masf_mc): a ``Fit`` of
    masf.diffusion.posterior.
    """

    def __init__(self, bandwidth: float, taper: Array | None, windows: np.ndarray | None) -> None:
        """Kernels of width h = ``bandwidth``.

        Args:
            bandwidth: h, in units of the ensemble's spread.
            taper: (d, d) of the kernels' covariance, or None.
            windows: (k, w) as for MixtureDenoiser.
        """
        self.bandwidth, self.taper, self.windows = bandwidth, taper, windows

    def __call__(self, process: ForwardProcess, ensemble: Array) -> MixtureDenoiser:
        h = self.bandwidth
        mean, anomalies = centred(ensemble)
        covariance = anomalies.mT @ anomalies / (len(ensemble) - 1)
        if self.taper is not None:
            covariance = covariance * self.taper
        self._last = MixtureDenoiser(
            process, mean + math.sqrt(1 - h**2) * anomalies, h**2 * covariance, self.windows
        )
        return self._last

    def diagnostics(self) -> dict[str, float]:
        """How many components of the mixture shared the weight in the last answer."""
        return {"effective_size": self._last.effective_size}
