"""The forward process of two times at once: an ensemble's states at the last analysis, and now.

A model that maps the state x at the last analysis to f(x) now makes y = H f(x) + eta a nonlinear
measurement of x. It is a *linear* one of the joint state (x, f(x)), of which H sees the second half
only. The process of masf.diffusion.process therefore applies as it is, with nothing approximated:
the components of x are null ones. A member of the joint ensemble is a member with its own forecast,
and what a sampler returns of the first half is distributed as x given y.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, ensemble_variance, like, to_numpy
from masf.diffusion.denoisers.gaussian import GaussianDenoiser
from masf.diffusion.denoisers.select import ensemble_denoiser
from masf.diffusion.process import ForwardProcess
from masf.ensembles.localization import MAX_DENSE_DIMENSION, GridTaper, taper_matrix
from masf.observations.bases import Basis, Coefficient
from masf.systems.base import System


class JointBasis:
    """The basis of joint states (..., 2d): the standard one for the first half, ``present`` for the
    second.

    Coefficients have the d values of the first half first.
    """

    standard: ClassVar[bool] = False

    def __init__(self, present: Basis) -> None:
        self.present, self.half = present, present.dimension
        self.dimension = 2 * self.half
        self.s = np.concatenate([np.zeros(self.half), present.s])
        self.r = np.concatenate([np.ones(self.half), present.r])

    def _halves(self, x: Array) -> tuple[Array, Array]:
        return x[..., : self.half], x[..., self.half :]

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        past, present = self._halves(x)
        of_past, of_present = self._halves(coefficient)
        halves = [like(of_past, x) * past, self.present.apply(of_present, present)]
        return array_namespace(x).concat(halves, axis=-1)

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        of_past, of_present = self._halves(coefficient)
        return np.concatenate([of_past, self.present.diagonal(of_present)])

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        past, present = self._halves(variance)
        of_past, of_present = self._halves(coefficient)
        halves = [like(of_past**2, past) * past, self.present.variance_through(of_present, present)]
        return array_namespace(variance).concat(halves, axis=-1)

    def lift(self, y: Array) -> Array:
        xp, present = array_namespace(y), self.present.lift(y)
        past = xp.zeros((*present.shape[:-1], self.half), dtype=present.dtype, device=device(y))
        return xp.concat([past, present], axis=-1)

    def variance(self, ensemble: Array) -> Coefficient:
        past, present = self._halves(ensemble)
        of_past = to_numpy(ensemble_variance(past)).astype(np.float64)
        return np.concatenate([of_past, self.present.variance(present)])


class JointGaussianFit:
    """Takes pairs of states for the Gaussian of their joint mean and covariance: a ``Fit`` of
    masf.diffusion.posterior.
    """

    def __init__(self, system: System, radius: float | None, x: Array) -> None:
        """A fit for joint states of ``system``.

        Args:
            system: its components have the same places at both times.
            radius: half of the taper's support, in grid points, between components at any times; it
                should reach as far as a signal travels from one time to the other. None tapers
                nothing.
            x: gives namespace, dtype and device.

        Raises:
            ValueError: if a radius is asked for where components have no place in space.
        """
        self.taper: Array | GridTaper | None = None
        grid = system.grid
        if (
            radius is not None
            and grid is not None
            and (len(grid) > 1 or 2 * system.dimension > MAX_DENSE_DIMENSION)
        ):
            self.taper = GridTaper(grid, radius, x)  # the joint state has twice the fields
        elif (taper := taper_matrix(system, radius)) is not None:
            self.taper = like(np.tile(taper, (2, 2)), x)

    def __call__(self, process: ForwardProcess, ensemble: Array) -> GaussianDenoiser:
        return ensemble_denoiser(process, ensemble, "localized", self.taper)

    def diagnostics(self) -> dict[str, float]:
        return {}
