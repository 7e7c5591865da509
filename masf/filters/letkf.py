"""Local ensemble transform Kalman filter (Hunt, Kostelich, Szunyogh 2007): an ETKF of its own at
each grid point.

The analysis at a point takes the measurements near it, the precision of each multiplied by the
Gaspari-Cohn taper of its distance. All fields at a point share one transform. A measurement sits at
its component's point, or at the centre of mass of |H|'s row; correlated noise is whitened first.
One rotation serves all points, so that fields stay smooth. Neighbours may share a transform
(``block``), as in DAPPER's examples, where two do: half of the work, and often no worse.

``localization_radius`` is half of the taper's support, as everywhere in this package, and so 1.82
times DAPPER's ``loc_rad``.
"""

from __future__ import annotations

from typing import ClassVar

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array
from masf.ensembles.domains import domain_misfits, domains_of
from masf.filters.base import LocalizedParameters, RotatedParameters
from masf.filters.etkf import ETKF, square_root_update
from masf.observations.base import Observation
from masf.systems.base import System


class LETKFParameters(RotatedParameters, LocalizedParameters):
    block: int = Field(
        1,
        ge=1,
        description="Points along each axis of the grid that share a transform, by the "
        "measurements near their centre.",
    )

    def without_effect(self) -> dict[str, str]:
        idle = {"block": "a localization_radius"} if self.localization_radius is None else {}
        return super().without_effect() | idle


class LETKF(ETKF):
    Parameters: ClassVar[type[LETKFParameters]] = LETKFParameters
    square: ClassVar[bool] = False
    """Whether a domain's transform takes a matrix (N, N), where measurements are fewer, too."""

    def observe(self, observation: Observation) -> None:
        """Finds the measurements near each point."""
        super().observe(observation)
        p = self.parameters
        self.domains = domains_of(
            observation, self.system, p.localization_radius, p.block, self.setup.initial_mean
        )

    @classmethod
    def misfits(
        cls, parameters: LETKFParameters, system: System, observation: Observation
    ) -> list[str]:
        """Components or measurements without a place, and blocks that do not fill the grid."""
        return domain_misfits(parameters.localization_radius, parameters.block, system, observation)

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        xp, domains = array_namespace(anomalies), self.domains
        in_domains = domains.split(anomalies)
        increments, analyses = [], []
        for part in domains.chunks(len(anomalies), square=self.square):
            increment, analysis = self.update_domains(
                in_domains[part],
                domains.measurements(observed, part),
                domains.measurements(innovation, part),
            )
            increments.append(increment[:, None])
            analyses.append(analysis)
        increment, analysis = (domains.join(xp.concat(parts)) for parts in (increments, analyses))
        return increment[0], analysis

    def update_domains(
        self, anomalies: Array, observed: Array, innovation: Array
    ) -> tuple[Array, Array]:
        """The increments of the mean (b, f) and the analysis anomalies (b, N, f) of b domains, for
        anomalies (b, N, f) and, with the roots of their tapers, the whitened anomalies (b, N, k)
        and innovations (b, k) of the measurements that each domain sees.
        """
        return square_root_update(anomalies, observed, innovation)


filter = LETKF
