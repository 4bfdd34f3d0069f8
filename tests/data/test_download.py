"""A file gets its name when its bytes are the right ones, and not before."""

import contextlib
import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pvae_pyro.data import download
from pvae_pyro.data import pace as pace_module
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.download import fetch
from tests.support.local_server import local_server

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


def test_size_limit_of_what_is_resumed(server, path: Path):
    server.with_length = False
    path.parent.mkdir()
    _part(path).write_bytes(CONTENT[:150_000])
    with pytest.raises(CorpusError, match="is larger than the 199999"):
        fetch(server.url + "file", path, SHA256, max_bytes=199_999)
    assert server.ranges == ["bytes=150000-"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_file_is_not_written_to(server, path: Path, tmp_path: Path, kind: str):
    path.parent.mkdir()
    mine = tmp_path / "mine"
    if kind == "link":
        mine.write_bytes(b"mine")
    if kind == "pipe":
        os.mkfifo(_part(path))
    elif kind == "folder":
        _part(path).mkdir()
    else:
        _part(path).symlink_to(mine)
    with pytest.raises(CorpusError, match=r"file\.bin\.part is a link, or no file"):
        fetch(server.url + "file", path, SHA256)
    assert server.ranges == []
    with pytest.raises((CorpusError, OSError)):  # it came there meanwhile
        download._open(_part(path))
    assert (kind == "link") == mine.exists()
    assert not mine.exists() or mine.read_bytes() == b"mine"
    if kind != "folder":  # of what is not resumed nothing is kept, and links are not followed
        fetch(server.url + "file", path, None)
        assert path.read_bytes() == CONTENT
        assert not mine.exists() or mine.read_bytes() == b"mine"


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


def _answer(*headers: str, body: bytes = CONTENT, status: str = "200 OK"):
    def raw(wire) -> None:
        wire.write("\r\n".join([f"HTTP/1.0 {status}", *headers, "", ""]).encode("latin-1"))
        wire.write(body)

    return raw


@pytest.mark.parametrize(
    "length", ["many", "-5", "9" * 5000, "1e5", "٣".encode().decode("latin-1"), "0x30d40", ""]
)
def test_a_length_that_is_no_number(server, path: Path, length: str):
    """It is not heard; the checksum decides."""
    server.raw = _answer(f"Content-Length: {length}")
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("length", "told"),
    [
        ("1000", "has SHA-256"),
        ("200001", "broke off after 200000 of 200001"),
        (str(2**62), f"has {2**62} bytes, more than the"),
    ],
)
def test_a_length_that_lies(server, path: Path, length: str, told: str):
    server.raw = _answer(f"Content-Length: {length}")
    with pytest.raises(CorpusError, match=told):
        fetch(server.url + "file", path, SHA256)
    assert not path.exists()
    server.raw = None
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("at", ["bytes x-y/z", "bytes " + "9" * 5000 + "-", "bytes 5-9/10", ""])
def test_a_range_that_lies(server, path: Path, at: str):
    path.parent.mkdir()
    _part(path).write_bytes(CONTENT[:1000])
    server.raw = _answer(f"Content-Range: {at}", status="206 Partial Content")
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_an_answer_without_an_end(server, path: Path, sha256: str | None):
    sent = []

    def raw(wire) -> None:
        wire.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            sent.append(wire.write(bytes(100_000)))

    server.raw = raw
    with pytest.raises(CorpusError, match="is larger than the 1000000 bytes allowed"):
        fetch(server.url + "file", path, sha256, max_bytes=1_000_000)
    assert list(path.parent.iterdir()) == []


def _slowly(content: bytes, after: int):
    def raw(wire) -> None:
        wire.write(content[:after])
        for byte in content[after:]:
            time.sleep(0.01)
            wire.write(bytes([byte]))

    return raw


