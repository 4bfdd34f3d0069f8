"""Recordings of a length that a word cannot have are left out."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from pvae_pyro.data.corpus import AudioError, SpeechCorpus

_ROUNDING = 0.0005  # seconds: ends of a part are rounded to samples


def bounded(corpus: SpeechCorpus, shortest: float, longest: float) -> SpeechCorpus:
    """The corpus, its recordings to be read only if they last `shortest` to `longest` seconds.

    Reading others raises `AudioError` (``"too short"``, ``"too long"``). Raises ValueError
    unless 0 <= shortest < longest.
    """
    if not 0 <= shortest < longest:
        raise ValueError(f"expected 0 <= shortest < longest, got {shortest} and {longest} s")
    return replace(
        corpus,
        recordings=tuple(
            replace(
                recording,
                fingerprint=f"{recording.fingerprint} {shortest} to {longest} s",
                read=partial(_read, recording.read, recording.name, shortest, longest),
            )
            for recording in corpus.recordings
        ),
    )


def _read(
    read: Callable[[], tuple[np.ndarray, int]], name: str, shortest: float, longest: float
) -> tuple[np.ndarray, int]:
    samples, rate = read()
    seconds = len(samples) / rate
    if seconds < shortest - _ROUNDING:
        reason = f"{name}: lasts {seconds:.3f} s, less than {shortest} s"
        raise AudioError(reason, "too short")
    if seconds > longest + _ROUNDING:
        raise AudioError(f"{name}: lasts {seconds:.2f} s, more than {longest} s", "too long")
    return samples, rate
