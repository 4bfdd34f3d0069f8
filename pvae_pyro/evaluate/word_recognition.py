"""Which word is said in a sound, by a recogniser that knows nothing of our data.

PocketSphinx 5 with the US English model of its wheel, an optional package
(https://github.com/cmusphinx/pocketsphinx). It was trained on other recordings. The model hears up
to 6.8 kHz, where a hiss has most of its energy: at a rate of 8 kHz, it takes two in three "six" of
FSDD for others. So compare with its accuracy on real recordings (84 % of FSDD's test digits), at
the same rate and made from the same features.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.audio.synthesis import to_waveform
from pvae_pyro.data.corpora.digit_words import WORDS, digit_label
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.generation import decode, shared_of

# word -> its class. Without "oh", where nobody says it, 2 % more would be heard rightly.
DIGITS = {word: digit_label(symbol, "zero") or "" for symbol, word in WORDS.items()}

_RATE = 16000  # Hz, of the acoustic model
# Chosen among some hundred settings on training recordings of FSDD: 84 % are heard rightly, 79 %
# without noise, since the model has never seen digital silence.
_PEAK = 0.5  # of full scale
_NOISE = 0.002  # standard deviation, in the band of the recording
_SILENCE = 0.08  # seconds before and after
_BEAM = 1e-200  # so wide that nothing is pruned: a word has few states


def recognise(samples: np.ndarray, rate: int, words: Sequence[str]) -> str:
    """The one of `words` that is most likely said in ``samples [n]`` (`rate` Hz, any level).

    words: equally likely, in lower case, all in the CMU dictionary.

    Returns "" if none can be heard: silence, or a sound too short for any word. The same arguments
    give the same result. Raises ValueError for samples that are not finite, CorpusError if
    pocketsphinx is not installed.
    """
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite")
    if not samples.any():
        return ""
    decoder = _decoder(tuple(str(word) for word in words))  # numpy.str_ is refused
    decoder.reinit_feat()  # otherwise it keeps the noise level of the recording before
    decoder.start_utt()
    decoder.process_raw(_prepared(samples, rate), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    return heard.hypstr if heard else ""


def recognition_accuracy(
    utterances: Sequence[tuple[np.ndarray, int]],
    labels: Sequence[str],
    words: Mapping[str, str] = DIGITS,
) -> float:
    """Fraction of utterances in which a word of the right class is heard, in [0, 1].

    utterances: samples and their rate in Hz, as `recognise` takes them. labels: one of each.
    words: all words that may be said -> their classes. By default the digits, "0" to "9", with
        "zero" and "oh" for "0".
    """
    right = [
        words.get(recognise(samples, rate, list(words))) == label
        for (samples, rate), label in zip(utterances, labels, strict=True)
    ]
    return float(np.mean(right))


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """Fractions of spoken digits that are recognised, of the first modality that is sound.

    Of "originals", "reconstructions" and what is generated from each other modality. All are made
    of log-Mel features, so the loss of that resynthesis is the same for all.
    """
    target = next((name for name in run.names if name in run.data.log_mels), None)
    classes = run.data.classes
    words = {word: label for word, label in DIGITS.items() if label in classes}
    if target is None or not set(classes) <= set(words.values()):
        return {"reason": "only spoken digits are recognised"}
    spoken = some_of(run.data.test[target], settings.limit)
    locs = tensor_locs(run.unimodal[target], target, spoken, run.device)
    sounds = {
        "originals": (spoken.observation(np.arange(len(spoken))), spoken.labels),
        "reconstructions": (decode(run.model, locs, [target])[target], spoken.labels),
    }
    for source in (name for name in run.names if name != target):
        content = some_of(run.test[source], settings.limit)
        shared = shared_of(tensor_locs(run.unimodal[source], source, content, run.device))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sounds[f"from {source}"] = decode(run.model, shared, [target])[target], content.labels
    found: dict[str, Any] = {}
    log_mel = run.data.log_mels[target]
    try:
        for what, (observation, labels) in sounds.items():
            utterances = [
                (to_waveform(energies, log_mel), log_mel.sample_rate)
                for energies in _log_mel_energies(observation, spoken.normalisation)
            ]
            right = [classes[label] for label in labels]
            found[what] = recognition_accuracy(utterances, right, words)
    except CorpusError as error:  # pocketsphinx is not installed
        return {"reason": str(error)}
    found["chance"] = dict.fromkeys(found, 1 / len(set(words.values())))
    found["num_examples"] = {what: len(labels) for what, (_, labels) in sounds.items()}
    return found


def _log_mel_energies(observation: Observation, normalisation: Normalisation) -> list[np.ndarray]:
    values = observation.value.cpu().numpy() * normalisation.scale + normalisation.loc
    assert observation.lengths is not None
    return [
        np.ascontiguousarray(value[:length], np.float32)
        for value, length in zip(values, observation.lengths.tolist(), strict=True)
    ]


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
    try:
        import pocketsphinx
    except ImportError as error:
        raise CorpusError(
            "recognising words needs the package pocketsphinx: pip install pocketsphinx"
        ) from error
    beams = dict.fromkeys(("beam", "pbeam", "wbeam"), _BEAM)
    decoder = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL", **beams)
    grammar = f"#JSGF V1.0; grammar words; public <word> = {' | '.join(words)};"
    decoder.add_jsgf_string("words", grammar)
    decoder.activate_search("words")
    return decoder
