"""SecuVoice: Spanish digits, spoken one at a time, recorded with two smartphones at once.

Martín-Doñas et al., IberSPEECH 2016. It is not public and neither is the layout of its files,
so a pattern says what their names mean.
"""

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpus import AudioError, CorpusError, CorpusMissing, Problem
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.errors import shown

logger = logging.getLogger(__name__)

PATTERN = "{speaker}/{phone}/{digit}_{any}.wav"  # a guess, as good as any other
WORDS = ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve")

_SOUNDS = (".wav", ".flac", ".sph")
_SOME = "[^/]+?"  # as little as possible, within one folder or file name
_MEANINGS = {
    "digit": f"[0-9]|{'|'.join(WORDS)}",
    "speaker": _SOME,
    "phone": _SOME,
    "split": "train|test",
    "any": _SOME,
}
_SAMPLE_RATE = 16000
_VAD = VoiceActivity()
_MEASURED = 50  # files of each phone


class _Named(NamedTuple):
    """A sound file, and what its name says, in lower case; None where that is nothing."""

    path: Path
    name: str
    digit: str
    speaker: str
    phone: str | None
    split: str | None


def find_secuvoice(root: str | os.PathLike[str]) -> Path | None:
    """The folder ``secuvoice`` in `root`, in upper or lower case; None if there is none."""
    try:
        found = sorted(p for p in Path(root).iterdir() if p.name.casefold() == "secuvoice")
    except OSError:
        return None
    return next((path for path in found if path.is_dir()), None)


def secuvoice_corpus(
    root: str | os.PathLike[str],
    *,
    pattern: str = PATTERN,
    phone: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    test_speakers: Collection[str] | None = None,
) -> SpeechCorpus:
    """The digits of one phone below `folder`, or below `find_secuvoice(root)`; at 16 kHz.

    pattern: what the names of folders and files below `folder` mean, divided by ``/``.
        ``{digit}`` is 0 to 9 or cero to nueve, ``{split}`` is train or test; ``{speaker}``,
        ``{phone}`` and ``{any}`` are one character or more, as few as fit, and never ``/``. Upper
        and lower case are the same. Sound files (wav, flac, sph) of other names are problems.
    phone: whose recordings to take. None is the one with the higher dynamic range, as in the
        paper: the median over 50 of its files, evenly spaced in order of name, of
        `VoiceActivity.dynamic_range` (dB from noise floor to speech level).
    test_speakers: their names. None is as ``{split}`` says, or else about a quarter of them: those
        whose name's SHA-256 is below a quarter of the largest, so that more speakers do not move
        the others; one at least, and not all.

    Raises `CorpusMissing` if there is no such folder, and `CorpusError` if the pattern cannot be
    used, no file fits it, a phone or test speaker is not there, or a split would be empty.
    """
    at = find_secuvoice(root) if folder is None else Path(folder)
    if at is None or not at.is_dir():
        where = Path(root) / "secuvoice" if at is None else at
        raise CorpusMissing(
            f"SecuVoice is not at {shown(where)}: put it there, or say --folder, and --pattern "
            f"unless its files are {PATTERN}"
        )
    found, problems = _named_files(at, pattern)
    notes = []
    if phone is None and len(_phones(found)) > 1:
        phone, note = _chosen_phone(found)
        notes.append(note)
        logger.info(note)
    if phone is not None:
        found = _of_phone(found, phone)
    return list_corpus(
        "SecuVoice", _SAMPLE_RATE, _entries(found, test_speakers), problems, notes=notes
    )


def _named_files(folder: Path, pattern: str) -> tuple[list[_Named], list[Problem]]:
    """Sound files whose names fit the pattern, in order of path, and problems with the others."""
    expression = _expression(pattern)
    found, problems = [], []
    for path in _sound_files(folder):
        name = shown(path.relative_to(folder))
        if (match := expression.fullmatch(_plain(name))) is None:
            reason = f"{shown(path)}: does not fit the pattern {pattern}"
            problems.append(Problem(name, "name", reason))
            continue
        said = match.groupdict()
        digit = str(WORDS.index(said["digit"])) if said["digit"] in WORDS else said["digit"]
        found.append(
            _Named(path, name, digit, said["speaker"], said.get("phone"), said.get("split"))
        )
    if not found:
        why = f": {problems[0].reason}" if problems else ""
        raise CorpusError(
            f"{shown(folder)}: none of its {len(problems)} sound files ({', '.join(_SOUNDS)}) fits "
            f"the pattern {pattern}{why}"
        )
    return found, problems


