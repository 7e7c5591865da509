"""Runs a command and writes what it used: ``python -I -S launcher.py usage.json COMMAND ...``; for
:mod:`masf.stages.external`.

A process of its own, with nothing but the standard library in it, because Linux counts the memory
of whoever starts a program as that program's: started from here the figure is the command's, where
it would be masf's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Runs the command and exits as it did."""
    usage, *words = sys.argv[1:]
    start = time.perf_counter()
    try:
        pid = os.posix_spawnp(words[0], words, os.environ)
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}")
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    content = {
        "wall_seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory_mib": used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }
    Path(usage).write_text(json.dumps(content), encoding="utf-8")
    # As shells do, 128 and the signal for a command that a signal ended.
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
