"""How often a model is run: what filters are compared at, beside seconds.

Filters run the model as they like: a forecast, the same forecast again from other members, or
shorter pieces of it. What they have in common are the states that take a step. They are counted
where the step is taken, so that no filter has to say how much it used, and none can forget to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from masf.arrays import Array, Stream, require_states
from masf.systems.base import System

ALONG_THE_LAST_AXIS = "; compute along the last axis, x[..., i], so that it serves any batch"


@dataclass
class Steps:
    """The steps taken so far: one for each state, and each ``dt``."""

    taken: int = 0


@contextmanager
def counted_steps(system: System) -> Iterator[Steps]:
    """Counts the steps that ``system`` takes in the block, whoever asks for them. A step that does
    not return states as it was given raises ContractFault.
    """
    steps, step = Steps(), system.step
    before = vars(system).get("step")

    def counting(x: Array, stream: Stream) -> Array:
        steps.taken += math.prod(x.shape[:-1])
        stepped = step(x, stream)
        require_states(f"{type(system).__name__}.step", stepped, x, hint=ALONG_THE_LAST_AXIS)
        return stepped

    # Over the method, in this object alone.
    vars(system)["step"] = counting
    try:
        yield steps
    finally:
        del vars(system)["step"]
        if before is not None:
            vars(system)["step"] = before
