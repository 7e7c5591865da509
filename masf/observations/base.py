"""What is measured and how well: y = H x + eta with eta ~ N(0, R), and how a config says it.

An observation is two classes in one file: *settings*, which a config's section ``observations``
is checked by, and the *operator*, a subclass of :class:`Observation` that the settings build. All
that depends on the operator is in its class: H and its adjoint, where a measurement sits on the
grid, and the basis in which measuring is diagonal. The noise is apart (masf.observations.noise).
The key ``transform`` of any operator makes y = g(H x) + eta of it, with a function g of single
measurements (masf.observations.transforms), which is not linear in the state.

A system whose components sit on a periodic grid has the state (fields, *grid), flattened.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from reprlib import repr as short
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NoReturn, Self, cast, get_args

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from masf.arrays import Array, scattered
from masf.faults import ContractFault, require_instance
from masf.observations import transforms
from masf.observations.bases import Basis, SVDBasis
from masf.observations.noise import Noise, make_noise
from masf.observations.own_functions import FUNCTION_IN_FILE, content_of, file_transform
from masf.observations.transforms import (
    STEEP,
    SpeedName,
    Transform,
    TransformName,
    named_transform,
    speed_transform,
)
from masf.plugins import did_you_mean

LEAST_CONCENTRATION = 2 / np.pi
"""Mean resultant length of equal weights on half of a ring: what is spread wider has no place."""


class Observation(ABC):
    """Measurements of a state: the operator H and the noise, of covariance R.

    Attributes:
        dimension: length d of the state.
        noise: eta ~ N(0, R), to be drawn and whitened by.
        settings: what the config says, or would say, of this observation.
        defaults: what it did not say, and is therefore taken; for ``repr`` only.
    """

    defaults: Mapping[str, Any] = MappingProxyType({})
    linear: ClassVar[bool] = True
    """Whether it is y = H x + eta; others derive from NonlinearObservation."""

    def __init__(self, dimension: int, noise: Noise, settings: Mapping[str, Any]) -> None:
        """Raises Refused for a noise that is a number: how many are measured, it does not say."""
        require_instance(
            f"noise of observation {type(self).__name__}", noise, Noise,
            "pass masf.observations.noise.make_noise(0.5, m), with m measurements of a standard "
            "deviation of 0.5",
        )  # fmt: skip
        self.dimension = dimension
        self.noise = noise
        self.settings = settings

    def __repr__(self) -> str:
        """The settings, long lists cut short: ``Mask(operator='stride', ..., dimension=40; by
        default: offset=0)``.
        """
        said, defaults = (
            ", ".join(f"{key}={short(value)}" for key, value in settings.items())
            for settings in (self.settings, self.defaults)
        )
        shown = f"{said}, dimension={self.dimension}" if said else f"dimension={self.dimension}"
        by_default = f"; by default: {defaults}" if defaults else ""
        return f"{type(self).__name__}({shown}{by_default})"

    @property
    def size(self) -> int:
        """Number m of measurements."""
        return self.noise.size

    @property
    def elementwise(self) -> bool:
        """Whether it measures single components, none of them twice, each with a noise of its
        own.
        """
        return False

    @abstractmethod
    def apply(self, x: Array) -> Array:
        """H x for states (..., d): (..., m); h(x) where it is not linear."""

    @abstractmethod
    def adjoint(self, v: Array) -> Array:
        """H^T v for measurements (..., m): (..., d)."""

    def pullback(self, x: Array, v: Array) -> Array:
        """J(x)^T v (..., d) for measurements v (..., m), with J the derivative at states x (..., d)
        of what is measured: H, everywhere, where it is linear.
        """
        return self.adjoint(v)

    # Formed where it is asked for: an operator over many components never needs its matrix.
    @cached_property
    def matrix(self) -> np.ndarray:
        """(m, d) H."""
        return self.apply(np.eye(self.dimension)).T

    def log_likelihood(self, x: Array, y: Array) -> Array:
        """log p(y | x) up to a constant, for states (..., d): (...)."""
        return self.noise.log_density(y - self.apply(x))

    def likelihood_score(self, x: Array, y: Array) -> Array:
        """grad_x log p(y | x) = J(x)^T R^(-1) (y - h(x)), for states (..., d): (..., d)."""
        whiten = self.noise.whiten
        return self.pullback(x, whiten(whiten(y - self.apply(x))))

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        """Where each measurement sits on a periodic grid: (m, axes), in grid points.

        That is the centre of mass of its row of H, in magnitude, on the torus. A class of one's own
        may say something else, in [0, n) along an axis of n points; ``checked_places`` asks it.

        Raises:
            ValueError: for a row that measures nothing, or more than half of the grid.
        """
        weights = np.abs(self.matrix).reshape(self.size, -1, *grid).sum(axis=1)
        total = weights.sum(axis=tuple(range(1, weights.ndim)), keepdims=True)
        weights /= np.maximum(total, np.finfo(float).tiny)
        places = np.empty((self.size, len(grid)))
        for axis, n in enumerate(grid):
            others = tuple(1 + other for other in range(len(grid)) if other != axis)
            resultant = weights.sum(axis=others) @ np.exp(2j * np.pi * np.arange(n) / n)
            if np.any(spread := np.abs(resultant) < LEAST_CONCENTRATION):
                row = int(np.argmax(spread))
                raise ValueError(
                    f"observation {type(self).__name__}, matrix row {row + 1}: measures nothing, "
                    "or more than half of the grid, and so has no place to localise by, unless a "
                    "class of your own defines places(self, grid)"
                )
            places[:, axis] = np.angle(resultant) * n / (2 * np.pi) % n
        places[places == grid] = 0.0  # to which a place just below 0 is rounded, modulo n
        return places

    def basis(self) -> Basis:
        """The basis in which measuring is diagonal, where MASF's forward process runs."""
        return SVDBasis(self.matrix, self.noise.covariance)

    def arrays(self) -> dict[str, np.ndarray]:
        """H for programs in other languages: ``H`` (m, d), or of a mask ``H_indices`` (m,)."""
        return {"H": self.matrix}

    def only(self, rows: np.ndarray) -> Observation:
        """Some of the measurements, ``rows`` (k,) in rising order: what is left where others are
        missing.
        """
        return self if len(rows) == self.size else Part(self, rows)


