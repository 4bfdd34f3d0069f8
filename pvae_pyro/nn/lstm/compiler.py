"""Compile C code of this package with the machine's own compiler, at first use."""

import ctypes
import logging
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

# These let a compiler vectorise rounding and selection. -ffast-math would lose NaN.
_FLAGS = ["-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
# Some compilers lack one option or both. The threads of OpenMP are those that torch uses.
_OPTIONS: tuple[list[str], ...] = (
    ["-march=native", "-fopenmp"],
    ["-march=native"],
    ["-fopenmp"],
    [],
)
_SECONDS = 20.0  # for one attempt


def build(source: str, *defines: str) -> ctypes.CDLL | None:
    """Compile and load `source`, a file beside this one, with ``-D`` for each of `defines`.

    The compiler is ``$CC``, or ``cc``; it takes about half a second. Returns None, and logs the
    reason, if it fails, and None if ``PVAE_NATIVE`` is 0 in the environment. The library is not
    kept on disk: another processor may share the folder.
    """
    if os.environ.get("PVAE_NATIVE") == "0":
        return None
    compiler, reason = os.environ.get("CC") or "cc", ""
    path = Path(__file__).with_name(source)
    for options in _OPTIONS:
        try:
            command = [*shlex.split(compiler), *_FLAGS, *(f"-D{define}" for define in defines)]
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                library = str(Path(folder, "library.so"))
                subprocess.run(
                    [*command, str(path), "-o", library, *options],
                    check=True, capture_output=True, stdin=subprocess.DEVNULL, text=True,
                    errors="replace", timeout=_SECONDS,
                )  # fmt: skip
                return ctypes.CDLL(library)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.strip() or str(error)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            reason = str(error)
            if not isinstance(error, OSError):  # a compiler that hangs, or $CC with an open quote
                break
    log.info(f"{compiler} cannot compile {source} ({reason}): torch's slower LSTM is used instead")
    return None
