"""A file gets its name when its bytes are the right ones; a folder, when all of it is there."""

import gzip
import hashlib
import logging
import re
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.download import fetch, install, unpack
from tests.support.archives import tar_gz
from tests.support.local_server import local_server, nobody

CONTENT = np.random.default_rng(0).bytes(200_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


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


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("known", [SHA256, None], ids=["hash", "no hash"])
def test_whole_file(server, path: Path, known: str | None):
    (path.parent / ".file.bin.part").mkdir(parents=True)  # of a process that was killed
    (path.parent / ".file.bin.part" / "half").write_bytes(CONTENT[:1000])
    fetch(server.url + "file", path, known)
    assert path.read_bytes() == CONTENT
    assert _names(path.parent) == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644
    fetch(server.url + "file", path, known)
    assert server.asked == ["file"]


def test_another_file_is_not_overwritten(server, path: Path):
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(CorpusError, match=f"file.bin.*{SHA256}"):
        fetch(server.url + "file", path, SHA256)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("known", [SHA256, None], ids=["hash", "no hash"])
def test_a_part_is_not_taken_for_the_whole(server, path: Path, known: str | None):
    server.break_after = 150_000
    with pytest.raises(CorpusError, match=f"{server.url}file.*{path}"):
        fetch(server.url + "file", path, known)
    assert _names(path.parent) == []
    server.break_after = None
    fetch(server.url + "file", path, known)
    assert path.read_bytes() == CONTENT


def test_another_hash_keeps_nothing(server, path: Path):
    with pytest.raises(CorpusError, match=f"{'0' * 64}.*{SHA256[7:]}"):
        fetch(server.url + "file", path, f"sha256:{'0' * 64}")
    assert _names(path.parent) == []


@pytest.mark.parametrize("url", ["http://example.org/file", "file:///etc/hostname"])
def test_only_https(server, path: Path, url: str):
    server.redirects["away"] = url
    for unsafe in (url, server.url + "away"):
        with pytest.raises(CorpusError, match=f"{url}.*https"):
            fetch(unsafe, path, None)
    assert _names(path.parent) == []


def test_what_to_do_without_a_network(server, path: Path, monkeypatch: pytest.MonkeyPatch):
    with nobody() as url, pytest.raises(CorpusError, match=f"{url}file.*copy at {path}.*PVAE_DATA"):
        fetch(url + "file", path, SHA256)
    with pytest.raises(CorpusError, match="404"):
        fetch(server.url + "other", path, SHA256)
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    server.asked.clear()
    with pytest.raises(CorpusError, match=f"PVAE_OFFLINE.*{server.url}file.*copy at {path}"):
        fetch(server.url + "file", path, SHA256)
    path.write_bytes(CONTENT)
    fetch(server.url + "file", path, SHA256)
    assert server.asked == []


def test_two_at_once_download_once(server, path: Path, caplog):
    """The second waits for the first, and takes what it made."""
    asked, waits = threading.Event(), threading.Event()
    caplog.handler.addFilter(lambda record: waits.set() or True)
    server.before_answer = lambda: asked.set() or waits.wait()
    with ThreadPoolExecutor(2) as pool, caplog.at_level(logging.WARNING):
        first = pool.submit(fetch, server.url + "file", path, SHA256)
        asked.wait()
        second = pool.submit(fetch, server.url + "file", path, SHA256)
        assert (first.result(), second.result()) == (None, None)
    assert str(path) in caplog.text
    assert server.asked == ["file"]
    assert path.read_bytes() == CONTENT


# --- archives ------------------------------------------------------------------------------------

FILES = {"a.wav": b"first", "deep/b.wav": bytes(512), "deep/c.wav": CONTENT[:30_000]}
WANTED = re.compile(r"top/(?P<place>.*\.wav)")


def _good(*more: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    return tar_gz(("top/readme", b"text"), *((f"top/{n}", c) for n, c in FILES.items()), *more)


def _fine(folder: Path) -> None:
    return None


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(_good())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "folder"


def test_wanted_files(archive: Path, folder: Path):
    seen = []
    unpack(archive, folder, WANTED, lambda made: seen.append(_content(made)))
    assert _content(folder) == FILES
    assert seen == [FILES]  # verified before it got its name
    assert _names(archive.parent) == ["archive.tar.gz", "folder"]


def test_a_link_is_not_unpacked(archive: Path, folder: Path):
    link = tarfile.TarInfo("top/evil.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    archive.write_bytes(_good((link, b"")))
    unpack(archive, folder, WANTED, _fine)
    assert _content(folder) == FILES
    assert not list(archive.parent.rglob("evil*"))


def test_nothing_is_unpacked_elsewhere(archive: Path, folder: Path):
    archive.write_bytes(_good(("top/../../evil.wav", b"")))
    with pytest.raises(CorpusError, match="archive.tar.gz"):
        unpack(archive, folder, WANTED, _fine)
    assert _names(archive.parent) == ["archive.tar.gz"]


DAMAGED = {
    "empty": lambda good: b"",
    "not gzip": lambda good: b"<html>not found</html>",
    "half": lambda good: good[: len(good) // 2],
    "half, packed whole": lambda good: gzip.compress(gzip.decompress(good)[:20_000]),
    "not tar": lambda good: gzip.compress(bytes(range(256)) * 100),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(archive: Path, folder: Path, case: str):
    archive.write_bytes(DAMAGED[case](_good()))
    with pytest.raises(CorpusError, match="archive.tar.gz"):
        unpack(archive, folder, WANTED, _fine)
    assert _names(archive.parent) == ["archive.tar.gz"]


@pytest.mark.parametrize("verified", [True, False])
def test_installed(server, path: Path, verified: bool, monkeypatch: pytest.MonkeyPatch):
    """The archive is deleted, but for one that is good and could not be unpacked, or was there."""
    server.files["file"] = _good()
    known = f"sha256:{hashlib.sha256(_good()).hexdigest()}" if verified else None
    place = (server.url + "file", path, path.parent / "it", WANTED, _fine)
    with pytest.raises(CorpusError, match="file.bin has two wheels"):
        install(*place[:-1], lambda made: "has two wheels", known_hash=known)
    assert _names(path.parent) == (["file.bin"] if verified else [])
    path.unlink(missing_ok=True)
    install(*place, known_hash=known)
    assert _content(path.parent) == {f"it/{name}": content for name, content in FILES.items()}
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    own = path.parent / "own" / "file.bin"
    own.parent.mkdir()
    own.write_bytes(_good())
    install(place[0], own, own.parent / "it", WANTED, _fine, known_hash=known)
    assert _names(own.parent) == ["file.bin", "it"]