def checked_places(observation: Observation, grid: tuple[int, ...]) -> np.ndarray:
    """``observation.places(grid)``, (m, axes), as float64: what all that localises asks.

    Raises:
        ContractFault: for places that are none on this grid, of a class of one's own.
        ValueError: for measurements that have no place.
    """
    return require_places(observation, observation.places(grid), grid)


def require_places(observation: Observation, found: Any, grid: tuple[int, ...]) -> np.ndarray:
    """What ``observation.places`` returned, as float64. Raises ContractFault unless it is (m, axes)
    and in [0, n) along each axis of ``grid``.
    """
    what, shape = f"{type(observation).__name__}.places", (observation.size, len(grid))
    expected = (
        f"expected numbers of shape {shape}, a row for each measurement and a column for each axis "
        "of the grid"
    )
    try:
        places = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise ContractFault(f"{what} returned {found!r:.80}: {expected}") from None
    if places.shape != shape:
        came = "None" if found is None else f"shape {places.shape}"
        raise ContractFault(f"{what} returned {came}: {expected}")
    wrong = ~((places >= 0) & (places < grid))  # NaN, too
    if np.any(wrong):
        row, axis = np.argwhere(wrong)[0]
        raise ContractFault(
            f"{what} returned {places[row, axis]:g} for measurement {row + 1} along axis "
            f"{axis + 1}: expected grid points, finite and in [0, {grid[axis]})"
        )
    return places


class Part(Observation):
    """Some of the measurements of another observation: rows of its H, and their part of R.

    Attributes:
        whole: the other observation.
        rows: (k,) which of its measurements.
    """

    def __init__(self, whole: Observation, rows: np.ndarray) -> None:
        super().__init__(whole.dimension, whole.noise.only(rows), whole.settings)
        self.whole, self.rows = whole, rows

    @property
    def elementwise(self) -> bool:
        return self.whole.elementwise

    @cached_property
    def matrix(self) -> np.ndarray:
        return self.whole.matrix[self.rows]

    def apply(self, x: Array) -> Array:
        return self.whole.apply(x)[..., self.rows]

    def adjoint(self, v: Array) -> Array:
        return self.whole.adjoint(scattered(v, self.rows, self.whole.size))

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        return checked_places(self.whole, grid)[self.rows]


class NonlinearObservation(Observation):
    """Measurements y = h(x) + eta that are not linear in the state: there is no H.

    What filters can know is h (``apply``, on numpy and torch), the gradient of the log-density
    through its derivative, which torch finds unless ``pullback`` is overridden, and where a
    measurement sits (``places``). Of the state together with what is measured of it, (x, h(x)), the
    measurement is linear again.
    """

    linear = False

    def pullback(self, x: Array, v: Array) -> Array:
        name = f"{type(self).__name__}.apply"
        return transforms.pullback(self.apply, x, v, name)

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        raise ValueError(
            f"observation {type(self).__name__} does not say where its measurements sit, to "
            "localise by: define places(self, grid) in the class"
        )

    def only(self, rows: np.ndarray) -> Observation:
        return self if len(rows) == self.size else NonlinearPart(self, rows)

    def _not_linear(self, wanted: str) -> NoReturn:
        raise ValueError(
            f"observation {type(self).__name__} is not linear in the state: it has no {wanted}; a "
            "filter can take its derivative, pullback(x, v), or refuse it in misfits"
        )

    def adjoint(self, v: Array) -> Array:
        self._not_linear("adjoint")

    @cached_property
    def matrix(self) -> np.ndarray:
        self._not_linear("matrix H")

    def basis(self) -> Basis:
        self._not_linear("basis in which measuring is diagonal")

    def arrays(self) -> dict[str, np.ndarray]:
        self._not_linear("matrix H to hand to a program")


