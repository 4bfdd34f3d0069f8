"""Free Spoken Digit Dataset: English digits, 8 kHz, ``{digit}_{speaker}_{index}.wav``.

3,000 recordings of 6 speakers, CC BY-SA 4.0, https://github.com/Jakobovski/free-spoken-digit-dataset
"""

import hashlib
import logging
import os
import re
import tarfile
import tempfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath

from pvae_pyro.data.audio import read_audio
from pvae_pyro.data.cache import digest
from pvae_pyro.data.corpus import CorpusError, Recording, SpeechCorpus
from pvae_pyro.data.download import fetch

logger = logging.getLogger(__name__)

REVISION = "26eb9aa"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{REVISION}.tar.gz"
# `content_digest` of that revision. GitHub packs archives anew, so their own checksum is not
# kept (https://github.blog/changelog/2023-01-30-git-archive-checksums-may-change/).
CONTENT = "ad392b593d65a82468c1ababb02931a5dd1a77ef986130824965df0cc44e2427"

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[A-Za-z]+)_(?P<index>[0-9]+)\.wav")
_TEST_INDICES = range(5)  # the dataset's README: 0-4 are the test set
_DIGITS = "0123456789"
_MAX_ARCHIVE = 100 << 20
_MAX_UNPACKED = 200 << 20


def fsdd_corpus(root: str | os.PathLike[str], download: bool = True) -> SpeechCorpus:
    """The recordings in ``<root>/fsdd/recordings``; downloaded when that folder is not there.

    Test is indices 0-4 of each speaker and digit (the official split). A folder of another
    revision is taken as it is, and the log says so. Raises `CorpusError` for files of other
    names, a speaker who lacks a digit in a partition, or a download that fails.
    """
    folder = Path(root) / "fsdd" / "recordings"
    if not folder.is_dir():
        if not download:
            raise CorpusError(f"{folder} is not there; unpack {URL} or allow the download")
        _download(folder)
    recordings = tuple(
        _recording(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")
    )
    _check_complete(folder, recordings)
    if content_digest(recordings) != CONTENT:
        logger.warning("%s differs from revision %s of FSDD", folder, REVISION)
    return SpeechCorpus("FSDD", False, 8000, recordings)


def content_digest(recordings: tuple[Recording, ...]) -> str:
    """`digest` of the sorted names and SHA-256 of all recordings."""
    return digest(*sorted(f"{r.name} {r.fingerprint}" for r in recordings))


def _recording(path: Path) -> Recording:
    match = _NAME.fullmatch(path.name)
    if match is None or not path.is_file():
        raise CorpusError(f"{path}: not a recording named digit_speaker_index.wav")
    return Recording(
        name=path.stem,
        label=match["digit"],
        speaker=match["speaker"],
        split="test" if int(match["index"]) in _TEST_INDICES else "train",
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
        read=partial(read_audio, path),
    )


def _check_complete(folder: Path, recordings: tuple[Recording, ...]) -> None:
    if not recordings:
        raise CorpusError(f"{folder} is empty; delete it to have it downloaded")
    present = {(r.speaker, r.label, r.split) for r in recordings}
    for speaker in sorted({r.speaker for r in recordings}):
        for label in _DIGITS:
            for split in ("train", "test"):
                if (speaker, label, split) not in present:
                    raise CorpusError(
                        f"{folder} is incomplete: no {split} recording {label}_{speaker}_*.wav"
                    )


def _download(folder: Path) -> None:
    """Fetch the archive, and let the folder appear only when its content is verified."""
    archive = folder.parent / f"{REVISION}.tar.gz"
    ours = not archive.exists()  # a copy that someone put there is not ours to delete
    fetch(URL, archive, None, max_bytes=_MAX_ARCHIVE)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked") as temporary:
            unpacked = Path(temporary) / "recordings"
            unpacked.mkdir()
            _unpack(archive, unpacked)
            found = content_digest(tuple(_recording(path) for path in unpacked.iterdir()))
            if found != CONTENT:
                raise CorpusError(
                    f"{archive} is not revision {REVISION} of FSDD: its recordings have digest "
                    f"{found}, not {CONTENT}"
                )
            unpacked.rename(folder)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if not folder.is_dir():  # else another process was first
            raise CorpusError(f"{archive} cannot be unpacked ({error})") from error
    finally:
        if ours:
            archive.unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Take regular files ``*/recordings/<name>`` with a recording's name, and nothing else."""
    total = 0
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            total += member.size
            if total > _MAX_UNPACKED:
                raise CorpusError(f"{archive} unpacks to more than {_MAX_UNPACKED} bytes")
            top, *rest = PurePosixPath(member.name).parts or ("",)
            if top in ("/", "..") or len(rest) != 2 or rest[0] != "recordings":
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None and _NAME.fullmatch(rest[1]):
                (folder / rest[1]).write_bytes(content.read())
