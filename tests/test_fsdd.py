"""FSDD: names become labels, speakers and splits; only verified content is unpacked."""

import io
import logging
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpora import fsdd
from pvae_pyro.data.corpora.fsdd import content_digest, fsdd_corpus
from pvae_pyro.data.corpus import CorpusError
from tests.local_server import local_server


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
        soundfile.write(file, np.full(20, (number + 1) / 100), 8000, format="WAV")
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
    assert len(corpus.recordings) == 40
    recordings = {r.name: r for r in corpus.recordings}
    test, train = recordings["7_bob_4"], recordings["7_bob_15"]
    assert (test.label, test.speaker, test.split) == ("7", "bob", "test")
    assert (train.label, train.speaker, train.split) == ("7", "bob", "train")
    samples, rate = test.read()
    assert rate == 8000
    np.testing.assert_allclose(samples, 0.35, atol=1e-4)  # the 35th made


def test_order_is_fixed(folder: Path, tmp_path: Path):
    names = [r.name for r in fsdd_corpus(tmp_path).recordings]
    assert names == sorted(names)


def test_fingerprint_follows_the_sound(folder: Path, tmp_path: Path, sounds: dict[str, bytes]):
    before = {r.name: r.fingerprint for r in fsdd_corpus(tmp_path).recordings}
    assert len(set(before.values())) == 40
    (folder / "0_ann_4.wav").write_bytes(sounds["1_ann_4.wav"])
    after = {r.name: r.fingerprint for r in fsdd_corpus(tmp_path).recordings}
    assert after["0_ann_4"] == before["1_ann_4"]
    assert [name for name in before if after[name] != before[name]] == ["0_ann_4"]


def test_other_revision_is_told(folder: Path, tmp_path: Path, caplog, monkeypatch):
    corpus = fsdd_corpus(tmp_path)
    assert "differs from revision 26eb9aa" in caplog.text
    caplog.clear()
    monkeypatch.setattr(fsdd, "CONTENT", content_digest(corpus.recordings))
    fsdd_corpus(tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "name", ["readme.txt", "10_ann_3.wav", "1_ann_3.wav.part", "1_ann.wav", "1_a2_3.wav"]
)
def test_other_names(folder: Path, tmp_path: Path, name: str):
    (folder / name).write_bytes(b"")
    with pytest.raises(CorpusError, match=f"{name}: not a recording named"):
        fsdd_corpus(tmp_path)


@pytest.mark.parametrize(
    ("missing", "told"),
    [("3_bob_4", "no test recording 3_bob"), ("0_ann_15", "no train recording 0_ann")],
)
def test_incomplete(folder: Path, tmp_path: Path, missing: str, told: str):
    (folder / f"{missing}.wav").unlink()
    with pytest.raises(CorpusError, match=f"recordings is incomplete: {told}"):
        fsdd_corpus(tmp_path)


