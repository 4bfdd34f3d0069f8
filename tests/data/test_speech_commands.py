"""Speech Commands: the corpus's own lists split it, and only its digits are unpacked."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torchaudio.datasets import speechcommands

from pvae_pyro.data.corpora import speech_commands
from pvae_pyro.data.corpora.speech_commands import SHA256, URL, WORDS, speech_commands_corpus
from pvae_pyro.data.corpus import CorpusError
from tests.support.archives import tar_gz
from tests.support.local_server import local_server

VERSION = "speech_commands_v0.02"
# Every word by three speakers, one for each list and one to train.
SPEAKERS = ("0a7c2a8d", "1b8d3b9e", "2c9e4caf")
TESTING = [f"{word}/{SPEAKERS[0]}_nohash_0.wav" for word in (*WORDS, "marvin")]
VALIDATION = [f"{word}/{SPEAKERS[1]}_nohash_0.wav" for word in (*WORDS, "marvin")]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    made = {}
    for word in (*WORDS, "marvin"):
        for speaker in SPEAKERS:
            file = io.BytesIO()
            level = (len(made) + 1) / 100
            soundfile.write(file, level * np.sign(np.arange(30) - 9.5), 16000, format="WAV")
            made[f"{word}/{speaker}_nohash_0.wav"] = file.getvalue()
    made["testing_list.txt"] = "\n".join(TESTING).encode() + b"\n"
    made["validation_list.txt"] = "\r\n".join(VALIDATION).encode()
    made["_background_noise_/white_noise.wav"] = b"noise"
    made["README.md"] = b"text"
    return made


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)
    monkeypatch.setattr(
        speech_commands, "_LINES", {"validation_list.txt": 11, "testing_list.txt": 11}
    )


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    return _write(tmp_path / VERSION, files)


def test_archive_is_the_one_that_torchaudio_knows():
    known = {url.rpartition("/")[2]: sha for url, sha in speechcommands._CHECKSUMS.items()}
    assert known[URL.rpartition("/")[2]] == SHA256


@pytest.mark.parametrize("layout", [VERSION, f"SpeechCommands/{VERSION}"])
def test_names_are_read(tmp_path: Path, files: dict[str, bytes], layout: str):
    _write(tmp_path / layout, files)
    corpus = speech_commands_corpus(tmp_path)
    assert (corpus.stand_in, corpus.sample_rate, corpus.problems) == (False, 16000, ())
    assert corpus.notes == ("10 recordings of validation_list.txt are left out",)
    assert [(r.name, r.label, r.speaker, r.split) for r in corpus.recordings] == [
        (f"{word}/{speaker}_nohash_0", str(digit), speaker, split)
        for digit, word in enumerate(WORDS)
        for speaker, split in ((SPEAKERS[0], "test"), (SPEAKERS[2], "train"))
    ]
    samples, rate = corpus.recordings[-1].read()
    assert rate == 16000
    np.testing.assert_allclose(np.abs(samples), 0.30, atol=1e-4)  # the 30th made


def test_validation_to_train(folder: Path, tmp_path: Path):
    corpus = speech_commands_corpus(tmp_path, validation="train")
    assert corpus.notes == ("10 recordings of validation_list.txt are used to train",)
    splits = {r.speaker: r.split for r in corpus.recordings}
    assert splits == dict(zip(SPEAKERS, ("test", "train", "train"), strict=True))
    assert len(corpus.recordings) == 30


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_lists(folder: Path, tmp_path: Path, name: str):
    whole = (folder / name).read_text()
    # One that was cut would train on what is held out.
    (folder / name).write_text("\n".join(whole.split()[:5]))
    corpus = speech_commands_corpus(tmp_path)
    assert any(f"{name} has 5 lines, not the 11 of v0.02" in note for note in corpus.notes)
    (folder / name).write_text("marvin/0_nohash_0.wav\n")
    with pytest.raises(CorpusError, match=f"{name} names no recording of a digit"):
        speech_commands_corpus(tmp_path)
    (folder / name).unlink()
    with pytest.raises(CorpusError, match=f"{name} cannot be read .No such file.*no split"):
        speech_commands_corpus(tmp_path)


def test_what_is_missing_is_noted(folder: Path, tmp_path: Path):
    for path in (folder / "seven").iterdir():
        path.unlink()
    (folder / "seven").rmdir()
    (folder / "one" / f"{SPEAKERS[0]}_nohash_0.wav").unlink()
    corpus = speech_commands_corpus(tmp_path)
    assert corpus.notes == (
        "9 recordings of validation_list.txt are left out",
        "1 recordings of digits in validation_list.txt are not there",
        "2 recordings of digits in testing_list.txt are not there",
    )
    assert len(corpus.recordings) == 17


def test_no_digits(tmp_path: Path, files: dict[str, bytes]):
    others = {n: c for n, c in files.items() if n.startswith("marvin") or n.endswith(".txt")}
    _write(tmp_path / VERSION, others)
    with pytest.raises(CorpusError, match="has no recording of a digit"):
        speech_commands_corpus(tmp_path)


@pytest.fixture
def server(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    archive = tar_gz(
        *((f"./{name}", content) for name, content in files.items()),
        ("./one/../../evil_nohash_0.wav", b"evil"),
        ("./one/deep/0_nohash_0.wav", b"evil"),
    )
    with local_server({"archive.tar.gz": archive}) as served:
        monkeypatch.setattr(speech_commands, "URL", served.url + "archive.tar.gz")
        monkeypatch.setattr(speech_commands, "SHA256", hashlib.sha256(archive).hexdigest())
        yield served


def test_downloaded(server, files: dict[str, bytes], tmp_path: Path):
    corpus = speech_commands_corpus(tmp_path)
    assert (len(corpus.recordings), corpus.problems) == (20, ())
    assert [path.name for path in tmp_path.iterdir()] == [VERSION]
    unpacked = (path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path / VERSION).as_posix() for path in unpacked} == {
        name for name in files if name.startswith(WORDS) or name.endswith(".txt")
    }


def test_another_archive(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speech_commands, "SHA256", SHA256)
    with pytest.raises(CorpusError, match=SHA256):
        speech_commands_corpus(tmp_path)
    assert list(tmp_path.iterdir()) == []
