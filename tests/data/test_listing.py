"""From listed recordings to a corpus: parts of files, and what is left out."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data import recording
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording

RATE = 8000


def _entry(path: Path, start=None, end=None, name=None, **fields) -> Recording:
    fields = {"label": "7", "speaker": "ann", "split": "train", **fields}
    return Recording(path, name or f"{path.name} {start} {end}", start=start, end=end, **fields)


@pytest.fixture
def ramp(tmp_path) -> Path:
    """One second of samples 1, 2, 3, ... / 32768."""
    path = tmp_path / "ramp.wav"
    soundfile.write(path, np.arange(1, RATE + 1, dtype=np.int16), RATE, subtype="PCM_16")
    return path


def _list(entries, problems=(), **kwargs):
    return list_corpus("c", RATE, entries, problems, **kwargs)


def test_whole_files_and_parts(ramp):
    corpus = _list(
        [
            _entry(ramp, name="all", label="x", speaker="bob"),
            _entry(ramp, 0.25, 0.5, name="part"),
            _entry(ramp, None, 0.001, name="head"),
            _entry(ramp, 0.999, None, name="tail"),
            _entry(ramp, 0.9, 1.019, name="an end a little late"),
        ]
    )
    assert corpus.problems == ()
    whole = corpus.recordings[0]
    assert (whole.label, whole.speaker, whole.split) == ("x", "bob", "train")
    spans = ((0, 8000), (2000, 4000), (0, 8), (7992, 8000), (7200, 8000))
    for item, (first, last) in zip(corpus.recordings, spans, strict=True):
        samples, rate = pickle.loads(pickle.dumps(item)).read()
        assert rate == RATE
        np.testing.assert_array_equal(samples * 32768, np.arange(first + 1, last + 1))


@pytest.mark.parametrize("span", [(0.9, 1.03), (2.0, 3.0), (0.5, 0.4), (-0.1, 0.5), (1.5, None)])
def test_a_part_that_is_not_in_the_file(ramp, span):
    (item,) = _list([_entry(ramp, *span)]).recordings
    with pytest.raises(AudioError, match=r"ramp\.wav: .* is not a part of its 1\.00 s") as error:
        item.read()
    assert error.value.kind == "outside the file"


def test_a_silent_part(tmp_path):
    samples = np.zeros(RATE, np.int16)
    samples[:4000] = 1000
    soundfile.write(tmp_path / "half.wav", samples, RATE)
    loud, silent = _list(
        [_entry(tmp_path / "half.wav", 0.4, 0.6), _entry(tmp_path / "half.wav", 0.6, 0.8)]
    ).recordings
    assert len(loud.read()[0]) == 1600
    with pytest.raises(AudioError, match=r"half\.wav: is silent from 0\.60 to 0\.80 s") as error:
        silent.read()
    assert error.value.kind == "silent"


def test_another_rate_than_the_corpus_is_at(ramp):
    (item,) = _list([_entry(ramp)], required_rate=20000).recordings
    with pytest.raises(AudioError, match=r"ramp\.wav: is at 8000 Hz, .* at 20000") as error:
        item.read()
    assert error.value.kind == "wrong rate"


def test_copies_of_files_parts_and_names(ramp, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(ramp.read_bytes())
    corpus = _list(
        [
            _entry(ramp, 0.1, 0.2, "first"),
            _entry(copy, 0.3, 0.4, "other part of a copy"),
            _entry(ramp, 0.3, 0.4, "second"),
            _entry(ramp, 0.1, 0.2, "again", label="8"),
            _entry(ramp, 0.5, 0.6, "first", label="8"),
        ]
    )
    assert [(r.name, r.label) for r in corpus.recordings] == [("first", "7"), ("second", "7")]
    assert [(p.name, p.kind) for p in corpus.problems] == [
        ("other part of a copy", "duplicate"),
        ("again", "label"),
        ("first", "duplicate"),
    ]
    copied, again, same_name = (problem.reason for problem in corpus.problems)
    assert "copy.wav: is the same file as" in copied
    assert "again is the same part as first, class 7, but is listed as class 8" in again
    assert "there is another first, class 7" in same_name


@pytest.mark.parametrize(
    ("span", "overlaps"),
    [
        ((0.4, 0.6), True),
        ((None, None), True),
        ((0.75, None), True),
        ((0.8, 1.0), False),
        ((0.79, 0.9), False),  # by no more than a boundary is off
    ],
)
def test_no_sound_is_in_both_splits(ramp, span, overlaps):
    entries = [_entry(ramp, 0.2, 0.8, "train"), _entry(ramp, *span, "other", split="test")]
    corpus = _list(entries)
    assert [p.name for p in corpus.problems] == ["other"] * overlaps
    if overlaps:
        assert "other overlaps train of the other split" in corpus.problems[0].reason
    same_split = [entries[0], _entry(ramp, *span, "other")]
    assert _list(same_split).problems == ()


def test_files_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    missing, pipe = _list([_entry(tmp_path / n, name=n) for n in ("none.wav", "pipe.wav")]).problems
    assert (missing.kind, pipe.kind) == ("missing", "unreadable")
    assert "none.wav: cannot be read (No such file" in missing.reason
    assert "pipe.wav: is not a file" in pipe.reason


def test_the_parts_of_a_damaged_file_are_decoded_once(ramp, monkeypatch):
    read = []

    def damaged(path, channel):
        read.append(path)
        raise AudioError("is cut", "truncated")

    monkeypatch.setattr(recording, "read_audio", damaged)
    for part in _list([_entry(ramp, 0.1, 0.2), _entry(ramp, 0.3, 0.4)]).recordings:
        with pytest.raises(AudioError, match="is cut") as error:
            part.read()
        assert error.value.kind == "truncated"
    assert len(read) == 1
