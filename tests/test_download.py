"""A file gets its name when its bytes are the right ones, and not before."""

import hashlib
import socket
from pathlib import Path

import numpy as np
import pytest

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.download import fetch
from tests.local_server import local_server

CONTENT = np.random.default_rng(0).bytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)


@pytest.fixture
def server():
    with local_server({"file": CONTENT}) as served:
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.bin"


def _part(path: Path) -> Path:
    return path.with_name("file.bin.part")


@pytest.mark.parametrize("sha256", [SHA256, None])
@pytest.mark.parametrize("with_length", [True, False])
def test_whole_file(server, path: Path, sha256: str | None, with_length: bool):
    server.with_length = with_length
    assert fetch(server.url + "file", path, sha256) == path
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_good_file_is_left_alone(server, path: Path):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    fetch(server.url + "file", path, SHA256)
    fetch(server.url + "file", path, None)
    assert server.ranges == []


def test_other_file_is_not_overwritten(server, path: Path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(CorpusError, match=r"file\.bin has another SHA-256"):
        fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == b"mine"
    assert server.ranges == []


def test_resumed(server, path: Path):
    server.break_after = 150_000
    with pytest.raises(
        CorpusError,
        match=r"broke off after 150000 of 200000 bytes\); try again to go on from there",
    ):
        fetch(server.url + "file", path, SHA256)
    assert not path.exists()
    server.break_after = None
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=150000-"]
    assert not _part(path).exists()


def test_broken_off_without_a_checksum(server, path: Path):
    """It starts again, so nothing else is promised and nothing is kept."""
    server.break_after = 150_000
    with pytest.raises(CorpusError, match=r"broke off after 150000 of 200000 bytes\); put a copy"):
        fetch(server.url + "file", path, None)
    assert list(path.parent.iterdir()) == []
    server.break_after = None
    fetch(server.url + "file", path, None)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


@pytest.mark.parametrize("with_ranges", [True, False])
@pytest.mark.parametrize("size", [1, 200_000])
def test_part_of_an_earlier_download(server, path: Path, with_ranges: bool, size: int):
    server.with_ranges = with_ranges
    path.parent.mkdir()
    _part(path).write_bytes(CONTENT[:size])
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={size}-"]


def test_answer_from_another_byte_than_asked(server, path: Path):
    server.with_right_start = False
    path.parent.mkdir()
    _part(path).write_bytes(CONTENT[:1000])
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


def test_part_is_not_trusted_without_a_checksum(server, path: Path):
    path.parent.mkdir()
    _part(path).write_bytes(b"other")
    fetch(server.url + "file", path, None)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


@pytest.mark.parametrize("part", [b"", b"other", b"x" * 300_000])
def test_wrong_checksum_keeps_nothing(server, path: Path, part: bytes):
    path.parent.mkdir()
    if part:
        _part(path).write_bytes(part)
    with pytest.raises(CorpusError, match=r"has SHA-256 [0-9a-f]{64}, expected ") as raised:
        fetch(server.url + "file", path, SHA256 if part else "0" * 64)
    assert ("0" * 64 in str(raised.value)) == (not part)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("with_length", [True, False])
def test_size_limit(server, path: Path, with_length: bool):
    server.with_length = with_length
    with pytest.raises(CorpusError, match=r"has 200000 bytes|is larger than the 199999"):
        fetch(server.url + "file", path, SHA256, max_bytes=199_999)
    assert list(path.parent.iterdir()) == []
    fetch(server.url + "file", path, SHA256, max_bytes=200_000)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/file",
        "ftp://127.0.0.1/file",
        "file:///etc/hostname",
        "http://127.0.0.1.example.org/",
    ],
)
def test_only_https(path: Path, url: str):
    with pytest.raises(CorpusError, match="only https"):
        fetch(url, path, SHA256)


def test_redirections_are_held_to_the_same(server, path: Path):
    server.redirects = {"a": server.url + "file", "b": "http://example.org/file"}
    with pytest.raises(CorpusError, match=r"refused to download http://example\.org"):
        fetch(server.url + "b", path, SHA256)
    fetch(server.url + "a", path, SHA256)
    assert path.read_bytes() == CONTENT


def test_not_found(server, path: Path):
    with pytest.raises(CorpusError, match="HTTP Error 404"):
        fetch(server.url + "other", path, SHA256)


def test_nobody_answers(path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        with pytest.raises(CorpusError) as raised:
            fetch(url, path, SHA256)
    message = str(raised.value)
    assert message.startswith(f"could not download {url} (")
    assert "refused" in message
    assert "try again" not in message
    assert message.endswith(f"put a copy at {path} or set PVAE_DATA")


def test_not_allowed_to_download(server, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    with pytest.raises(CorpusError, match=rf"PVAE_OFFLINE is set.*put a copy at {path}"):
        fetch(server.url + "file", path, SHA256)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert fetch(server.url + "file", path, SHA256) == path
    assert server.ranges == []


def test_server_that_says_nothing(path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(CorpusError, match="timed out"):
            fetch(url, path, SHA256, timeout=0.2)


def test_folder_that_cannot_be_made(server, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CorpusError, match="could not download"):
        fetch(server.url + "file", tmp_path / "file" / "f", SHA256)
