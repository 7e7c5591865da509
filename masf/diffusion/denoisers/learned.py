"""The Gaussian denoiser corrected by a network:  D(x, t) = D_G(x, t) + c(t) net(features(x, t)).

c is the Gaussian posterior's standard deviation, so that the network's target (x_0 - D_G) / c has
unit variance at every t (a loss that is flat in t), and a network of zeros is the Gaussian
denoiser.

A forecast ensemble is not stationary: its shape depends on where on the attractor it sits. The
features therefore carry the ensemble's statistics as context (mean, spread, skewness, correlations
between neighbours), which lets one pretrained network serve all cycles, seeds and gaps. They also
carry the answers of Gaussian denoisers with other localisation radii: which radius is best depends
on the place and the diffusion time, and the network learns to choose. With ``bandwidths`` they
carry those of mixtures with a kernel at each member, too, and how sure these are, and

    net = n_0 + sum_k n_k (D_k - D_G) / c

with weights n_k of its own for each of those answers: n_k = 1 for one of them, and 0 for the rest,
is that denoiser itself. On grids of two axes, where
ensembles are small, skewness and correlations are left out, and a pattern of the system tells
places apart where its equation does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from masf.arrays import Array, Stream, ensemble_spread, like
from masf.diffusion.denoisers.family import Family
from masf.diffusion.gains import OfGain
from masf.diffusion.posterior import Posterior
from masf.systems.base import System

MOST_NEIGHBOURS = 5
"""Correlations are taken with neighbours up to this many components away."""
CURVATURE = 0.1
"""Where what is measured is denoised, too, c is at least this share of what a component alone would
have: where h is nearly linear over the ensemble, a Gaussian knows h(x) from x almost for certain,
and targets in units of that certainty have no bound.
"""
FARTHEST = 8.0
"""Where what is measured is denoised, too, features and targets are cut at so many standard
deviations. h may be flat over an ensemble and steep where the truth is, which is then hundreds of
them away: a few such states would rule the loss, and say no more than that. So are the answers of
mixtures: of a state far from all members each kernel knows as little.
"""
CERTAIN = 1e-3
"""A mixture's variance, over that of D_G, is not told from less than this."""
MIXED = 2
"""The answers that a network weighs are its channels from this one on."""
COMPONENTS_AT_ONCE = {"cpu": 2**15, "cuda": 2**22}
"""Components, of all states together, that pass through the network at a time: on a CPU as many as
its caches hold.
"""


@dataclass(frozen=True)
class Climate:
    """Mean and standard deviation of a system's long-run distribution, each (d,), or (1,) where all
    components are alike; of states with what is measured of them (D,), or (2,) where all components
    are alike, and all measurements.
    """

    mean: np.ndarray
    std: np.ndarray

    def of_components(self, plain: int, whole: int) -> tuple[np.ndarray, np.ndarray]:
        """Both for each of so many components (whole,), of which the first ``plain`` are those of
        the state.
        """
        counts = [plain, whole - plain]
        mean, std = (
            np.repeat(values, counts) if len(values) == 2 < whole else values
            for values in (self.mean, self.std)
        )
        return mean, std


def feature_count(dimension: int, radii: int, bandwidths: int = 0) -> int:
    """Channels of the features, for so many points of a field, localisation radii and bandwidths,
    on a ring or without places.
    """
    return 7 + _neighbours(dimension) + radii + _of_mixtures(bandwidths)


def field_feature_count(pattern: np.ndarray | None, radii: int, bandwidths: int = 0) -> int:
    """Channels of the features on a grid of two axes, for each field: for this pattern, and so many
    localisation radii and bandwidths.
    """
    return 6 + (0 if pattern is None else len(pattern)) + radii + _of_mixtures(bandwidths)


def _of_mixtures(bandwidths: int) -> int:
    """Channels of each mixture's answer and its certainty, and of the number of members."""
    return 2 * bandwidths + 1 if bandwidths else 0


def row_length(shape: tuple[int, ...]) -> int:
    """Points of a field, for states of ``shape`` (fields, *grid) or (d,)."""
    return math.prod(shape[1:]) if len(shape) > 1 else shape[0]


