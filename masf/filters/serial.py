"""What filters share that take measurements one after the other, groups of those that have no point
in common at once (masf.ensembles.serial).
"""

from __future__ import annotations

from masf.ensembles.serial import Group, groups_of, serial_misfits
from masf.filters.base import Filter, LocalizedParameters
from masf.observations.base import Observation
from masf.systems.base import System


class SerialFilter(Filter):
    """A filter whose ``groups`` of measurements are found when it is told what is measured."""

    groups: list[Group]

    def observe(self, observation: Observation) -> None:
        """Finds what is near each measurement, and which can be taken together."""
        super().observe(observation)
        self.groups = groups_of(
            observation,
            self.system,
            self.parameters.localization_radius,
            self.setup.initial_mean,
        )

    @classmethod
    def misfits(
        cls, parameters: LocalizedParameters, system: System, observation: Observation
    ) -> list[str]:
        """Components or measurements without a place; too many measurements."""
        return serial_misfits(parameters.localization_radius, system, observation)
