"""The state in which the measurement is linear: x itself, or x with what is measured of it.

y = h(x) + eta is a *linear* measurement of the augmented state z = (x, h(x)), of which it sees the
second part, as it is. The forward process of masf.diffusion.process therefore serves any h with
nothing approximated: the components of x are null ones, those of h(x) have A = 1, and the end of
the process is distributed as the measurement. An ensemble of augmented states is that of the
members with what each would measure; of what a sampler returns, the first part is the analysis.

On a grid what is measured is laid out on the grid, too: each measurement stands at the grid point
next to its place, in a further field, and in one more where a point has several measurements.
Fields are 0 where nothing is measured. Tapers and networks then treat it as they treat the state.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from array_api_compat import array_namespace

from masf.arrays import Array, scattered
from masf.diffusion.denoisers.family import FamilyFit, mixture_fit
from masf.diffusion.denoisers.ring import RingTaper
from masf.diffusion.denoisers.select import denoiser_taper, ring_blocks
from masf.diffusion.joint import JointBasis
from masf.diffusion.prior_settings import PriorSettings
from masf.ensembles.localization import GridTaper, make_taper
from masf.ensembles.static import StaticAnomalies, static_anomalies
from masf.faults import ContractFault
from masf.observations.base import Observation, Part, checked_places
from masf.observations.bases import Basis
from masf.observations.mask import Mask
from masf.systems.base import System, grid_shape


class LinearState(ABC):
    """What the forward process runs on.

    Attributes:
        system: whose states x (..., d) they are.
        observation: what is measured of x.
        basis: where the process is diagonal.
        shape: that of a state z without members: (fields, *grid) on a grid, else (length,).
    """

    basis: Basis
    shape: tuple[int, ...]

    def __init__(self, system: System, observation: Observation) -> None:
        self.system, self.observation = system, observation

    @abstractmethod
    def of(self, x: Array) -> Array:
        """The states z (..., D) of states x (..., d)."""

    def plain(self, z: Array) -> Array:
        """The states x (..., d) in states z (..., D)."""
        return z[..., : self.system.dimension]

    @abstractmethod
    def seen(self, x: Array) -> Array:
        """The part (..., M) of z that measurements are linear in, of states x (..., d)."""

    @abstractmethod
    def pair_basis(self) -> JointBasis:
        """The basis of a state at one time together with what is ``seen`` at another."""

    @abstractmethod
    def taper(self, radius: float | None, x: Array) -> Array | RingTaper | GridTaper | None:
        """The taper of a Gaussian denoiser of z; None tapers nothing.

        Args:
            radius: half of the taper's support, in the system's unit of length, or None.
            x: gives namespace, dtype and device.

        Raises:
            ValueError: if a radius is asked for where components have no place in space.
        """

    @abstractmethod
    def pair_taper(self, radius: float | None, x: Array) -> Array | RingTaper | GridTaper | None:
        """As ``taper``, of the pairs of ``pair_basis``: between components at any times, it should
        reach as far as a signal travels from one time to the other.
        """

    def static(self, climate: Array, count: int, share: float) -> StaticAnomalies:
        """For a hybrid covariance of states z, from states x (n, d) of the climate; ``count`` and
        ``share`` as for ``static_anomalies``.
        """
        return static_anomalies(self.of(climate), count, share)

    def family(self, prior: PriorSettings, x: Array, climate: Array | None = None) -> FamilyFit:
        """The denoisers that a network of these settings is trained and used with; ``x`` as for
        ``taper``, and states of the ``climate`` (n, d) where the settings have a static share.
        """
        radii = prior.localization_radii
        mixtures = [
            mixture_fit(self.system, self.shape, width, radii[0], prior.weight_radius, x)
            for width in prior.bandwidths
        ]
        static = None
        if prior.static_share:
            assert climate is not None
            static = self.static(climate, prior.static_members, prior.static_share)
        return FamilyFit([self.taper(radius, x) for radius in radii], mixtures, static)

    @abstractmethod
    def only(self, observation: Observation) -> LinearState:
        """The same where ``observation`` is what there is of the measurements."""


class PlainState(LinearState):
    """z = x, for measurements y = H x + eta."""

    def __init__(self, system: System, observation: Observation) -> None:
        super().__init__(system, observation)
        self.basis = observation.basis()
        self.shape = grid_shape(system)

    def of(self, x: Array) -> Array:
        return x

    def seen(self, x: Array) -> Array:
        return x

    def pair_basis(self) -> JointBasis:
        return JointBasis(self.basis)

    def taper(self, radius: float | None, x: Array) -> Array | RingTaper | GridTaper | None:
        return denoiser_taper(self.system, radius, self.basis, x)

    def pair_taper(self, radius: float | None, x: Array) -> Array | RingTaper | GridTaper | None:
        shape = (2 * self.shape[0], *self.shape[1:])
        blocks = ring_blocks(self.system, shape, radius, self.basis, x)
        return make_taper(self.system, radius, x, shape[0]) if blocks is None else blocks

    def only(self, observation: Observation) -> PlainState:
        return PlainState(self.system, observation)


class AugmentedState(LinearState):
    """z = (x, h(x)), for measurements y = h(x) + eta; see the module's docstring."""

    def __init__(
        self,
        system: System,
        observation: Observation,
        layout: tuple[np.ndarray, int] | None = None,
    ) -> None:
        """A state for all that ``observation`` measures.

        Args:
            system: whose states they are.
            observation: what is measured.
            layout: the slot (m,) of each measurement in the second part of z, and the length of
                that part, where ``observation`` is what there is of another; made where none is
                given.
        """
        super().__init__(system, observation)
        self._slots, self._length = layout or _layout(system, observation)
        self._seen = Mask(
            self._length, self._slots, observation.noise, {"operator": "augmented"}
        ).basis()
        self.basis = self.pair_basis()
        self.shape = grid_shape(system, system.dimension + self._length)

    def of(self, x: Array) -> Array:
        return array_namespace(x).concat([x, self.seen(x)], axis=-1)

    def seen(self, x: Array) -> Array:
        return scattered(self.observation.apply(x), self._slots, self._length)

    def pair_basis(self) -> JointBasis:
        return JointBasis(self._seen, self.system.dimension)

    def taper(self, radius: float | None, x: Array) -> Array | GridTaper | None:
        return make_taper(self.system, radius, x, self.shape[0])

    def pair_taper(self, radius: float | None, x: Array) -> Array | GridTaper | None:
        return self.taper(radius, x)

    def only(self, observation: Observation) -> AugmentedState:
        if not isinstance(observation, Part):
            return AugmentedState(self.system, observation)
        slots = self._slots[observation.rows]
        return AugmentedState(self.system, observation, (slots, self._length))


