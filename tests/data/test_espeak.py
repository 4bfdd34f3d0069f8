"""The spoken digits of eSpeak NG: reproducible, balanced, and split by voice."""

import ctypes
import dataclasses
import hashlib
import multiprocessing
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from pvae_pyro.data.corpora.espeak import (
    _LANGUAGES,
    _VARIANTS,
    _read,
    _synthesise,
    espeak_corpus,
)
from pvae_pyro.data.corpus import AudioError, CorpusError
from pvae_pyro.data.recording import Recording

espeakng_loader = pytest.importorskip("espeakng_loader")


def _digest(recording: Recording) -> str:
    samples, rate = recording.read()
    return hashlib.sha256(samples.tobytes() + str(rate).encode()).hexdigest()


def _some(language: str, count: int, seed: int = 0) -> list[Recording]:
    """Recordings of all digits and many voices, from both splits."""
    recordings = espeak_corpus(language, seed=seed).recordings
    chosen = np.random.default_rng(1).choice(len(recordings), count, replace=False)
    return [recordings[i] for i in chosen]


def test_samples_do_not_depend_on_what_was_read_before():
    recordings = _some("en", 60)
    forwards = [_digest(recording) for recording in recordings]
    backwards = [_digest(recording) for recording in reversed(recordings)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(forwards)


def test_two_fresh_processes_at_once_give_the_same_samples():
    recordings = _some("es", 40)
    here = [_digest(recording) for recording in recordings]
    order = np.random.default_rng(2).permutation(len(recordings))
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=fresh) as pool:
        there = list(pool.map(_digest, [recordings[i] for i in order]))
    assert there == [here[i] for i in order]


