"""Programs that tests take from Debian's packages, and that may be installed for them.

A test run changes nothing on the machine unless it is asked to: with MASF_TEST_INSTALL=1 in the
environment, as CI has it, what is missing is installed with apt, as root. Without it, tests that
need such a program are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ALLOWED = "MASF_TEST_INSTALL"
"""The variable of the environment that allows tests to install packages, by the value 1."""

APT_LOCK = Path(tempfile.gettempdir()) / "masf-apt.lock"
"""Tests run side by side, and apt-get does not wait for another."""


class CannotRun(Exception):
    """Why what a test needs cannot be had here."""


def install(packages: Sequence[str], missing: Callable[[], list[str]]) -> None:
    """Installs ``packages`` where programs are ``missing``. Raises CannotRun where that cannot
    be.
    """
    if not missing():
        return
    if os.environ.get(ALLOWED) != "1":
        raise CannotRun(
            f"{', '.join(missing())} are not installed; {ALLOWED}=1 lets the tests install "
            f"{' '.join(packages)}"
        )
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise CannotRun(
            f"{', '.join(missing())} are not installed, and without root and apt-get they cannot be"
        )
    quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(  # noqa: S603
            ["flock", APT_LOCK, "apt-get", "--quiet", *words],  # noqa: S607
            env=quiet, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CannotRun(f"apt-get {words[0]} failed: {' '.join(done.stdout.splitlines()[-2:])}")
    if missing():
        raise CannotRun(
            f"{', '.join(missing())} are still missing after apt-get install {' '.join(packages)}"
        )
