"""SecuVoice: Spanish digits, spoken one at a time, recorded with two smartphones at once.

Martín-Doñas et al., IberSPEECH 2016. It is not public and neither is the layout of its files,
so a pattern says what their names mean.
"""

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpora.patterns import Match, matches, of_phone, phones, split_entries
from pvae_pyro.data.corpus import AudioError, CorpusError, CorpusMissing, SpeechCorpus
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.errors import shown

logger = logging.getLogger(__name__)

PATTERN = "{speaker}/{phone}/{digit}_{any}.wav"  # a guess, as good as any other
WORDS = ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve")

_SAMPLE_RATE = 16000
_VAD = VoiceActivity()
_MEASURED = 50  # files of each phone


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

    pattern: what names of files mean, see `pvae_pyro.data.corpora.patterns.matches`; digits are
        0 to 9 or cero to nueve.
    phone: whose recordings to take. None is the one with the higher dynamic range, as in the
        paper: the median over 50 of its files, evenly spaced in order of name, of
        `VoiceActivity.dynamic_range` (dB from noise floor to speech level).
    test_speakers: see `pvae_pyro.data.corpora.patterns.split_entries`.

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
    found, problems = matches(at, pattern, words=WORDS)
    notes = []
    if phone is None and len(phones(found)) > 1:
        phone, note = _chosen_phone(found)
        notes.append(note)
        logger.info(note)
    if phone is not None:
        found = of_phone(found, phone)
    return list_corpus(
        "SecuVoice", _SAMPLE_RATE, split_entries(found, test_speakers), problems, notes=notes
    )


def _chosen_phone(found: Sequence[Match]) -> tuple[str, str]:
    """The phone with the higher dynamic range, and a sentence that says so."""
    ranges = {phone: _dynamic_range(of_phone(found, phone)) for phone in phones(found)}
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


def _dynamic_range(found: Sequence[Match]) -> float:
    """Median in dB over the files looked at that can be read; NaN if none can."""
    step = max(len(found) / _MEASURED, 1)
    ranges = []
    for index in np.arange(0, len(found), step).astype(int):
        try:
            ranges.append(_VAD.dynamic_range(*read_audio(found[index].path)))
        except AudioError:
            continue  # whoever reads the recording is told
    return float(np.median(ranges)) if ranges else float("nan")
