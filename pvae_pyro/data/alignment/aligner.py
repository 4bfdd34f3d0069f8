"""Forced alignment: find where the words of a transcript lie in one recording.

Uses PocketSphinx 5 and the US English model in its wheel, an optional dependency
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
# reach its end. A known string has few states.
_BEAM = 1e-200
# Probability of silence between two words. The default 0.005 is for fluent speech: with it, the
# worst tenth of the edges of spoken digits was a fifth further off.
_SILENCE = 0.5
_PEAK = 0.5  # of the samples, because a faint recording uses few of the sixteen bits
_NATS = 1024  # PocketSphinx scores a frame in steps of 2^10 of its logarithm
_WORD = re.compile(r"[a-z0-9'._-]+")  # without fillers and variants: <sil>, [NOISE], a(2)

_one_at_a_time = threading.Lock()  # a decoder has one state


@dataclass(frozen=True)
class AlignedWord:
    """A word from `start` to `end`, in seconds.

    score: mean over the word's frames of PocketSphinx's log-likelihood in nats, which includes the
        transitions and is relative to the best state of each frame.
    """

    word: str
    start: float
    end: float
    score: float


class AlignmentError(AudioError):
    """A recording cannot be aligned: kind ``unknown word`` (not in the dictionary) or
    ``not aligned``.
    """


def align_words(samples: np.ndarray, rate: int, words: Sequence[str]) -> list[AlignedWord]:
    """Where the words are, in order, in ``samples [n]`` (`rate` Hz, any level).

    words: at least one, in lower case, all in the CMU dictionary. The pronunciation that fits best
        is used. There may be silence or noise between words.

    Times are in steps of 10 ms, strictly ordered and inside the recording. The result depends
    on the arguments only. Wrong words are found as well, with low scores, if the sound is long
    enough for them.

    Raises `AlignmentError`, `CorpusError` if pocketsphinx is not installed, ValueError without
    words or for samples that are all zero or not finite.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not words or not 0 < peak < math.inf:
        raise ValueError("expected at least one word, and samples finite and not all zero")
    words = list(map(str, words))  # the decoder does not accept numpy.str_
    with _one_at_a_time:
        found = _find(samples * (_PEAK / peak), rate, words)
    if [word for word, *_ in found] != words:
        heard = " ".join(word for word, *_ in found) or "nothing"
        reason = f"'{' '.join(words)}' cannot be aligned: found {heard}"
        raise AlignmentError(reason, "not aligned")
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
    """The aligner and its version. Raises `CorpusError` if it is not installed."""
    _pocketsphinx()
    return f"pocketsphinx {importlib.metadata.version('pocketsphinx')} en-us"


def _find(
    samples: np.ndarray, rate: int, words: Sequence[str]
) -> list[tuple[str, int, int, float]]:
    """Word, first and last frame, and score of each segment but fillers."""
    decoder = _decoder()
    for word in words:
        if not _WORD.fullmatch(word) or decoder.lookup_word(word) is None:
            reason = f"{word!r} is not in the pronunciation dictionary (write numbers as words)"
            raise AlignmentError(reason, "unknown word")
    wave = resampled(samples, rate, _RATE)
    sound = (wave * 32767).round().clip(-32768, 32767).astype(np.int16).tobytes()
    try:
        # Otherwise it keeps the noise estimate of the previous recording.
        decoder.reinit_feat()
        decoder.set_align_text(" ".join(words))
        decoder.start_utt()
        decoder.process_raw(sound, full_utt=True)
        decoder.end_utt()
    except BaseException as error:  # also Ctrl-C: the decoder would wait for more samples
        _decoder.cache_clear()
        if isinstance(error, RuntimeError):
            raise AlignmentError(f"its words cannot be aligned: {error}", "not aligned") from error
        raise
    return [
        (
            segment.word.partition("(")[0],
            segment.start_frame,
            segment.end_frame,
            # `ascore` is the likelihood to the power 1 / _NATS.
            _NATS
            * math.log(max(segment.ascore, sys.float_info.min))
            / (segment.end_frame + 1 - segment.start_frame),
        )
        for segment in decoder.seg() or ()
        if segment.word[0] not in "<[+"
    ]


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """One per process, without a log."""
    beams = dict.fromkeys(("beam", "pbeam", "wbeam"), _BEAM)
    return _pocketsphinx().Decoder(
        # The first pass is the alignment; a second one through its lattice may skip phones.
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
            "forced alignment requires pocketsphinx: pip install pocketsphinx"
        ) from error
    return pocketsphinx
