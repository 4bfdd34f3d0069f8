"""C code of this package, built with the machine's own compiler when it is first wanted."""

import ctypes
import os
import shlex
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

# What lets a compiler vectorise rounding and selection. Not -ffast-math: a NaN must stay a NaN.
_FLAGS = ["-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
# Some compilers do not know the one or the other. OpenMP's threads are those that torch has.
_OPTIONS: tuple[list[str], ...] = (
    ["-march=native", "-fopenmp"],
    ["-march=native"],
    ["-fopenmp"],
    [],
)
_SECONDS = 60


def build(source: str, *defines: str) -> ctypes.CDLL | None:
    """The library that `source`, a file beside this one, makes; None where that fails.

    The compiler is ``$CC``, or ``cc``, given `defines` (``NAME=value``). It takes about half a
    second, so callers keep the result. Nothing is kept on disk: what is built for this processor
    is not found by another one that shares the folder, and nobody else's library is loaded.
    ``PVAE_NATIVE=0`` in the environment switches it off.
    """
    if os.environ.get("PVAE_NATIVE") == "0":
        return None
    path = Path(__file__).with_name(source)
    try:
        compiler = shlex.split(os.environ.get("CC") or "cc")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            library = Path(folder, "library.so")
            for options in _OPTIONS:
                command = [*compiler, *_FLAGS, *options, *(f"-D{define}" for define in defines)]
                # It may build what then does not load: without the library of OpenMP, say.
                with suppress(subprocess.SubprocessError, OSError):
                    subprocess.run(
                        [*command, "-o", str(library), str(path)],
                        check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS,
                    )  # fmt: skip
                    return ctypes.CDLL(str(library))
    except (OSError, ValueError):  # no compiler, no room to build in, $CC with an open quote
        pass
    return None
