"""Files that are whole or not there: atomic writing, and faults that say what to do."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masf.faults import Refused


class FileFault(Refused):
    """A file that is missing, damaged, foreign or older than this version reads."""

    def __init__(self, path: Path | str, fault: str, remedy: str) -> None:
        super().__init__(f"{path}: {fault}; {remedy}")
        self.path = Path(path)


UNLOCK = (
    "set the environment variable HDF5_USE_FILE_LOCKING=FALSE and run again; the file is not "
    "known to be damaged, so keep it"
)


def made_again(stage: str) -> str:
    """What to do about a file that is none of a stage's, or damaged: a user may have named it, and
    what masf did not write is not to be removed.
    """
    return f"if masf wrote it, remove it and run stage {stage} again; if not, keep it: name another"


def unreadable(
    path: Path | str, error: Exception, *, fault: str, remedy: str, missing: str | None = None
) -> FileFault:
    """What to say of a file that could not be read.

    Its content is at fault only where the system hands over every byte of it. Libraries do not say
    so: to HDF5 a lock that is not granted and a file that is cut off are the same error.

    Args:
        path: the file.
        error: what a library raised.
        fault: what is wrong where the content is, such as "is truncated or no NetCDF file".
        remedy: what to do then.
        missing: what to do where there is no such file; ``remedy`` without it.
    """
    found = error if isinstance(error, OSError) and (error.errno or -1) > 0 else refusal(path)
    if found is None:
        return FileFault(path, f"{fault} ({error})", remedy)
    why = found.strerror or str(found)
    match found.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return FileFault(path, "does not exist", missing or remedy)
        case errno.EISDIR:
            return FileFault(path, "is a folder", "move it away and run again")
        case errno.ENOLCK | errno.EAGAIN:
            return FileFault(path, f"cannot be locked for reading ({why})", UNLOCK)
        case errno.EACCES | errno.EPERM:
            return FileFault(path, f"may not be read ({why})", "ask its owner for access")
        case errno.ESTALE:
            keep = "the file server has replaced or moved it: run again, and keep the file"
            return FileFault(path, f"is out of reach ({why})", keep)
    keep = "that is no fault of the file, so keep it: run again when its disk answers"
    return FileFault(path, f"cannot be read ({why})", keep)


def refusal(path: Path | str) -> OSError | None:
    """Why the system does not hand over, or does not lock, a file; None where it does both."""
    try:
        with Path(path).open("rb") as f:
            while f.read(2**20):
                pass
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None


def sha256(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def nearest_folder(folder: Path) -> Path:
    """The folder that is there, ``folder`` or one above it. Raises FileFault where something else
    is in the way, or where it takes no file, though it says that it may be written.
    """
    folder = Path(folder).absolute()
    nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not nearest.is_dir():
        raise FileFault(
            folder,
            f"cannot be made, because {nearest} is no folder",
            "choose another, or move that away",
        )
    if _accessible(nearest):
        try:  # /proc, for one, refuses only then
            with tempfile.TemporaryFile(dir=nearest):
                pass
        except OSError as error:
            raise FileFault(
                folder,
                f"cannot be written, because {nearest} takes no file ({error.strerror or error})",
                "choose another",
            ) from error
    return nearest


def require_writable(folder: Path) -> None:
    """Raises FileFault unless files can be made in ``folder``, which need not be there yet."""
    nearest = nearest_folder(folder)
    if not _accessible(nearest):
        raise FileFault(
            Path(folder).absolute(),
            f"cannot be written, because {nearest} is read-only here",
            "choose another, or ask for access",
        )


def _accessible(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


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
