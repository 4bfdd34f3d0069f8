"""Files that are whole or not there, and locks that end with the process that holds them."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"  # in a folder that is held
TEXT = 1 << 28  # bytes of the largest file that is no arrays: 100,000 records of epochs or more


class RefusedError(OSError):
    """What is there is nothing that is read, whatever is in it."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ``~`` and ``~user`` expanded; OSError where there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        reason = "no such home folder: write the path in full, or set HOME"
        raise FileNotFoundError(errno.ENOENT, reason, str(path)) from error


def write_whole(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write beside its place, flush to the disk, rename, flush the folder.

    keep: the name that the file which is replaced gets, if there is one.

    A reader sees the old file or the new one and never a part of one, whenever the process is
    killed or the machine stops. Raises OSError naming `path`; the old file then stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with naming(path):
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                _name_too(path, keep)
            os.replace(temporary, path)
            flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # a folder that is gone, or may no longer be written to
            temporary.unlink(missing_ok=True)


def _name_too(path: Path, other: Path) -> None:
    """Give the file at `path` the name `other` as well."""
    new = other.with_name(f".{other.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.link(path, new)
    except OSError:  # no hard links there: for a moment there is `other` alone
        os.replace(path, other)
        return
    os.replace(new, other)
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)  # still there where the two were one file already


def append_line(path: Path, line: str) -> None:
    """Append a line and flush it to the disk; on failure the file stays as it was.

    A process that is killed may leave a part of a line, without its end: see `whole_lines`.
    Raises OSError naming `path`.
    """
    rest = line.encode() + b"\n"
    # Unbuffered: a buffer would be written once more when the file is closed.
    with naming(path), open(path, "ab", buffering=0) as file:
        before = file.tell()
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, before)
            raise


def read_regular(path: str | os.PathLike[str], most: int = TEXT) -> bytes:
    """The bytes of a file.

    Raises RefusedError where it is none: a pipe would be waited for, and a device, which a link
    may lead to, has no end; and where it has more than `most` bytes. Else OSError.
    """
    # Without O_NONBLOCK, to open a pipe is to wait for its writer. Windows has the other alone.
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError(errno.EINVAL, "it is no file", str(path))
        if found.st_size > most:  # perhaps a hole, which takes no disk and any memory
            raise RefusedError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def most_in_memory() -> int:
    """Bytes of the largest file of arrays that is read: half of the machine's memory, which holds
    the file and the arrays that are made of it. A checkpoint is made of three times its size."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 1 << 35  # Windows does not tell


def whole_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file that have an end; none where there is no file.

    Raises OSError as `read_regular`.
    Bytes that are no UTF-8 are as `os.fsdecode` has them: no JSON is made of them.
    """
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return []
    return text.decode("utf-8", "surrogateescape").split("\n")[:-1]


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left of `write_whole`; while nobody else writes there."""
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 32}.tmp"):
        if path.is_file():  # else not of ours
            path.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: without it a rename may be lost with the power."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows, or a folder that may be written to and not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have none of it
            raise
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system within name `path`: a full disk names nothing, else a file beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def folder_held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes that hold it so, by the lock file `LOCK` in it.

    Raises BlockingIOError when another one has it, FileNotFoundError when it is not there.
    """
    folder.stat()  # a lock would make it
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(folder / LOCK, timeout=0))
        except Timeout as error:
            reason = "in use by another process, which writes there"
            raise BlockingIOError(errno.EWOULDBLOCK, reason, str(folder)) from error
        yield


@contextmanager
def file_held(path: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Hold the lock file `path`. Where another process has it, call `waiting` and wait.

    Raises OSError where it cannot be made, or is a link.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_held(path, timeout=0))
        except Timeout:
            waiting()
            stack.enter_context(_held(path, timeout=-1))
        yield


@contextmanager
def _held(path: Path, timeout: float) -> Iterator[None]:
    """The lock file is there while somebody holds it, or was killed doing so."""
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # before it is let go: filelock looks whether it still has a name
