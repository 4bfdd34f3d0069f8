"""Features of a corpus: in order, computed once, with the unusable recordings reported."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pvae_pyro.data import features
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem
from pvae_pyro.data.features import compute_features, fingerprint
from pvae_pyro.data.recording import SpeechCorpus
from tests.support.sounds import Sound, made_up

SILENT = AudioError("one.wav: is silent", "silent")
DENIED = AudioError("one.wav: permission denied", "no permission")


def noise(seed: int) -> Sound:
    samples = np.random.default_rng(seed).normal(0, 0.1, 100 + 100 * seed)
    return samples.astype(np.float32), 8000


def fail(error: Exception) -> Sound:
    raise error


def forbidden() -> Sound:
    raise AssertionError("a cached recording was read")


@pytest.fixture
def corpus() -> SpeechCorpus:
    recordings = tuple(made_up(f"r{n}", partial(noise, n)) for n in range(5))
    return SpeechCorpus("noise", False, 8000, recordings)


def changed(corpus: SpeechCorpus, index: int, **changes) -> SpeechCorpus:
    recordings = list(corpus.recordings)
    recordings[index] = replace(recordings[index], **changes)
    return replace(corpus, recordings=tuple(recordings))


def compute(corpus: SpeechCorpus, folder: Path, **options):
    """Names of the usable recordings, lengths, frames and problems."""
    frames: list[np.ndarray] = []
    used, statistics = compute_features(corpus, cache_dir=folder, keep=frames.append, **options)
    names = [recording.name for recording in used.recordings]
    return names, statistics["lengths"].tolist(), np.concatenate(frames), list(used.problems)


def assert_same(one, other) -> None:
    assert (one[0], one[1], one[3]) == (other[0], other[1], other[3])
    np.testing.assert_allclose(one[2], other[2], atol=1e-5)


def test_frames_are_end_to_end_in_the_order_of_the_corpus(corpus, tmp_path):
    names, lengths, frames, problems = compute(corpus, tmp_path)
    assert (names, problems) == (["r0", "r1", "r2", "r3", "r4"], [])
    assert lengths == [2, 3, 4, 6, 7]  # of 100, 200, ... samples, with a hop of 80
    assert (frames.dtype, frames.shape) == (np.float32, (22, 80))
    np.testing.assert_array_equal(frames[5:9], LogMel(8000)(*noise(2)))
    _, statistics = compute_features(corpus, cache_dir=tmp_path)
    np.testing.assert_allclose(statistics["seconds"], np.arange(1, 6) / 80)
    np.testing.assert_allclose(statistics["levels"], -20, atol=2)
    assert statistics["rates"].tolist() == [8000] * 5


def test_features_are_read_from_the_cache(corpus, tmp_path, monkeypatch):
    first = compute(corpus, tmp_path / "cache")
    unread = [replace(recording, sound=forbidden) for recording in corpus.recordings]
    unread = replace(corpus, recordings=tuple(unread))
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    assert_same(compute(unread, None), first)


def test_the_fingerprint_depends_on_everything_that_changes_a_feature(corpus):
    vad = VoiceActivity()
    recording = {"name": "other", "content": "other", "start": 0.1, "end": 0.2, "channel": 1}
    recording["required_rate"] = 8000
    settings = {"sample_rate": 16000, "trim": vad, "shortest": 0.1, "longest": 3.0}
    other = {name: value * (0.5 if name == "hop" else 2) for name, value in vars(vad).items()}
    found = [
        corpus,
        *(changed(corpus, 1, **{name: value}) for name, value in recording.items()),
        *(replace(corpus, **{name: value}) for name, value in settings.items()),
        *(replace(corpus, trim=replace(vad, **{name: value})) for name, value in other.items()),
        replace(corpus, recordings=corpus.recordings[::-1]),
    ]
    prints = {fingerprint(of, of.recordings) for of in found}
    assert len(prints) == len(found)
    other = changed(replace(corpus, name="other", notes=("a note",)), 1, sound=forbidden)
    assert fingerprint(other, other.recordings) == fingerprint(corpus, corpus.recordings)


def test_unusable_recordings_are_reported(corpus, tmp_path):
    broken = changed(corpus, 1, sound=partial(fail, SILENT))
    for _ in range(2):  # computed, then from the cache
        names, _, frames, problems = compute(broken, tmp_path)
        assert names == ["r0", "r2", "r3", "r4"]
        assert problems == [Problem("r1", "silent", "one.wav: is silent")]
        np.testing.assert_array_equal(frames[2:6], LogMel(8000)(*noise(2)))
        with pytest.raises(CorpusError, match=r"--strict: one\.wav: is silent"):
            compute(broken, tmp_path, strict=True)


@pytest.mark.parametrize(
    ("samples", "kind"),
    [([], "no samples"), ([0.1, float("nan")], "not finite"), ([0.5] * 800, "silent")],
)
def test_sound_that_no_reader_should_return(corpus, tmp_path, samples, kind):
    sound = np.array(samples, dtype=np.float32), 8000
    (problem,) = compute(changed(corpus, 3, sound=lambda: sound), tmp_path)[3]
    assert (problem.name, problem.kind) == ("r3", kind)
    assert problem.reason.startswith("r3: ")


def test_no_usable_recording(corpus, tmp_path):
    useless = replace(corpus, recordings=(made_up("x", partial(fail, SILENT)),))
    with pytest.raises(CorpusError, match=r"noise: no recording can be used; the first: one\.wav"):
        compute(useless, tmp_path)


def test_durations_are_bounded(corpus, tmp_path):
    bounded = replace(corpus, shortest=0.025, longest=0.05)
    names, _, _, problems = compute(bounded, tmp_path)
    assert names == ["r1", "r2", "r3"]
    assert [(p.name, p.kind) for p in problems] == [("r0", "too short"), ("r4", "too long")]
    assert "r0: lasts 0.013 s, less than 0.025 s" in problems[0].reason


def test_silence_is_trimmed(tmp_path):
    rng = np.random.default_rng(0)
    samples = rng.normal(size=8000) * np.repeat([1e-4, 0.1], 4000)
    samples = samples.astype(np.float32)
    word, hum = (
        made_up("word", lambda: (samples, 8000)),
        made_up("hum", lambda: (samples[:4000], 8000)),
    )
    corpus = SpeechCorpus("c", False, 8000, (word, hum), trim=VoiceActivity())
    first, last = VoiceActivity().span(samples, 8000)
    assert first > 3000
    np.testing.assert_array_equal(corpus.read(word)[0], samples[first:last])
    (problem,) = compute(corpus, tmp_path)[3]
    assert (problem.name, problem.kind) == ("hum", "no speech")


@pytest.mark.parametrize("terminal", [True, False])
def test_threads_are_restored_and_progress_is_for_terminals(
    corpus, tmp_path, monkeypatch, capsys, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    before, wrong = torch.get_num_threads(), ValueError("an error of the program")
    torch.set_num_threads(before + 1)
    try:
        compute(corpus, tmp_path)
        assert torch.get_num_threads() == before + 1
        with pytest.raises(ValueError, match="an error of the program"):
            compute(changed(corpus, 1, content="", sound=partial(fail, wrong)), tmp_path)
        assert torch.get_num_threads() == before + 1
        assert ("features of noise: 100%" in capsys.readouterr().err) == terminal
    finally:
        torch.set_num_threads(before)


def test_several_processes_give_the_same(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_SHARD", 2)
    broken = changed(corpus, 1, sound=partial(fail, SILENT))
    one, two = (compute(broken, tmp_path / str(n), workers=n) for n in (1, 2))
    assert_same(one, two)


def test_an_interrupted_call_continues_where_it_stopped(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_SHARD", 2)
    whole = compute(corpus, tmp_path / "whole")
    with pytest.raises(AssertionError, match="was read"):
        compute(changed(corpus, 4, sound=forbidden), tmp_path / "stopped")
    assert len(list((tmp_path / "stopped").iterdir())) == 2
    rest = corpus
    for index in range(4):  # nothing of the first two shards is read again
        rest = changed(rest, index, sound=forbidden)
    assert_same(compute(rest, tmp_path / "stopped"), whole)


def test_a_passing_problem_is_not_cached(corpus, tmp_path):
    denied = changed(corpus, 1, sound=partial(fail, DENIED))
    assert [problem.kind for problem in compute(denied, tmp_path)[3]] == ["no permission"]
    assert compute(corpus, tmp_path)[3] == []


SCRIPT = """
import sys
from functools import partial
from pvae_pyro.data.features import compute_features
from pvae_pyro.data.recording import SpeechCorpus
from tests.data.test_features import made_up, noise
print("main ran")
corpus = SpeechCorpus("c", False, 8000, tuple(made_up(str(i), partial(noise, i)) for i in range(4)))
print(compute_features(corpus, cache_dir=sys.argv[1], workers=2)[1]["lengths"].tolist())
"""


@pytest.mark.slow
def test_other_processes_do_not_run_an_unguarded_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    printed = subprocess.check_output([sys.executable, script, tmp_path], text=True, timeout=600)
    assert printed == "main ran\n[2, 3, 4, 6]\n"
