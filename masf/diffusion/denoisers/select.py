"""Which Gaussian denoiser serves an ensemble: by the covariance that is asked for, the grid and the
length of the state.
"""

from __future__ import annotations

from masf.arrays import Array, centred, ensemble_variance
from masf.diffusion.denoisers.gaussian import (
    DenseDenoiser,
    DiagonalDenoiser,
    EnsembleDenoiser,
    GaussianDenoiser,
)
from masf.diffusion.denoisers.local import LocalDenoiser
from masf.diffusion.denoisers.ring import RingDenoiser, RingTaper, ring_taper
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import (
    MAX_DENSE_DIMENSION,
    GridTaper,
    in_grid_points,
    make_taper,
    taper_misfits,
)
from masf.ensembles.static import StaticAnomalies
from masf.observations.base import Observation
from masf.observations.bases import Basis
from masf.systems.base import System


def denoiser_taper(
    system: System, radius: float | None, basis: Basis, x: Array
) -> Array | RingTaper | GridTaper | None:
    """The taper of a localised Gaussian denoiser: in blocks for a mask on a long ring, else of
    make_taper; None tapers nothing.

    Args:
        system: whose components are tapered.
        radius: half of the taper's support, in the system's unit of length, or None.
        basis: of the forward process.
        x: gives namespace, dtype and device.

    Raises:
        ValueError: if a radius is asked for where components have no place in space.
    """
    blocks = None
    if system.grid == (system.dimension,):
        blocks = ring_blocks(system, (1, system.dimension), radius, basis, x)
    return make_taper(system, radius, x) if blocks is None else blocks


def ring_blocks(
    system: System, shape: tuple[int, ...], radius: float | None, basis: Basis, x: Array
) -> RingTaper | None:
    """The taper in blocks of states of ``shape`` (fields, *grid); None but for masks, on a long
    ring. Other arguments as for ``denoiser_taper``.
    """
    fields, *grid = shape
    if radius is None or len(grid) != 1 or not basis.standard:
        return None
    return ring_taper(grid[0], in_grid_points(radius, system), x, fields)


def ensemble_denoiser(
    process: ForwardProcess,
    ensemble: Array,
    covariance: str,
    taper: Array | RingTaper | GridTaper | None = None,
    static: StaticAnomalies | None = None,
) -> GaussianDenoiser:
    """The Gaussian denoiser with the mean and covariance of ``ensemble`` (N, d).

    Args:
        process: the forward process.
        ensemble: (N, d).
        covariance: "diagonal", "ensemble", or "localized" (the ensemble's, by ``taper``).
        taper: of denoiser_taper, for "localized"; None tapers nothing.
        static: of the climate, for a hybrid covariance that is not "diagonal"; None for the
            ensemble's own.

    Raises:
        ValueError: for another ``covariance``.
    """
    mean, anomalies = centred(ensemble)
    if covariance == "diagonal":
        return DiagonalDenoiser(process, mean, ensemble_variance(ensemble))
    if covariance not in {"ensemble", "localized"}:
        raise ValueError(f"covariance {covariance!r}: choose one of diagonal, ensemble, localized")

    if static is not None:
        anomalies = static.beside(anomalies)
    n, d = anomalies.shape
    if covariance == "localized" and isinstance(taper, RingTaper):
        return RingDenoiser(process, mean, anomalies, taper)
    if covariance == "localized" and isinstance(taper, GridTaper):
        return LocalDenoiser(process, mean, anomalies, taper)
    if covariance == "ensemble":
        taper = None
    if taper is None and (d > MAX_DENSE_DIMENSION or (covariance == "ensemble" and n <= d)):
        return EnsembleDenoiser(process, mean, anomalies)
    dense = anomalies.mT @ anomalies / (n - 1)
    return DenseDenoiser(process, mean, dense if taper is None else dense * taper)


def gaussian_misfits(
    covariance: str, radius: float | None, system: System, observation: Observation
) -> list[str]:
    """Why a filter's ``covariance``, or the ``localization_radius`` of a localised one, does not
    suit system or observation.
    """
    if covariance == "diagonal" and not observation.elementwise:
        return [
            "covariance = 'diagonal': needs an observation that is a mask, of each component "
            "once and with independent noise; "
            "set it to ensemble or localized"
        ]
    return taper_misfits(radius if covariance == "localized" else None, system, observation)


class GaussianFit:
    """Takes an ensemble for the Gaussian of its mean and covariance: a ``Fit`` of
    masf.diffusion.posterior.
    """

    def __init__(
        self,
        covariance: str,
        taper: Array | RingTaper | GridTaper | None,
        static: StaticAnomalies | None = None,
    ) -> None:
        """``covariance``, ``taper`` and ``static`` as in ``ensemble_denoiser``."""
        self.covariance, self.taper, self.static = covariance, taper, static

    def __call__(self, process: ForwardProcess, ensemble: Array) -> GaussianDenoiser:
        return ensemble_denoiser(process, ensemble, self.covariance, self.taper, self.static)

    def diagnostics(self) -> dict[str, float]:
        return {}
