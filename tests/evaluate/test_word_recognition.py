"""Which word is said: synthetic and real digits, and sounds that are none."""

import sys

import numpy as np
import pytest

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.evaluate.word_recognition import DIGITS, recognise, recognition_accuracy

WORDS = list(DIGITS)


@pytest.fixture(autouse=True)
def _installed(request):
    if "not_installed" not in request.node.name:
        pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def spoken():
    """Digits of American voices of eSpeak NG with their labels."""
    pytest.importorskip("espeakng_loader")
    corpus = espeak_corpus("en", train_per_word=60, test_per_word=0)
    voices = [r for r in corpus.recordings if r.speaker.startswith("en-us+")][::3]
    return [r.read() for r in voices], [r.label for r in voices]


def test_synthetic_digits_are_heard_and_wrong_labels_are_wrong(spoken):
    utterances, labels = spoken
    assert set(labels) == set("0123456789")
    assert recognition_accuracy(utterances, labels) > 0.7
    others = [str((int(label) + 1) % 10) for label in labels]
    assert recognition_accuracy(utterances, others) < 0.2


def test_real_digits_are_heard(data_root):
    """Every label and speaker; these were not looked at when the settings were chosen."""
    paths = sorted((data_root / "fsdd" / "recordings").glob("*_0.wav"))
    assert len(paths) == 60
    assert recognition_accuracy([read_audio(p) for p in paths], [p.name[0] for p in paths]) > 0.7


def test_the_result_does_not_depend_on_earlier_recordings(spoken):
    some = spoken[0][::2]
    heard = [recognise(*utterance, WORDS) for utterance in some]
    assert [recognise(*utterance, WORDS) for utterance in some[::-1]] == heard[::-1]


@pytest.mark.parametrize("rate", [11025, 16000, 48000])
def test_recordings_of_any_sample_rate_are_recognised(spoken, rate):
    utterances, labels = spoken
    others = [(resampled(samples, own, rate), rate) for samples, own in utterances]
    assert recognition_accuracy(others, labels) > 0.7


def test_nothing_is_heard_of_silence_or_a_click():
    assert recognise(np.zeros(4000), 8000, WORDS) == ""
    assert recognition_accuracy([(np.zeros(4000), 8000)], ["0"]) == 0
    assert recognise(np.full(1, 0.1), 8000, WORDS) in ("", *WORDS)


def test_an_error_says_that_pocketsphinx_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(CorpusError, match="pip install pocketsphinx"):
        recognise(np.ones(4000), 8000, ["two"])
