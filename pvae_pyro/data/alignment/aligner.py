"""Forced alignment of one recording: where the words that are known to be said lie in it.

By PocketSphinx 5 with the US English model that its wheel holds, an optional package
(https://github.com/cmusphinx/pocketsphinx).
"""

import importlib.metadata
import math
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.corpus import AudioError, CorpusError

_RATE = 16000  # Hz, of the acoustic model
_FRAME = 0.010  # seconds
# So wide that nothing is pruned: with 1e-100, one in twenty strings of synthetic speech did not
# reach its end. The states of a known string are few.
_BEAM = 1e-200
# Probability of silence between two words. The usual 0.005 is for fluent speech: with it, the
# worst tenth of the edges of spoken digits was a fifth further off.
_SILENCE = 0.5
_PEAK = 0.5  # of the samples: a faint recording has few of the sixteen bits
_NATS = 1024  # a frame is scored in steps of 2^10 of PocketSphinx's logarithm
# What the dictionary may hold; not its marks of fillers and variants: <sil>, [NOISE], a(2).
_WORD = re.compile(r"[a-z0-9'._-]+")

_one_at_a_time = threading.Lock()  # a decoder has one state


@dataclass(frozen=True)
class AlignedWord:
    """A word from `start` to `end`, in seconds.

    score: mean over the word's frames of its log-likelihood in nats, as PocketSphinx gives it:
        with the transitions, and less that of the best state looked at in the frame.
    """

    word: str
    start: float
    end: float
    score: float


class AlignmentError(AudioError):
    """A sound and its words cannot be brought together; the message says why.

    kind: ``unknown word`` (not in the dictionary) or ``not aligned``.
    """


def align_words(samples: np.ndarray, rate: int, words: Sequence[str]) -> list[AlignedWord]:
    """The words in their order, each with its place in ``samples [n]`` (`rate` Hz, any level).

    words: at least one, in lower case, all in the CMU dictionary; of several pronunciations the
        one that fits best is taken. Between words may be silence or noise.

    Times are in steps of 10 ms, strictly ordered and inside the recording. The result depends
    on the arguments alone. Wrong words are found as well, if there is time for them in the sound:
    only their scores tell.

    Raises `AlignmentError`, `CorpusError` when pocketsphinx is not installed, ValueError without
    words or for samples that are all zero or not finite.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not words or not 0 < peak < math.inf:
        raise ValueError("expected at least one word, and samples finite and not all zero")
    words = [str(word) for word in words]  # no numpy.str_: the decoder takes str alone
    with _one_at_a_time:
        found = _find(samples * (_PEAK / peak), rate, words)
    if [word for word, *_ in found] != words:
        heard = " ".join(word for word, *_ in found) or "nothing"
        raise AlignmentError(
            f"'{' '.join(words)}' cannot be aligned: {heard} was found of it", "not aligned"
        )
    length = math.floor(1000 * len(samples) / rate) / 1000
    aligned = []
    before = 0.0
    for word, first, last, score in found:
        start, end = round(first * _FRAME, 3), min(round((last + 1) * _FRAME, 3), length)
        if not before <= start < end:
            raise AlignmentError(f"'{word}' cannot be aligned: it has no place", "not aligned")
        aligned.append(AlignedWord(word, start, end, score))
        before = end
    return aligned


def aligner() -> str:
    """What aligns, with its version. Raises `CorpusError` when it is not installed."""
    _pocketsphinx()
    return f"pocketsphinx {importlib.metadata.version('pocketsphinx')} en-us"


def _find(
    samples: np.ndarray, rate: int, words: Sequence[str]
) -> list[tuple[str, int, int, float]]:
    """Word, first and last frame, score; without fillers, and without the marks of variants."""
    decoder = _decoder()
    for word in words:
        if not _WORD.fullmatch(word) or decoder.lookup_word(word) is None:
            raise AlignmentError(
                f"{word!r} is not in the pronunciation dictionary (numbers are written as words)",
                "unknown word",
            )
    wave = resampled(samples, rate, _RATE)
    sound = (wave * 32767).round().clip(-32768, 32767).astype(np.int16).tobytes()
    try:
        # Else it goes on with the noise that it heard in the recording before.
        decoder.reinit_feat()
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        decoder.process_raw(sound, full_utt=True)
        decoder.end_utt()
    except BaseException as error:  # Ctrl-C too: it would wait for the rest of this recording
        _decoder.cache_clear()
        if isinstance(error, RuntimeError):
            raise AlignmentError(f"its words cannot be aligned: {error}", "not aligned") from error
        raise
    return [
        (
            segment.word.partition("(")[0],
            segment.start_frame,
            segment.end_frame,
            # The likelihood comes as a number, to the power 1 / _NATS.
            _NATS
            * math.log(max(segment.ascore, sys.float_info.min))
            / (segment.end_frame + 1 - segment.start_frame),
        )
        for segment in decoder.seg() or ()
        if segment.word[0] not in "<[+"
    ]


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """One a process. Its log is off: what it has to say is in the errors."""
    beams = dict.fromkeys(("beam", "pbeam", "wbeam"), _BEAM)
    return _pocketsphinx().Decoder(
        # The first pass is the alignment: a best path through a lattice of it may skip phones.
        lm=None,
        bestpath=False,
        silprob=_SILENCE,
        loglevel="FATAL",
        **beams,
    )


def _pocketsphinx() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise CorpusError(
            "aligning words with their sound needs the package pocketsphinx: "
            "pip install pocketsphinx"
        ) from error
    return pocketsphinx
