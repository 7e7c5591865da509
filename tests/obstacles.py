"""A copy of this project whose tiny study meets obstacles at will: a stage that waits, or that
holds much memory.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from test_workflow import PATIENCE, Project

FILTER = '''
import os
import time
from pathlib import Path

import numpy as np

from masf.filters.base import Filter


class Obstacle(Filter):
    """Changes nothing, and does what files beside the workflow tell it to."""

    def analyse(self, state, y):
        if Path("obstacles/memory").exists():
            ballast = np.ones(2**27)  # 1 GiB
            time.sleep(4)  # for the poll of its memory
            del ballast
        while Path("obstacles/wait").exists():
            Path(f"obstacles/waiting-{os.getpid()}").touch()
            time.sleep(0.1)
        return state


filter = Obstacle
'''


class Obstructed(Project):
    """Lorenz-63 on two seeds with filters masf (asks for a GPU where there are some), enkf and
    obstacle.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)
        (root / "obstacles").mkdir()
        (root / "masf" / "filters" / "obstacle.py").write_text(FILTER, encoding="utf-8")
        (root / "config" / "filters" / "obstacle.yaml").write_text(
            "{label: Obstacle, resources: {mem_mb: 900, runtime: 5}}\n", encoding="utf-8"
        )
        # No machine is asked to have a GPU; jobs ask for one, and compute on the processor.
        jobs = root / "masf" / "study" / "jobs.py"
        text = jobs.read_text(encoding="utf-8")
        assert 'return "cuda" if' in text
        jobs.write_text(text.replace('return "cuda" if', 'return "cpu" if'), encoding="utf-8")

    def study(self, results: str, name: str) -> str:
        """A config with these results."""

        def change(config: dict[str, Any]) -> None:
            config["results"] = results
            config["gpu"] = True
            config["experiments"]["lorenz63"]["add_filters"] = ["obstacle"]
            del config["figures"], config["experiments"]["same_cells"]

        return self.changed_config(change, name)

    def put(self, obstacle: str) -> None:
        (self.root / "obstacles" / obstacle).touch()

    def remove(self, obstacle: str) -> None:
        (self.root / "obstacles" / obstacle).unlink()
        for mark in (self.root / "obstacles").glob("waiting-*"):
            mark.unlink()

    def waiting(self) -> list[int]:
        """The processes that wait at the obstacle."""
        found = [
            int(mark.name.removeprefix("waiting-"))
            for mark in (self.root / "obstacles").glob("waiting-*")
        ]
        return [pid for pid in found if psutil.pid_exists(pid)]

    def start(self, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
        """Starts a command here in a session of its own; its output goes to out.txt."""
        with (self.root / "out.txt").open("w") as out:
            return subprocess.Popen(  # noqa: S603
                words, cwd=self.root, env=environment or self.environment, start_new_session=True,
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def output(self) -> str:
        """What the command that was started last has said so far."""
        return (self.root / "out.txt").read_text(encoding="utf-8", errors="replace")

    def until(self, condition: Callable[[], object], process: subprocess.Popen) -> None:
        """Waits for a condition while a process runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert process.poll() is None, f"the run ended too soon\n{self.output()}"
            assert time.monotonic() < end, f"the run hangs\n{self.output()}"
            time.sleep(0.1)


def tables(results: Path) -> dict[str, bytes]:
    """Scores as people read them; what runs cost differs from run to run."""
    found = {
        path.name: path.read_bytes()
        for path in (results / "tables").iterdir()
        if "_cost" not in path.name
    }
    assert {"settings.csv", "settings.md"} < found.keys(), found.keys()
    assert len(found) > 6
    return found


def kill(*processes: psutil.Process | subprocess.Popen) -> None:
    """SIGKILL, and the end."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for process in processes:
        process.wait(PATIENCE)
