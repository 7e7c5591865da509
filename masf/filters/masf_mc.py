"""MASF without training: the closed-form denoiser of the forecast ensemble's Gaussian mixture
(ours).

The prior is a kernel density of the ensemble, with kernels of its covariance P, whole or tapered,
and members drawn towards the mean so that the mixture keeps mean and covariance (Liu and West
2001):

    p_0 = (1 / N) sum_j N(m + sqrt(1 - h^2) (x_j - m), h^2 P)

Its denoiser and covariance are exact (masf.diffusion.denoisers.mixture). h = 1 is masf_gaussian, an
EnKF; h to 0 is a particle filter, with its degeneracy: in many dimensions one component of the
mixture takes all the weight. Weights from a window of neighbours, ``weight_radius``, are what makes
small h usable on a ring (chosen). The sampler is ``coupled``, or ``exact``: independent draws from
the posterior of the mixture, exact at any number of steps if weights are not local.

On grids of two axes, and on rings too long for the matrix P, both radii are those of Gaspari-Cohn
tapers of what a point sees (masf.diffusion.denoisers.local_mixture), and nothing larger than N x N
is formed.

Where the measurement is not linear, x_j above is a member with what it would measure, (x_j,
h(x_j)): the kernels smear h, too, by h^2 times its variance.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masf.arrays import Array
from masf.diffusion.denoisers.family import MOST_COMPONENTS, mixture_fit, mixture_is_local
from masf.diffusion.denoisers.local_mixture import LocalMixtureFit
from masf.diffusion.denoisers.mixture import MixtureFit
from masf.diffusion.posterior import Denoiser
from masf.diffusion.process import ForwardProcess
from masf.diffusion.samplers import exact
from masf.ensembles.localization import place_misfits, taper_misfits
from masf.filters.passes import TemperedFilter, TemperedParameters
from masf.observations.base import Observation
from masf.systems.base import System


class MixtureMASFParameters(TemperedParameters):
    steps: int = Field(16, ge=1, le=2000, description="Reverse steps of the sampler.")
    covariance: Literal["ensemble", "localized"] = Field(
        "localized", description="The kernels' covariance: the ensemble's, whole or tapered."
    )
    localization_radius: float | None = Field(
        12.0,
        gt=0,
        description="For covariance localized: half of the taper's support, in the "
        "system's unit of length; null tapers nothing.",
    )
    sampler: Literal["coupled", "exact"] = Field(
        "coupled",
        description="coupled carries each member across; exact draws afresh from the posterior.",
    )
    bandwidth: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Kernel width h, in units of the ensemble's spread; 1 is one Gaussian.",
    )
    weight_radius: int | None = Field(
        2,
        ge=0,
        description="Neighbours on each side, on a ring, whose densities weigh a component; "
        "null takes all components. On a grid "
        "of two axes: half of the support of the weights' taper, in grid points; null takes "
        "localization_radius.",
    )

    @property
    def radius(self) -> float | None:
        """The radius in force: of the kernels' taper, None where they have none."""
        return self.localization_radius if self.covariance == "localized" else None

    def radii(self) -> dict[str, float | None]:
        own = {"localization_radius": self.localization_radius}
        return (own if self.covariance == "localized" else {}) | super().radii()


class MixtureMASF(TemperedFilter):
    Parameters = MixtureMASFParameters

    @classmethod
    def misfits(
        cls, parameters: MixtureMASFParameters, system: System, observation: Observation
    ) -> list[str]:
        """Radii where there are no distances, or of no use on this grid; states too long for a
        covariance.
        """
        faults = taper_misfits(parameters.radius, system, observation)
        weights, local, d = (
            parameters.weight_radius,
            mixture_is_local(system, parameters.radius),
            system.dimension,
        )
        if not observation.linear:
            d += observation.size
            if parameters.radius is None:
                faults += place_misfits(weights, system, observation, "weight_radius")
        if weights is not None and system.grid is None and observation.linear:
            faults.append(
                f"weight_radius = {weights}: the components of this system have no distances; "
                "set it to null"
            )
        elif weights == 0 and local:
            faults.append(
                "weight_radius = 0: on this grid it is a radius in grid points: it must be "
                "positive, or null"
            )
        elif weights is not None and system.ring is None and not local:
            faults.append(
                f"weight_radius = {weights}: but for one field on a ring it needs "
                "localization_radius, and covariance localized; "
                "set it to null"
            )
        if d > MOST_COMPONENTS and not local:
            faults.append(
                f"covariance = {parameters.covariance!r}, localization_radius = "
                f"{parameters.localization_radius}: forms matrices "
                f"of {d} x {d}, where the most is {MOST_COMPONENTS}; localise on the grid, or "
                "leave the filter out of this experiment"
            )
        return [*faults, *super().misfits(parameters, system, observation)]

    def make_fit(self) -> MixtureFit | LocalMixtureFit:
        p = self.parameters
        return mixture_fit(
            self.system, self.linear_state.shape, p.bandwidth, p.radius, p.weight_radius,
            self.setup.initial_mean,
        )  # fmt: skip

    def sample(
        self, process: ForwardProcess, denoiser: Denoiser, y: Array, ensemble: Array
    ) -> Array:
        if self.parameters.sampler == "exact":
            return exact(process, denoiser, y, ensemble, self.times, self.stream)
        return super().sample(process, denoiser, y, ensemble)


filter = MixtureMASF
