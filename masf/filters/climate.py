"""The model's climate as filters see it before the first cycle, for static covariances
(masf.ensembles.static).
"""

from __future__ import annotations

from dataclasses import replace

from masf.arrays import Array, Stream
from masf.ensembles.static import climate_of
from masf.filters.base import Setup, initial_draws

TRAJECTORIES = 10
"""Of the model's free run."""


def climate_states(setup: Setup, steps: int) -> Array:
    """States (n, d) of a free run of the model over so many steps, from the initial distribution;
    with random numbers of its own, the same whenever it is made.

    Raises:
        ValueError: where a trajectory leaves the finite numbers.
    """
    stream = Stream(0, "free run of the model")
    start = initial_draws(replace(setup, stream=stream), TRAJECTORIES)
    return climate_of(setup.system, start, steps, stream)
