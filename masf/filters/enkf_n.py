"""Finite-size ensemble Kalman filter, EnKF-N, in its dual form (Bocquet 2011; Bocquet, Raanes and
Hannart 2015): an ETKF that finds its inflation at each analysis.

The prior knows that N members have a sampling error (masf.ensembles.finite_size). Its minimiser is
the ETKF's with the forecast anomalies inflated by zeta^(-1/2), zeta that of the dual function's
minimum. What it does not know is any other error: of the model, or of localisation.
"""

from __future__ import annotations

import math
from typing import ClassVar

from array_api_compat import array_namespace
from pydantic import Field

from masf.arrays import Array
from masf.ensembles.transform import ensemble_transform, weighted
from masf.filters.base import RotatedParameters
from masf.filters.etkf import ETKF


class EnKFNParameters(RotatedParameters):
    certainty: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Certainty of the finite-size prior, in units of what N random draws have "
        "(DAPPER's xN).",
    )


class EnKFN(ETKF):
    Parameters: ClassVar[type[EnKFNParameters]] = EnKFNParameters

    _inflation = math.nan

    def update(self, anomalies: Array, observed: Array, innovation: Array) -> tuple[Array, Array]:
        xp = array_namespace(anomalies)
        s = xp.astype(observed, xp.float64) / math.sqrt(len(anomalies) - 1)
        transform = ensemble_transform(
            s, xp.astype(innovation, xp.float64), self.parameters.certainty
        )
        self._inflation = float(transform.precision) ** -0.5
        return weighted(transform.weights, anomalies), transform.transformed(anomalies)

    def diagnostics(self) -> dict[str, float]:
        """The factor on the forecast's anomalies that the last analysis found."""
        return {"prior_inflation": self._inflation}


filter = EnKFN