def test_the_seed_fixes_the_plan_and_changes_it():
    first, again, other = (espeak_corpus("en", seed=seed).recordings for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert (a.name, a.content) == (b.name, b.content)
    rates = [[r.utterance.rate_wpm for r in recordings] for recordings in (first, other)]
    assert rates[0] != rates[1]


def test_the_size_of_one_split_does_not_change_the_other():
    small = espeak_corpus("en", train_per_digit=20, test_per_digit=5).recordings
    large = espeak_corpus("en", train_per_digit=20, test_per_digit=9).recordings
    assert [r.content for r in small[:200]] == [r.content for r in large[:200]]


@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("seed", [0, 7])
def test_no_test_variant_is_trained_on(language, seed):
    corpus = espeak_corpus(language, seed=seed)
    variants = {
        split: {r.speaker.split("+")[1] for r in corpus.recordings if r.split == split}
        for split in ("train", "test")
    }
    assert not variants["train"] & variants["test"]
    assert variants["train"] | variants["test"] == set(_VARIANTS)
    assert len(variants["test"]) == round(len(_VARIANTS) / 4)


def test_another_seed_tests_on_other_voices():
    test_voices = [
        {r.speaker for r in espeak_corpus("en", seed=seed).recordings if r.split == "test"}
        for seed in (0, 1)
    ]
    assert test_voices[0] != test_voices[1]


@pytest.mark.parametrize("language", ["en", "es"])
def test_digits_and_voices_are_balanced(language):
    corpus = espeak_corpus(language)
    digits = [str(digit) for digit in range(10)]
    for split, per_digit in (("train", 600), ("test", 100)):
        recordings = [r for r in corpus.recordings if r.split == split]
        assert Counter(r.label for r in recordings) == dict.fromkeys(digits, per_digit)
        for digit in digits:
            uses = Counter(r.speaker for r in recordings if r.label == digit)
            assert max(uses.values()) - min(uses.values()) <= 1
    assert len({r.name for r in corpus.recordings}) == len(corpus.recordings)
    assert len({r.content for r in corpus.recordings}) == len(corpus.recordings)


def test_the_corpus_says_what_it_is():
    corpus = espeak_corpus("es", train_per_digit=1, test_per_digit=1)
    assert corpus.stand_in
    assert corpus.name == "eSpeak NG digits (Spanish)"
    assert corpus.sample_rate == 16000
    recording = corpus.recordings[3]
    for part in ("1.5", "tres", recording.speaker, "pitch", "rate", "volume", "peak_dbfs"):
        assert part in recording.content


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


def test_espeak_itself_does_not_clip():
    # The loudest variant at full scale, over its digits.
    loudest = [r for r in espeak_corpus("en").recordings if r.speaker.endswith("+antonio")]
    assert max(np.abs(_synthesise(r.utterance)[0]).max() for r in loudest) < 32000


def _spectrum(recording: Recording) -> np.ndarray:
    """Log energy in 16 bands and four quarters of the word, without its level."""
    samples, _ = recording.read()
    quarters = [np.abs(np.fft.rfft(part)) ** 2 for part in np.array_split(samples, 4)]
    edges = [np.geomspace(0.02, 1, 17) * len(power) for power in quarters]
    bands = [
        np.log(np.add.reduceat(power, edge[:-1].astype(int)) + 1e-6)
        for power, edge in zip(quarters, edges, strict=True)
    ]
    return np.concatenate(bands) - np.mean(bands)


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_sound_tells_the_digit_of_unheard_voices(language):
    corpus = espeak_corpus(language, train_per_digit=20, test_per_digit=10)
    spectra = {"train": [], "test": []}
    labels = {"train": [], "test": []}
    for recording in corpus.recordings:
        spectra[recording.split].append(_spectrum(recording))
        labels[recording.split].append(recording.label)
    distances = np.linalg.norm(np.array(spectra["test"])[:, None] - spectra["train"], axis=-1)
    nearest = np.array(labels["train"])[distances.argmin(axis=1)]
    assert np.mean(nearest == labels["test"]) > 0.8  # by chance 0.1


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_voice_speaks_and_no_two_sound_the_same(language):
    recordings = espeak_corpus(language).recordings
    zero = recordings[0].utterance
    voices = sorted({recording.speaker for recording in recordings})
    assert len(voices) == len(_VARIANTS) * len(_LANGUAGES[language].accents.split())
    said = [_read(dataclasses.replace(zero, voice=voice))[0] for voice in voices]
    assert len({samples.tobytes() for samples in said}) == len(voices)


def test_nothing_is_printed(capfd):
    espeak_corpus("en", train_per_digit=1, test_per_digit=1).recordings[0].read()
    assert capfd.readouterr() == ("", "")


def test_an_unknown_language_is_named():
    with pytest.raises(CorpusError, match=r"'tlh'.*en, es"):
        espeak_corpus("tlh")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(CorpusError, match=r'pip install "pvae-pyro\[espeak\]"'):
        espeak_corpus("en")


def test_the_module_is_imported_without_the_package():
    code = "import sys; sys.modules['espeakng_loader'] = None; import pvae_pyro.data.corpora.espeak"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_variant_is_named(monkeypatch, tmp_path):
    folder = tmp_path / "voices" / "!v"
    folder.mkdir(parents=True)
    for variant in _VARIANTS[1:]:
        (folder / variant).touch()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(CorpusError, match=rf"lack the voices {_VARIANTS[0]} in"):
        espeak_corpus("en")


def test_an_accent_that_espeak_lacks_is_named():
    utterance = espeak_corpus("en").recordings[0].utterance
    with pytest.raises(AudioError, match=r"no voice 'xx-none\+m3'"):
        _read(dataclasses.replace(utterance, voice="xx-none+m3"))


def test_a_library_that_other_code_holds_is_refused():
    recording = espeak_corpus("en", train_per_digit=1, test_per_digit=1).recordings[0]
    before = _digest(recording)
    held = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        with pytest.raises(AudioError, match="in use by other code"):
            recording.read()
    finally:
        unload = ctypes.CDLL(None).dlclose
        unload.argtypes = [ctypes.c_void_p]
        unload(held._handle)
    assert _digest(recording) == before


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