class NonlinearPart(Part, NonlinearObservation):
    """Some of the measurements of another observation that is not linear."""

    def pullback(self, x: Array, v: Array) -> Array:
        return self.whole.pullback(x, scattered(v, self.rows, self.whole.size))


class Transformed(NonlinearObservation):
    """Measurements h(x) = g(H x), with g a function of single measurements: they sit where those
    of H x do.

    Attributes:
        of: the linear measurements H x, with the noise of these.
        transform: g.
    """

    def __init__(
        self, of: Observation, transform: Transform, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Raises ValueError where ``of`` is not linear itself."""
        if not of.linear:
            raise ValueError("a transform is of linear measurements: these are transformed already")
        self.of, self.transform = of, transform
        super().__init__(
            of.dimension, of.noise, settings or {**of.settings, "transform": transform.name}
        )

    def apply(self, x: Array) -> Array:
        return self.transform.value(self.of.apply(x))

    def pullback(self, x: Array, v: Array) -> Array:
        return self.of.adjoint(v * self.transform.slope(self.of.apply(x)))

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        return checked_places(self.of, grid)


class Speed(NonlinearObservation):
    """Measurements f(|u|^2) of the vector u of all fields at a point: one where the linear
    operator has one a field.

    Attributes:
        of: the linear measurements, one of each field at each point, field by field.
        transform: f, a function of |u|^2.
    """

    def __init__(
        self, of: Observation, fields: int, transform: Transform, noise: Noise,
        settings: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """``noise`` is that of the measurements of the points."""
        self.of, self.fields, self.transform = of, fields, transform
        super().__init__(of.dimension, noise, settings)

    def _vectors(self, x: Array) -> Array:
        """u at the points (..., fields, m), for states (..., d)."""
        measured = self.of.apply(x)
        return measured.reshape(*measured.shape[:-1], self.fields, -1)

    def apply(self, x: Array) -> Array:
        return self.transform.value((self._vectors(x) ** 2).sum(-2))

    def pullback(self, x: Array, v: Array) -> Array:
        u = self._vectors(x)
        along = 2 * u * (v * self.transform.slope((u**2).sum(-2)))[..., None, :]
        return self.of.adjoint(along.reshape(*along.shape[:-2], -1))

    def places(self, grid: tuple[int, ...]) -> np.ndarray:
        return checked_places(self.of, grid)[: self.size]


Positive = Annotated[float, Field(gt=0)]
NAMED = (*get_args(TransformName), *get_args(SpeedName))
"""The transforms that have a name."""


def _known_transform(said: str) -> str:
    if said in NAMED or re.match(FUNCTION_IN_FILE, said):
        return said
    known = ", ".join(map(repr, NAMED))
    raise ValueError(
        f"choose one of {known}{did_you_mean(said, NAMED)}; or name a function of your own in a "
        "file, as path/to/file.py:function"
    )


AnyTransform = Annotated[
    str,
    AfterValidator(_known_transform),
    WithJsonSchema(
        {"anyOf": [{"enum": list(NAMED)}, {"type": "string", "pattern": FUNCTION_IN_FILE}]}
    ),
]
"""A transform by its name, or a function of one's own as path/to/file.py:function."""


class ObservationSettings(BaseModel, ABC):
    """How an observation is written in the config; each operator adds its own keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    whole_points: ClassVar[bool] = True
    """Whether all fields at a point of the grid are measured there, or none."""

    operator: str
    noise: Positive | list[Positive] | list[list[float]] = Field(
        description="Standard deviation of the noise; or one each; or the covariance matrix R.",
    )
    missing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the measurements that are missing: drawn at random, each for itself "
        "in every cycle.",
    )
    transform: AnyTransform | None = Field(
        None,
        description="A function that each measurement passes through before its noise: arctan, "
        "cube, square, abs, exp, sigmoid or tanh; or, in place of the fields u at a point, speed: "
        "|u|, or speed_sigmoid: 1 / (1 + e^(-k (|u|^2 - c))); or one of your own in a file, as "
        "path/to/file.py:function.",
    )
    derivative: str | None = Field(
        None,
        description="For a function in a file: the name of its derivative there; else torch finds "
        "it.",
    )
    transform_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="For a function in a file: the SHA-256 of the file, which masf fills in; a "
        "file of another content is refused.",
    )
    steepness: Positive | None = Field(
        None,
        description="For sigmoid, tanh and speed_sigmoid: k of 1 / (1 + e^(-k z)) and tanh(k z); "
        "else 1.",
    )
    threshold: float | None = Field(
        None, ge=0, description="For speed_sigmoid: c, a squared speed; else 1."
    )

    @model_validator(mode="before")
    @classmethod
    def _content_of_a_file(cls, content: Any) -> Any:
        """Fills in what the file of a transform holds now, where nothing says what it held."""
        if not isinstance(content, Mapping) or content.get("transform_sha256") is not None:
            return content
        transform = content.get("transform")
        if not isinstance(transform, str) or not re.match(FUNCTION_IN_FILE, transform):
            return content
        found = content_of(transform)
        return content if found is None else {**content, "transform_sha256": found}

    @property
    def function_in_file(self) -> str | None:
        """The transform, where it is a function in a file."""
        transform = self.transform
        return transform if transform and re.match(FUNCTION_IN_FILE, transform) else None

    @model_validator(mode="after")
    def _keys_of_a_transform(self) -> Self:
        for key in ("derivative", "transform_sha256"):
            if getattr(self, key) is not None and self.function_in_file is None:
                raise ValueError(
                    f"observation key {key!r} is {getattr(self, key)}: it is for a transform that "
                    f"is a function in a file, as path/to/file.py:name, and the transform is "
                    f"{self.transform}"
                )
        for key, names in (("steepness", STEEP), ("threshold", ("speed_sigmoid",))):
            if getattr(self, key) is not None and self.transform not in names:
                raise ValueError(
                    f"observation key {key!r} is {getattr(self, key)}: it is for transform "
                    f"{' or '.join(names)}, and the transform is {self.transform}"
                )
        return self

    def build(
        self, dimension: int, grid: tuple[int, ...] | None, *, run_files: bool = True
    ) -> Observation:
        """The observation of a system.

        Args:
            dimension: length d of its state.
            grid: the lengths of the periodic grid that its components sit on, or None.
            run_files: whether the file of a function is run, which has to be there; without it
                nothing can be measured, for checks of all else.

        Raises:
            ValueError: if the settings do not fit together, or not the dimension or the grid.
        """
        if self.transform == "speed" or self.transform == "speed_sigmoid":
            return self._speed(dimension, self.needed(grid))
        linear = self.build_linear(dimension, grid)
        if self.transform is None:
            return linear
        if (said := self.function_in_file) is not None:
            chosen = Transform(said, _not_run)
            if run_files:
                chosen = file_transform(said, self.derivative, self.transform_sha256)
        else:
            chosen = named_transform(cast(TransformName, self.transform), self.steepness or 1.0)
        return Transformed(linear, chosen, self.written())

    def _speed(self, dimension: int, grid: tuple[int, ...]) -> Speed:
        fields = dimension // math.prod(grid)
        # The noise is that of the speeds, not of the fields.
        linear = self.model_copy(update={"noise": 1.0, "transform": None}).build_linear(
            dimension, grid
        )
        if fields < 2 or not self.whole_points:
            raise key_fault(
                "transform", self.transform, "it is of all fields at each point: choose an "
                "operator that measures them all, such as grid, on a grid of two fields or more",
            )  # fmt: skip
        chosen = speed_transform(
            self.transform == "speed_sigmoid",
            self.steepness or 1.0,
            1.0 if self.threshold is None else self.threshold,
        )
        noise = make_noise(self.noise, linear.size // fields)
        return Speed(linear, fields, chosen, noise, self.written())

    @abstractmethod
    def build_linear(self, dimension: int, grid: tuple[int, ...] | None) -> Observation:
        """H and R, before any transform; arguments and errors as of ``build``."""

    @property
    def period(self) -> int | None:
        """The shift along a ring that leaves what is measured as it is; None if there is none."""
        return None

    def written(self) -> dict[str, Any]:
        """The keys as a config says them, without defaults."""
        return self.model_dump(exclude_defaults=True)

    def taken_by_default(self) -> dict[str, Any]:
        """The keys that nobody gave, with their values, where they have one."""
        return {
            k: v
            for k, v in self.model_dump().items()
            if k not in self.model_fields_set and v is not None
        }

    def needed(self, grid: tuple[int, ...] | None) -> tuple[int, ...]:
        """The grid. Raises ValueError where there is none."""
        if grid is None:
            needs = "needs a system whose components sit on a grid; use another operator"
            raise ValueError(f"observation operator {self.operator!r} {needs}")
        return grid


def _not_run(_: Array) -> NoReturn:
    raise RuntimeError("an observation that was built with run_files=False cannot measure")


def key_fault(key: str, value: object, expected: str) -> ValueError:
    """What to raise for a key whose value does not fit the system."""
    return ValueError(f"observation key {key!r} is {value}: {expected}")
