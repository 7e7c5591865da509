"""Spread that an analysis is given back: inflation, and relaxation to the forecast's spread."""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, centred, ensemble_spread


def inflate(ensemble: Array, factor: float) -> Array:
    """``ensemble`` (N, d) with its anomalies multiplied by ``factor``."""
    if factor == 1.0:
        return ensemble
    mean, anomalies = centred(ensemble)
    return mean + factor * anomalies


def relax_spread(analysis: Array, forecast: Array, factor: float) -> Array:
    """``analysis`` (N, d) with its spread moved towards that of ``forecast`` (N, d): (1 - factor)
    s_a + factor s_f.

    Relaxation to prior spread (Whitaker and Hamill 2012).
    """
    if factor == 0.0:
        return analysis
    xp = array_namespace(analysis)
    mean, anomalies = centred(analysis)
    before, after = ensemble_spread(forecast), ensemble_spread(analysis)
    # A component that lost its spread cannot be given any.
    ratio = before / xp.where(after > 0, after, xp.ones_like(after))
    return mean + (1 - factor + factor * ratio) * anomalies
