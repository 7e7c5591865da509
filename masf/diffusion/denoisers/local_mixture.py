"""The denoiser of an ensemble's Gaussian mixture with local weights, on large grids (ours).

At each grid point i the prior is the kernel density of filter masf_mc, and sees what is near that point only, as in
masf.diffusion.denoisers.local: the precision of x_t at point j counts times a taper of the distance. Centres are m + sqrt(1 -
h^2) X_j and kernels have the covariance of h X, so that all is a matter of N x N. With X h in place of X, G_i and b_i of
masf.diffusion.denoisers.local for the departure x - A m, and q = sqrt(1 - h^2) / h,

    D_i = m_i + h X_i^T (omega_i + q (N - 1) V_i w_i)      V_i = ((N - 1) I + G_i)^(-1)      omega_i = V_i b_i
    log w_ij = q (N - 1) omega_ij - q^2 (N - 1) (1 - (N - 1) V_ijj) / 2 + constant,  sum_j w_ij = 1

because Y S^(-1) = (N - 1) V W Y W for the covariance S of x_t. Weights may see less far than kernels: they degenerate the more,
the more components they see. With tapers of 1 this is MixtureDenoiser with the ensemble's own covariance; h = 1 is LocalDenoiser.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace, device

from masf.arrays import Array, Stream
from masf.diffusion.denoisers.local import LocalDenoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper


class LocalMixtureDenoiser:
    """D and C of the local mixtures; those of point i are of its own prior."""

    def __init__(
        self,
        process: ForwardProcess,
        ensemble: Array,
        bandwidth: float,
        taper: GridTaper,
        weight_taper: GridTaper | None = None,
    ) -> None:
        """Of the ensemble (N, d), with kernels of width h = ``bandwidth``; ``taper`` is theirs, and of weights without one."""
        self.process = process
        self.mean = array_namespace(ensemble).mean(ensemble, axis=0)
        anomalies = bandwidth * (ensemble - self.mean)
        self.kernel = LocalDenoiser(process, self.mean, anomalies, taper)
        self.near = self.kernel if weight_taper is None else LocalDenoiser(process, self.mean, anomalies, weight_taper)
        self.factor = math.sqrt(1 - bandwidth**2) / bandwidth * (len(ensemble) - 1)
        self.effective_size = math.nan
        self._last: tuple[Array, float, Array, Array] | None = None

    def _departures(self, x: Array, t: float) -> Array:
        return x - self.process.apply(self.process.A(t), self.mean)

    def _kept(self, t: float) -> Array:
        """What each kernel's answer D_j keeps of its centre: (I - K A) (c_j - m) at each point (P, fields, N)."""
        return self.factor * (self.kernel.at_points @ self.kernel.inverse(t))

    def _log_weights(self, omega: Array, t: float) -> Array:
        """log w (P, N, n), up to a constant in j, from the omega (P, N, n) of the weights' taper."""
        n, inverse = omega.shape[1], self.near.inverse(t)
        known = 1 - (n - 1) * array_namespace(omega).linalg.diagonal(inverse)
        return self.factor * omega - self.factor**2 / (2 * (n - 1)) * known[..., None]

    def _moments(self, x: Array, t: float) -> tuple[Array, Array]:
        """D, and the variance of the D_j under their weights, each (n, d)."""
        # Samplers ask for D and C at the same states, one after the other.
        if self._last is None or self._last[0] is not x or self._last[1] != t:
            xp, kernel, kept = array_namespace(x), self.kernel, self._kept(t)
            denoised, variances, sizes = [], [], []
            for part in kernel.chunks(self._departures(x, t)):
                omega = kernel.weights(part, t)
                logits = self._log_weights(omega if self.near is kernel else self.near.weights(part, t), t)
                weights = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
                weights = weights / xp.sum(weights, axis=1, keepdims=True)
                mean = kept @ weights
                denoised.append(self.mean + kernel.joined(kernel.at_points @ omega + mean))
                variances.append(kernel.joined(xp.clip(kept**2 @ weights - mean**2, min=0.0)))
                sizes.append(xp.mean(1 / xp.sum(weights**2, axis=1), axis=0))
            self.effective_size = float(xp.mean(xp.concat(sizes)))
            self._last = x, t, xp.concat(denoised), xp.concat(variances)
        return self._last[2], self._last[3]

    def __call__(self, x: Array, t: float) -> Array:
        """D(x, t) for states (n, d)."""
        return self._moments(x, t)[0]

    def variance(self, x: Array, t: float) -> Array:
        """Diagonal of C (n, d)."""
        return self.kernel.posterior_variance(t) + self._moments(x, t)[1]

    def residual(self, x: Array, t: float, stream: Stream) -> Array:
        """Draws from p(x_0 | x_t = x), less D: at each point a state (n, d) draws one of the kernels, and from that kernel.

        All points of a state draw by the same Gumbel variables, so that neighbours mostly agree.
        """
        xp, kept, count = array_namespace(x), self._kept(t), len(self.kernel.anomalies)
        # The greater of log w_j + Gumbel is j with probability w_j; -log of half a chi-square of 2 degrees is Gumbel.
        exponential = xp.sum(stream.normal((len(x), count, 2), x) ** 2, axis=-1) / 2
        choices = []
        for part, gumbel in zip(
            self.kernel.chunks(self._departures(x, t)), self.kernel.chunks(-xp.log(exponential)), strict=True
        ):
            drawn = xp.argmax(self._log_weights(self.near.weights(part, t), t) + gumbel.mT, axis=1)
            chosen = xp.arange(count, device=device(x))[:, None] == drawn[:, None, :]
            choices.append(self.kernel.joined(kept @ xp.astype(chosen, x.dtype)))
        kernel = self.kernel.residual(x, t, stream)
        mean = self._moments(x, t)[0] - self.mean - self.kernel.gain(self._departures(x, t), t)
        return xp.concat(choices) - mean + kernel
