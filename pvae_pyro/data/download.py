"""Download a corpus: over https, by one process at a time, checked before it gets its name."""

import logging
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.io.files import file_held

log = logging.getLogger(__name__)
pooch.get_logger().setLevel(logging.WARNING)

_TIMEOUT = (5, 30)  # seconds to connect, and without a byte: GitHub packs archives when asked


def offline() -> bool:
    """Whether ``$PVAE_OFFLINE`` forbids downloads: it is set, and not to 0, false or no."""
    return os.environ.get("PVAE_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def fetch(url: str, path: Path, known_hash: str | None) -> None:
    """Download `url` to `path`; an existing file is never overwritten.

    known_hash: of the file, ``"sha256:…"`` or ``"md5:…"``. None where the publisher's archives
        change with the packer: the caller then checks the content.

    Of several processes, one downloads and the others wait for it. Raises `CorpusError` if the
    address, or one that it redirects to, is not https, the download fails, the file has another
    hash, or there is no file and `offline`.
    """
    if not path.exists() and offline():
        reason = f"PVAE_OFFLINE is set, so {url} is not downloaded"
        raise CorpusError(f"{reason}: put a copy at {path}, or unset it")
    lock, waiting = path.with_name(f".{path.name}.lock"), "another process downloads %s: waiting"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_held(lock, lambda: log.warning(waiting, path)):
                _download(url, path, known_hash)
        algorithm, _, digest = (known_hash or "").partition(":")
        good = known_hash is None or pooch.file_hash(str(path), algorithm) == digest
    except (OSError, ValueError) as error:  # errors of requests and of pooch are among them
        advice = f"put a copy at {path}, or set PVAE_DATA"
        raise CorpusError(f"could not download {url} ({error}): {advice}") from error
    if not good:
        raise CorpusError(f"{path} does not have the hash {known_hash}: move it away")


def _download(url: str, path: Path, known_hash: str | None) -> None:
    if path.exists():  # another process was first
        return
    _refuse_unsafe(url)
    part = path.with_name(f".{path.name}.part")  # a folder, perhaps left by a killed process
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},  # an archive must stay packed
        hooks={"response": _check_redirection},
    )
    try:
        pooch.retrieve(url, known_hash, path.name, part, downloader=downloader)
        (part / path.name).chmod(0o644)  # pooch's files can be read by their owner alone
        (part / path.name).replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_unsafe(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise CorpusError(f"refused to download {url}: only https is safe")


def _check_redirection(response: Any, **_: Any) -> None:
    if response.is_redirect:
        response.close()
        _refuse_unsafe(urljoin(response.url, response.headers["location"]))


def install(
    url: str,
    archive: Path,
    folder: Path,
    wanted: re.Pattern[str],
    verify: Callable[[Path], str | None],
    known_hash: str | None = None,
) -> None:
    """`fetch` the `url` as `archive`, `unpack` it as `folder`, and delete the archive.

    An archive that existed before is kept, and so is one of the right hash that cannot be
    unpacked. Raises `CorpusError` as these two do.
    """
    ours = not archive.exists()
    fetch(url, archive, known_hash)
    try:
        unpack(archive, folder, wanted, verify)
    finally:
        if ours and (known_hash is None or folder.is_dir()):
            archive.unlink(missing_ok=True)


def unpack(
    archive: Path, folder: Path, wanted: re.Pattern[str], verify: Callable[[Path], str | None]
) -> None:
    """Unpack files of a gzipped tar archive; `folder` appears when it is complete and verified.

    wanted: matches the whole name of a file in the archive; its group ``place`` is the file's path
        in the folder. verify: what is wrong with a folder, or None.

    Raises `CorpusError`, which names the archive, if it is damaged, if there is no space, or for
    what `verify` found. Then no file of it is left.
    """
    log.info("unpacking %s", archive)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked") as temporary:
            content = Path(temporary, folder.name)
            content.mkdir()
            # As a stream: "r:gz" may start again from the first byte for each file.
            with tarfile.open(archive, "r|gz") as tar:
                for member in tar:
                    if member.isreg() and (name := wanted.fullmatch(member.name)):
                        tar.extract(member.replace(name=name["place"]), content, filter="data")
            if wrong := verify(content):
                raise CorpusError(f"{archive} {wrong}")
            content.rename(folder)
    # The last three are what tarfile makes of damaged headers.
    except (tarfile.TarError, OSError, ValueError, TypeError, OverflowError) as error:
        if not folder.is_dir():  # else another process was first
            raise CorpusError(f"{archive} cannot be unpacked ({error})") from error
