"""Innovations: measurements beside what the forecast just before them makes of them.

They tell without the truth whether a filter's forecasts are as good as it takes them for. Where
the truth is one more draw from the forecast ensemble, and the noise is N(0, R), the innovation

    d = y - mean of h(x_i)    has mean 0 and covariance H P H^T + R,

P the ensemble's covariance (of h, H P H^T is that of the h(x_i), also where h is not linear), and
y has each rank as often among h(x_i) + eta_i, with a draw eta_i ~ N(0, R) for each member
(Desroziers et al. 2005; ranks of measurements: Hamill 2001). Whitened by the symmetric root of R,
measurements keep their places and have independent noise of variance 1; so the *normalised*
innovation is R^(-1/2) d over the root of the diagonal of R^(-1/2) H P H^T R^(-1/2) + I. With a
diagonal R that is d over the root of the diagonal of H P H^T + R. Ranks are those of whitened
measurements, too.

P is estimated from N members: its error alone gives normalised innovations a variance of up to
(N + 1) (N - 1) / (N (N - 3)), which is reached where the noise is small beside the ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from masf.arrays import Stream, centred, ensemble_mean
from masf.observations.base import Observation
from masf.scores.metrics import RANKED

INNOVATIONS = {
    "innovation": "measurement less the forecast's mean of it",
    "innovation_spread": "standard deviation that the innovation should have: H P H^T + R",
    "innovation_normalised": "whitened innovation over its standard deviation",
    "innovation_rank": "forecast members, each with noise, that are below the measurement",
}
"""Variables (cycle, obs) of {filter}.nc; NaN where a measurement is missing."""


@dataclass(frozen=True)
class Predicted:
    """What a forecast makes of m measurements, without their noise.

    Attributes:
        innovation: (m,) y less the mean of what is predicted.
        root: (K, m) of the covariance of what is predicted, root^T root.
    """

    innovation: np.ndarray
    root: np.ndarray

    @classmethod
    def of_ensemble(cls, members: np.ndarray, y: np.ndarray, observation: Observation) -> Predicted:
        """Of an ensemble (N, d) and measurements (m,)."""
        measured = observation.apply(members)
        # The mean of differences, which have more digits left than the difference from a mean.
        root = centred(measured)[1] / np.sqrt(len(members) - 1)
        return cls(ensemble_mean(y - measured), root)

    @classmethod
    def of_moments(
        cls, mean: np.ndarray, covariance: np.ndarray, y: np.ndarray, observation: Observation
    ) -> Predicted:
        """Of a mean (d,) and covariance (d, d), for measurements (m,) that are linear."""
        # Not Cholesky's: a covariance may be singular.
        values, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0))).T
        return cls(y - observation.apply(mean), observation.apply(root))


def innovation_series(
    predicted: Predicted,
    members: np.ndarray,
    y: np.ndarray,
    observation: Observation,
    stream: Stream,
) -> dict[str, np.ndarray]:
    """INNOVATIONS of one cycle, each (m,).

    Args:
        predicted: what the forecast makes of the measurements.
        members: (N, d) of the forecast; the first RANKED of them are ranked among.
        y: (m,) the measurements, all there.
        observation: of these measurements.
        stream: for the noise of the members that are ranked among.
    """
    noise, first = observation.noise, members[:RANKED]
    whitened = noise.whiten(predicted.root)
    eta = noise.draw((len(first),), first, stream)
    # Two differences: the sum h + eta would round the noise to the digits that h has.
    above = noise.whiten((observation.apply(first) - y) + eta)
    return {
        "innovation": predicted.innovation,
        "innovation_spread": np.sqrt(np.sum(predicted.root**2, axis=0) + noise.variance),
        "innovation_normalised": noise.whiten(predicted.innovation)
        / np.sqrt(np.sum(whitened**2, axis=0) + 1),
        "innovation_rank": np.sum(above < 0, axis=0),
    }


@dataclass(frozen=True)
class Innovations:
    """Those of an estimate, each (cycles, m), NaN where a measurement is missing.

    Attributes:
        raw: in units of the measurement.
        normalised: over the standard deviation that they should have.
        ranks: of measurements, 0 ... ``ranked``.
        ranked: members among which they are ranked.
        diverged: whether the run did; all are NaN then.
    """

    raw: np.ndarray
    normalised: np.ndarray
    ranks: np.ndarray
    ranked: int
    diverged: bool

    @classmethod
    def of(cls, data: Any, spin_up_cycles: int) -> Innovations:
        """Of the content of {filter}.nc, the first cycles left out; all NaN of a run that
        diverged.
        """
        raw, normalised, ranks = (
            data[name].values[spin_up_cycles:].astype(np.float64)
            for name in ("innovation", "innovation_normalised", "innovation_rank")
        )
        ranked = int(data["innovation_rank"].attrs["valid_max"])
        diverged = bool(data.attrs["diverged"])
        if diverged:
            raw = normalised = ranks = np.full_like(raw, np.nan)
        return cls(raw, normalised, ranks, ranked, diverged)

    @property
    def size(self) -> int:
        """Number m of measurements in a cycle."""
        return self.raw.shape[1]

    def only(self, j: int) -> Innovations:
        """Those of measurement j (from 0) of each cycle."""
        raw, normalised, ranks = (a[:, [j]] for a in (self.raw, self.normalised, self.ranks))
        return Innovations(raw, normalised, ranks, self.ranked, self.diverged)

    def statistics(self) -> dict[str, float]:
        """Of all of them, NaN of none: how many; the mean and the root of the mean square in units
        of the measurement; mean and variance of the normalised ones, with standard errors; the
        share of measurements of the first or last rank, with what that should be; and whether the
        run diverged.
        """
        mean, mean_error = pooled_mean(self.normalised)
        variance, variance_error = pooled_mean((self.normalised - mean) ** 2)
        count = int(np.sum(~np.isnan(self.normalised)))
        # Of departures from the mean of the same numbers, which takes one of them.
        unbiased = count / (count - 1) if count > 1 else np.nan
        at_ends = np.isin(self.ranks, (0, self.ranked)).astype(np.float64)
        return {
            "count": count,
            "bias": pooled_mean(self.raw)[0],
            "rms": float(np.sqrt(pooled_mean(self.raw**2)[0])),
            "mean": mean,
            "mean_error": mean_error,
            "variance": unbiased * variance,
            "variance_error": unbiased * variance_error,
            "outside": pooled_mean(np.where(np.isnan(self.ranks), np.nan, at_ends))[0],
            "outside_expected": 2 / (self.ranked + 1),
            "diverged": self.diverged,
        }

    def frequencies(self) -> np.ndarray:
        """The rank histogram (ranked + 1, 2): the share of measurements of each rank, and its
        standard error.
        """
        missing = np.isnan(self.ranks)
        return np.array([
            pooled_mean(np.where(missing, np.nan, self.ranks == rank))
            for rank in range(self.ranked + 1)
        ])  # fmt: skip


def pooled_mean(values: np.ndarray) -> tuple[float, float]:
    """The mean of all values (cycles, m) that are not NaN, and its standard error.

    What belongs to one cycle may be correlated in any way; cycles are taken for independent, as
    the innovations of a filter that misses nothing are. The error is that of a ratio of sums over
    cycles (Cochran 1977), NaN of fewer than two cycles.
    """
    measured = values[~np.all(np.isnan(values), axis=1)].astype(np.float64)
    counts, sums = np.sum(~np.isnan(measured), axis=1), np.nansum(measured, axis=1)
    if len(sums) == 0:
        return np.nan, np.nan
    with np.errstate(invalid="ignore"):  # of a forecast that overflows where it is measured
        mean = sums.sum() / counts.sum()
        squares = np.sum((sums - mean * counts) ** 2)
    if len(sums) == 1:
        return float(mean), np.nan
    scale = len(sums) / (len(sums) - 1)
    return float(mean), float(np.sqrt(scale * squares) / counts.sum())
