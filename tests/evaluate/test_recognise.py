"""Which word is said: synthetic and real digits, and sounds that are none."""

import sys

import numpy as np
import pytest

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.evaluate import recognise as recogniser
from pvae_pyro.evaluate.recognise import DIGITS, recognise, recognition_accuracy

WORDS = list(DIGITS)


@pytest.fixture(autouse=True)
def _installed(request):
    if "not_installed" not in request.node.name:
        pytest.importorskip("pocketsphinx")


@pytest.fixture(scope="module")
def spoken():
    """Digits of American voices of eSpeak NG with their labels."""
    pytest.importorskip("espeakng_loader")
    corpus = espeak_corpus("en", train_per_digit=60, test_per_digit=0)
    voices = [r for r in corpus.recordings if r.speaker.startswith("en-us+")][::3]
    return [r.read() for r in voices], [r.label for r in voices]


def test_digits():
    assert sorted(set(DIGITS.values())) == list("0123456789")
    assert DIGITS["zero"] == DIGITS["oh"] == "0"
    assert DIGITS["seven"] == "7"


def test_synthetic_digits_are_heard(spoken):
    utterances, labels = spoken
    assert set(labels) == set("0123456789")
    assert recognition_accuracy(utterances, labels) > 0.7


def test_wrong_labels_are_wrong(spoken):
    utterances, labels = spoken
    others = [str((int(label) + 1) % 10) for label in labels]
    assert recognition_accuracy(utterances, others) < 0.2


def test_real_digits_are_heard(data_root):
    """Every label and speaker; these were not looked at when the settings were chosen."""
    paths = sorted((data_root / "fsdd" / "recordings").glob("*_0.wav"))
    assert len(paths) == 60
    assert recognition_accuracy([read_audio(p) for p in paths], [p.name[0] for p in paths]) > 0.7


def test_the_words_decide(spoken):
    utterances, labels = spoken
    samples, rate = utterances[labels.index("2")]
    assert recognise(samples, rate, WORDS) == "two"
    assert recognise(samples, rate, ["two", "yes"]) == "two"
    assert recognise(samples, rate, ["yes"]) == "yes"
    said = {"two": "right", "yes": "wrong"}
    assert recognition_accuracy([(samples, rate)] * 2, ["right", "wrong"], said) == 0.5


def test_the_result_depends_on_nothing_before_it(spoken):
    def all_of(some):
        """Words alone would not tell small differences."""
        decoder = recogniser._decoder(tuple(WORDS))
        return [(recognise(*utterance, WORDS), decoder.hyp().best_score) for utterance in some]

    some = spoken[0][::2]
    assert all_of(some[::-1])[::-1] == all_of(some)


@pytest.mark.parametrize("gain", [1e-6, 1000.0])
def test_any_level(spoken, gain):
    for samples, rate in spoken[0][::4]:
        louder = samples * np.float32(gain)
        assert recognise(louder, rate, WORDS) == recognise(samples, rate, WORDS)


@pytest.mark.parametrize("rate", [11025, 16000, 48000])
def test_any_rate(spoken, rate):
    utterances, labels = spoken
    others = [(resampled(samples, own, rate), rate) for samples, own in utterances]
    assert recognition_accuracy(others, labels) > 0.7


def test_nothing_is_heard_of_silence_or_a_click():
    assert recognise(np.zeros(4000), 8000, WORDS) == ""
    assert recognition_accuracy([(np.zeros(4000), 8000)], ["0"]) == 0
    assert recognise(np.full(1, 0.1), 8000, WORDS) in ("", *WORDS)


@pytest.mark.parametrize("samples", [[], [[0.1]], [np.nan], [np.inf, 0.1]])
def test_wrong_samples(samples):
    with pytest.raises(ValueError, match="samples must be finite|expected samples"):
        recognise(np.array(samples), 8000, WORDS)


@pytest.mark.parametrize("words", [[], ["one", "qxzzy"], ["Six"], ["one | two"], ["<sil>"], [""]])
def test_wrong_words(words):
    with pytest.raises(ValueError, match="all of them in the pronunciation dictionary"):
        recognise(np.ones(4000), 8000, words)


def test_wrong_labels():
    one = (np.ones(4000), 8000)
    with pytest.raises(ValueError, match="expected as many labels as utterances, got 1 and 2"):
        recognition_accuracy([one, one], ["1"])
    with pytest.raises(ValueError, match="expected as many labels"):
        recognition_accuracy([], [])
    with pytest.raises(ValueError, match="no word has the label 'one'"):
        recognition_accuracy([one], ["one"])


def test_a_decoder_that_was_broken_off_is_not_used_again(spoken, monkeypatch):
    samples, rate = spoken[0][0]
    before = recognise(samples, rate, WORDS)
    recogniser._decoder(tuple(WORDS)).start_utt()  # as Ctrl-C would leave it
    with pytest.raises(RuntimeError):
        recognise(samples, rate, WORDS)
    assert recognise(samples, rate, WORDS) == before


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    recogniser._decoder.cache_clear()
    with pytest.raises(CorpusError, match="pip install pocketsphinx"):
        recognise(np.ones(4000), 8000, WORDS)
