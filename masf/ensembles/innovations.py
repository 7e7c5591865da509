"""Innovations: measurements less what an ensemble, member by member or in the mean, would
measure.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, Stream, centred, ensemble_mean
from masf.observations.base import Observation


def perturbed_innovations(
    ensemble: Array, y: Array, observation: Observation, stream: Stream
) -> Array:
    """y + eta_i - H x_i (N, m), with centred eta_i."""
    eta = observation.noise.draw((len(ensemble),), ensemble, stream)
    # Two differences: the sum y + eta would round the noise to the digits that y has.
    return (y - observation.apply(ensemble)) + centred(eta)[1]


def whitened_innovation(ensemble: Array, y: Array, observation: Observation) -> tuple[Array, Array]:
    """R^(-1/2) (H x_i - mean) (N, m), the anomalies of what members would measure, and the
    innovation R^(-1/2) (y - mean) (m,) of their mean.
    """
    measured = observation.apply(ensemble)
    # The mean of differences, which have more digits left than the difference from a mean.
    innovation = ensemble_mean(y - measured)
    return observation.noise.whiten(centred(measured)[1]), observation.noise.whiten(innovation)


def mean_squared_innovation(ensemble: Array, y: Array, observation: Observation) -> float:
    """The mean square of the whitened innovation of the mean of an ensemble (N, d)."""
    _, innovation = whitened_innovation(ensemble, y, observation)
    return float(array_namespace(ensemble).mean(innovation**2))
