"""Functions that a measurement may pass through, component by component, and their derivatives.

A config names them by the key ``transform``. They serve numpy and torch.

    arctan   atan z                        cube   z^3     square  z^2     abs  |z|     exp  e^z
    sigmoid  1 / (1 + e^(-k z))            tanh   tanh(k z)

with the steepness k, 1 where nothing is said. Where |z| has no derivative, 0 is taken. Two more are
of all fields u at a point, not of single measurements:

    speed  |u|                             speed_sigmoid  1 / (1 + e^(-k (|u|^2 - c)))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from masf.arrays import Array, to_numpy
from masf.faults import Refused

Elementwise = Callable[[Array], Array]
"""A function of arrays of any shape, component by component."""

TransformName = Literal["arctan", "cube", "square", "abs", "exp", "sigmoid", "tanh"]
SpeedName = Literal["speed", "speed_sigmoid"]
"""Functions of |u|^2, with u all fields at a point."""
STEEP = ("sigmoid", "tanh", "speed_sigmoid")
"""Those that have a steepness."""


class TransformFault(Refused):
    """A function of a user's own that does not do what a transform must."""


@dataclass(frozen=True)
class Transform:
    """A function g and its derivative g', component by component.

    Attributes:
        name: how settings and ``repr`` say it.
        value: g.
        derivative: g'; torch finds it where none is given.
    """

    name: str
    value: Elementwise
    derivative: Elementwise | None = None

    def slope(self, z: Array) -> Array:
        """g'(z)."""
        if self.derivative is not None:
            return self.derivative(z)
        return pullback(self.value, z, array_namespace(z).ones_like(z), f"transform {self.name!r}")


def named_transform(name: TransformName, steepness: float = 1.0) -> Transform:
    """The transform that a config names; ``steepness`` is k of those that have one."""
    k = steepness

    def sigmoid(z: Array) -> Array:
        return 0.5 + 0.5 * array_namespace(z).tanh(0.5 * k * z)  # e^(-k z) may overflow

    functions: dict[str, tuple[Elementwise, Elementwise]] = {
        "arctan": (lambda z: array_namespace(z).atan(z), lambda z: 1 / (1 + z**2)),
        "cube": (lambda z: z**3, lambda z: 3 * z**2),
        "square": (lambda z: z**2, lambda z: 2 * z),
        "abs": (lambda z: array_namespace(z).abs(z), lambda z: array_namespace(z).sign(z)),
        "exp": (lambda z: array_namespace(z).exp(z), lambda z: array_namespace(z).exp(z)),
        "sigmoid": (sigmoid, lambda z: k * sigmoid(z) * sigmoid(-z)),
        "tanh": (
            lambda z: array_namespace(z).tanh(k * z),
            lambda z: k * (1 - array_namespace(z).tanh(k * z) ** 2),
        ),
    }
    return Transform(name, *functions[name])


def speed_transform(sigmoid: bool, steepness: float, threshold: float) -> Transform:
    """Of q = |u|^2: the speed sqrt(q), or 1 / (1 + e^(-k (q - c))) with k and c; at rest the speed
    has no derivative, and 0 is taken.
    """
    if sigmoid:
        slope = named_transform("sigmoid", steepness)
        assert slope.derivative is not None
        derivative = slope.derivative
        return Transform(
            "speed_sigmoid",
            lambda q: slope.value(q - threshold),
            lambda q: derivative(q - threshold),
        )
    return Transform("speed", lambda q: q**0.5, lambda q: 0.5 * (q > 0) / (q + (q == 0)) ** 0.5)


def pullback(function: Elementwise, x: Array, v: Array, what: str) -> Array:
    """J(x)^T v (..., d), with J the derivative of ``function`` at states x (..., d), by torch.

    Args:
        function: of torch tensors.
        x: numpy or torch, as the answer.
        v: of the shape of ``function(x)``.
        what: the function in words, for errors.

    Raises:
        ValueError: for a function that torch cannot differentiate.
    """
    import torch  # late: numpy alone serves where derivatives are known

    leaf = torch.as_tensor(x).detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(leaf), leaf, torch.as_tensor(v))
    except ArithmeticError:
        raise
    except Exception as error:  # whatever code of one's own raises
        raise ValueError(
            f"{what}: torch cannot differentiate it ({error}); give its derivative, or write it "
            "with operators of the array itself, such as x**2, or by "
            "array_api_compat.array_namespace(x)"
        ) from error
    return gradient if is_torch_array(x) else to_numpy(gradient).astype(np.asarray(x).dtype)


def guarded(function: Elementwise, what: str) -> Elementwise:
    """A function of a user's own, whose answers are checked, and have the precision of what it is
    given.

    It raises TransformFault, which says ``what`` failed, where the function does, and where its
    answer is of another kind or shape.
    """

    @wraps(function)
    def answer(z: Array) -> Array:
        try:
            found = function(z)
        except ArithmeticError:
            raise
        except Exception as error:
            raise TransformFault(f"{what}: {type(error).__name__}: {error}") from error
        if is_torch_array(found) != is_torch_array(z) or not hasattr(found, "shape"):
            raise TransformFault(
                f"{what}: returned {type(found).__name__} where it was given "
                f"{type(z).__name__}: write it with operators of the array itself, such as z**2, "
                "or with array_api_compat.array_namespace(z)"
            )
        if found.shape != z.shape:
            raise TransformFault(
                f"{what}: returned shape {tuple(found.shape)} where it was given "
                f"{tuple(z.shape)}: a transform answers for each component"
            )
        return array_namespace(z).astype(found, z.dtype, copy=False)

    return answer


def own_transform(value: Any, derivative: Any = None) -> Transform:
    """A function of a user's own, named as in Python.

    Raises:
        ValueError: for a derivative that is no function.
    """
    if derivative is not None and not callable(derivative):
        raise ValueError(f"derivative is {derivative!r}: expected a function, as transform is")
    name = getattr(value, "__qualname__", repr(value))
    return Transform(
        name,
        guarded(value, f"transform {name!r}"),
        None if derivative is None else guarded(derivative, f"derivative of {name!r}"),
    )
