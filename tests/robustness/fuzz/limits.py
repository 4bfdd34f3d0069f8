"""What a reader may do while it reads: so long, so much memory, and nothing but read."""

import contextlib
import os
import signal
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 10.0  # a file, of the processor's time
_WAITING = 6  # times as long by the clock
MEMORY = 256 << 20  # bytes a file, more than before it
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"),
    *("subprocess.Popen", "pickle.find_class", "ctypes.dlopen", "socket.connect"),
    *("shutil.rmtree", "os.symlink", "os.link"),
)
# Modules of these may still be imported.
_OF_PYTHON = tuple(
    {os.path.realpath(p) for p in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)}
)
_REPOSITORY = str(Path(__file__).resolve().parents[3])
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Limit(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


class _Watch:
    """An audit hook, which Python never lets go of again; it acts while a folder is given."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.thread = 0
        self.installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        told = None
        if event in _FORBIDDEN and not self._harmless(event, arguments):
            told = f"{event} {arguments!r}"
        elif event in ("compile", "exec"):
            code = arguments[1 if event == "compile" else 0]
            name = code if event == "compile" else getattr(code, "co_filename", None)
            if isinstance(name, (str, bytes)) and os.path.isabs(name) and self._inside(name):
                told = f"{event} {name!r}"
        elif event == "open":
            told = self._opened(*arguments)
        elif event in _CHANGES and arguments[-1] in (-1, None) and not self._inside(arguments[0]):
            told = f"{event} {arguments!r}"
        if told is not None:
            self.seen.append(told)

    def _opened(self, path: Any, mode: Any, flags: Any) -> str | None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None  # a descriptor
        if self._inside(path):
            return None
        if isinstance(flags, int) and flags & _WRITES:
            return f"wrote {path!r}"
        real = os.path.realpath(os.fsdecode(path))
        if real.startswith((*_OF_PYTHON, _REPOSITORY, "/proc/", "/sys/", "/dev/")):
            return None
        return f"read {path!r}"

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True
        assert self.folder is not None
        real = os.path.realpath(os.fsdecode(path))
        return real == self.folder or real.startswith(self.folder + os.sep)

    def _harmless(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """A folder of its own removed; the system's own library, by its name, looked for."""
        if event == "shutil.rmtree":
            return self._inside(arguments[0])
        return event == "ctypes.dlopen" and os.sep not in str(arguments[0])


_watch = _Watch()


def _memory(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    return 0


def can_measure() -> bool:
    return _RESET.exists() and _STATUS.exists()


class Used:
    """bytes: the most memory beyond what there was before. did: what was forbidden."""

    bytes = 0
    did: list[str]


@contextlib.contextmanager
def limits(folder: Path, seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[Used]:
    """Raises `Limit` for what runs longer, takes more, or leaves `folder`."""
    if not _watch.installed:
        sys.addaudithook(_watch)
        _watch.installed = True
    used = Used()
    measured = can_measure()
    before = 0
    if measured:
        _RESET.write_text("5")  # the peak is from now on (man 5 proc)
        before = _memory("VmHWM")
    main = threading.current_thread() is threading.main_thread()

    def late(number: int, frame: FrameType | None) -> None:
        raise Limit(f"took more than {seconds:g} s")

    # Of the processor's time, which a busy machine does not stretch; and, for what only waits, of
    # the clock's.
    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds)}
    timers[signal.SIGALRM] = (signal.ITIMER_REAL, _WAITING * seconds)
    earlier = {number: signal.signal(number, late) for number in timers} if main else {}
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)
    _watch.seen = used.did = []
    _watch.folder = os.path.realpath(folder)
    for number in earlier:
        signal.setitimer(*timers[number])
    try:
        yield used
    finally:
        for number, handler in earlier.items():
            signal.setitimer(timers[number][0], 0)
            signal.signal(number, handler)
        _watch.folder, tempfile.tempdir = None, temporary
        if measured:
            used.bytes = max(0, _memory("VmHWM") - before)
        # Here, for it holds of a file that is refused as well.
        if used.did:
            raise Limit(f"left its folder or ran something: {used.did[0]}")
        if used.bytes > memory:
            raise Limit(f"took {used.bytes >> 20} MiB")
