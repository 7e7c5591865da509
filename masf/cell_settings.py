"""What fixes a cell, apart from the files themselves so that the config is checked without importing xarray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CellSettings:
    """Everything that fixes a cell's truth, measurements and initial ensemble."""

    system: str
    parameters: dict[str, Any]
    observation: dict[str, Any]
    gap: int
    cycles: int
    members: int
    initial_spread: float
    seed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)
