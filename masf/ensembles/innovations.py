"""Innovations: measurements less what an ensemble, member by member or in the mean, would
measure.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, Stream
from masf.observations.base import Observation


def perturbed_innovations(
    ensemble: Array, y: Array, observation: Observation, stream: Stream
) -> Array:
    """y + eta_i - H x_i (N, m), with centred eta_i."""
    xp = array_namespace(ensemble)
    eta = observation.noise.draw((len(ensemble),), ensemble, stream)
    return y + eta - xp.mean(eta, axis=0) - observation.apply(ensemble)


def whitened_innovation(ensemble: Array, y: Array, observation: Observation) -> tuple[Array, Array]:
    """R^(-1/2) (H x_i - mean) (N, m), the anomalies of what members would measure, and the
    innovation R^(-1/2) (y - mean) (m,) of their mean.
    """
    measured = observation.apply(ensemble)
    mean = array_namespace(ensemble).mean(measured, axis=0)
    return observation.noise.whiten(measured - mean), observation.noise.whiten(y - mean)
