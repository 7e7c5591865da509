"""The denoisers of one ensemble that a network chooses between: Gaussians with several localisation
radii, and mixtures with a kernel at each member, of several widths.

Between one Gaussian and the members alone lies a kernel density, and which width is best depends
on the place, the diffusion time and the number of members. The answers of a few widths are
therefore all that a network has to weigh; members may be in any order, and of any number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masf.arrays import Array, like
from masf.diffusion.denoisers.gaussian import GaussianDenoiser
from masf.diffusion.denoisers.local_mixture import LocalMixtureDenoiser, LocalMixtureFit
from masf.diffusion.denoisers.mixture import MixtureDenoiser, MixtureFit, ring_windows
from masf.diffusion.denoisers.ring import RingTaper
from masf.diffusion.denoisers.select import ensemble_denoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import GridTaper, in_grid_points, taper_matrix
from masf.ensembles.static import StaticAnomalies
from masf.systems.base import System

MOST_COMPONENTS = 5_000
"""The longest state that the covariance of a mixture is formed for."""


@dataclass(frozen=True)
class Family:
    """The denoisers of one ensemble.

    Attributes:
        gaussian: the one that a network corrects.
        others: Gaussians with other radii.
        mixtures: with kernels of several widths.
    """

    gaussian: GaussianDenoiser
    others: Sequence[GaussianDenoiser] = ()
    mixtures: Sequence[MixtureDenoiser | LocalMixtureDenoiser] = ()


class FamilyFit:
    """Makes the ``Family`` of an ensemble."""

    def __init__(
        self,
        tapers: Sequence[Array | RingTaper | GridTaper | None],
        mixtures: Sequence[MixtureFit | LocalMixtureFit] = (),
        static: StaticAnomalies | None = None,
    ) -> None:
        """One Gaussian denoiser for each of ``tapers`` (see ``ensemble_denoiser``, for ``static``,
        too), the first to be corrected; and the ``mixtures``.
        """
        self.tapers, self.mixtures, self.static = tapers, mixtures, static

    def __call__(self, process: ForwardProcess, ensemble: Array) -> Family:
        """For ``ensemble`` (N, d)."""
        first, *others = [
            ensemble_denoiser(process, ensemble, "localized", taper, self.static)
            for taper in self.tapers
        ]
        return Family(first, others, [fit(process, ensemble) for fit in self.mixtures])


def mixture_is_local(system: System, radius: float | None) -> bool:
    """Whether a mixture with kernels of this radius is that of what each point of the system's grid
    sees, in place of one with a matrix.
    """
    grid = system.grid
    return (
        radius is not None
        and grid is not None
        and (len(grid) > 1 or system.dimension > MOST_COMPONENTS)
    )


def mixture_fit(
    system: System,
    shape: tuple[int, ...],
    bandwidth: float,
    radius: float | None,
    weight_radius: int | None,
    x: Array,
) -> MixtureFit | LocalMixtureFit:
    """How an ensemble of states becomes a mixture (filter masf_mc).

    Args:
        system: whose states they are, with more of the same shape, such as what is measured of
            them.
        shape: of the states, (fields, *grid), or (length,) where components have no places.
        bandwidth: width of the kernels, in units of the ensemble's spread.
        radius: half of the support of the kernels' taper, in the system's unit of length; None
            tapers nothing.
        weight_radius: neighbours on each side of a point, on a ring, that weigh kernels there;
            with a taper on a grid of two axes, half of the support of the weights' taper, in grid
            points; None takes all components, or the kernels' taper.
        x: gives namespace, dtype and device.

    Raises:
        ValueError: if it needs a matrix of more than ``MOST_COMPONENTS``.
    """
    if mixture_is_local(system, radius):
        assert radius is not None
        assert system.grid is not None
        taper = GridTaper(system.grid, in_grid_points(radius, system), x)
        weights = GridTaper(system.grid, weight_radius, x) if weight_radius else taper
        return LocalMixtureFit(bandwidth, taper, weights)
    # The mixture's covariance is a matrix, on long rings too.
    if (size := math.prod(shape)) > MOST_COMPONENTS:
        raise ValueError(
            f"bandwidths: a mixture of these states forms matrices of {size} x {size}, where the "
            f"most is {MOST_COMPONENTS}; localise it on a grid (localization_radii), or set "
            "bandwidths to []"
        )
    matrix, windows = None, None
    if system.grid is not None and len(shape) > 1:
        matrix = taper_matrix(system, radius, shape[0])
    if weight_radius is not None and system.ring is not None and len(shape) > 1:
        of_field = ring_windows(system.ring, weight_radius)
        starts = system.ring * np.arange(shape[0])
        windows = np.concatenate(of_field + starts[:, None, None], axis=1)
    return MixtureFit(bandwidth, None if matrix is None else like(matrix, x), windows)
