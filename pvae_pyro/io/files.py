"""Files that are written completely or not at all, and locks between processes."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"  # the lock file in a folder that a process uses alone


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` and ``~user`` expanded. Raises OSError for an unknown home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        reason = "no such home folder: write the path in full, or set HOME"
        raise FileNotFoundError(errno.ENOENT, reason, str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, then rename it.

    A reader sees the old file or the new one, never a part of one, whenever the process is killed
    or the machine stops. Raises OSError naming `path`; the old file then stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:  # it names the temporary file, or on a full disk none
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Flush a folder's entries: without it a power failure may undo a rename."""
    with contextlib.suppress(OSError):  # Windows and some file systems cannot do it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def whole_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file that end in a newline; none if there is no file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return content.decode("utf-8", "surrogateescape").split("\n")[:-1]


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete the temporary files that killed processes left; no other process may be writing."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 32}.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def folder_held(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder` by a lock file in it.

    Raises BlockingIOError if another process holds it, FileNotFoundError if it does not exist.
    """

    def refuse() -> None:
        reason = "in use by another process, which writes there"
        raise BlockingIOError(errno.EWOULDBLOCK, reason, str(folder))

    folder.stat()  # locking would create a missing folder
    with file_held(folder / LOCK, refuse):
        yield


@contextmanager
def file_held(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold the lock file `path`. If another process holds it, call `waiting`, then wait for it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before the release: filelock checks that the file still has its name
        lock.release()
