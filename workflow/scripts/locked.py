"""Runs a command while holding a lock on a file: `python locked.py FILE COMMAND...`, as flock(1) of
Linux does, which macOS lacks.

The lock is that of the process, and of what it starts; it goes with them, however they end. Exits
with 75 if another process holds it for longer than a moment.
"""

import fcntl
import os
import sys
import time

PATIENCE = 5.0  # seconds: a killed run needs a moment to go
HELD = 75  # EX_TEMPFAIL of sysexits.h


def main(path: str, *command: str) -> None:
    """Becomes the command, with the lock in hand."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    os.set_inheritable(lock, True)
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                sys.exit(HELD)
            time.sleep(0.1)
    os.execvp(command[0], command)  # noqa: S606 - the shell is the command


if __name__ == "__main__":
    main(*sys.argv[1:])
