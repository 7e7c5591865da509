"""The forward process of two things at once, of which the measurement sees the second only: an
ensemble's states at the last analysis, and now; or states, and what is measured of them.

A model that maps the state x at the last analysis to f(x) now makes y = H f(x) + eta a nonlinear
measurement of x. It is a *linear* one of the joint state (x, f(x)), of which H sees the second half
only. The process of masf.diffusion.process therefore applies as it is, with nothing approximated:
the components of x are null ones. A member of the joint ensemble is a member with its own forecast,
and what a sampler returns of the first half is distributed as x given y.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace, device

from masf.arrays import Array, ensemble_variance, like, to_numpy
from masf.observations.bases import Basis, Coefficient


class JointBasis:
    """The basis of joint states: the standard one for the first part, another for the second.

    Coefficients have the values of the first part first.
    """

    def __init__(self, second: Basis, first: int | None = None) -> None:
        """``second`` is the basis of the second part, ``first`` the length of the first; by default
        that of the second.
        """
        self.second, self.standard = second, second.standard
        self.first = second.dimension if first is None else first
        self.dimension = self.first + second.dimension
        self.s = np.concatenate([np.zeros(self.first), second.s])
        self.r = np.concatenate([np.ones(self.first), second.r])

    def _parts(self, x: Array) -> tuple[Array, Array]:
        return x[..., : self.first], x[..., self.first :]

    def apply(self, coefficient: Coefficient, x: Array) -> Array:
        if self.standard:  # one product serves both parts
            return like(coefficient, x) * x
        (x1, x2), (c1, c2) = self._parts(x), self._parts(coefficient)
        return array_namespace(x).concat([like(c1, x1) * x1, self.second.apply(c2, x2)], axis=-1)

    def diagonal(self, coefficient: Coefficient) -> np.ndarray:
        c1, c2 = self._parts(coefficient)
        return np.concatenate([c1, self.second.diagonal(c2)])

    def variance_through(self, coefficient: Coefficient, variance: Array) -> Array:
        (v1, v2), (c1, c2) = self._parts(variance), self._parts(coefficient)
        parts = [like(c1**2, v1) * v1, self.second.variance_through(c2, v2)]
        return array_namespace(variance).concat(parts, axis=-1)

    def lift(self, y: Array) -> Array:
        xp, second = array_namespace(y), self.second.lift(y)
        first = xp.zeros((*second.shape[:-1], self.first), dtype=second.dtype, device=device(y))
        return xp.concat([first, second], axis=-1)

    def variance(self, ensemble: Array) -> Coefficient:
        x1, x2 = self._parts(ensemble)
        of_first = to_numpy(ensemble_variance(x1)).astype(np.float64)
        return np.concatenate([of_first, self.second.variance(x2)])
