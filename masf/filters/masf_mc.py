"""MASF without training: the closed-form denoiser of the forecast ensemble's Gaussian mixture (ours).

The prior is a kernel density of the ensemble, with kernels of its covariance P, whole or tapered, and members drawn towards the
mean so that the mixture keeps mean and covariance (Liu and West 2001):

    p_0 = (1 / N) sum_j N(m + sqrt(1 - h^2) (x_j - m), h^2 P)

Its denoiser and covariance are exact (masf.diffusion.denoisers.mixture). h = 1 is masf_gaussian, an EnKF; h to 0 is a particle
filter, with its degeneracy: in many dimensions one component of the mixture takes all the weight. Weights from a window of
neighbours, ``weight_radius``, are what makes small h usable on a ring (chosen). The sampler is ``coupled``, or ``exact``:
independent draws from the posterior of the mixture, exact at any number of steps if weights are not local.

On grids of two axes, and on rings too long for the matrix P, both radii are those of Gaspari-Cohn tapers of what a point sees
(masf.diffusion.denoisers.local_mixture), and nothing larger than N x N is formed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masf.arrays import Array, like
from masf.diffusion.denoisers.local_mixture import LocalMixtureFit
from masf.diffusion.denoisers.mixture import MixtureFit, ring_windows
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import exact
from masf.ensembles.localization import GridTaper, taper_matrix
from masf.filters.passes import TemperedFilter, TemperedParameters

MOST_COMPONENTS = 5_000
"""The longest state that the mixture's covariance is formed for."""


class MixtureMASFParameters(TemperedParameters):
    steps: int = Field(16, ge=1, le=2000, description="Reverse steps of the sampler.")
    covariance: Literal["ensemble", "localized"] = Field(
        "localized", description="The kernels' covariance: the ensemble's, whole or tapered."
    )
    localization_radius: float | None = Field(
        12.0, gt=0, description="For covariance localized: half of the taper's support, in grid points; null tapers nothing."
    )
    sampler: Literal["coupled", "exact"] = Field(
        "coupled", description="coupled carries each member across; exact draws afresh from the posterior."
    )
    bandwidth: float = Field(0.5, gt=0, le=1, description="Kernel width h, in units of the ensemble's spread; 1 is one Gaussian.")
    weight_radius: int | None = Field(
        2,
        ge=0,
        description="Neighbours on each side, on a ring, whose densities weigh a component; null takes all components. On a grid "
        "of two axes: half of the support of the weights' taper, in grid points; null takes localization_radius.",
    )


class MixtureMASF(TemperedFilter):
    Parameters = MixtureMASFParameters

    def make_fit(self) -> MixtureFit | LocalMixtureFit:
        """Raises ValueError for states too long for a covariance, or radii where components have no distances."""
        p, grid, d, x = self.parameters, self.system.grid, self.system.dimension, self.setup.initial_mean
        radius = p.localization_radius if p.covariance == "localized" else None
        if radius is not None and grid is not None and (len(grid) > 1 or d > MOST_COMPONENTS):
            if p.weight_radius == 0:
                raise ValueError("weight_radius 0: on this grid it is a radius in grid points, and must be positive, or null")
            taper = GridTaper(grid, radius, x)
            return LocalMixtureFit(p.bandwidth, taper, GridTaper(grid, p.weight_radius, x) if p.weight_radius else taper)
        if d > MOST_COMPONENTS:
            raise ValueError(
                f"filter 'masf_mc' forms matrices of {d} x {d} unless it localises: the most is {MOST_COMPONENTS}; set "
                "covariance to localized, and localization_radius"
            )
        # The mixture's covariance is a matrix, on long rings too.
        matrix = taper_matrix(self.system, radius)
        windows = None
        if p.weight_radius is not None:
            if self.system.ring is None:
                raise ValueError("weight_radius: it needs a ring, or a grid with localization_radius; set it to null")
            windows = ring_windows(self.system.ring, p.weight_radius)
        return MixtureFit(p.bandwidth, None if matrix is None else like(matrix, x), windows)

    def sample(self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array) -> Array:
        if self.parameters.sampler == "exact":
            return exact(process, denoiser, y, ensemble, self.times, self.stream)
        return super().sample(process, denoiser, y, ensemble)


filter = MixtureMASF
