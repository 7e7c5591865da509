"""No assimilation: the initial ensemble runs free. Any filter worth its cost does better than
this.
"""

from __future__ import annotations

from masf.arrays import Array
from masf.filters.base import Filter


class FreeRun(Filter):
    def analyse(self, state: Array, y: Array) -> Array:
        return state


filter = FreeRun
