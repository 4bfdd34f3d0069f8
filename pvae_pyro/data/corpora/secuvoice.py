"""SecuVoice: Spanish digits, spoken one at a time, recorded with two smartphones at once.

Martín-Doñas et al., IberSPEECH 2016. It is not public and neither is the layout of its files,
so a pattern says what their names mean.
"""

import contextlib
import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpus import AudioError, CorpusError, CorpusMissing, Problem, Split
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
_MEASURED = 50  # files of each phone


class _Named(NamedTuple):
    """A sound file, and what its name says, in lower case; None where it says nothing."""

    path: Path
    name: str
    digit: str
    speaker: str
    phone: str | None
    split: str | None


def secuvoice_corpus(
    root: str | os.PathLike[str],
    *,
    pattern: str = PATTERN,
    phone: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> SpeechCorpus:
    """The digits of one phone below `folder`, or below ``<root>/secuvoice`` (any case); at 16 kHz.

    pattern: what the names of folders and files below `folder` mean, divided by ``/``.
        ``{digit}`` is 0 to 9 or cero to nueve, ``{split}`` is train or test; ``{speaker}``,
        ``{phone}`` and ``{any}`` are one character or more, as few as fit, and never ``/``. Upper
        and lower case are the same. Sound files (wav, flac, sph) of other names are problems.
    phone: whose recordings to use. None is the one with the higher dynamic range, as in the
        paper: the median over 50 of its files, evenly spaced in order of name, of
        `VoiceActivity.dynamic_range` (dB from noise floor to speech level).

    Without ``{split}``, about a quarter of the speakers is for testing: those whose name's SHA-256
    is below a quarter of the largest, so that more speakers do not move the others; at least one,
    and not all.

    Raises `CorpusMissing` if there is no such folder, and `CorpusError` if the pattern cannot be
    used, no file fits it, there is no such phone, or a split would be empty.
    """
    at = Path(root) / "secuvoice" if folder is None else Path(folder)
    if folder is None and at.parent.is_dir():
        folders = (path for path in sorted(at.parent.iterdir()) if path.is_dir())
        at = next((path for path in folders if path.name.casefold() == at.name), at)
    if not at.is_dir():
        raise CorpusMissing(
            f"SecuVoice is not at {shown(at)}: put it there or give --folder, and --pattern "
            f"unless its files are {PATTERN}"
        )
    found, problems = _named_files(at, pattern)
    phones = sorted({file.phone for file in found if file.phone is not None})
    notes = []
    if phone is None and len(phones) > 1:
        phone, note = _choose_phone(found, phones)
        notes.append(note)
        logger.info(note)
    if phone is not None:
        found = [file for file in found if file.phone == _plain(phone)]
        if not found:
            known = ", ".join(phones) or "none, as the pattern has no {phone}"
            raise CorpusError(f"no recordings of phone {phone!r}; there are: {known}")
    return list_corpus("SecuVoice", _SAMPLE_RATE, _recordings(found), problems, notes=notes)


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
    """Sound files below the folder, in order of path, except hidden ones and links to folders."""

    def refuse(error: OSError) -> None:
        raise CorpusError(f"{shown(error.filename)} cannot be listed ({error.strerror})") from error

    walk = os.walk(folder, onerror=refuse)
    paths = [Path(here, name) for here, _, names in walk for name in names]
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in _SOUNDS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _recordings(found: Sequence[_Named]) -> list[Recording]:
    speakers = sorted({file.speaker for file in found})
    place = {name: hashlib.sha256(name.encode()).hexdigest() for name in speakers}
    quarter = sum(place[name] < "4" for name in speakers)  # by the first of 16 digits
    count = min(max(quarter, 1), len(speakers) - 1)
    testing = sorted(speakers, key=place.__getitem__)[:count]
    recordings = []
    for file in found:
        is_test = file.speaker in testing if file.split is None else file.split == "test"
        split: Split = "test" if is_test else "train"
        recordings.append(Recording(file.path, file.name, file.digit, file.speaker, split))
    if len({recording.split for recording in recordings}) == 1:
        empty = "testing" if recordings[0].split == "train" else "training"
        raise CorpusError(
            f"no recording is left for {empty}: there are {len(found)} of {len(speakers)} "
            f"speakers ({', '.join(speakers[:5])}{', …' if len(speakers) > 5 else ''})"
        )
    return recordings


def _choose_phone(found: Sequence[_Named], phones: Sequence[str]) -> tuple[str, str]:
    """The phone with the higher dynamic range, and a sentence that says so."""
    ranges = {phone: _dynamic_range([f for f in found if f.phone == phone]) for phone in phones}
    if np.isnan(list(ranges.values())).any():
        unusable = ", ".join(phone for phone, value in ranges.items() if np.isnan(value))
        raise CorpusError(
            f"the dynamic range of {unusable} cannot be measured, because none of {_MEASURED} "
            "files can be read: choose one with --phone"
        )
    best = max(ranges, key=ranges.__getitem__)
    values = ", ".join(f"{phone} {value:.1f} dB" for phone, value in ranges.items())
    return best, (
        f"Of the phones, {best} is used, which has the higher dynamic range ({values}: median over "
        f"up to {_MEASURED} files)."
    )


def _dynamic_range(found: Sequence[_Named]) -> float:
    """Median in dB over some files, without those that cannot be read; NaN if none can."""
    step = max(len(found) / _MEASURED, 1)
    ranges = []
    for index in np.arange(0, len(found), step).astype(int):
        with contextlib.suppress(AudioError):  # reported when the recording is read
            ranges.append(VoiceActivity().dynamic_range(*read_audio(found[index].path)))
    return float(np.median(ranges)) if ranges else float("nan")
