"""Archives from elsewhere: wanted files only, within bounds; the folder is whole or absent."""

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from tqdm import tqdm

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.download import fetch

# The place in the folder of a file so named in the archive; None leaves it out.
Wanted: TypeAlias = Callable[[PurePosixPath], PurePosixPath | None]
# What is wrong with a folder; None is nothing.
Verify: TypeAlias = Callable[[Path], str | None]

_CHUNK = 1 << 20
_AT_END = 16  # reads; tarfile needs a few to see the end
_PATIENCE = 30.0  # seconds: GitHub packs an archive when it is asked for


def install(
    url: str,
    archive: Path,
    folder: Path,
    wanted: Wanted,
    verify: Verify,
    *,
    sha256: str | None = None,
    max_archive: int,
    max_unpacked: int,
) -> None:
    """`fetch` the `url` as `archive`, `unpack` it as `folder`, and delete the archive.

    sha256: as of `fetch`. max_archive, max_unpacked: bytes.

    An archive that was there before is used and kept. A verified one is kept as well when it
    cannot be unpacked, for want of room say. Raises `CorpusError` as the two do.
    """
    ours = not archive.exists()
    fetch(url, archive, sha256, max_bytes=max_archive, timeout=_PATIENCE)
    try:
        unpack(archive, folder, wanted, verify, max_bytes=max_unpacked)
    finally:
        if ours and (sha256 is None or folder.is_dir()):
            archive.unlink(missing_ok=True)


def unpack(
    archive: Path,
    folder: Path,
    wanted: Wanted,
    verify: Verify,
    *,
    max_bytes: int,
) -> None:
    """Unpack files of a gzipped tar archive; `folder` appears when all is there and verified.

    wanted: is asked for regular files only, not for links or devices, nor for names that are
        absolute or have ``..`` in them: none of these is ever unpacked.
    verify: is asked of the folder before it gets its name.
    max_bytes: that the whole archive may unpack to, with what is not wanted.

    Raises `CorpusError`, which names the archive, when it is damaged or too large, when there is
    no room, or for what `verify` found. Then no file of it is left.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked") as temporary:
            content = Path(temporary) / folder.name
            content.mkdir()
            _extract(archive, content, wanted, max_bytes)
            if wrong := verify(content):
                raise CorpusError(f"{archive} {wrong}")
            content.rename(folder)
    # ValueError: what tarfile makes of a damaged header of a sparse file.
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        if not folder.is_dir():  # else another process was first
            raise CorpusError(f"{archive} cannot be unpacked ({error})") from error


def _extract(archive: Path, folder: Path, wanted: Wanted, max_bytes: int) -> None:
    with (
        archive.open("rb") as raw,
        tqdm.wrapattr(
            raw,
            "read",
            total=archive.stat().st_size,
            desc=f"unpacking {archive.name}",
            leave=False,
            disable=None,  # no bar in a log file
        ) as packed,
        gzip.GzipFile(fileobj=packed) as unpacked,
    ):
        bounded: Any = _Bounded(unpacked, max_bytes, archive)
        # As a stream: tarfile's "r:gz" starts again from the first byte to go back by one.
        with tarfile.open(fileobj=bounded, mode="r|") as tar:
            for member in tar:
                # A sparse file may unpack to any size.
                if not member.isreg() or member.issparse():
                    continue
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or (place := wanted(name)) is None:
                    continue
                content = tar.extractfile(member)
                assert content is not None  # it is regular
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
        # tarfile takes a damaged header for the end; gzip's checksum, at the real end, does not.
        while bounded.read(_CHUNK):
            pass


class _Bounded:
    """A file that may be read up to a limit, and no further."""

    def __init__(self, file: gzip.GzipFile, max_bytes: int, archive: Path):
        self._file = file
        self._max = max_bytes
        self._archive = archive
        self._total = 0
        self._beyond = 0

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._total += len(chunk)
        # tarfile passes over a file that its header calls larger than any disk, block by block.
        self._beyond += not chunk
        if self._beyond > _AT_END:
            raise EOFError("ends within a file")
        if self._total > self._max:
            raise CorpusError(f"{self._archive} unpacks to more than {self._max} bytes")
        return chunk
