"""The spoken digits of eSpeak NG: reproducible, balanced, and split by voice."""

import ctypes
import dataclasses
import hashlib
import multiprocessing
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from pvae_pyro.data.corpora.espeak import LANGUAGES, VARIANTS, espeak_corpus
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.recording import Recording

espeakng_loader = pytest.importorskip("espeakng_loader")


def _digest(recording: Recording) -> str:
    samples, rate = recording.read()
    return hashlib.sha256(samples.tobytes() + str(rate).encode()).hexdigest()


def _some(language: str, count: int) -> list[Recording]:
    """Recordings of all digits and many voices, from both splits."""
    recordings = espeak_corpus(language).recordings
    chosen = np.random.default_rng(1).choice(len(recordings), count, replace=False)
    return [recordings[i] for i in chosen]


def test_samples_depend_on_nothing_that_was_read_before_or_elsewhere():
    recordings = _some("es", 40)
    here = [_digest(recording) for recording in recordings]
    assert here == [_digest(recording) for recording in reversed(recordings)][::-1]
    assert len(set(here)) == len(here)
    order = np.random.default_rng(2).permutation(len(recordings))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=fresh) as pool:
        there = list(pool.map(_digest, [recordings[i] for i in order]))
    assert there == [here[i] for i in order]


@pytest.mark.parametrize("language", ["en", "es"])
def test_digits_and_voices_are_balanced_and_no_test_variant_is_trained_on(language):
    corpus = espeak_corpus(language)
    variants = {
        split: {r.speaker.split("+")[1] for r in corpus.recordings if r.split == split}
        for split in ("train", "test")
    }
    assert not variants["train"] & variants["test"]
    assert variants["train"] | variants["test"] == set(VARIANTS)
    assert len(variants["test"]) == round(len(VARIANTS) / 4)
    digits = [str(digit) for digit in range(10)]
    for split, per_digit in (("train", 600), ("test", 100)):
        recordings = [r for r in corpus.recordings if r.split == split]
        assert Counter(r.label for r in recordings) == dict.fromkeys(digits, per_digit)
        for digit in digits:
            uses = Counter(r.speaker for r in recordings if r.label == digit)
            assert max(uses.values()) - min(uses.values()) <= 1
    assert len({r.name for r in corpus.recordings}) == len(corpus.recordings)
    assert len({r.content for r in corpus.recordings}) == len(corpus.recordings)


@pytest.mark.parametrize("language", ["en", "es"])
def test_levels_and_durations_stay_within_limits(language):
    peaks = []
    durations = []
    for recording in _some(language, 200):
        samples, rate = recording.read()
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert 20000 <= rate <= 24000
        peak = np.abs(samples).max()
        assert min(abs(samples[0]), abs(samples[-1])) > 0.0009 * peak, "silence left at an end"
        peaks.append(20 * np.log10(peak))
        durations.append(len(samples) / rate)
    assert max(peaks) < 0
    assert 18 < max(peaks) - min(peaks) < 21
    assert min(durations) > 0.08
    assert max(durations) < 3


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_voice_speaks_and_no_two_sound_the_same(language):
    recordings = espeak_corpus(language).recordings
    zero = recordings[0]
    voices = sorted({recording.speaker for recording in recordings})
    assert len(voices) == len(VARIANTS) * len(LANGUAGES[language][1].split())
    said = [dataclasses.replace(zero, speaker=voice).read()[0] for voice in voices]
    assert len({samples.tobytes() for samples in said}) == len(voices)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match=r'pip install "pvae-pyro\[espeak\]"'):
        espeak_corpus("en")


def test_ctrl_c_while_it_speaks_is_not_lost(monkeypatch):
    """ctypes prints and forgets what a callback raises: the signal comes while in one."""

    def interrupted(address: int, size: int) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return b"\0" * size

    monkeypatch.setattr(ctypes, "string_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _some("en", 1)[0].read()
    monkeypatch.undo()
    assert _digest(_some("en", 1)[0])  # the library was unloaded, and is free again