def _expression(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression that has its placeholders as named groups."""
    texts, names = (re.split(r"\{(.*?)\}", pattern)[start::2] for start in (0, 1))
    named = [name for name in names if name != "any"]
    if len({*named}) < len(named) or not {"digit", "speaker"} <= {*named} <= _MEANINGS.keys():
        raise CorpusError(
            f"the pattern {pattern!r} must have {{digit}} and {{speaker}} once; it may have "
            "{phone} and {split} once, and {any}"
        )
    expression = re.escape(_plain(texts[0]))
    for name, text in zip(names, texts[1:], strict=True):
        group = "?:" if name == "any" else f"?P<{name}>"
        expression += f"({group}{_MEANINGS[name]}){re.escape(_plain(text))}"
    return re.compile(expression)


def _plain(text: str) -> str:
    """Lower case, and one spelling of letters with accents: a Mac's programs have another."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", shown(text)).casefold())


def _sound_files(folder: Path) -> list[Path]:
    """Those below the folder, in order of path, but for hidden ones and links to folders."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename} cannot be listed ({error.strerror})") from error

    paths = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in _SOUNDS)


def _phones(found: Sequence[_Named]) -> list[str]:
    return sorted({file.phone for file in found if file.phone is not None})


def _of_phone(found: Sequence[_Named], phone: str) -> list[_Named]:
    if _plain(phone) not in _phones(found):
        known = ", ".join(_phones(found)) or "none, as the pattern has no {phone}"
        raise CorpusError(f"no recordings of phone {phone!r}; there are: {known}")
    return [file for file in found if file.phone == _plain(phone)]


def _entries(found: Sequence[_Named], test_speakers: Collection[str] | None) -> list[Recording]:
    """For training and for testing: as `{split}` says, else no speaker is in both."""
    speakers = sorted({file.speaker for file in found})
    if found[0].split is None:
        chosen = _test_speakers(speakers, test_speakers)
        testing = {file for file in found if file.speaker in chosen}
    elif test_speakers is not None:
        raise CorpusError("test speakers are given, and the pattern has {split} as well")
    else:
        testing = {file for file in found if file.split == "test"}
    if not 0 < len(testing) < len(found):
        empty = "training" if testing else "testing"
        raise CorpusError(
            f"no recording is left for {empty}: there are {len(found)} of {len(speakers)} "
            f"speakers ({', '.join(speakers[:5])}{', …' if len(speakers) > 5 else ''})"
        )
    return [
        Recording(f.path, f.name, f.digit, f.speaker, "test" if f in testing else "train")
        for f in found
    ]


def _test_speakers(speakers: Sequence[str], given: Collection[str] | None) -> set[str]:
    if given is not None:
        names = {_plain(name) for name in given}
        if unknown := names - set(speakers):
            raise CorpusError(f"no recordings of the test speakers {', '.join(sorted(unknown))}")
        return names
    place = {name: hashlib.sha256(name.encode()).hexdigest() for name in speakers}
    quarter = sum(place[name] < "4" for name in speakers)  # by the first of 16 digits
    count = min(max(quarter, 1), len(speakers) - 1)
    return set(sorted(speakers, key=place.__getitem__)[:count])


def _chosen_phone(found: Sequence[_Named]) -> tuple[str, str]:
    """The phone with the higher dynamic range, and a sentence that says so."""
    ranges = {phone: _dynamic_range(_of_phone(found, phone)) for phone in _phones(found)}
    best = max(ranges, key=ranges.__getitem__)
    if np.isnan(list(ranges.values())).any():
        unusable = ", ".join(phone for phone, value in ranges.items() if np.isnan(value))
        raise CorpusError(
            f"the phone with the higher dynamic range cannot be found: of {unusable}, none of the "
            f"{_MEASURED} files looked at can be read; give the phone"
        )
    told = ", ".join(f"{phone} {value:.1f} dB" for phone, value in ranges.items())
    return best, (
        f"Of the phones, {best} is taken, which has the higher dynamic range ({told}: median over "
        f"up to {_MEASURED} files)."
    )


def _dynamic_range(found: Sequence[_Named]) -> float:
    """Median in dB over the files looked at that can be read; NaN if none can."""
    step = max(len(found) / _MEASURED, 1)
    ranges = []
    for index in np.arange(0, len(found), step).astype(int):
        try:
            ranges.append(_VAD.dynamic_range(*read_audio(found[index].path)))
        except AudioError:
            continue  # whoever reads the recording is told
    return float(np.median(ranges)) if ranges else float("nan")