def linear_state(system: System, observation: Observation) -> LinearState:
    """The state of ``system`` in which ``observation`` is linear."""
    return (PlainState if observation.linear else AugmentedState)(system, observation)


def state_shape(system: System, observation: Observation) -> tuple[int, ...]:
    """The ``shape`` of that state, for those who need nothing else of it."""
    if observation.linear:
        return grid_shape(system)
    return grid_shape(system, system.dimension + _layout(system, observation)[1])


def _layout(system: System, observation: Observation) -> tuple[np.ndarray, int]:
    """Where each measurement stands in the second part of z (m,), and the length of that part."""
    m, grid = observation.size, system.grid
    try:
        places = None if grid is None else checked_places(observation, grid)
    except ContractFault:
        raise
    except ValueError:  # without a place they are in their own order, and cannot be tapered
        places = None
    if grid is None or places is None:
        return np.arange(m), m
    nearest = np.floor(places + 0.5).astype(np.int64)
    points = np.ravel_multi_index(tuple(nearest.T), grid, mode="wrap")
    # The first measurement of each point in the first field, the next one in the second, ...
    order = np.argsort(points, kind="stable")
    ordered = points[order]
    field = np.empty(m, dtype=np.int64)
    field[order] = np.arange(m) - np.searchsorted(ordered, ordered)
    size = math.prod(grid)
    return field * size + points, (int(field.max()) + 1) * size