def test_an_answer_a_byte_at_a_time(server, path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each byte is in time, all of them are not; what came is kept, and gone on from."""
    monkeypatch.setattr(pace_module, "_WINDOW", 0.2)
    head = b"HTTP/1.0 200 OK\r\n\r\n"
    server.raw = _slowly(head + CONTENT, len(head) + 20_000)
    for _ in range(20):  # on a busy machine the first bytes may come after the first window
        with pytest.raises(CorpusError, match="less than 1000 bytes a second"):
            fetch(server.url + "file", path, SHA256)
        if _part(path).exists() and _part(path).stat().st_size >= 20_000:
            break
    assert 20_000 <= _part(path).stat().st_size < len(CONTENT)
    assert not path.exists()
    server.raw = None
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("after", [0, 15, 17])
def test_a_header_a_byte_at_a_time(server, path: Path, after: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace_module, "_WINDOW", 0.2)
    server.raw = _slowly(b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 1000, after)
    for sha256 in (SHA256, None):
        with pytest.raises(CorpusError, match="could not download"):
            fetch(server.url + "file", path, sha256)
    assert not path.exists()


def _for_ever(head: bytes, drop: bytes, pause: float):
    def raw(wire) -> None:
        wire.write(head)
        while True:
            wire.write(drop)
            time.sleep(pause)

    return raw


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunks(content: bytes, size: int = 60_000) -> bytes:
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def test_in_chunks(server, path: Path):
    server.raw = lambda wire: wire.write(CHUNKED + _chunks(CONTENT) + b"0\r\n\r\n")
    fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("pause", [0.0, 0.01])
@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),  # http.client gives up by itself if they are many
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"5;", b"x"),  # so, too
        (CHUNKED + _chunks(CONTENT[:100]), b"1\r\nx\r\n"),
        (CHUNKED + b"0\r\n", b"X: y\r\n"),
    ],
    ids=["header", "continue", "extension", "chunk", "trailer"],
)
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_no_answer_goes_on_for_ever(
    server, path: Path, sha256, head, drop, pause: float, monkeypatch: pytest.MonkeyPatch
):
    """Whatever comes that is none of the file, however fast: the server alone would never end."""
    monkeypatch.setattr(pace_module, "_WINDOW", 0.2)
    server.raw = _for_ever(head, drop, pause)
    with pytest.raises(CorpusError, match="could not download|is larger than"):
        fetch(server.url + "file", path, sha256, max_bytes=20_000)
    assert not path.exists()


def test_a_handshake_a_byte_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace_module, "_WINDOW", 0.2)
    ended = threading.Event()

    def answer() -> None:
        with contextlib.suppress(OSError):
            connection, _ = slow.accept()
            with connection:
                connection.sendall(b"\x16\x03\x03\x40\x00\x02")  # a record of 16 KiB
                while not ended.wait(0.01):
                    connection.sendall(b"\0")

    with socket.create_server(("127.0.0.1", 0)) as slow:
        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{slow.getsockname()[1]}/file"
        try:
            with pytest.raises(CorpusError, match="less than 1000 bytes a second"):
                fetch(url, path, SHA256)
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_two_at_once_download_once(server, path: Path, caplog, sha256: str | None):
    """The second waits for the first, and takes what it made."""
    asked = threading.Event()

    def raw(wire) -> None:
        asked.set()
        until = time.monotonic() + 600
        while "waiting for it" not in caplog.text and time.monotonic() < until:
            time.sleep(0.01)
        _answer()(wire)

    server.raw = raw
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, server.url + "file", path, sha256)
        assert asked.wait(600)
        second = pool.submit(fetch, server.url + "file", path, sha256)
        assert first.result(600) == second.result(600) == path
    assert server.ranges == [None]
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    "target",
    ["http://example.org/file", "file:///etc/hostname", "ftp://127.0.0.1/x", "//x:y/z", "http://["],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirection_leaves_https(server, path: Path, target: str, status: int):
    server.raw = _answer(f"Location: {target}", status=f"{status} Moved")
    with pytest.raises(CorpusError, match="refused to download|could not download"):
        fetch(server.url + "file", path, SHA256)
    assert not path.exists()


def test_redirections_in_a_circle(server, path: Path):
    server.redirects = {"a": server.url + "b", "b": server.url + "a"}
    with pytest.raises(CorpusError, match="redirect"):
        fetch(server.url + "a", path, SHA256)
    assert len(server.ranges) < 20


def test_another_page_under_a_right_answer(server, path: Path):
    server.raw = _answer("Content-Type: text/html", body=b"<html>sign in</html>")
    with pytest.raises(CorpusError, match="nothing was kept"):
        fetch(server.url + "file", path, SHA256)
    assert list(path.parent.iterdir()) == []


def test_a_file_that_came_meanwhile_is_left_alone(server, path: Path):
    def raw(wire) -> None:
        path.write_bytes(b"theirs")
        _answer()(wire)

    server.raw = raw
    with pytest.raises(CorpusError, match=r"file\.bin has another SHA-256"):
        fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == b"theirs"
    path.unlink()
    assert fetch(server.url + "file", path, None) == path
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_folder_in_its_place(server, path: Path):
    path.mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"file\.bin cannot be read"):
        fetch(server.url + "file", path, SHA256)
