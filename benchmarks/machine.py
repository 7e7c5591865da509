"""What a measurement was made on, as columns of its table."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "torch")


def machine(threads: int) -> dict[str, str | int]:
    """Processor, cores, threads of each process, versions and date."""
    described = [
        line.partition(":")[2].strip() for line in _lines() if line.startswith("model name")
    ]
    return {
        "processor": described[0] if described else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "masf": version("masf"),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def _lines() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
