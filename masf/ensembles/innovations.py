"""Innovations of an ensemble: perturbed measurements less what its members would measure."""

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
