"""Damage good files of every format that is read, and see that each is read or refused.

    nice python -m tests.robustness.fuzz --files 10000 --out docs/results/trust/fuzz.json
    python -m tests.robustness.fuzz --reader checkpoint --files 200

Each reader has a process of its own, with a limit of memory, and of time for each file. Fails if a
reader raises anything but its documented errors, or one that does not name the file; if it exceeds
a limit; or if it runs a program, unpickles, connects to a network or writes outside its folder.
Files that failed, and their tracebacks, are kept in the folder --keep.
"""

import argparse
import ctypes
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pvae_pyro.io.provenance import environment, write_json
from tests.robustness.readers import READERS, Reader

MEMORY = 400 << 20  # bytes that one file may add; the largest picture takes 336 MiB
HARD_MEMORY = 4 << 30  # of the process; what asks for more gets a MemoryError
SECONDS = 20.0  # of the processor's time, for one file
CLOCK = 600.0  # seconds of the clock, for what waits and computes nothing
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen"),
    *("pickle.find_class", "socket.connect", "os.symlink", "os.link"),
)
_CHANGES = ("os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.chmod", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Guard:
    """An audit hook that notes what no reader may do, while a folder is given."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        path = arguments[0] if arguments else None
        writes = event in _CHANGES and arguments[-1] in (-1, None)
        writes |= event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)
        if event in FORBIDDEN or (writes and not self._inside(path)):
            self.seen.append(f"{event} {arguments!r}")

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True  # a descriptor
        assert self.folder is not None
        real = Path(os.path.realpath(os.fsdecode(path)))
        return real == Path(self.folder) or Path(self.folder) in real.parents


def _limit_time(seconds: float) -> None:
    """Let the system kill this process after that time; 0 lifts the limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds and CLOCK)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _tried(reader: Reader, path: Path, guard: Guard) -> tuple[bool, str]:
    """Whether the file was read, and what is wrong with how it was read or refused."""
    before, read, wrong = _peak(), False, ""
    guard.folder, guard.seen = str(path.parent), []
    _limit_time(SECONDS)
    try:
        reader.read(path)
        read = True
    except reader.errors as error:
        if str(path) not in str(error) and str(path.parent) not in str(error):
            wrong = f"the error does not name the file: {error!r}"
    except Exception:
        wrong = traceback.format_exc()
    _limit_time(0.0)
    guard.folder = None
    if _peak() - before > MEMORY:
        wrong = f"took {(_peak() - before) >> 20} MiB"
    return read, guard.seen[0] if guard.seen else wrong


def _content(reader: Reader, seeds: Sequence[bytes], seed: int, number: int) -> bytes:
    return reader.change(random.Random(f"{reader.file} {seed} {number}"), seeds)


def _keep(keep: Path, name: str, number: int, file: Path, wrong: str) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, keep / f"{name}-{number}")
    (keep / f"{name}-{number}.txt").write_text(wrong, "utf-8", "backslashreplace")


def work(name: str, numbers: range, seed: int, folder: Path, keep: Path, counts: Any) -> None:
    """The target of a process. counts: which file it is at; how many were read, and refused."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    for number, of in ((signal.SIGPROF, signal.SIG_DFL), (signal.SIGALRM, signal.SIG_DFL)):
        signal.signal(number, of)
    reader, guard, copy = READERS[name], Guard(), folder / "copy"
    inner = Path(os.path.realpath(folder)) / "files"
    inner.mkdir()
    os.environ["PVAE_CACHE"] = str(inner / "cache")
    seeds, path = reader.good(inner), inner / reader.file
    for content in seeds:
        path.write_bytes(content)
        reader.read(path)  # else the test shows nothing
    resource.setrlimit(resource.RLIMIT_DATA, (HARD_MEMORY, HARD_MEMORY))
    for counts[0] in numbers:
        content = _content(reader, seeds, seed, counts[0])
        copy.write_bytes(content)
        path.write_bytes(content)
        read, wrong = _tried(reader, path, guard)
        counts[1 if read else 2] += 1
        if wrong:
            _keep(keep, name, counts[0], copy, wrong)
    counts[0] = numbers.stop


def fuzz(name: str, files: int, seed: int, keep: Path) -> dict[str, Any]:
    """Read that many damaged files, in processes that may die; `failures` name the kept files."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.robustness.readers"])
    counts: ctypes.Array[ctypes.c_int64] = context.Array("q", [-1, 0, 0], lock=False)
    start = 0
    while start < files:
        with tempfile.TemporaryDirectory() as temporary:
            given = (name, range(start, files), seed, Path(temporary), keep, counts)
            process = context.Process(target=work, args=given)
            process.start()
            process.join()
            at = counts[0]
            if at < start:
                raise RuntimeError(f"{name}: good files are not read")
            if at < files:
                wrong = f"the process died with {process.exitcode}"
                _keep(keep, name, at, Path(temporary, "copy"), wrong)
        start = at + 1
    kept = sorted(path.name for path in keep.glob(f"{name}-*.txt"))
    return {"files": files, "read": counts[1], "refused": counts[2], "failures": kept}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.robustness.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--files", type=int, default=10_000, metavar="N", help="of each reader (default: 10000)")
    add("--seed", type=int, default=0, metavar="N")
    add("--reader", action="append", choices=READERS, help="this one alone; may be repeated")
    add("--keep", type=Path, default=Path("fuzz-failures"), metavar="DIR")
    add("--out", type=Path, metavar="FILE", help="write the counts there")
    options = parser.parse_args(argv)
    found, made_by = {}, environment()  # now: the files may change while it runs
    for name in options.reader or READERS:
        found[name] = fuzz(name, options.files, options.seed, options.keep)
        print(f"{name}: {found[name]}", flush=True)
    if options.out is not None:
        write_json(options.out, {"seed": options.seed, "readers": found, **made_by})
    return int(any(of["failures"] for of in found.values()))


if __name__ == "__main__":
    sys.exit(main())
