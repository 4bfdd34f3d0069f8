"""Which word is said in a sound, by a recogniser that knows nothing of our data.

PocketSphinx 5 with the US English model that its wheel holds, an optional package
(https://github.com/cmusphinx/pocketsphinx). Trained on other recordings, it judges generated sound
as a stranger would. The model hears up to 6.8 kHz, where a hiss has most of its energy: at a rate
of 8 kHz, two in three "six" of FSDD are taken for others. So compare with what it makes of real
recordings (84 % of FSDD's test digits), at the same rate and made from the same features.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.corpora.digit_words import WORDS, digit_label
from pvae_pyro.data.corpus import CorpusError

# word -> the class it is of. To leave out "oh", where nobody says it, saves some "four": 2 % more.
DIGITS = {word: digit_label(symbol, "zero") or "" for symbol, word in WORDS.items()}

_RATE = 16000  # Hz, of the acoustic model
# Chosen among some hundred on 200 or 300 training recordings of FSDD: 84 % heard rightly,
# 79 % without noise, for the model has not seen digital silence. Other fillers, language
# weights, filters, means to take off, and votes of several such: a point more at best, or worse.
_PEAK = 0.5  # of full scale
_NOISE = 0.002  # standard deviation, in the band of the recording alone
_SILENCE = 0.08  # seconds before and after. Much longer weighs on the mean that is taken off.
_BEAM = 1e-200  # so wide that nothing is pruned: the states of a word are few

_one_at_a_time = threading.Lock()  # a decoder has one state


def recognise(samples: np.ndarray, rate: int, words: Sequence[str]) -> str:
    """The one of `words` that is most likely said in ``samples [n]`` (`rate` Hz, any level).

    words: at least one, in lower case, all in the CMU dictionary. One is said, with silence
        or noise around it; all are taken to be equally likely.

    Returns "" where none can be heard: silence, or a sound too short for any. The result depends
    on the arguments alone; noise is added, always the same.

    Raises ValueError for samples of another shape, none, or not finite; for no words, or one that
    is not in the dictionary; `CorpusError` when pocketsphinx is not installed.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"expected samples [n] with n > 0, got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite")
    decoder_of = tuple(str(word) for word in words)  # no numpy.str_: the decoder takes str alone
    with _one_at_a_time:
        decoder = _decoder(decoder_of)
        if not samples.any():
            return ""
        try:
            # Else it goes on with the noise that it heard in the recording before.
            decoder.reinit_feat()
            decoder.start_utt()
            decoder.process_raw(_prepared(samples, rate), full_utt=True)
            decoder.end_utt()
        except BaseException:  # Ctrl-C too: it would wait for the rest of this recording
            _decoder.cache_clear()
            raise
        heard = decoder.hyp()
    return heard.hypstr if heard else ""


def recognition_accuracy(
    utterances: Sequence[tuple[np.ndarray, int]],
    labels: Sequence[str],
    words: Mapping[str, str] = DIGITS,
) -> float:
    """Fraction of utterances in which a word of the right class is heard, in [0, 1].

    utterances: samples and their rate in Hz, as `recognise` takes them. labels: one of each.
    words: all words that may be said -> their classes; chance is one over the number of classes,
        or near it. By default the digits, "0" to "9", with "zero" and "oh" for "0".

    Raises ValueError as `recognise`, for none, for numbers that differ, and for a label that no
    word has.
    """
    if len(utterances) == 0 or len(utterances) != len(labels):
        raise ValueError(
            f"expected as many labels as utterances, got {len(labels)} and {len(utterances)}"
        )
    if unknown := sorted(set(labels) - set(words.values())):
        raise ValueError(f"no word has the label {', '.join(map(repr, unknown))}")
    right = [
        words.get(recognise(samples, rate, list(words))) == label
        for (samples, rate), label in zip(utterances, labels, strict=True)
    ]
    return float(np.mean(right))


def _prepared(samples: np.ndarray, rate: int) -> bytes:
    """At the level and the rate of the model, 16-bit, with silence around and noise all over."""
    own = min(rate, _RATE)
    samples = samples.astype(np.float64)
    wave = resampled(samples * (_PEAK / np.abs(samples).max()), rate, own)
    wave = np.pad(wave, round(_SILENCE * own))
    wave = wave + _NOISE * np.random.default_rng(0).standard_normal(len(wave))
    wave = resampled(wave, own, _RATE)
    return (wave * 32767).round().clip(-32768, 32767).astype(np.int16).tobytes()


@lru_cache(maxsize=4)
def _decoder(words: tuple[str, ...]) -> Any:
    """One for each choice of words. Its log is off: what it has to say is in the errors."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise CorpusError(
            "recognising words needs the package pocketsphinx: pip install pocketsphinx"
        ) from error
    beams = dict.fromkeys(("beam", "pbeam", "wbeam"), _BEAM)
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL", **beams)
    # Letters alone: the rest has a meaning in a grammar, or in the dictionary.
    wrong = [
        w
        for w in words
        if not (w.isalpha() and w.isascii() and w.islower() and decoder.lookup_word(w))
    ]
    if wrong or not words:
        raise ValueError(
            f"expected at least one word, all of them in the pronunciation dictionary: {wrong}"
        )
    decoder.add_jsgf_string(
        "words", f"#JSGF V1.0; grammar words; public <word> = {' | '.join(words)};"
    )
    decoder.activate_search("words")
    return decoder
