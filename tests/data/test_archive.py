"""Of an archive, the wanted files and no other; a folder is there when it is right."""

import gzip
import hashlib
import socket
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from pvae_pyro.data.archive import install, unpack
from pvae_pyro.data.corpus import CorpusError
from tests.robustness.fuzz.limits import limits
from tests.support.archives import special, tar_gz
from tests.support.local_server import local_server

FILES = {
    "a.wav": b"first",
    "deep/b.wav": bytes(512),  # a whole block of tar
    "deep/c.wav": np.random.default_rng(0).bytes(30_000),
}


def _good(*more: tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    return tar_gz(("top/readme", b"text"), *((f"top/{n}", c) for n, c in FILES.items()), *more)


def _wanted(name: PurePosixPath) -> PurePosixPath | None:
    return PurePosixPath(*name.parts[1:]) if name.suffix == ".wav" else None


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


def _nothing_left(archive: Path) -> bool:
    return list(archive.parent.iterdir()) == [archive]


def test_wanted_files(archive: Path, folder: Path):
    seen = []
    unpack(archive, folder, _wanted, lambda f: seen.append(_content(f)), max_bytes=1 << 20)
    assert _content(folder) == FILES
    assert seen == [FILES]  # verified before it got its name
    assert sorted(archive.parent.iterdir()) == [archive, folder]


def _sparse(size: str, parts: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("top/evil.wav")
    member.pax_headers = {"GNU.sparse.map": parts, "GNU.sparse.size": size}
    return member


HOSTILE = {
    "up": "../evil.wav",
    "up, from within": "top/x/../../../evil.wav",
    "absolute": "/evil.wav",
    "symbolic link": special(tarfile.SYMTYPE, "top/evil.wav"),
    "hard link": special(tarfile.LNKTYPE, "top/evil.wav"),
    "pipe": special(tarfile.FIFOTYPE, "top/evil.wav"),
    "device": special(tarfile.CHRTYPE, "top/evil.wav"),
    "folder": special(tarfile.DIRTYPE, "top/evil.wav"),
    "sparse file": _sparse(str(1 << 24), "0,0"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_never_unpacked(archive: Path, folder: Path, case: str):
    asked = []

    def all_wanted(name: PurePosixPath) -> PurePosixPath | None:
        asked.append(str(name))
        return _wanted(name)

    archive.write_bytes(_good((HOSTILE[case], b"")))
    unpack(archive, folder, all_wanted, _fine, max_bytes=1 << 20)
    assert _content(folder) == FILES
    assert asked == ["top/readme", *(f"top/{name}" for name in FILES)]
    assert not list(archive.parent.rglob("evil*"))


def test_what_is_wrong_is_told(archive: Path, folder: Path):
    with pytest.raises(CorpusError, match=r"archive\.tar\.gz has two wheels"):
        unpack(archive, folder, _wanted, lambda folder: "has two wheels", max_bytes=1 << 20)
    assert _nothing_left(archive)


DAMAGED = {
    "empty": lambda good: b"",
    "not gzip": lambda good: b"<html>not found</html>",
    "half": lambda good: good[: len(good) // 2],
    "without its end": lambda good: good[:-4],
    "one byte other": lambda good: good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
    "more after the end": lambda good: good + b"more",
    "half, packed whole": lambda good: gzip.compress(gzip.decompress(good)[:20_000]),
    "not tar": lambda good: gzip.compress(bytes(range(256)) * 100),
    "first header": lambda good: gzip.compress(b"x" + gzip.decompress(good)[1:]),
    "sparse header": lambda good: tar_gz((_sparse("1", "0,x"), b"")),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(archive: Path, folder: Path, case: str):
    archive.write_bytes(DAMAGED[case](_good()))
    with pytest.raises(CorpusError, match=r"archive\.tar\.gz cannot be unpacked \(.+\)"):
        unpack(archive, folder, _wanted, _fine, max_bytes=1 << 20)
    assert _nothing_left(archive)


def test_header_in_the_middle_is_not_taken_for_the_end(archive: Path, folder: Path):
    """gzip's checksum tells: tarfile itself stops there and says nothing."""
    good = archive.read_bytes()
    changed = gzip.compress(gzip.decompress(good).replace(b"top/deep/c.wav", b"xop/deep/c.wav"))
    archive.write_bytes(changed[:-8] + good[-8:])  # checksum and length of the good one
    with pytest.raises(CorpusError, match="CRC check failed"):
        unpack(archive, folder, _wanted, _fine, max_bytes=1 << 20)
    assert _nothing_left(archive)


def _sized(size: int) -> bytes:
    """The first file's header says another size (base 256, as GNU's tar writes large ones)."""
    plain = bytearray(gzip.decompress(_good()))
    plain[124:136] = b"\x80" + size.to_bytes(11, "big")
    plain[148:156] = b" " * 8
    plain[148:156] = b"%06o\0 " % sum(plain[:512])
    return gzip.compress(bytes(plain))


@pytest.mark.parametrize("size", [2**40, 2**62, 2**87])
def test_a_file_larger_than_any_disk_is_not_waited_for(archive: Path, folder: Path, size: int):
    archive.write_bytes(_sized(4))
    unpack(archive, folder, lambda name: None, _fine, max_bytes=1 << 20)
    folder.rmdir()
    archive.write_bytes(_sized(size))
    with (
        limits(archive.parent, seconds=5),
        pytest.raises(CorpusError, match=r"archive\.tar\.gz cannot be unpacked \(.+\)"),
    ):
        unpack(archive, folder, lambda name: None, _fine, max_bytes=1 << 20)
    assert _nothing_left(archive)


@pytest.mark.parametrize("bomb", ["wanted", "not wanted", "header", "after the end"])
def test_size_is_bounded(archive: Path, folder: Path, bomb: str):
    zeros = bytes(1_000_000)
    member = tarfile.TarInfo("top/bomb")
    member.pax_headers = {"comment": zeros.decode().replace("\0", "x")}
    archive.write_bytes(
        {
            "wanted": _good(("top/bomb.wav", zeros)),
            "not wanted": _good(("top/bomb", zeros)),
            "header": _good((member, b"")),
            "after the end": gzip.compress(gzip.decompress(_good()) + zeros),
        }[bomb]
    )
    with pytest.raises(CorpusError, match=r"archive\.tar\.gz unpacks to more than 500000 bytes"):
        unpack(archive, folder, _wanted, _fine, max_bytes=500_000)
    assert _nothing_left(archive)
    unpack(archive, folder, _wanted, _fine, max_bytes=1_200_000)


def test_another_process_was_first(archive: Path, folder: Path):
    def slow(content: Path) -> None:
        folder.mkdir()
        (folder / "theirs").touch()

    unpack(archive, folder, _wanted, slow, max_bytes=1 << 20)
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert sorted(archive.parent.iterdir()) == [archive, folder]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PVAE_OFFLINE", raising=False)
    with local_server({"it.tar.gz": _good()}) as served:
        yield served


def _install(url: str, archive: Path, folder: Path, sha256: str | None, limit=1 << 20) -> None:
    install(
        url + "it.tar.gz",
        archive,
        folder,
        _wanted,
        _fine,
        sha256=sha256,
        max_archive=1 << 20,
        max_unpacked=limit,
    )


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return tmp_path / "root" / "it.tar.gz"


@pytest.mark.parametrize("verified", [True, False])
def test_installed(server, absent: Path, verified: bool):
    sha256 = hashlib.sha256(_good()).hexdigest() if verified else None
    _install(server.url, absent, absent.parent / "folder", sha256)
    assert _content(absent.parent) == {f"folder/{name}": c for name, c in FILES.items()}


def test_resumed(server, absent: Path):
    server.break_after = 20_000
    sha256 = hashlib.sha256(_good()).hexdigest()
    with pytest.raises(CorpusError, match="broke off after 20000 of .* try again to go on"):
        _install(server.url, absent, absent.parent / "folder", sha256)
    server.break_after = None
    _install(server.url, absent, absent.parent / "folder", sha256)
    assert server.ranges == [None, "bytes=20000-"]
    assert len(_content(absent.parent)) == 3


def test_wrong_checksum(server, absent: Path):
    with pytest.raises(CorpusError, match="has SHA-256"):
        _install(server.url, absent, absent.parent / "folder", "0" * 64)
    assert list(absent.parent.iterdir()) == []


@pytest.mark.parametrize("verified", [True, False])
def test_archive_that_cannot_be_unpacked(server, absent: Path, verified: bool):
    """If it is what it must be, the download is not for nothing."""
    sha256 = hashlib.sha256(_good()).hexdigest() if verified else None
    with pytest.raises(CorpusError, match="unpacks to more"):
        _install(server.url, absent, absent.parent / "folder", sha256, limit=1000)
    assert list(absent.parent.iterdir()) == ([absent] if verified else [])


def test_own_copy_is_used_and_kept(absent: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    absent.parent.mkdir()
    absent.write_bytes(_good())
    _install("https://example.org/", absent, absent.parent / "folder", None)
    assert sorted(_content(absent.parent)) == sorted(
        ["it.tar.gz", *(f"folder/{name}" for name in FILES)]
    )


def test_offline(absent: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(CorpusError, match=rf"could not download {url}.*put a copy at {absent}"):
            _install(url, absent, absent.parent / "folder", None)
        monkeypatch.setenv("PVAE_OFFLINE", "1")
        with pytest.raises(CorpusError, match=rf"PVAE_OFFLINE is set.*put a copy at {absent}"):
            _install(url, absent, absent.parent / "folder", None)
    assert list(absent.parent.iterdir()) == []
