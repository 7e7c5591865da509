"""The two-scale system of Lorenz (1996), Predictability: a problem partly solved. A ring of K slow
components, and J fast ones to each, on a ring of their own.

    dX_k/dt = (X_{k+1} - X_{k-2}) X_{k-1} - X_k + F - U_k        U_k = (h c / b) sum_j Y_{j,k}
    dY_i/dt = c b (Y_{i-1} - Y_{i+2}) Y_{i+1} - c Y_i + (h c / b) X_{k(i)}

The state is (X, Y), Y with the fast components of X_1 first. A model that knows of X alone,
``lorenz96``, lacks U; ``lorenz96_closure`` has a polynomial of X_k in its place, which
:func:`fitted_closure` finds, as Wilks (2005, Effects of stochastic parametrizations in the
Lorenz '96 system) does. Defaults of J, h, c and b are his.
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array, Stream
from masf.systems.base import System, SystemParameters
from masf.systems.integrators import rk4

SPIN_UP_TIME = 10.0
"""From a state at rest with noise on it to a typical one."""


class TwoScaleParameters(SystemParameters):
    slow: int = Field(ge=4, le=10_000, description="Number K of slow components.")
    fast: int = Field(32, ge=1, le=1000, description="Number J of fast components to each.")
    forcing: float = Field(description="Forcing F.")
    coupling: float = Field(1.0, description="Coupling h.")
    time_scale: float = Field(10.0, gt=0, description="How much faster the fast ones are, c.")
    space_scale: float = Field(10.0, gt=0, description="How much smaller they are, b.")
    substeps: int = Field(10, ge=1, le=1000, description="Steps of the integration in one of dt.")


class TwoScale(System):
    Parameters = TwoScaleParameters

    @property
    def shape(self) -> tuple[int, ...]:
        p = self.parameters
        return (p.slow * (1 + p.fast),)

    def resolved(self, x: Array) -> Array:
        return x[..., : self.parameters.slow]

    def subgrid(self, x: Array) -> Array:
        """U (..., K) for states (..., d)."""
        p = self.parameters
        fast = x[..., p.slow :].reshape(*x.shape[:-1], p.slow, p.fast)
        return p.coupling * p.time_scale / p.space_scale * fast.sum(-1)

    def tendency(self, x: Array) -> Array:
        """Time derivative of states (..., d)."""
        xp, p = array_namespace(x), self.parameters
        slow, fast = x[..., : p.slow], x[..., p.slow :]
        # One padded copy and slices of it cost less than calls to roll.
        ring = xp.concat([slow[..., -2:], slow, slow[..., :1]], axis=-1)
        of_slow = (ring[..., 3:] - ring[..., :-3]) * ring[..., 1:-2] - slow + p.forcing
        ring = xp.concat([fast[..., -1:], fast, fast[..., :2]], axis=-1)
        advection = (ring[..., :-3] - ring[..., 3:]) * ring[..., 2:-1]
        forced = xp.repeat(slow, p.fast, axis=-1) * (p.coupling / p.space_scale)
        of_fast = p.time_scale * (p.space_scale * advection - fast + forced)
        return xp.concat([of_slow - self.subgrid(x), of_fast], axis=-1)

    def step(self, x: Array, stream: Stream) -> Array:
        for _ in range(self.parameters.substeps):
            x = rk4(self.tendency, x, self.dt / self.parameters.substeps)
        return x

    def typical_state(self, stream: Stream) -> np.ndarray:
        p = self.parameters
        x = self.perturbations(1, np.empty(0), stream)[0]
        x[: p.slow] += p.forcing / 2
        for _ in range(round(SPIN_UP_TIME / self.dt)):
            x = self.step(x, stream)
        return x

    def perturbations(self, n: int, x: Array, stream: Stream) -> Array:
        """White noise, of variance 1 in slow components, and smaller by 1 / b in the fast ones, as
        they are.
        """
        noise, slow = stream.normal((n, self.dimension), x), self.parameters.slow
        noise[:, slow:] /= self.parameters.space_scale
        return noise

    def component_name(self, i: int) -> str:
        slow = self.parameters.slow
        return f"X_{{{i + 1}}}" if i < slow else f"Y_{{{i - slow + 1}}}"


def fitted_closure(
    system: TwoScale, stream: Stream, *, degree: int = 4, time: float = 50.0
) -> np.ndarray:
    """Coefficients (degree + 1,) of the polynomial of X_k, the constant first, that fits U_k best
    by least squares over a run of this ``time``.
    """
    x, slow, subgrid = system.typical_state(stream), [], []
    for i in range(round(time / system.dt)):
        x = system.step(x, stream)
        if i % 10 == 0:
            slow.append(system.resolved(x))
            subgrid.append(system.subgrid(x))
    fit = np.polynomial.Polynomial.fit(np.ravel(slow), np.ravel(subgrid), degree)
    return fit.convert().coef


system = TwoScale