def _neighbours(dimension: int) -> int:
    return min(MOST_NEIGHBOURS, dimension // 2)


class LearnedDenoiser:
    """D_G corrected by a network; C is taken from D_G."""

    def __init__(
        self,
        family: Family,
        network: nn.Module,
        climate: Climate,
        ensemble: Tensor,
        system: System | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """D_G and its correction.

        Args:
            family: D_G, and those whose answers are features; all of ``ensemble``.
            network: from features (n, channels, d) to (n, d).
            climate: of the system.
            ensemble: (N, d).
            system: asked for its geometry; None for components without places, or on a ring.
            shape: of a state, (fields, *grid) or (d,); (d,) without it.
        """
        self.gaussian, self.family = family.gaussian, family
        self.network = network
        spread = ensemble_spread(ensemble)
        # Where nothing is measured there is no spread, and nothing to denoise.
        self.prior_std = torch.where(spread > 0, spread, torch.ones_like(spread))
        mean = self.gaussian.mean
        self._augmented = system is not None and len(mean) > system.dimension
        d, row = len(mean), row_length(shape or (len(mean),))
        centre, scale = (
            like(values, mean)
            for values in climate.of_components(system.dimension if system else d, d)
        )
        if system is not None and system.flow:
            pattern = system.pattern()
            others = []
            if pattern is not None:  # which knows nothing of the fields of what is measured
                others = list(like(np.pad(pattern, [(0, 0), (0, d - system.dimension)]), mean))
        else:
            normal = (ensemble - mean) / self.prior_std
            rows = normal.reshape(len(normal), -1, row)
            correlations = [
                (rows * rows.roll(-k, -1)).mean(dim=0).flatten()
                for k in range(1, _neighbours(row) + 1)
            ]
            others = [normal.pow(3).mean(dim=0), *correlations]
        if family.mixtures:
            others.append(torch.full_like(mean, math.log10(len(ensemble)) - 2))
        self._context = torch.stack([
            (mean - centre) / scale,
            torch.log(self.prior_std / scale),
            like(self.gaussian.process.basis.diagonal(self.gaussian.process.s), mean),
            *others,
        ])  # fmt: skip
        self._known: dict[float, tuple[Tensor, Tensor, Tensor]] = {}

    def _at(self, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """At time t: c (d,), the standard deviation of x_t (d,), and the features that do not
        depend on x.
        """
        if t not in self._known:
            process, mean = self.gaussian.process, self.gaussian.mean
            a, sigma = (
                like(process.basis.diagonal(process.A(t)), mean),
                like(process.basis.diagonal(process.Sigma(t)), mean),
            )
            marginal = torch.sqrt((a * self.prior_std) ** 2 + sigma)
            # The floor keeps the target finite where rounding leaves no variance.
            floor = 1e-12 * self.prior_std**2
            if self._augmented:
                floor = floor + CURVATURE**2 * self.prior_std**2 * sigma / marginal**2
            c = torch.sqrt(torch.clamp(self.gaussian.posterior_variance(t), min=0) + floor)
            ratios = torch.stack([c / self.prior_std, a * self.prior_std / marginal])
            self._known[t] = c, marginal, torch.cat([ratios, self._context])
        return self._known[t]

    def features(self, x: Tensor, t: float, gaussian_answer: Tensor) -> Tensor:
        """The network's input (n, channels, d) for states x (n, d) at time t; see feature_count."""
        process, mean = self.gaussian.process, self.gaussian.mean
        c, marginal, fixed = self._at(t)
        innovation = (x - process.apply(process.A(t), mean)) / marginal
        departure = (gaussian_answer - mean) / self.prior_std
        others = [(other(x, t).mean - gaussian_answer) / c for other in self.family.others]
        certainties = []
        for mixture in self.family.mixtures:
            answer = mixture(x, t)
            others.append(((answer.mean - gaussian_answer) / c).clamp(-FARTHEST, FARTHEST))
            assert answer.variance is not None  # which depends on x
            certainties.append(torch.log(answer.variance / c**2 + CERTAIN) / 2)
        moving = torch.stack([innovation, departure, *others, *certainties], dim=-2)
        if self._augmented:
            moving = moving.clamp(-FARTHEST, FARTHEST)
        return torch.cat([moving, fixed.expand(len(x), *fixed.shape)], dim=-2)

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float) -> Posterior:
        """For states (n, d)."""
        gaussian = self.gaussian(x, t)
        rows = max(1, COMPONENTS_AT_ONCE[x.device.type] // x.shape[-1])
        parts = [
            self.network(part) for part in torch.split(self.features(x, t, gaussian.mean), rows)
        ]
        return replace(gaussian, mean=gaussian.mean + self._at(t)[0] * torch.cat(parts))

    def through_gains(self, function: OfGain, x: Array) -> Array:
        """By the gains of D_G."""
        return self.gaussian.through_gains(function, x)

    def denoising_pairs(
        self, clean: Tensor, times: Sequence[float], stream: Stream
    ) -> tuple[Tensor, Tensor]:
        """Noised copies of ``clean`` (n, d), one set a time: features (len(times) n, channels, d),
        targets (len(times) n, d).
        """
        features, targets = [], []
        for t in times:
            x = self.gaussian.process.diffuse(clean, t, stream.normal(tuple(clean.shape), clean))
            answer = self.gaussian(x, t).mean
            features.append(self.features(x, t, answer))
            target = (clean - answer) / self._at(t)[0]
            targets.append(target.clamp(-FARTHEST, FARTHEST) if self._augmented else target)
        return torch.cat(features), torch.cat(targets)
