"""Members moved in the past, by a part of a measurement of what the model has made of them: one
pass of masf.filters.passes, and of the training of its priors.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from masf.arrays import Array, Stream
from masf.diffusion.linear_state import LinearState
from masf.diffusion.posterior import Fit
from masf.diffusion.process import ForwardProcess, time_grid
from masf.diffusion.samplers import coupled


def moved_in_the_past(
    state: LinearState,
    fit: Fit,
    past: Array,
    present: Array,
    y: Array,
    stream: Stream,
    *,
    share: float,
    perturbation: float = 1.0,
    known: int | None = None,
) -> Array:
    """The members of the past (N, d), given a share of the measurement of their forecasts.

    Args:
        state: of the system and the observation.
        fit: takes pairs of states then and now for a Gaussian.
        past: the members then (N, d).
        present: their forecasts (N, d).
        y: the measurement (m,) of the present.
        stream: random numbers.
        share: of the measurement, whose noise counts 1 / share times.
        perturbation: as for ``coupled``.
        known: statistics are those of the first so many members; None for all.
    """
    joint = array_namespace(past).concat([past, state.seen(present)], axis=-1)
    process = ForwardProcess.for_ensemble(state.pair_basis(), joint[:known], temperature=1 / share)
    at_once = time_grid(1)  # which the Gaussian denoiser takes exactly
    moved = coupled(
        process, fit(process, joint[:known]), y, joint, at_once, stream, perturbation=perturbation
    )
    return moved[..., : past.shape[-1]]
