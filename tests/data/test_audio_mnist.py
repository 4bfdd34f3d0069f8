"""AudioMNIST: wherever it lies, speakers are of one part only; a download is all of it or none."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpora import audio_mnist
from pvae_pyro.data.corpora.audio_mnist import TEST_SPEAKERS, audio_mnist_corpus
from pvae_pyro.data.corpus import CorpusError
from tests.support.archives import tar_gz
from tests.support.local_server import local_server

SPEAKERS = ("01", "05", "36")  # train, test, and the one with copies


@pytest.fixture(scope="module")
def sounds() -> dict[str, bytes]:
    made = {}
    for speaker in SPEAKERS:
        for digit in range(10):
            for index in (0, 1):
                file = io.BytesIO()
                level = (len(made) + 1) / 100
                soundfile.write(file, level * np.sign(np.arange(30) - 9.5), 48000, format="WAV")
                made[f"{speaker}/{digit}_{speaker}_{index}.wav"] = file.getvalue()
    return made


@pytest.fixture(autouse=True)
def _small(sounds: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    """As if the corpus were no larger."""
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)
    monkeypatch.setattr(audio_mnist, "_SPEAKERS", SPEAKERS)
    monkeypatch.setattr(audio_mnist, "_INDICES", range(2))
    monkeypatch.setattr(audio_mnist, "_TOTAL", sum(map(len, sounds.values())))


def _write(folder: Path, sounds: dict[str, bytes]) -> Path:
    for name, sound in sounds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(sound)
    (folder / "audioMNIST_meta.txt").write_text("{}")
    return folder


LAYOUTS = (
    "audio_mnist/data",
    "audio_mnist",
    "AudioMNIST/data",
    "AUDIO-MNIST",
    "AudioMNIST-master/data",
    f"AudioMNIST-{audio_mnist.REVISION}/data",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_read(tmp_path: Path, sounds: dict[str, bytes], layout: str):
    _write(tmp_path / layout, sounds)
    (tmp_path / "other").mkdir()
    corpus = audio_mnist_corpus(tmp_path)
    assert (corpus.name, corpus.stand_in, corpus.sample_rate) == ("AudioMNIST", False, 16000)
    assert (corpus.problems, corpus.notes) == ((), ())
    recordings = {r.name: r for r in corpus.recordings}
    assert len(recordings) == 60
    assert {(r.speaker, r.split) for r in corpus.recordings} == {
        ("01", "train"),
        ("05", "test"),
        ("36", "train"),
    }
    recording = recordings["7_05_1"]
    assert (recording.label, recording.speaker) == ("7", "05")
    samples, rate = recording.read()
    assert rate == 48000
    np.testing.assert_allclose(np.abs(samples), 0.36, atol=1e-4)  # the 36th made


def test_test_speakers_of_the_whole_corpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    assert len(set(TEST_SPEAKERS)) == 12
    assert set(TEST_SPEAKERS) < set(audio_mnist._SPEAKERS)
    # Of the publishers' metadata.
    women = {"12", "26", "28", "36", "43", "47", "52", "56", "57", "58", "59", "60"}
    assert len(women & set(TEST_SPEAKERS)) == 3
    assert len(audio_mnist._names()) == 30_000
    assert {"01/0_01_0.wav", "60/9_60_49.wav"} < audio_mnist._names()


def test_copies_are_left_out(tmp_path: Path, sounds: dict[str, bytes]):
    sounds = {**sounds, "36/3_36_20.wav": sounds["36/3_36_1.wav"]}
    corpus = audio_mnist_corpus(_write(tmp_path / "audio_mnist", sounds).parent)
    assert corpus.problems == ()
    assert corpus.notes == ("left out, copies of others by the publishers' word: 3_36_20",)
    assert len(corpus.recordings) == 60


def test_empty(tmp_path: Path):
    (tmp_path / "audio_mnist" / "data" / "01").mkdir(parents=True)
    with pytest.raises(CorpusError, match="data has no recordings; delete it"):
        audio_mnist_corpus(tmp_path)


def _archive(sounds: dict[str, bytes]) -> bytes:
    top = f"AudioMNIST-{audio_mnist.REVISION}"
    return tar_gz(
        (f"{top}/LICENSE", b"text"),
        (f"{top}/models/01/0_01_0.wav", b"other"),
        (f"{top}/data/audioMNIST_meta.txt", b"{}"),
        (f"{top}/data/36/notes.txt", b"text"),
        (f"{top}/data/01/../0_01_9.wav", b"evil"),
        (f"{top}/data/deep/01/0_01_9.wav", b"evil"),
        (f"{top}/deep/data/01/0_01_9.wav", b"evil"),
        *((f"{top}/data/{name}", sound) for name, sound in sounds.items()),
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with local_server({}) as served:
        monkeypatch.setattr(audio_mnist, "URL", served.url + "archive.tar.gz")
        yield served


def test_downloaded(server, sounds: dict[str, bytes], tmp_path: Path):
    server.files["archive.tar.gz"] = _archive(sounds)
    corpus = audio_mnist_corpus(tmp_path)
    assert (len(corpus.recordings), corpus.problems, corpus.notes) == (60, (), ())
    assert [p.name for p in (tmp_path / "audio_mnist").iterdir()] == ["data"]
    found = (p for p in tmp_path.rglob("*") if p.is_file())
    assert {p.relative_to(tmp_path / "audio_mnist" / "data").as_posix() for p in found} == {
        *sounds,
        "audioMNIST_meta.txt",
    }
    audio_mnist_corpus(tmp_path)
    assert server.asked == ["archive.tar.gz"]


CHANGED = {
    "less": ({"01/0_01_0.wav": None}, "it lacks 1 recordings and has 0 others"),
    "more": ({"07/0_07_0.wav": b"more"}, "it lacks 0 recordings and has 1 others"),
    "cut": ({"05/4_05_1.wav": b"RIFF\0\0\0\0WAVE"}, r"recordings have \d+ bytes, not \d+"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_other_content_is_refused(server, sounds: dict[str, bytes], tmp_path: Path, case: str):
    change, message = CHANGED[case]
    changed = {n: s for n, s in {**sounds, **change}.items() if s is not None}
    server.files["archive.tar.gz"] = _archive(changed)
    message = (
        rf"{audio_mnist.REVISION}\.tar\.gz is not revision {audio_mnist.REVISION} .*: .*{message}"
    )
    with pytest.raises(CorpusError, match=message):
        audio_mnist_corpus(tmp_path)
    assert list((tmp_path / "audio_mnist").iterdir()) == []
