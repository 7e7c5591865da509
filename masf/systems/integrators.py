"""Explicit time integrators for autonomous systems dx/dt = f(x), batched over leading axes."""

from __future__ import annotations

from collections.abc import Callable

from masf.arrays import Array


def rk4(f: Callable[[Array], Array], x: Array, dt: float) -> Array:
    """One step of the classical fourth-order Runge-Kutta scheme; ``x`` and ``f(x)`` have shape
    (..., d).
    """
    k1 = f(x)
    k2 = f(x + (dt / 2) * k1)
    k3 = f(x + (dt / 2) * k2)
    k4 = f(x + dt * k3)
    return x + (dt / 6) * (k1 + 2 * (k2 + k3) + k4)
