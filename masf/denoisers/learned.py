"""The Gaussian denoiser corrected by a network:  D(x, t) = D_G(x, t) + c(t) net(features(x, t)).

c is the Gaussian posterior's standard deviation, so that the network's target (x_0 - D_G) / c has unit variance at every t
(a loss that is flat in t), and a network of zeros is the Gaussian denoiser. A forecast ensemble is not stationary: its shape
depends on where on the attractor it sits. The features therefore carry the forecast mean and spread as context, which lets one
pretrained network serve all cycles, seeds and gaps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from masf.arrays import Stream, like
from masf.denoisers.gaussian import GaussianDenoiser

FEATURES = 8
"""Channels of :meth:`LearnedDenoiser.features`."""


@dataclass(frozen=True)
class Climate:
    """Mean and standard deviation of a system's long-run distribution, each (d,), or (1,) where all components are alike."""

    mean: np.ndarray
    std: np.ndarray


class LearnedDenoiser:
    """D_G corrected by a network; C is taken from D_G."""

    def __init__(self, gaussian: GaussianDenoiser, network: nn.Module, climate: Climate, prior_std: Tensor) -> None:
        """``prior_std`` (d,) is the ensemble's standard deviation."""
        self.gaussian = gaussian
        self.network = network
        self.prior_std = prior_std
        mean = gaussian.mean
        centre, scale = like(climate.mean, mean), like(climate.std, mean)
        self._context = torch.stack([
            (mean - centre) / scale,
            torch.log(prior_std / scale),
            like(gaussian.process.basis.diagonal(gaussian.process.s), mean),
        ])  # fmt: skip
        self._known: dict[float, tuple[Tensor, Tensor, Tensor]] = {}

    def _at(self, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """At time t: c (d,), the standard deviation of x_t (d,), and the features that do not depend on x."""
        if t in self._known:
            return self._known[t]
        process, mean = self.gaussian.process, self.gaussian.mean
        c = torch.sqrt(torch.clamp(self.gaussian.posterior_variance(t), min=0) + 1e-12 * self.prior_std**2)
        a, sigma = (
            like(process.basis.diagonal(process.A(t)), mean),
            like(process.basis.diagonal(process.Sigma(t)), mean),
        )
        marginal = torch.sqrt((a * self.prior_std) ** 2 + sigma)
        ratios = torch.stack([c / self.prior_std, a * self.prior_std / marginal, torch.full_like(mean, t)])
        self._known[t] = c, marginal, torch.cat([ratios, self._context])
        return self._known[t]

    def features(self, x: Tensor, t: float, gaussian_answer: Tensor) -> Tensor:
        """The network's input (n, FEATURES, d) for states x (n, d) at time t."""
        process, mean = self.gaussian.process, self.gaussian.mean
        _, marginal, fixed = self._at(t)
        innovation = (x - process.apply(process.A(t), mean)) / marginal
        departure = (gaussian_answer - mean) / self.prior_std
        return torch.cat([torch.stack([innovation, departure], dim=-2), fixed.expand(len(x), *fixed.shape)], dim=-2)

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float) -> Tensor:
        answer = self.gaussian(x, t)
        return answer + self._at(t)[0] * self.network(self.features(x, t, answer))

    def residual(self, x: Tensor, t: float, stream: Stream) -> Tensor:
        return self.gaussian.residual(x, t, stream)

    def variance(self, x: Tensor, t: float) -> None:
        return None

    def denoising_pairs(self, clean: Tensor, times: list[float], stream: Stream) -> tuple[Tensor, Tensor]:
        """Noised copies of ``clean`` (n, d), one set a time: features (len(times) n, FEATURES, d) and targets (.., d)."""
        features, targets = [], []
        for t in times:
            x = self.gaussian.process.diffuse(clean, t, stream.normal(tuple(clean.shape), clean))
            answer = self.gaussian(x, t)
            features.append(self.features(x, t, answer))
            targets.append((clean - answer) / self._at(t)[0])
        return torch.cat(features), torch.cat(targets)
