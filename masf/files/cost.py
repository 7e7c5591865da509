"""{filter}.cost.json: what an estimate cost; apart from it, so that files of one seed are
identical.

Filters are compared at equal cost, and there are two kinds of it: seconds, which are the machine's
and the code's, and model runs, which are the method's: how often a cycle runs the model from one
measurement to the next, in members (masf.systems.counting). A forecast of N members is N runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masf.atomic import made_again, replacing, unreadable

if TYPE_CHECKING:
    from masf.files.trajectory import Trajectory

BY_CYCLE = ("wall_seconds", "cpu_seconds", "model_runs")
"""What is recorded of each cycle, as attributes of a trajectory are called."""


def write_cost(path: Path, trajectory: Trajectory, extra: dict[str, Any]) -> None:
    """Writes {filter}.cost.json: seconds and model runs of each cycle, and ``extra``."""
    content = {name: _by_cycle(getattr(trajectory, name)) for name in BY_CYCLE} | extra
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_cost(path: Path) -> dict[str, Any]:
    """Reads {filter}.cost.json. Raises FileFault where it is missing or damaged."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {*BY_CYCLE, "peak_memory_mib"} <= content.keys():
            raise ValueError("keys are missing")
    except (OSError, ValueError) as error:
        raise unreadable(
            path,
            error,
            fault="cannot be read as a cost file",
            remedy=made_again("assimilate"),
            missing="run stage assimilate first",
        ) from error
    return content


def mean_model_runs(by_cycle: Iterable[float | None]) -> float:
    """Model runs a cycle, mean over all cycles that the run finished, spin-up included: what the
    whole run cost. NaN where they are not known, as of commands that do not count them.
    """
    known = [runs for runs in by_cycle if runs is not None and np.isfinite(runs)]
    return float(np.mean(known)) if known else float("nan")


def _by_cycle(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN: None for a cycle that was not finished, or of which it is not known."""
    return [None if np.isnan(v) else round(float(v), 6) for v in values]
