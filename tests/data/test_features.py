"""Features of a corpus: in order, computed once, with what cannot be used reported."""

import logging
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pvae_pyro.data import features
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem, Recording, SpeechCorpus
from pvae_pyro.data.features import LogMel, RaggedFeatures, corpus_features

SETTINGS = LogMel(8000, num_mels=20)


def _noise(seed: int, rate: int = 8000) -> tuple[np.ndarray, int]:
    samples = np.random.default_rng(seed).normal(0, 0.1, 100 + 100 * seed)
    return samples.astype(np.float32), rate


def _broken(name: str) -> tuple[np.ndarray, int]:
    raise AudioError(f"{name}: is silent", "silent")


def _forbidden() -> tuple[np.ndarray, int]:
    raise AssertionError("a cached recording was read")


def _recording(seed: int) -> Recording:
    return Recording(f"r{seed}", "0", "s", "train", str(seed), partial(_noise, seed))


@pytest.fixture
def corpus() -> SpeechCorpus:
    return SpeechCorpus("noise", False, 8000, tuple(map(_recording, range(5))))


def _with(corpus: SpeechCorpus, index: int, **changes) -> SpeechCorpus:
    recordings = list(corpus.recordings)
    recordings[index] = replace(recordings[index], **changes)
    return replace(corpus, recordings=tuple(recordings))


def _assert_equal(a: RaggedFeatures, b: RaggedFeatures) -> None:
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_array_equal(a.offsets, b.offsets)
    assert (a.of.index.tolist(), a.of.skipped) == (b.of.index.tolist(), b.of.skipped)


def test_end_to_end_in_order(corpus: SpeechCorpus, tmp_path: Path):
    result = corpus_features(corpus, SETTINGS, tmp_path)
    # 100, 200, ... samples, 80 a hop.
    assert result.offsets.tolist() == [0, 2, 5, 9, 15, 22]
    assert result.offsets.dtype == np.int64
    assert result.frames.dtype == np.float32
    assert result.frames.shape == (22, 20)
    assert result.of.index.tolist() == [0, 1, 2, 3, 4]
    assert result.of.skipped == []
    assert len(result) == 5
    np.testing.assert_array_equal(result[2], SETTINGS(*_noise(2)))
    with pytest.raises(IndexError):
        result[5]


def test_read_from_the_cache(corpus: SpeechCorpus, tmp_path: Path):
    first = corpus_features(corpus, SETTINGS, tmp_path)
    unread = replace(
        corpus, recordings=tuple(replace(r, read=_forbidden) for r in corpus.recordings)
    )
    _assert_equal(corpus_features(unread, SETTINGS, tmp_path), first)


# The last one joins to the same text, "r1" + "1".
@pytest.mark.parametrize(
    "changes", [{"fingerprint": "other"}, {"name": "other"}, {"fingerprint": "", "name": "r11"}]
)
def test_changed_recording_is_computed(corpus: SpeechCorpus, tmp_path: Path, changes):
    corpus_features(corpus, SETTINGS, tmp_path)
    changed = _with(corpus, 1, read=_forbidden, **changes)
    with pytest.raises(AssertionError, match="was read"):
        corpus_features(changed, SETTINGS, tmp_path)


def test_changed_settings_are_computed(corpus: SpeechCorpus, tmp_path: Path):
    before = corpus_features(corpus, SETTINGS, tmp_path)
    for change in ({"floor": 1.0}, {"low_frequency": 300.0}, {"window": 0.05}):
        after = corpus_features(corpus, replace(SETTINGS, **change), tmp_path)
        assert not np.array_equal(after.frames, before.frames), change


