"""Free Spoken Digit Dataset: English digits, 8 kHz, ``{digit}_{speaker}_{index}.wav``.

3,000 recordings of 6 speakers, CC BY-SA 4.0, https://github.com/Jakobovski/free-spoken-digit-dataset
"""

import os
import re
from dataclasses import replace
from pathlib import Path

from pvae_pyro.data.cache import digest
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.download import install
from pvae_pyro.data.listing import list_corpus, named_files
from pvae_pyro.data.recording import Recording, SpeechCorpus

REVISION = "26eb9aa"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{REVISION}.tar.gz"
# `content_digest` of that revision. GitHub packs archives anew, so their own checksum is not
# kept (https://github.blog/changelog/2023-01-30-git-archive-checksums-may-change/).
CONTENT = "ad392b593d65a82468c1ababb02931a5dd1a77ef986130824965df0cc44e2427"
SAMPLE_RATE = 8000

_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[A-Za-z]+)_(?P<index>[0-9]+)\.wav")
_TEST_INDICES = range(5)  # the dataset's README: 0-4 are the test set


def fsdd_corpus(root: str | os.PathLike[str]) -> SpeechCorpus:
    """The recordings in ``<root>/fsdd/recordings``; downloaded when that folder is not there.

    Test is indices 0-4 of each speaker and digit (the official split), so every speaker is in
    both parts. Files of other names are problems, and a note says if the recordings are not those
    of the pinned revision.

    Raises `CorpusError` for a folder without recordings and for a download that fails or is not
    that revision.
    """
    folder = Path(root) / "fsdd" / "recordings"
    if not folder.is_dir():
        install(
            URL,
            folder.parent / f"{REVISION}.tar.gz",
            folder,
            re.compile(rf"[^/]+/recordings/(?P<place>{_NAME.pattern})"),
            _verify,
        )
    corpus = _listed(folder)
    if not corpus.recordings:
        raise CorpusError(f"{folder} has no recordings; delete it to have it downloaded")
    if content_digest(corpus.recordings) != CONTENT:
        corpus = replace(corpus, notes=(f"{folder} differs from revision {REVISION} of FSDD",))
    return corpus


def content_digest(recordings: tuple[Recording, ...]) -> str:
    """`digest` of the sorted names and SHA-256 of all recordings."""
    return digest(*sorted(f"{r.name} {r.content}" for r in recordings))


def _listed(folder: Path) -> SpeechCorpus:
    files, problems = named_files(folder, _NAME, "digit_speaker_index.wav")
    entries = [
        Recording(
            path,
            path.stem,
            match["digit"],
            match["speaker"],
            "test" if int(match["index"]) in _TEST_INDICES else "train",
        )
        for path, match in files
    ]
    return list_corpus("FSDD", SAMPLE_RATE, entries, problems, required_rate=SAMPLE_RATE)


def _verify(folder: Path) -> str | None:
    corpus = _listed(folder)
    found = content_digest(corpus.recordings)
    # A file more that is a copy of another is among the problems, not the recordings.
    if found == CONTENT and not corpus.problems:
        return None
    return f"is not revision {REVISION} of FSDD: its recordings have digest {found}, not {CONTENT}"
