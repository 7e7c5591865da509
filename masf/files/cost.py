"""{filter}.cost.json: what an estimate cost; apart from it, so that files of one seed are
identical.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from masf.atomic import FileFault, replacing

if TYPE_CHECKING:
    from masf.files.trajectory import Trajectory


def write_cost(path: Path, trajectory: Trajectory, extra: dict[str, Any]) -> None:
    """Writes {filter}.cost.json: seconds of each cycle, and ``extra``."""
    content = {
        "wall_seconds": [
            None if np.isnan(v) else round(float(v), 6) for v in trajectory.wall_seconds
        ],
        "cpu_seconds": [
            None if np.isnan(v) else round(float(v), 6) for v in trajectory.cpu_seconds
        ],
        **extra,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_cost(path: Path) -> dict[str, Any]:
    """Reads {filter}.cost.json. Raises FileFault where it is missing or damaged."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"wall_seconds", "cpu_seconds", "peak_memory_mib"} <= content.keys():
            raise ValueError("keys are missing")
    except (OSError, ValueError) as error:
        raise FileFault(
            path,
            f"cannot be read as a cost file ({error})",
            "remove it and run stage assimilate again",
        ) from error
    return content
