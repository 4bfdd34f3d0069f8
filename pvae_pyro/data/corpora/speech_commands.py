"""Google Speech Commands v0.02, the ten digits: ``<word>/{speaker}_nohash_{index}.wav``, 16 kHz.

About 38,900 of the corpus's 105,829 recordings, each of at most one second; CC BY 4.0. Warden
2018, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition" (arXiv:1804.03209).
"""

import os
import re
from pathlib import Path
from typing import Literal

from pvae_pyro.data.corpus import CorpusError, Problem, Split
from pvae_pyro.data.download import install
from pvae_pyro.data.listing import list_corpus, named_files
from pvae_pyro.data.recording import Recording, SpeechCorpus

# torchaudio's archive and checksum (torchaudio.datasets.speechcommands), by https.
URL = "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
SAMPLE_RATE = 16000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_VERSION = "speech_commands_v0.02"
# The corpus's own lists, and how many lines they have in that version.
_VALIDATION = "validation_list.txt"
_TESTING = "testing_list.txt"
_LINES = {_VALIDATION: 9981, _TESTING: 11005}
_NAME = re.compile(r"(?P<speaker>[0-9a-f]+)_nohash_[0-9]+\.wav")
_IN_ARCHIVE = re.compile(
    rf"(\./)?(?P<place>({'|'.join(WORDS)})/{_NAME.pattern}|{_VALIDATION}|{_TESTING})"
)


def speech_commands_corpus(
    root: str | os.PathLike[str], validation: Literal["drop", "train"] = "drop"
) -> SpeechCorpus:
    """Digits of ``<root>/speech_commands_v0.02``, or of torchaudio's
    ``<root>/SpeechCommands/speech_commands_v0.02``; downloaded (2.4 GB) when neither is there.

    Test is ``testing_list.txt``; the corpus's lists keep a speaker's recordings together.
    validation: recordings of ``validation_list.txt`` are left out (``"drop"``), or used to
        train (``"train"``). A note says how many.

    Only the digits and the two lists are unpacked, from torchaudio's archive, verified by its
    SHA-256. Files of other names are problems; incomplete lists and missing recordings are noted.

    Raises `CorpusError` for a list that is missing or names no digit, for a folder without digits,
    and for a download that fails.
    """
    folders = (Path(root) / _VERSION, Path(root) / "SpeechCommands" / _VERSION)
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    if not folder.is_dir():
        install(
            URL,
            folder.with_name(f"{_VERSION}.tar.gz"),
            folder,
            _IN_ARCHIVE,
            _verify,
            known_hash=f"sha256:{SHA256}",
        )
    return _listed(folder, validation)


def _listed(folder: Path, validation: str) -> SpeechCorpus:
    testing, held_out = _list(folder, _TESTING), _list(folder, _VALIDATION)
    entries: list[Recording] = []
    problems: list[Problem] = []
    names: set[str] = set()
    for digit, word in enumerate(WORDS):
        if not (folder / word).is_dir():
            continue
        files, others = named_files(folder / word, _NAME, "speaker_nohash_index.wav")
        problems += others
        for path, match in files:
            name = f"{word}/{path.name}"
            names.add(name)
            split: Split = "test" if name in testing else "train"
            if split == "test" or name not in held_out or validation == "train":
                entries.append(
                    Recording(path, f"{word}/{path.stem}", str(digit), match["speaker"], split)
                )
    if not entries:
        raise CorpusError(f"{folder} has no recording of a digit; delete it to have it downloaded")
    done = "left out" if validation == "drop" else "used to train"
    notes = [f"{len(names & held_out - testing)} recordings of {_VALIDATION} are {done}"]
    for name, lines in ((_VALIDATION, held_out), (_TESTING, testing)):
        if len(lines) != _LINES[name]:
            notes.append(
                f"{folder / name} has {len(lines)} lines, not the {_LINES[name]} of v0.02: "
                "recordings that it should have may be used to train"
            )
        if missing := {line for line in lines if line.partition("/")[0] in WORDS} - names:
            notes.append(f"{len(missing)} recordings of digits in {name} are not there")
    return list_corpus(
        "Speech Commands v0.02 (digits)",
        SAMPLE_RATE,
        entries,
        problems,
        notes=notes,
        required_rate=SAMPLE_RATE,
    )


def _list(folder: Path, name: str) -> frozenset[str]:
    path = folder / name
    try:
        lines = frozenset(path.read_text("utf-8", "replace").split())
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({error.strerror}), and without it the corpus has no split; "
            f"take it from {URL}"
        ) from error
    if not any(line.partition("/")[0] in WORDS for line in lines):
        raise CorpusError(f"{path} names no recording of a digit")
    return lines


def _verify(folder: Path) -> str | None:
    lacking = [name for name in (*_LINES, *WORDS) if not (folder / name).exists()]
    return f"lacks {', '.join(lacking)}" if lacking else None
