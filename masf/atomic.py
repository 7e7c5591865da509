"""Files that are whole or not there: atomic writing, and faults that say what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileFault(Exception):
    """A file that is missing, damaged, foreign or older than this version reads."""

    def __init__(self, path: Path | str, fault: str, remedy: str) -> None:
        super().__init__(f"{path}: {fault}; {remedy}")
        self.path = Path(path)


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def require_writable(folder: Path) -> None:
    """Raises FileFault unless files can be made in ``folder``, which need not be there yet."""
    folder = Path(folder).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise FileFault(
            folder,
            f"cannot be made, because {nearest} is no folder",
            "choose another, or move that away",
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise FileFault(
            folder,
            f"cannot be written, because {nearest} is read-only here",
            "choose another, or ask for access",
        )


def full_disk(folder: Path) -> str:
    """What to say where the disk of ``folder`` is full; nothing where it is not."""
    if not folder.is_dir() or (free := shutil.disk_usage(folder).free) >= 2**20:
        return ""
    return (
        f"The disk of {folder} is full ({free >> 10} KiB free): "
        "make room there, and run the same command again."
    )  # fmt: skip


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name if the block succeeds, and is removed if
    it does not.

    The name is unique to this process: an orphaned job may still be writing the same output.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp gives 0600; outputs are for all whom the umask lets read.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb+") as f:
            os.fsync(f.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
