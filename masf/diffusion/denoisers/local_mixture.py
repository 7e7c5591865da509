"""The denoiser of an ensemble's Gaussian mixture with local weights, on large grids (ours).

At each grid point i the prior is the kernel density of filter masf_mc, and sees what is near that
point only, as in masf.diffusion.denoisers.local: the precision of x_t at point j counts times a
taper of the distance. Below is one point of an untapered ensemble; tapers change G and b only.

The ensemble has mean m and anomalies X_j (N, d). Kernels have the covariance of Z = h X, with h the
bandwidth, and the centres c_j = m + sqrt(1 - h^2) X_j = m + q Z_j, with q = sqrt(1 - h^2) / h, so
that the mixture keeps the ensemble's mean and covariance. The process turns Z into Y = Z A, and a
kernel into one of covariance S = Y^T Y / (N - 1) + Sigma. With

    G = Y Sigma^(-1) Y^T    V = ((N - 1) I + G)^(-1)    b = Y Sigma^(-1) (x - A m)    omega = V b,

all of them N x N or N long, Y S^(-1) = (N - 1) V Y Sigma^(-1) (multiply by S on the right). The
kernels' gain is K = Z^T Y S^(-1) / (N - 1), and so

    K (x - A m) = Z^T omega      (I - K A) Z_j = Z^T (I - V G) e_j = (N - 1) Z^T V e_j.

Kernel j answers D_j = c_j + K (x - A c_j) = m + Z^T (omega + q (N - 1) V e_j); its weight is the
density of x under N(A c_j, S). With weights w that sum to 1,

    D = m + Z^T (omega + q (N - 1) V w)
    log w_j = q Y_j S^(-1) (x - A m) - q^2 Y_j S^(-1) Y_j^T / 2 + constant
            = q (N - 1) omega_j - q^2 (N - 1) (1 - (N - 1) V_jj) / 2 + constant.

Weights may see less far than kernels: they degenerate the more, the more components they see. With
tapers of 1 this is MixtureDenoiser with the ensemble's own covariance; h = 1 is LocalDenoiser.
"""

from __future__ import annotations

import math
from functools import partial

from array_api_compat import array_namespace, device

from masf.arrays import Array, Stream, centred
from masf.diffusion.denoisers.local import LocalDenoiser
from masf.diffusion.gains import OfGain, by_component
from masf.diffusion.posterior import Posterior
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper


