"""Distance of a filter's analyses to the posterior of a reference filter, exact (kalman) or nearly
so (a large particle filter).

With ensemble mean m, covariance C and members X of an analysis, those of the reference with an r,
and <.> the mean over analyses:

    mean_distance        (<|m - m_r|^2> / <tr C_r>)^(1/2)      in spreads of the reference
    covariance_distance  (<|C - C_r|^2> / <|C_r|^2>)^(1/2)     Frobenius norms
    energy_distance      <D^2(X, X_r)>^(1/2)                   0 where its mean is negative
    spread_ratio         (<tr C> / <tr C_r>)^(1/2)             1 for the reference's own spread

with the unbiased D^2 of masf.scores.metrics; and its RMSE, of the run and of its analyses, over the
reference's. No filter's expected RMSE is below that of the posterior's mean, so that of an exact
reference these say how much of an error is avoidable.

All but the energy distance take the whole ensembles, and the exact moments of kalman; that one
takes the members that are saved. A filter whose analysis is exact in the limit of many members
comes near as N^(-1/2); what stays however large N is, is its method's error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from masf.gaps import Gap, measurement_steps
from masf.scores.averages import averages
from masf.scores.metrics import mean_distance, squared_energy_distance

EXACTNESS = {
    "mean_distance": "distance of means",
    "covariance_distance": "distance of covariances",
    "energy_distance": "energy distance",
    "rmse_ratio": "RMSE / reference",
    "rmse_analysis_ratio": "analysis RMSE / reference",
    "spread_ratio": "spread / reference",
}
"""Columns of scores.parquet that compare with a reference, and what people call them."""

NEEDED = ("covariance", "member")
"""Variables of {filter}.nc that distances need besides those that every file has."""


@dataclass(frozen=True)
class Analyses:
    """The analyses of one filter after spin-up, in float64.

    Attributes:
        mean: (cycles, d)
        covariance: (cycles, d, d)
        members: (saved, cycles, d)
    """

    mean: np.ndarray
    covariance: np.ndarray
    members: np.ndarray

    @classmethod
    def of(cls, data: Any, gap: Gap, spin_up_cycles: int) -> Analyses:
        """The analyses in the content of {filter}.nc."""
        mean, covariance, members = (
            data[name].values.astype(np.float64) for name in ("mean", *NEEDED)
        )
        return cls(
            mean.reshape(len(mean), -1)[measurement_steps(gap, len(covariance))[spin_up_cycles:]],
            covariance[spin_up_cycles:],
            members.reshape(*members.shape[:2], -1)[:, spin_up_cycles:],
        )


class Reference:
    """The analyses that others are measured against."""

    def __init__(self, analyses: Analyses, averages: Mapping[str, float]) -> None:
        """``averages`` has the AVERAGES of masf.scores.averages of the same run."""
        self.analyses, self.averages = analyses, averages
        # E|Y - Y'| of each cycle, the same for all filters.
        self.within = [mean_distance(members) for members in analyses.members.swapaxes(0, 1)]

    @classmethod
    def of(cls, data: Any, gap: Gap, spin_up_cycles: int) -> Reference:
        """The reference of the content of its {filter}.nc."""
        return cls(
            Analyses.of(data, gap, spin_up_cycles),
            averages(data, gap=gap, spin_up_cycles=spin_up_cycles),
        )

    def distances(self, found: Analyses) -> dict[str, float]:
        """The distances of one filter's analyses; see the module's docstring."""
        exact, members = self.analyses, found.members
        squared = [
            squared_energy_distance(members[:, k], exact.members[:, k], own)
            for k, own in enumerate(self.within)
        ]
        total_variance = np.trace(exact.covariance, axis1=1, axis2=2)
        error, exact_covariance = found.covariance - exact.covariance, exact.covariance
        return {
            "mean_distance": float(
                np.sqrt(
                    np.mean(np.sum((found.mean - exact.mean) ** 2, axis=1))
                    / np.mean(total_variance)
                )
            ),
            "covariance_distance": float(np.sqrt(np.mean(error**2) / np.mean(exact_covariance**2))),
            "energy_distance": float(np.sqrt(max(float(np.mean(squared)), 0.0))),
            "spread_ratio": float(
                np.sqrt(
                    np.mean(np.trace(found.covariance, axis1=1, axis2=2)) / np.mean(total_variance)
                )
            ),
        }

    def ratios(self, found: Mapping[str, float]) -> dict[str, float]:
        """The errors of one filter, of its AVERAGES, over the reference's."""
        return {
            f"{key}_ratio": found[key] / self.averages[key] for key in ("rmse", "rmse_analysis")
        }
