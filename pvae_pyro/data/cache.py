"""Where data and computed arrays are kept, and a cache of arrays that repairs itself."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import safetensors.numpy

from pvae_pyro.io.checksums import read_sealed, seal
from pvae_pyro.io.files import expanded, file_held, remove_unfinished, write_whole

logger = logging.getLogger(__name__)

# Arrays by name, and what is to be told of them.
Arrays: TypeAlias = tuple[dict[str, np.ndarray], dict[str, str]]


def data_root() -> Path:
    """Folder that holds the corpora: ``$PVAE_DATA``, else ``./data``."""
    return expanded(os.environ.get("PVAE_DATA") or "data")


def cache_dir() -> Path:
    """Folder for what is computed once: ``$PVAE_CACHE``, else ``pvae_pyro`` in the user's cache.

    The user's cache is ``$XDG_CACHE_HOME``, else ``~/.cache``
    (https://specifications.freedesktop.org/basedir-spec/latest/).
    """
    if own := os.environ.get("PVAE_CACHE"):
        return expanded(own)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pvae_pyro"


def digest(*parts: str) -> str:
    """SHA-256 of the parts in order, in hex; ``("ab", "c")`` and ``("a", "bc")`` differ."""
    sha = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        sha.update(f"{len(encoded)}:".encode())
        sha.update(encoded)
    return sha.hexdigest()


def cached_arrays(
    key: str,
    compute: Callable[[], Arrays],
    directory: str | os.PathLike[str],
    check: Callable[[Arrays], bool] = lambda kept: True,
) -> Arrays:
    """The arrays and metadata of ``compute()``, from ``<directory>/<key>.safetensors`` if there.

    key: `digest` of all that the result depends on, content and settings.
    check: whether arrays are of the kind that is computed; KeyError, TypeError and
        ValueError mean no. A checksum shows damage, and not a file of something else.

    A damaged file is computed again, and so is one that is not a cache file; where the
    result cannot be stored it is returned all the same. While another process computes the same,
    wait and take what it keeps. The log tells of all four.
    """
    path = _path(key, directory)
    if (kept := _kept(path, check)) is not None:
        return kept
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without a lock, each process computes
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(f".{path.name}.lock")
            waiting = "another process computes %s: waiting for it"
            stack.enter_context(file_held(lock, lambda: logger.warning(waiting, path)))
            remove_unfinished(path.parent, path.name)
        if (kept := _kept(path, check)) is not None:  # by whom we waited for
            return kept
        arrays, metadata = compute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, sealed(arrays, metadata))
        except OSError as error:
            advice = "it will be computed each time; PVAE_CACHE may name another folder"
            logger.warning("could not keep %s (%s): %s", path, error, advice)
        return arrays, metadata


def fits(array: np.ndarray, kind: type, *shape: int) -> bool:
    """Whether an array is of that type and shape, and finite."""
    if array.dtype != kind or array.shape != shape:
        return False
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def holds(key: str, directory: str | os.PathLike[str]) -> bool:
    """Whether there is a file of that key, whole or damaged."""
    return _path(key, directory).exists()


def forget(key: str, directory: str | os.PathLike[str]) -> None:
    """Delete what is kept under that key."""
    _path(key, directory).unlink(missing_ok=True)


def _path(key: str, directory: str | os.PathLike[str]) -> Path:
    return Path(directory) / f"{key}.safetensors"


def _kept(path: Path, check: Callable[[Arrays], bool]) -> Arrays | None:
    if not path.exists():
        return None
    try:
        kept = load(path)
        if not check(kept):
            raise ValueError("it holds something else")
        return kept
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is damaged (%s): computing it again", path, error)
    with contextlib.suppress(OSError):
        path.unlink()  # told once
    return None


def load(path: Path) -> Arrays:
    """What a file of the cache holds. Raises OSError and ValueError as `read_sealed`."""
    return read_sealed(path, _told, safetensors.numpy.load)


def sealed(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The content of a file of the cache."""
    # safetensors writes the memory of an array as it lies.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return seal(arrays, metadata, _told(metadata), safetensors.numpy.save)


def _told(metadata: dict[str, str]) -> str:
    return repr(sorted(metadata.items()))