def test_empty(tmp_path: Path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    with pytest.raises(CorpusError, match="recordings is empty"):
        fsdd_corpus(tmp_path)


def test_absent_and_not_to_be_downloaded(tmp_path: Path):
    with pytest.raises(CorpusError, match="recordings is not there"):
        fsdd_corpus(tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def _archive(
    sounds: dict[str, bytes], more: Callable[[tarfile.TarFile], None] | None = None
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        _add(tar, "free-26eb9aa/README.md", b"text")
        for name, content in sounds.items():
            _add(tar, f"free-26eb9aa/recordings/{name}", content)
        if more is not None:
            more(tar)
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    tar.addfile(member)


@pytest.fixture
def serve(sounds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offers an archive as FSDD's, and pins the content of `sounds`."""
    names = tmp_path / "pinned"
    names.mkdir()
    for name, content in sounds.items():
        (names / name).write_bytes(content)
    pinned = content_digest(tuple(fsdd._recording(path) for path in names.iterdir()))
    monkeypatch.setattr(fsdd, "CONTENT", pinned)
    with local_server({}) as server:
        monkeypatch.setattr(fsdd, "URL", server.url + "archive.tar.gz")

        def offer(archive: bytes) -> None:
            server.files["archive.tar.gz"] = archive

        yield offer


def test_downloaded(serve, sounds: dict[str, bytes], tmp_path: Path, caplog):
    serve(_archive(sounds))
    root = tmp_path / "root"
    corpus = fsdd_corpus(root)
    assert len(corpus.recordings) == 40
    assert caplog.text == ""
    assert [p.name for p in (root / "fsdd").iterdir()] == ["recordings"]
    assert {p.name: p.read_bytes() for p in (root / "fsdd" / "recordings").iterdir()} == sounds


def test_nothing_else_is_unpacked(serve, sounds: dict[str, bytes], tmp_path: Path):
    def more(tar: tarfile.TarFile) -> None:
        for name in (
            "../9_eve_1.wav",
            "/recordings/9_eve_1.wav",
            "free/recordings/../../../9_eve_1.wav",
            "../recordings/9_eve_1.wav",
            "free/recordings/deep/9_eve_1.wav",
        ):
            _add(tar, name, b"evil")
        _add_link(tar, "free/recordings/9_eve_1.wav", "/etc/hostname")

    serve(_archive(sounds, more))
    root = tmp_path / "root"
    fsdd_corpus(root)
    assert {p.name for p in (root / "fsdd" / "recordings").iterdir()} == set(sounds)
    assert not list(tmp_path.rglob("*eve*"))


@pytest.mark.parametrize("change", ["less", "more", "other"])
def test_other_content_is_refused(serve, sounds: dict[str, bytes], tmp_path: Path, change: str):
    changed = dict(sounds)
    if change == "less":
        del changed["0_ann_4.wav"]
    else:
        changed["0_ann_4.wav" if change == "other" else "0_eve_4.wav"] = sounds["1_ann_4.wav"]
    serve(_archive(changed))
    with pytest.raises(CorpusError, match="is not revision 26eb9aa of FSDD"):
        fsdd_corpus(tmp_path / "root")
    assert list((tmp_path / "root" / "fsdd").iterdir()) == []


def test_damaged_archive(serve, sounds: dict[str, bytes], tmp_path: Path):
    archive = _archive(sounds)
    for damaged in (archive[: len(archive) // 2], b"not an archive", b""):
        serve(damaged)
        with pytest.raises(CorpusError, match=r"cannot be unpacked|is not revision"):
            fsdd_corpus(tmp_path / "root")
        assert list((tmp_path / "root" / "fsdd").iterdir()) == []


def test_size_of_what_is_unpacked_is_limited(serve, sounds, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fsdd, "_MAX_UNPACKED", 50_000)
    serve(_archive(sounds, lambda tar: _add(tar, "free/bomb", bytes(50_000))))
    with pytest.raises(CorpusError, match="unpacks to more than 50000 bytes"):
        fsdd_corpus(tmp_path / "root")
    assert list((tmp_path / "root" / "fsdd").iterdir()) == []


def test_offline(tmp_path: Path, sounds: dict[str, bytes], serve, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(fsdd, "URL", f"http://127.0.0.1:{closed.getsockname()[1]}/a.tar.gz")
        with pytest.raises(
            CorpusError, match=r"put a copy at (.*26eb9aa\.tar\.gz) or set PVAE_DATA"
        ):
            fsdd_corpus(tmp_path / "root")
        # The advice works, and the copy is kept.
        copy = tmp_path / "root" / "fsdd" / "26eb9aa.tar.gz"
        copy.write_bytes(_archive(sounds))
        assert len(fsdd_corpus(tmp_path / "root").recordings) == 40
        assert copy.exists()


def test_real_recordings(data_root: Path, caplog):
    with caplog.at_level(logging.WARNING):
        corpus = fsdd_corpus(data_root, download=False)
    assert caplog.text == ""
    splits = [r.split for r in corpus.recordings]
    assert (splits.count("train"), splits.count("test")) == (2700, 300)
    assert len({r.speaker for r in corpus.recordings}) == 6
    assert {r.label for r in corpus.recordings} == set("0123456789")