class LocalMixtureDenoiser:
    """The posteriors of the local mixtures; that of point i is of its own prior."""

    def __init__(
        self,
        process: ForwardProcess,
        ensemble: Array,
        bandwidth: float,
        taper: GridTaper,
        weight_taper: GridTaper,
    ) -> None:
        """Of the ensemble (N, d), with kernels of width h = ``bandwidth``, by their taper and that
        of the weights.
        """
        self.process, self.ensemble = process, ensemble
        self.mean, anomalies = centred(ensemble)
        anomalies = bandwidth * anomalies
        self.kernel = LocalDenoiser(process, self.mean, anomalies, taper)
        self.near = (
            self.kernel
            if weight_taper is taper
            else LocalDenoiser(process, self.mean, anomalies, weight_taper)
        )
        self.factor = math.sqrt(1 - bandwidth**2) / bandwidth * (len(ensemble) - 1)
        """q (N - 1)"""
        self.effective_size = math.nan

    def _departures(self, x: Array, t: float) -> Array:
        return x - self.process.apply(self.process.A(t), self.mean)

    def _kept(self, t: float) -> Array:
        """What each kernel's answer D_j keeps of its centre: (I - K A) (c_j - m) at each point (P,
        fields, N).
        """
        return self.factor * (self.kernel.at_points @ self.kernel.inverse(t))

    def _log_weights(self, omega: Array, t: float) -> Array:
        """log w (P, N, n), up to a constant in j, from the omega (P, N, n) of the weights'
        taper.
        """
        n, inverse = omega.shape[1], self.near.inverse(t)
        known = 1 - (n - 1) * array_namespace(omega).linalg.diagonal(inverse)
        return self.factor * omega - self.factor**2 / (2 * (n - 1)) * known[..., None]

    def _moments(self, x: Array, t: float) -> tuple[Array, Array]:
        """D, and the variance of the D_j under their weights, each (n, d)."""
        xp, kernel, kept = array_namespace(x), self.kernel, self._kept(t)
        denoised, variances, sizes = [], [], []
        for part in kernel.chunks(self._departures(x, t)):
            omega = kernel.weights(part, t)
            logits = self._log_weights(
                omega if self.near is kernel else self.near.weights(part, t), t
            )
            weights = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
            weights = weights / xp.sum(weights, axis=1, keepdims=True)
            mean = kept @ weights
            denoised.append(self.mean + kernel.joined(kernel.at_points @ omega + mean))
            variances.append(kernel.joined(xp.clip(kept**2 @ weights - mean**2, min=0.0)))
            sizes.append(xp.mean(1 / xp.sum(weights**2, axis=1), axis=0))
        self.effective_size = float(xp.mean(xp.concat(sizes)))
        return xp.concat(denoised), xp.concat(variances)

    def __call__(self, x: Array, t: float) -> Posterior:
        """For states (n, d)."""
        mean, spread = self._moments(x, t)
        variance = self.kernel.posterior_variance(t) + spread
        return Posterior(mean, variance, partial(self._residual, x, t, mean))

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """By each component alone: no two points see the same covariance."""
        variance = self.process.basis.variance(self.ensemble)
        return by_component(self.process, variance, function, x)

    def _residual(self, x: Array, t: float, denoised: Array, stream: Stream) -> Array:
        """Draws from p(x_0 | x_t = x), less D: at each point a state (n, d) draws one of the
        kernels, and from that kernel.

        All points of a state draw by the same Gumbel variables, so that neighbours mostly agree.
        The weights are computed again, part by part, because those of all states at once would not
        fit into memory.
        """
        xp, kept, count = array_namespace(x), self._kept(t), len(self.kernel.anomalies)
        # The greater of log w_j + Gumbel is j with probability w_j; -log of half a chi-square of 2
        # degrees is Gumbel.
        exponential = xp.sum(stream.normal((len(x), count, 2), x) ** 2, axis=-1) / 2
        choices = []
        for part, gumbel in zip(
            self.kernel.chunks(self._departures(x, t)),
            self.kernel.chunks(-xp.log(exponential)),
            strict=True,
        ):
            drawn = xp.argmax(self._log_weights(self.near.weights(part, t), t) + gumbel.mT, axis=1)
            chosen = xp.arange(count, device=device(x))[:, None] == drawn[:, None, :]
            choices.append(self.kernel.joined(kept @ xp.astype(chosen, x.dtype)))
        kernel = self.kernel.deviations(x, t, stream)
        mean = denoised - self.mean - self.kernel.gain(self._departures(x, t), t)
        return xp.concat(choices) - mean + kernel


class LocalMixtureFit:
    """Takes an ensemble for a kernel density at each point (filter masf_mc): a ``Fit`` of
    masf.diffusion.posterior.
    """

    def __init__(self, bandwidth: float, taper: GridTaper, weight_taper: GridTaper) -> None:
        """Kernels of width h = ``bandwidth``, in units of the ensemble's spread, by their taper and
        that of the weights.
        """
        self.bandwidth, self.taper, self.weight_taper = bandwidth, taper, weight_taper

    def __call__(self, process: ForwardProcess, ensemble: Array) -> LocalMixtureDenoiser:
        self._last = LocalMixtureDenoiser(
            process, ensemble, self.bandwidth, self.taper, self.weight_taper
        )
        return self._last

    def diagnostics(self) -> dict[str, float]:
        """How many kernels shared the weight in the last answer, mean over points."""
        return {"effective_size": self._last.effective_size}
