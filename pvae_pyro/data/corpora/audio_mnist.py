"""AudioMNIST: English digits, 48 kHz, ``<speaker>/{digit}_{speaker}_{index}.wav``.

30,000 recordings of 60 speakers, mostly German, 12 of them women; MIT licence,
https://github.com/soerenab/AudioMNIST. Becker et al. 2018, "Interpreting and Explaining Deep
Neural Networks for Classification of Audio Signals" (arXiv:1807.03418).
"""

import os
import re
from pathlib import Path, PurePosixPath

from pvae_pyro.data.corpus import CorpusError, Split
from pvae_pyro.data.download import install
from pvae_pyro.data.listing import list_corpus, named_files
from pvae_pyro.data.recording import Recording, SpeechCorpus

REVISION = "630d7dab4c040882834de6fa21baf9a60372accd"
URL = f"https://github.com/soerenab/AudioMNIST/archive/{REVISION}.tar.gz"
SAMPLE_RATE = 48000
FEATURES_AT = 16000
TEST_SPEAKERS = ("05", "13", "18", "22", "26", "32", "33", "42", "45", "51", "52", "60")

_SPEAKERS = tuple(f"{number:02}" for number in range(1, 61))
_DIGITS = "0123456789"
_INDICES = range(50)
# Bytes of all sound files. The publishers name no checksum, and GitHub packs archives anew.
_TOTAL = 1_851_988_532
# data/36/notes.txt: "3_19 and 3_28 were copied and named 3_20 and 3_29".
_COPIES = ("3_36_20", "3_36_29")
_IN_ARCHIVE = re.compile(
    r"[^/]+/data/(?P<place>audioMNIST_meta\.txt|[0-9]{2}/[0-9]_[0-9]{2}_[0-9]{1,2}\.wav)"
)
_FOLDER = re.compile(r"audio[_-]?mnist(-master|-main|-[0-9a-f]{7,40})?", re.IGNORECASE)


def audio_mnist_corpus(root: str | os.PathLike[str]) -> SpeechCorpus:
    """The recordings in ``<root>/audio_mnist/data``, downloaded (1 GB) when they are not there.

    The folder may be named AudioMNIST (any case; as GitHub's archives name it too), and the level
    ``data`` may be absent. Features are at 16,000 Hz.

    Test is the 12 speakers of `TEST_SPEAKERS`, the test set of the authors' first fold for digits
    (their preprocess_data.py), 3 women and 9 men. Training is the other 48, 9 of them women.

    Two recordings that the publishers call copies of others are left out, and noted; so is how
    many others are missing. Files of other names are problems.

    The download is a pinned revision, whose publishers name no checksum: it must have exactly the
    30,000 names, of the revision's size in bytes. Raises `CorpusError` for a folder without
    recordings and for a download that fails or is not that revision.
    """
    folder = _find(Path(root))
    if folder is None:
        folder = Path(root) / "audio_mnist" / "data"
        archive = folder.parent / f"{REVISION}.tar.gz"
        install(URL, archive, folder, _IN_ARCHIVE, _verify)
    return _listed(folder)


def _find(root: Path) -> Path | None:
    """The folder that holds the speakers' folders."""
    for named in sorted(path for path in root.glob("*") if _FOLDER.fullmatch(path.name)):
        for folder in (named / "data", named):
            if any((folder / speaker).is_dir() for speaker in _SPEAKERS):
                return folder
    return None


def _listed(folder: Path) -> SpeechCorpus:
    entries, problems = [], []
    for speaker in (s for s in _SPEAKERS if (folder / s).is_dir()):
        named = f"digit_{speaker}_index.wav"
        pattern = re.compile(rf"(?P<digit>[0-9])_{speaker}_[1-4]?[0-9]\.wav")
        files, others = named_files(folder / speaker, pattern, named)
        split: Split = "test" if speaker in TEST_SPEAKERS else "train"
        entries += [Recording(p, p.stem, match["digit"], speaker, split) for p, match in files]
        problems += [p for p in others if p.name != "notes.txt"]  # the publishers', on speaker 36
    if not entries:
        raise CorpusError(f"{folder} has no recordings; delete it to have it downloaded")
    names = {entry.name for entry in entries}
    notes = []
    if copies := [name for name in _COPIES if name in names]:
        notes.append(f"left out, copies of others by the publishers' word: {', '.join(copies)}")
        entries = [entry for entry in entries if entry.name not in _COPIES]
    expected = {PurePosixPath(name).stem for name in _names()}
    if missing := expected - names:
        notes.append(f"{len(missing)} of AudioMNIST's {len(expected)} recordings are not there")
    return list_corpus(
        "AudioMNIST", FEATURES_AT, entries, problems, notes=notes, required_rate=SAMPLE_RATE
    )


def _names() -> set[str]:
    return {f"{s}/{d}_{s}_{i}.wav" for s in _SPEAKERS for d in _DIGITS for i in _INDICES}


def _verify(folder: Path) -> str | None:
    is_not = f"is not revision {REVISION} of AudioMNIST"
    paths = sorted(folder.glob("*/*"))
    found, expected = {f"{path.parent.name}/{path.name}" for path in paths}, _names()
    if found != expected:
        return (
            f"{is_not}: it lacks {len(expected - found)} recordings and has "
            f"{len(found - expected)} others"
        )
    if (total := sum(path.stat().st_size for path in paths)) != _TOTAL:
        return f"{is_not}: its recordings have {total} bytes, not {_TOTAL}"
    return None
