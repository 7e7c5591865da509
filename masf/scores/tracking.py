"""Whether a run has lost track of the truth: it goes on, but it estimates some other state.

With e_k the root mean square error of the analysis of cycle k and s_k its spread, a run has lost
track if in LOST_CYCLES cycles in a row, spin-up left out,

    e_k > LOST_SHARE c    and    e_k > LOST_EXCESS s_k.

c is the error of someone who measures nothing: the RMSE of the free run of the same cell, whose
ensemble forgets where it began; or, without one, the standard deviation of the truth over time,
which is what that RMSE tends to. The second condition leaves out filters that are as far off, and
say so: where measurements tell little, the best filter is not much better than none.

One such run decides a mean over seeds, and hides what the filter does on the others. So these runs
are counted, and averaged apart. The constants are chosen: in runs of 100 cycles on Lorenz-96 (d 40,
every second component measured, gaps 40 and 50) filters that hold the track are above LOST_SHARE
for 3 cycles in a row at most, and those that lose it for 5 and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from masf.filters.registry import FREE_RUN
from masf.gaps import Gap, measurement_steps
from masf.scores.metrics import mean_spread

LOST_SHARE = 0.7
"""Of the error without measurements: how far off a lost analysis is at least."""

LOST_EXCESS = 1.5
"""How many times its own spread it is off at least."""

LOST_CYCLES = 5
"""How many analyses in a row. A run in which fewer are scored is not judged."""


def climatological_spread(truth: np.ndarray) -> float:
    """The standard deviation over time of a truth (times, d), root of the mean square over
    components.
    """
    return float(np.sqrt(np.mean(np.var(truth.astype(np.float64), axis=0))))


def lost_track(data: Any, *, gap: Gap, spin_up_cycles: int, without_measurements: float) -> bool:
    """Whether a run has lost track after spin-up; False if it diverged, which is counted by itself,
    and of a free run, which has none to lose.

    Args:
        data: the content of {filter}.nc, see masf.files.netcdf.
        gap: model steps between two measurements, or a pattern (masf.gaps).
        spin_up_cycles: how many of the first cycles to leave out.
        without_measurements: c of the module's docstring.
    """
    if data.attrs["diverged"] or is_free_run(data):
        return False
    analyses = measurement_steps(gap, len(data["crps"]))[spin_up_cycles:]
    error, spread = data["rmse"].values[analyses], data["spread"].values[analyses]
    spread = mean_spread(spread.reshape(len(spread), -1))
    return lost(error, spread, without_measurements)


def is_free_run(data: Any) -> bool:
    """Whether the content of {filter}.nc is of a run without measurements."""
    return data.attrs.get("filter_module") == FREE_RUN


def lost(error: np.ndarray, spread: np.ndarray, without_measurements: float) -> bool:
    """Whether the errors of analyses (cycles,), and their spreads (cycles,), are those of a run
    that has lost track.
    """
    off = (error > LOST_SHARE * without_measurements) & (error > LOST_EXCESS * spread)
    if len(off) < LOST_CYCLES:
        return False
    return bool(sliding_window_view(off, LOST_CYCLES).all(axis=1).any())
