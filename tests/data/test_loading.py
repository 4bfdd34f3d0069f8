"""Corpora are loaded by name, as columns of examples."""

import logging

import numpy as np
import pytest
import soundfile
from PIL import Image

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.loading import load_paired


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")


@pytest.mark.usefixtures("cache")
def test_stand_in_says_so_and_is_whole(tmp_path, caplog):
    pytest.importorskip("espeakng_loader")
    with caplog.at_level(logging.WARNING):
        data = load_paired("secuvoice", tmp_path, limit=3)
    assert data.stand_in
    assert "eSpeak" in data.corpus
    assert "Spanish" in data.corpus
    assert "SECUVOICE is licensed" in caplog.text
    assert data.classes == tuple("0123456789")
    for partition in (data.train, data.test):
        assert list(partition) == ["speech", "image"]
        assert np.bincount(partition["speech"].labels).tolist() == [3] * 10
        assert sorted(set(partition["image"].labels.tolist())) == list(range(10))
    assert not set(data.train["speech"].groups) & set(data.test["speech"].groups)
    assert (len(data.train["image"]), len(data.test["image"])) == (4000, 1000)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("tidigit", "--require-corpus was given"),
        ("secuvoice", "--require-corpus was given"),
        ("timit", "choose from tidigit, secuvoice, fsdd"),
    ],
)
def test_corpora_that_are_not_there(dataset, message, tmp_path):
    with pytest.raises(CorpusError, match=message):
        load_paired(dataset, tmp_path, require_corpus=True)


@pytest.fixture
def mixed(tmp_path):
    """Recordings in no order of splits, one of them bad; each is known by its length.

    Returns the two manifests' names, and (speaker, class) by number of samples and by split.
    """
    rng = np.random.default_rng(0)
    words, drawings, said = ["path,label,speaker,split"], ["path,label,split"], {}
    for n in range(24):
        label, split = "abc"[n % 3], ("train", "test", "train")[n // 3 % 3]
        soundfile.write(tmp_path / f"{n}.wav", rng.normal(0, 0.1, 800 + 160 * n), 8000)
        words.append(f"{n}.wav,{label},s{n},{split}")
        if n == 7:
            (tmp_path / f"{n}.wav").write_bytes(b"no sound")
        else:
            said[1 + (800 + 160 * n) // 80] = (f"s{n}", label, split)
        Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(tmp_path / f"{n}.png")
        drawings.append(f"{n}.png,{label},{split}")
    for name, lines in (("words.csv", words), ("drawings.csv", drawings)):
        (tmp_path / name).write_text("\n".join(lines))
    return f"manifest:{tmp_path}/words.csv", f"manifest:{tmp_path}/drawings.csv", said


def found_in(data):
    """(speaker, class, split) by number of frames, as `mixed` returns them."""
    return {
        int(frames): (speaker, data.classes[label], split)
        for split, partition in (("train", data.train), ("test", data.test))
        for speech in [partition["speech"]]
        for frames, label, speaker in zip(speech.lengths, speech.labels, speech.groups, strict=True)
    }


@pytest.mark.usefixtures("cache")
def test_every_row_keeps_its_label_its_speaker_and_its_split(mixed, tmp_path):
    words, drawings, said = mixed
    data = load_paired(words, tmp_path, image_dataset=drawings)
    assert data.classes == ("a", "b", "c")
    assert found_in(data) == said
    assert [problem.name for problem in data.problems] == ["7.wav"]
    # The frames are those of the recording, too.
    samples, _ = soundfile.read(tmp_path / "4.wav", dtype="float32")
    row = data.test["speech"].groups.index("s4")
    first, last = data.test["speech"].offsets[row : row + 2]
    np.testing.assert_allclose(
        data.test["speech"].values[first:last], LogMel(8000)(samples, 8000), rtol=1e-5
    )


@pytest.mark.usefixtures("cache")
def test_classes_alone(mixed, tmp_path):
    """Others are left out of speech and images; the rest keeps its speakers and splits."""
    words, drawings, said = mixed
    data = load_paired(words, tmp_path, image_dataset=drawings, classes=["c", "a"])
    assert data.classes == ("a", "c")
    assert found_in(data) == {frames: row for frames, row in said.items() if row[1] != "b"}
    assert (len(data.train["image"]), len(data.test["image"])) == (10, 6)
    assert "only the classes a, c" in data.remarks
    # The normalisation is that of the training examples that are left.
    train = data.train["speech"]
    frames = train.normalisation.apply(train.values)
    np.testing.assert_allclose(frames.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(frames.std(0), 1.0, atol=1e-3)
    assert data.test["speech"].normalisation is train.normalisation
    with pytest.raises(CorpusError, match=r"no recording of class d, e; there are a, b, c"):
        load_paired(words, tmp_path, image_dataset=drawings, classes=["e", "a", "d"])


@pytest.mark.usefixtures("cache")
def test_what_would_spoil_a_comparison_is_reported(mixed, tmp_path, caplog):
    words, drawings, _ = mixed
    assert load_paired(words, tmp_path, image_dataset=drawings).remarks == ()
    path = tmp_path / "words.csv"
    path.write_text(path.read_text().replace(",s3,", ",s0,"))  # 3 is for testing, 0 for training
    with caplog.at_level(logging.INFO):
        data = load_paired(words, tmp_path, image_dataset=drawings)
    remark = "WARNING: 1 of the 8 test speakers are in the training split too"
    assert data.remarks == (remark.replace("8", str(len(set(data.test["speech"].groups)))),)
    assert data.remarks[0] in caplog.text


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",test", ",train", "the test partition has nothing that can be used"),
        (",train", ",test", "the training partition has nothing"),
        (",a,", ",d,", "no train image of class d, which the speech has; it has a, b, c"),
    ],
)
def test_partitions_and_classes_that_do_not_fit(mixed, tmp_path, old, new, message):
    words, drawings, _ = mixed
    path = tmp_path / "words.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CorpusError, match=message):
        load_paired(words, tmp_path, image_dataset=drawings)