def test_default_folder(corpus: SpeechCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    corpus_features(corpus, SETTINGS)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_skipped_and_reported(corpus: SpeechCorpus, tmp_path: Path):
    broken = _with(corpus, 1, read=partial(_broken, "one.wav"), fingerprint="broken")
    with pytest.raises(AudioError, match=r"one\.wav: is silent"):
        corpus_features(broken, SETTINGS, tmp_path)
    for _ in range(2):  # computed, then from the cache
        result = corpus_features(broken, SETTINGS, tmp_path, on_error="skip")
        assert result.of.index.tolist() == [0, 2, 3, 4]
        assert result.of.skipped == [Problem("r1", "silent", "one.wav: is silent")]
        np.testing.assert_array_equal(result[1], SETTINGS(*_noise(2)))
    with pytest.raises(AudioError, match=r"one\.wav: is silent"):
        corpus_features(broken, SETTINGS, tmp_path)


@pytest.mark.parametrize("samples", [[], [0.1, float("nan")], [float("inf")]])
def test_reader_that_checks_nothing(corpus: SpeechCorpus, tmp_path: Path, samples):
    array = np.array(samples, dtype=np.float32)
    with pytest.raises(AudioError, match="^r3: has"):
        corpus_features(_with(corpus, 3, read=lambda: (array, 8000)), SETTINGS, tmp_path)


def test_one_value_throughout_is_silence(corpus: SpeechCorpus, tmp_path: Path):
    array = np.full(800, 0.5, dtype=np.float32)
    with pytest.raises(AudioError, match="r3: is silent.*0.5") as error:
        corpus_features(_with(corpus, 3, read=lambda: (array, 8000)), SETTINGS, tmp_path)
    assert error.value.kind == "silent"


def test_no_usable_recording(corpus: SpeechCorpus, tmp_path: Path):
    useless = _with(replace(corpus, recordings=corpus.recordings[:1]), 0, read=lambda: _broken("x"))
    with pytest.raises(CorpusError, match="noise: no recording can be used; the first: x: is"):
        corpus_features(useless, SETTINGS, tmp_path, on_error="skip")
    with pytest.raises(CorpusError, match=r"noise: no recording can be used$"):
        corpus_features(replace(corpus, recordings=()), SETTINGS, tmp_path)


def test_wrong_arguments(corpus: SpeechCorpus, tmp_path: Path):
    with pytest.raises(ValueError, match="features at 16000 Hz of a corpus at 8000 Hz"):
        corpus_features(corpus, LogMel(16000), tmp_path)
    with pytest.raises(ValueError, match="on_error"):
        corpus_features(corpus, SETTINGS, tmp_path, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("terminal", [True, False])
def test_threads_are_restored(corpus, tmp_path: Path, monkeypatch, capsys, terminal: bool):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    broken = _with(corpus, 1, read=lambda: _broken("x"), fingerprint="broken")
    try:
        corpus_features(corpus, SETTINGS, tmp_path)
        assert torch.get_num_threads() == before + 1
        with pytest.raises(AudioError) as kept:  # and with it every frame of the call
            corpus_features(broken, SETTINGS, tmp_path)
        assert torch.get_num_threads() == before + 1
        assert str(kept.value) == "x: is silent"
        assert ("features of noise: 100%" in capsys.readouterr().err) == terminal
    finally:
        torch.set_num_threads(before)


def test_processes_give_the_same(corpus: SpeechCorpus, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_SHARD", 2)
    broken = _with(corpus, 1, read=partial(_broken, "one.wav"))
    serial = corpus_features(broken, SETTINGS, tmp_path / "1", workers=1, on_error="skip")
    pool = corpus_features(broken, SETTINGS, tmp_path / "2", workers=2, on_error="skip")
    assert pool.offsets.tolist() == serial.offsets.tolist()
    assert (pool.of.index.tolist(), pool.of.skipped) == ([0, 2, 3, 4], serial.of.skipped)
    np.testing.assert_allclose(pool.frames, serial.frames, atol=1e-5)


def test_taken_up_where_it_stopped(corpus: SpeechCorpus, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(features, "_SHARD", 2)
    whole = corpus_features(corpus, SETTINGS, tmp_path / "whole")
    with pytest.raises(AssertionError, match="was read"):
        corpus_features(_with(corpus, 4, read=_forbidden), SETTINGS, tmp_path / "stopped")
    assert len(list((tmp_path / "stopped").iterdir())) == 2
    rest = corpus
    for index in range(4):  # of the first two shards nothing is read again
        rest = _with(rest, index, read=_forbidden)
    _assert_equal(corpus_features(rest, SETTINGS, tmp_path / "stopped"), whole)


def test_trouble_that_passes_is_not_kept(corpus: SpeechCorpus, tmp_path: Path):
    def denied() -> tuple[np.ndarray, int]:
        raise AudioError("one.wav: permission denied", "no permission")

    denied_one = _with(corpus, 1, read=denied)
    first = corpus_features(denied_one, SETTINGS, tmp_path, on_error="skip")
    assert [problem.kind for problem in first.of.skipped] == ["no permission"]
    _assert_equal(corpus_features(denied_one, SETTINGS, tmp_path, on_error="skip"), first)
    again = corpus_features(corpus, SETTINGS, tmp_path, on_error="skip")
    assert (again.of.index.tolist(), again.of.skipped) == ([0, 1, 2, 3, 4], [])


SCRIPT = """
import sys
import numpy as np
from pvae_pyro.data.corpus import Recording, SpeechCorpus
from pvae_pyro.data.features import LogMel, corpus_features
with open(sys.argv[1] + "/runs", "a") as runs:
    runs.write("main ran\\n")
def read():
    return np.linspace(-0.1, 0.1, 800, dtype=np.float32), 8000
corpus = SpeechCorpus("c", False, 8000, tuple(
    Recording(f"{i}", "0", "s", "train", "f", lambda: read()) for i in range(4)))
print(corpus_features(corpus, LogMel(8000), sys.argv[1], workers=2).offsets.tolist())
"""


def test_processes_of_a_script_without_a_guard(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    finished = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=600, check=False
    )
    assert (finished.returncode, finished.stdout) == (0, "[0, 11, 22, 33, 44]\n"), finished.stderr
    assert (tmp_path / "runs").read_text() == "main ran\n"


def test_real_recordings(data_root: Path, tmp_path: Path, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = fsdd_corpus(data_root, download=False)
    corpus = replace(corpus, recordings=corpus.recordings[::50])
    result = corpus_features(corpus, LogMel(corpus.sample_rate), tmp_path)
    assert (len(result), result.of.skipped) == (60, [])
    # Speech lies well above the floor, and is not one constant.
    assert -10 < np.median(result.frames) < 0
    assert (result.frames.std(0) > 1).all()
