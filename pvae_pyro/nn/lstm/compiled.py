"""C code of this package, built with the machine's own compiler when it is first wanted."""

import ctypes
import logging
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

log = logging.getLogger(__name__)

# What lets a compiler vectorise rounding and selection. Not -ffast-math: a NaN must stay a NaN.
_FLAGS = ["-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
# Some compilers do not know the one or the other. OpenMP's threads are those that torch has.
_OPTIONS: tuple[list[str], ...] = (
    ["-march=native", "-fopenmp"],
    ["-march=native"],
    ["-fopenmp"],
    [],
)
SECONDS = 20.0  # for all options together


def build(source: str, *defines: str) -> ctypes.CDLL | None:
    """The library that `source`, a file beside this one, makes; None where that fails, which the
    log tells.

    The compiler is ``$CC``, or ``cc``, given `defines` (``NAME=value``). It takes about half a
    second, so callers keep the result. Nothing is kept on disk: what is built for this processor
    is not found by another one that shares the folder, and nobody else's library is loaded.
    ``PVAE_NATIVE=0`` in the environment switches it off.
    """
    if os.environ.get("PVAE_NATIVE") == "0":
        return None
    compiler = os.environ.get("CC") or "cc"
    try:
        words = [*shlex.split(compiler), *_FLAGS, *(f"-D{define}" for define in defines)]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = [*words, str(Path(__file__).with_name(source)), "-o"]
            return _first_that_loads(command, Path(folder, "library.so"))
    # No compiler, none that ends, no room to build in, $CC with an open quote.
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        tell = log.warning if isinstance(error, subprocess.TimeoutExpired) else log.info
        tell(
            f"{source} could not be compiled by {compiler} ($CC; {_reason(error)}): torch does its "
            "work, more slowly"
        )
    return None


def _first_that_loads(command: list[str], library: Path) -> ctypes.CDLL:
    """Raises TimeoutExpired at once, or what went wrong with the last options."""
    end = time.monotonic() + SECONDS
    for options in _OPTIONS:
        try:
            subprocess.run(
                [*command, str(library), *options],
                check=True, capture_output=True, stdin=subprocess.DEVNULL, text=True,
                errors="replace", timeout=max(end - time.monotonic(), 0),
            )  # fmt: skip
            # It may build what then does not load: without the library of OpenMP, say.
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.CalledProcessError):
            if options is _OPTIONS[-1]:
                raise
    raise AssertionError("there are options")


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {SECONDS:g} s"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return error.stderr.strip().splitlines()[-1]
    return str(error)
