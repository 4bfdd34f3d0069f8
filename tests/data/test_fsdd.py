"""FSDD: names become labels, speakers and splits; only verified content is unpacked."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpora import fsdd
from pvae_pyro.data.corpora.fsdd import content_digest, fsdd_corpus
from pvae_pyro.data.corpus import CorpusError, Problem
from tests.support.archives import tar_gz
from tests.support.local_server import local_server


@pytest.fixture(scope="module")
def sounds() -> dict[str, bytes]:
    """A short recording of every digit by two speakers, for each partition."""
    made = {}
    for number, (speaker, digit, index) in enumerate(
        (speaker, digit, index)
        for speaker in ("ann", "bob")
        for digit in range(10)
        for index in (4, 15)
    ):
        file = io.BytesIO()
        soundfile.write(file, (number + 1) / 100 * np.sign(np.arange(20) - 9.5), 8000, format="WAV")
        made[f"{digit}_{speaker}_{index}.wav"] = file.getvalue()
    return made


@pytest.fixture
def folder(tmp_path: Path, sounds: dict[str, bytes]) -> Path:
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name, content in sounds.items():
        (folder / name).write_bytes(content)
    return folder


def test_names_are_read(folder: Path, tmp_path: Path):
    (folder / ".DS_Store").write_bytes(b"")
    corpus = fsdd_corpus(tmp_path)
    assert (corpus.name, corpus.stand_in, corpus.sample_rate) == ("FSDD", False, 8000)
    assert corpus.problems == ()
    assert len(corpus.recordings) == 40
    recordings = {r.name: r for r in corpus.recordings}
    test, train = recordings["7_bob_4"], recordings["7_bob_15"]
    assert (test.label, test.speaker, test.split) == ("7", "bob", "test")
    assert (train.label, train.speaker, train.split) == ("7", "bob", "train")
    samples, rate = test.read()
    assert rate == 8000
    np.testing.assert_allclose(np.abs(samples), 0.35, atol=1e-4)  # the 35th made


def test_other_revision_is_reported(folder: Path, tmp_path: Path, monkeypatch):
    corpus = fsdd_corpus(tmp_path)
    assert corpus.notes == (f"{folder} differs from revision 26eb9aa of FSDD",)
    monkeypatch.setattr(fsdd, "CONTENT", content_digest(corpus.recordings))
    assert fsdd_corpus(tmp_path).notes == ()


@pytest.mark.parametrize(
    "name", ["readme.txt", "10_ann_3.wav", "1_ann_3.wav.part", "1_ann.wav", "1_a2_3.wav"]
)
def test_other_names(folder: Path, tmp_path: Path, name: str):
    (folder / name).write_bytes(b"")
    corpus = fsdd_corpus(tmp_path)
    assert len(corpus.recordings) == 40
    reason = f"{folder / name}: is not a recording named digit_speaker_index.wav"
    assert corpus.problems == (Problem(name, "name", reason),)


def test_bad_files(folder: Path, tmp_path: Path, sounds: dict[str, bytes]):
    (folder / "1_ann_3.wav").mkdir()
    (folder / "8_ann_3.wav").symlink_to("nowhere")
    (folder / "9_ann_3.wav").write_bytes(sounds["9_ann_4.wav"])
    corpus = fsdd_corpus(tmp_path)
    assert [(p.name, p.kind) for p in corpus.problems] == [
        ("1_ann_3.wav", "name"),
        ("8_ann_3", "missing"),
        ("9_ann_4", "duplicate"),
    ]
    assert len(corpus.recordings) == 40


def test_empty(tmp_path: Path):
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    (folder / "0_ann_4.mp3").touch()
    with pytest.raises(CorpusError, match="recordings has no recordings; delete it"):
        fsdd_corpus(tmp_path)


def _archive(sounds: dict[str, bytes], *more: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    recordings = ((f"free-26eb9aa/recordings/{name}", sound) for name, sound in sounds.items())
    return tar_gz(("free-26eb9aa/README.md", b"text"), *recordings, *more)


@pytest.fixture
def serve(sounds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offers an archive as FSDD's, and pins the content of `sounds`."""
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)
    pinned = tmp_path / "pinned" / "fsdd" / "recordings"
    pinned.mkdir(parents=True)
    for name, content in sounds.items():
        (pinned / name).write_bytes(content)
    corpus = fsdd_corpus(tmp_path / "pinned")
    monkeypatch.setattr(fsdd, "CONTENT", content_digest(corpus.recordings))
    with local_server({}) as server:
        monkeypatch.setattr(fsdd, "URL", server.url + "archive.tar.gz")

        def offer(archive: bytes) -> None:
            server.files["archive.tar.gz"] = archive

        yield offer


def test_downloaded(serve, sounds: dict[str, bytes], tmp_path: Path):
    serve(_archive(sounds))
    root = tmp_path / "root"
    corpus = fsdd_corpus(root)
    assert (len(corpus.recordings), corpus.problems, corpus.notes) == (40, (), ())
    assert [p.name for p in (root / "fsdd").iterdir()] == ["recordings"]
    assert {p.name: p.read_bytes() for p in (root / "fsdd" / "recordings").iterdir()} == sounds


@pytest.mark.parametrize("change", ["less", "more", "a copy more", "other"])
def test_other_content_is_refused(serve, sounds: dict[str, bytes], tmp_path: Path, change: str):
    changed = dict(sounds)
    if change == "less":
        del changed["0_ann_4.wav"]
    elif change == "a copy more":
        changed["9_zoe_4.wav"] = sounds["1_ann_4.wav"]
    else:
        changed["0_ann_4.wav" if change == "other" else "0_eve_4.wav"] = b"other"
    serve(_archive(changed))
    with pytest.raises(CorpusError, match=r"26eb9aa\.tar\.gz is not revision 26eb9aa of FSDD"):
        fsdd_corpus(tmp_path / "root")
    assert list((tmp_path / "root" / "fsdd").iterdir()) == []


def test_real_recordings(data_root: Path):
    corpus = fsdd_corpus(data_root)
    assert (corpus.problems, corpus.notes) == ((), ())
    splits = [r.split for r in corpus.recordings]
    assert (splits.count("train"), splits.count("test")) == (2700, 300)
    assert len({r.speaker for r in corpus.recordings}) == 6
    assert {r.label for r in corpus.recordings} == set("0123456789")
