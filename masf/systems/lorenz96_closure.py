"""Lorenz-96 with a polynomial in place of what a model does not resolve, and noise of its own: a
model of ``lorenz96_two_scale``.

    dX_k/dt = (X_{k+1} - X_{k-2}) X_{k-1} - X_k + F - (c_0 + c_1 X_k + ... + c_4 X_k^4)

The coefficients are those of masf.systems.lorenz96_two_scale.fitted_closure (Wilks 2005). After
each step N(0, q^2 I) is added, q = ``model_noise``.
"""

from __future__ import annotations

from pydantic import Field

from masf.arrays import Array, Stream
from masf.systems.lorenz96 import Lorenz96, Lorenz96Parameters


class ClosureParameters(Lorenz96Parameters):
    c0: float = Field(0.0, description="Constant of the polynomial.")
    c1: float = Field(0.0, description="Coefficient of X.")
    c2: float = Field(0.0, description="Coefficient of X^2.")
    c3: float = Field(0.0, description="Coefficient of X^3.")
    c4: float = Field(0.0, description="Coefficient of X^4.")
    model_noise: float = Field(
        0.0, ge=0, description="Standard deviation q of the noise that is added in each step."
    )


class Closure(Lorenz96):
    Parameters = ClosureParameters

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.parameters.model_noise > 0

    def tendency(self, x: Array) -> Array:
        p = self.parameters
        closure = p.c0 + x * (p.c1 + x * (p.c2 + x * (p.c3 + x * p.c4)))
        return super().tendency(x) - closure

    def step(self, x: Array, stream: Stream) -> Array:
        x = super().step(x, stream)
        if self.stochastic:
            x = x + self.parameters.model_noise * stream.normal(tuple(x.shape), x)
        return x


system = Closure
