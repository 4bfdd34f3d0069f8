"""Where data and computed arrays are stored, and a cache of arrays that repairs itself."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import safetensors.numpy

from pvae_pyro.io.checksums import read_checked, with_checksum
from pvae_pyro.io.files import expanded, file_held, remove_unfinished, write_whole

logger = logging.getLogger(__name__)

# Arrays by name, and metadata.
Arrays: TypeAlias = tuple[dict[str, np.ndarray], dict[str, str]]


def data_root() -> Path:
    """Folder that holds the corpora: ``$PVAE_DATA``, else ``./data``."""
    return expanded(os.environ.get("PVAE_DATA") or "data")


def cache_dir() -> Path:
    """Folder of the cache: ``$PVAE_CACHE``, else ``pvae_pyro`` in the user's cache.

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
    lasts: Callable[[Arrays], bool] = lambda computed: True,
) -> Arrays:
    """The arrays and metadata of ``compute()``, from ``<directory>/<key>.safetensors`` if there.

    key: `digest` of all that the result depends on, content and settings.
    lasts: whether a result is to be stored.

    A damaged file is computed again. A result that cannot be stored is returned all the same.
    While another process computes the same key, this one waits and takes its result. The log
    mentions all three.
    """
    path = _path(key, directory)
    if (stored := _stored(path)) is not None:
        return stored
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # without a lock, each process computes
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(f".{path.name}.lock")
            waiting = "another process computes %s: waiting for it"
            stack.enter_context(file_held(lock, lambda: logger.warning(waiting, path)))
            remove_unfinished(path.parent, path.name)
        if (stored := _stored(path)) is not None:  # by the process that this one waited for
            return stored
        arrays, metadata = compute()
        try:
            if lasts((arrays, metadata)):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, file_content(arrays, metadata))
        except OSError as error:
            advice = "it will be computed each time; PVAE_CACHE may name another folder"
            logger.warning("could not store %s (%s): %s", path, error, advice)
        return arrays, metadata


def holds(key: str, directory: str | os.PathLike[str]) -> bool:
    """Whether a file of that key exists, whole or damaged."""
    return _path(key, directory).exists()


def _path(key: str, directory: str | os.PathLike[str]) -> Path:
    return Path(directory) / f"{key}.safetensors"


def _stored(path: Path) -> Arrays | None:
    if not path.exists():
        return None
    try:
        return load(path)
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged (%s): computing it again", path, error)
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def load(path: Path) -> Arrays:
    """The content of a file of the cache. Raises OSError and ValueError as `read_checked`."""
    return read_checked(path, _as_text, safetensors.numpy.load)


def file_content(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The content of a file of the cache."""
    # safetensors writes the memory of an array as it lies.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return with_checksum(arrays, metadata, _as_text(metadata), safetensors.numpy.save)


def _as_text(metadata: dict[str, str]) -> str:
    return repr(sorted(metadata.items()))
