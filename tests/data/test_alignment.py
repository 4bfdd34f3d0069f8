"""Forced alignment finds words, is reproducible, and keeps its results in the cache."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pvae_pyro.data.alignment import aligner
from pvae_pyro.data.alignment import forced as alignment
from pvae_pyro.data.alignment.aligner import AlignedWord, AlignmentError, align_words
from pvae_pyro.data.alignment.forced import Utterance, align_all
from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem
from tests.support.joined import WORDS, Joined, joined, strings
from tests.support.sounds import made_up

pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def spoken() -> list[Joined]:
    """Strings of four digits, each digit by another American voice of eSpeak NG."""
    pytest.importorskip("espeakng_loader")
    corpus = espeak_corpus("en", train_per_word=60, test_per_word=0)
    voices = [r for r in corpus.recordings if r.speaker.startswith("en-us+")]
    rng = np.random.default_rng(0)
    return [joined([voices[i] for i in rng.choice(len(voices), 4)], 16000, n) for n in range(12)]


def _align(string: Joined) -> list[AlignedWord]:
    return align_words(string.samples, string.rate, string.words)


def _edges(words: list[AlignedWord]) -> np.ndarray:
    return np.array([(word.start, word.end) for word in words])


def _errors(made: list[Joined]) -> np.ndarray:
    """How far, in seconds, all edges are from those of the sound and of the file, ``[2, N]``."""
    errors: list[np.ndarray] = []
    for string in made:
        words = _align(string)
        assert [word.word for word in words] == list(string.words)
        known = np.stack([string.heard, string.files])
        errors.append(np.abs(_edges(words) - known).reshape(2, -1))
    return np.concatenate(errors, 1)


def test_words_are_where_they_were_put(spoken):
    errors, _ = _errors(spoken)
    assert np.median(errors) <= 0.040
    assert np.quantile(errors, 0.75) <= 0.150


def test_times_are_in_order_and_inside(spoken):
    for string in spoken:
        # Ends within the last word: nothing may be said to go on after it.
        cut = string.samples[: round((string.heard[-1].mean() + 0.003) * string.rate)]
        words = align_words(cut, string.rate, string.words)
        times = _edges(words).ravel()
        assert (np.diff(times) >= 0).all()
        assert (np.diff(_edges(words)) > 0).all()
        assert times[0] >= 0
        assert times[-1] <= len(cut) / string.rate
        assert all(-20 < word.score < 0 for word in words)
        np.testing.assert_array_equal(times, times.round(3))


def test_the_result_depends_on_nothing_before_it(spoken):
    assert [*map(_align, spoken)] == [*map(_align, spoken[::-1])][::-1]


def test_wrong_words_score_less(spoken):
    """All but the second word are right."""
    right, wrong = [], []
    for string in spoken:
        other = list(string.words)
        other[1] = WORDS[(WORDS.index(other[1]) + 4) % 10]
        right.append(_align(string)[1].score)
        wrong.append(align_words(string.samples, string.rate, other)[1].score)
    assert np.mean(right) > np.mean(wrong) + 1


@pytest.mark.parametrize("word", ["qxzzy", "7", "<sil>", "zero(2)", "six seven", ""])
def test_unknown_word(spoken, word):
    with pytest.raises(AlignmentError) as caught:
        align_words(spoken[0].samples, spoken[0].rate, ["one", word])
    assert caught.value.kind == "unknown word"
    assert str(caught.value).startswith(f"{word!r} is not in")


def test_no_room_for_the_words(spoken):
    samples = spoken[0].samples[:5000]
    with pytest.raises(AlignmentError, match="'one one one .*' cannot be aligned: found") as caught:
        align_words(samples, 16000, ["one"] * 30)
    assert caught.value.kind == "not aligned"
    with pytest.raises(AlignmentError, match="'one' cannot be aligned: found nothing"):
        align_words(samples[:100], 16000, ["one"])


def test_an_interrupted_decoder_is_replaced(spoken):
    before = _align(spoken[0])
    aligner._decoder().start_utt()  # Ctrl-C leaves it in this state
    with pytest.raises(AlignmentError, match="cannot be aligned: Failed"):
        _align(spoken[0])
    assert _align(spoken[0]) == before


def test_not_installed(monkeypatch, spoken):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    aligner._decoder.cache_clear()
    for call in (lambda: align_words(spoken[0].samples, 16000, ["one"]), lambda: align_all([])):
        with pytest.raises(CorpusError, match="pip install pocketsphinx"):
            call()


def _read(string: Joined) -> tuple[np.ndarray, int]:
    return string.samples, string.rate


def _unreadable(kind: str, *_) -> tuple[np.ndarray, int]:
    raise AudioError("b.wav: cannot be read", kind)


def _forbidden() -> tuple[np.ndarray, int]:
    raise AssertionError("a cached recording was read")


def _changed(utterance: Utterance, words=None, **changes) -> Utterance:
    recording = replace(utterance.recording, **changes)
    return Utterance(recording, words or utterance.words)


@pytest.fixture
def utterances(spoken, monkeypatch) -> list[Utterance]:
    monkeypatch.setattr(alignment, "_SHARD", 3)
    return [
        Utterance(made_up(f"u{n}", partial(_read, string)), string.words)
        for n, string in enumerate(spoken[:8])
    ]


def test_all_in_order(utterances, spoken, tmp_path):
    expected = [*map(_align, spoken[:8])]
    assert align_all(utterances, tmp_path) == expected
    assert len(list(tmp_path.iterdir())) == 3
    unread = [_changed(utterance, sound=_forbidden) for utterance in utterances]
    assert align_all(unread, tmp_path) == expected
    assert align_all([], tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [{"content": "other"}, {"name": "other"}, {"words": ("one", "two")}],
)
def test_a_changed_utterance_is_aligned_again(utterances, tmp_path, change):
    align_all(utterances, tmp_path)
    changed = [_changed(utterance, sound=_forbidden) for utterance in utterances]
    changed[4] = _changed(changed[4], **change)
    with pytest.raises(AssertionError, match="was read"):
        align_all(changed, tmp_path)


def test_problems(utterances, tmp_path):
    utterances[1] = replace(utterances[1], words=("one", "qxzzy"))
    utterances[3] = _changed(utterances[3], sound=partial(_unreadable, "truncated"), name="u0")
    for _ in range(2):  # aligned, then from the cache
        results = align_all(utterances, tmp_path)
        assert results[1] == Problem("u1", "unknown word", results[1].reason)
        assert results[1].reason.startswith("u1: 'qxzzy' is not in the pronunciation dictionary")
        assert results[3] == Problem("u0", "truncated", "b.wav: cannot be read")
        assert [isinstance(r, list) for r in results] == [n not in (1, 3) for n in range(8)]
        utterances = [_changed(utterance, sound=_forbidden) for utterance in utterances]


def test_strings_of_recorded_digits(data_root: Path):
    made = strings(fsdd_corpus(data_root).recordings, 8000, 20)
    assert (np.median(_errors(made), axis=1) <= 0.040).all()
