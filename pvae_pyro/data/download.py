"""Downloading one file: verified before it gets its name, resumed where it broke off."""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import stat
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import IO

from tqdm import tqdm

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.pace import Pace, opener
from pvae_pyro.io.files import file_held

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHUNK = 1 << 16


def fetch(
    url: str,
    path: str | os.PathLike[str],
    sha256: str | None,
    *,
    max_bytes: int = 1 << 30,
    timeout: float = 10.0,
    progress: bool = True,
) -> Path:
    """Download `url` to `path`; a file that is there and has the checksum is left alone.

    url: https, also after redirections (plain http to this machine only).
    sha256: hex digest the file must have. None where the publisher's archives change with
        the packer: the caller then verifies the content, and nothing is resumed.
    timeout: seconds without a byte.

    Bytes go to ``<path>.part``, which the next call goes on with (HTTP Range); of several
    processes one downloads and the others wait for it. Raises `CorpusError`: not to be reached,
    larger than `max_bytes`, slower than a kilobyte a second for half a minute, another checksum,
    a link or no file at ``<path>.part``, or another file at `path`, which is never overwritten;
    and always where it is `offline` and the file is not there.
    """
    path = Path(path)
    check_scheme(url)
    if path.exists():
        return _checked(path, sha256)
    if offline():
        raise CorpusError(
            f"PVAE_OFFLINE is set, so {url} is not downloaded; put a copy at {path} or unset "
            "PVAE_OFFLINE"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_held(path.with_name(f".{path.name}.lock"), partial(tell_waiting, path)):
            if path.exists():  # another process was first
                return _checked(path, sha256)
            part = path.with_name(path.name + ".part")
            _receive_part(url, part, sha256, max_bytes, timeout, progress)
            if path.exists():  # somebody put it there meanwhile
                part.unlink(missing_ok=True)
                return _checked(path, sha256)
            part.replace(path)
    except OSError as error:
        raise _could_not(url, path, error) from error
    return path


def offline() -> bool:
    """Whether ``$PVAE_OFFLINE`` forbids downloads: it is set, and not to 0, false or no."""
    return os.environ.get("PVAE_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def tell_waiting(path: Path) -> None:
    log.warning("another process downloads %s; waiting for it", path)


def _could_not(url: str, path: Path, error: Exception, again: str = "") -> CorpusError:
    return CorpusError(
        f"could not download {url} ({_reason(error)}); {again}put a copy at {path} or set PVAE_DATA"
    )


def _receive_part(
    url: str, part: Path, sha256: str | None, max_bytes: int, timeout: float, progress: bool
) -> None:
    """All of the file in `part`, and verified."""
    if sha256 is None:
        part.unlink(missing_ok=True)
    try:
        _receive(url, part, max_bytes, timeout, progress)
    # ValueError: of an address to be redirected to that is none
    except (OSError, http.client.HTTPException, ValueError) as error:
        again = ""
        if sha256 is None:
            with contextlib.suppress(OSError):
                part.unlink()
        elif part.exists():
            again = "try again to go on from there, "
        raise _could_not(url, part.with_suffix(""), error, again) from error
    if sha256 is not None and (found := _digest(part)) != sha256:
        part.unlink()
        raise CorpusError(f"{url} has SHA-256 {found}, expected {sha256}; nothing was kept")


def _checked(path: Path, sha256: str | None) -> Path:
    """A file that was there before."""
    try:
        if sha256 is not None and _digest(path) != sha256:
            raise CorpusError(f"{path} has another SHA-256 than {sha256}; move it away")
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error.strerror}); move it away") from error
    return path


def _receive(url: str, part: Path, max_bytes: int, timeout: float, progress: bool) -> None:
    """Append to `part` what it lacks of `url`."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "pvae-pyro"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    pace = Pace()
    with pace.kept():
        try:
            response = opener(pace, check_scheme).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and start:
                return  # no bytes after `start`: it is whole, or the checksum will tell
            raise
        _receive_answer(url, response, part, start, max_bytes, progress, pace)


def _receive_answer(
    url: str,
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    max_bytes: int,
    progress: bool,
    pace: Pace,
) -> None:
    with response:
        answered = re.match(r"bytes ([0-9]{1,19})-", response.headers.get("Content-Range") or "")
        if response.status != 206 or answered is None or int(answered[1]) != start:
            start = 0  # the server sends it all again
        length = response.headers.get("Content-Length", "")
        size = start + int(length) if re.fullmatch("[0-9]{1,19}", length) else None
        if size is not None and size > max_bytes:
            raise CorpusError(f"{url} has {size} bytes, more than the {max_bytes} allowed")
        with _open(part) as file:
            file.truncate(start)
            file.seek(start)
            received = start + _copy(response, file, start, size, max_bytes, part, progress, pace)
            pace.end()
            file.flush()
            os.fsync(file.fileno())
    if size is not None and received != size:
        raise ConnectionError(f"broke off after {received} of {size} bytes")


def _size(part: Path) -> int:
    """Bytes that were received before."""
    try:
        found = part.lstat()
    except FileNotFoundError:
        return 0
    _check_regular(part, found)
    return found.st_size


def _open(part: Path) -> IO[bytes]:
    """To be written to: neither what a link leads to, nor a pipe, which would be waited for."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(part, flags, 0o666)
    try:
        _check_regular(part, os.fstat(descriptor))
        return open(descriptor, "wb")  # a descriptor's file is not emptied
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(part: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CorpusError(f"{part} is a link, or no file: nothing is downloaded there; delete it")


def _copy(
    source: http.client.HTTPResponse,
    file: IO[bytes],
    start: int,
    size: int | None,
    max_bytes: int,
    part: Path,
    progress: bool,
    pace: Pace,
) -> int:
    received = 0
    with tqdm(
        desc=part.stem,
        initial=start,
        total=size,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,  # None: no bar in a log file
    ) as bar:
        while chunk := source.read1(_CHUNK):  # what has come: it need not fill the chunk
            received += len(chunk)
            pace.received += len(chunk)
            if start + received > max_bytes:
                part.unlink()
                raise CorpusError(f"{part.stem} is larger than the {max_bytes} bytes allowed")
            file.write(chunk)
            bar.update(len(chunk))
    return received


def is_safe(url: str) -> bool:
    """Whether it is https, or plain http to this machine."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def check_scheme(url: str) -> None:
    """Raises `CorpusError` where it is not `is_safe`."""
    if not is_safe(url):
        raise CorpusError(f"refused to download {url}: only https is safe")


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
