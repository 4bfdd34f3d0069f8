"""Build a corpus from a list of recordings; unusable files and duplicates are left out."""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pooch
from tqdm import tqdm

from pvae_pyro.data.audio.reading import Format, read_format
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem, Split
from pvae_pyro.data.recording import TOLERANCE, Recording, SpeechCorpus
from pvae_pyro.errors import shown


def list_corpus(
    name: str,
    sample_rate: int,
    recordings: Sequence[Recording],
    problems: Iterable[Problem] = (),
    *,
    notes: Iterable[str] = (),
    required_rate: int | None = None,
    progress: bool = True,
) -> SpeechCorpus:
    """A corpus of the recordings, in their order, with the SHA-256 of their files.

    required_rate: in Hz, of every file; None is any.

    Left out, and added to the problems: recordings of a file that cannot be opened, of a file with
    the bytes of an earlier one, with the name or the part of an earlier one, and of a part that
    overlaps one of the other split. If a label differs from that of the same sound, the kind of the
    problem is ``"label"``, and both are named. No sound is decoded yet.
    """
    found = list(problems)
    hashes = hash_files([recording.path for recording in recordings], name, progress)
    first: dict[str, Path] = {}
    for path, sha in hashes.items():
        if isinstance(sha, str):
            first.setdefault(sha, path)
    labels: dict[tuple[Any, ...], str] = {}  # by the sound: digest of the file, and part of it
    formats = _formats([path for path, sha in hashes.items() if isinstance(sha, str)])
    listed: dict[str, Recording] = {}
    in_file: dict[tuple[Path, Split], dict[tuple[Any, ...], Recording]] = {}
    for recording in recordings:
        path = recording.path
        sha = hashes[path]
        if isinstance(sha, Problem):
            found.append(Problem(recording.name, sha.kind, sha.reason))
            continue
        label = labels.setdefault((sha, *recording.part), recording.label)
        here = in_file.setdefault((path, recording.split), {})
        there = in_file.get((path, "test" if recording.split == "train" else "train"), {})
        if first[sha] != path:
            reason = f"is the same file as {shown(first[sha])}"
        elif other := listed.get(recording.name):
            reason = f"there is another {shown(other.name)}, class {shown(other.label)}"
        elif same := here.get(recording.part):
            reason = f"{shown(recording.name)} is the same part as {shown(same.name)}"
        elif same := next((r for r in there.values() if _overlap(r, recording)), None):
            reason = f"{shown(recording.name)} overlaps {shown(same.name)} of the other split"
        else:
            here[recording.part] = recording
            rate = formats[path].rate if path in formats else None
            listed[recording.name] = replace(
                recording, content=sha, rate=rate, required_rate=required_rate
            )
            continue
        if contradicts := label != recording.label:
            reason += f", class {shown(label)}, but is listed as class {shown(recording.label)}"
        kind = "label" if contradicts else "duplicate"
        found.append(Problem(recording.name, kind, f"{shown(path)}: {reason}"))
    notes = list(notes)
    mixed = {recording.path for recording in listed.values() if recording.channel is None}
    if number := sum(path in formats and formats[path].channels > 1 for path in mixed):
        notes.append(
            f"files with several channels, whose mean is used (--channel selects one): {number:,}"
        )
    return SpeechCorpus(
        name, False, sample_rate, tuple(listed.values()), tuple(found), tuple(notes)
    )


def _overlap(one: Recording, other: Recording) -> bool:
    """Whether two parts of a file share sound: on one channel, or in the mean of all."""
    (start, end, channel), (first, last, of) = one.part, other.part
    shared = min(end, last) - max(start, first)
    return shared > TOLERANCE and (channel == of or None in (channel, of))


def hash_files(
    paths: Iterable[Path], name: str, progress: bool = True
) -> dict[Path, str | Problem]:
    """SHA-256 in hex of each file, or why it cannot be opened; `name` is for the bar."""
    files = list(dict.fromkeys(paths))
    # None: no bar in a log file. A few files take no time.
    disable = None if progress and len(files) > 1000 else True
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(_sha256, files)
        title = f"files of {name}"
        bar = tqdm(hashes, title, total=len(files), leave=False, disable=disable)
        return dict(zip(files, bar, strict=True))


def _sha256(path: Path) -> str | Problem:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would be to wait for ever
            return Problem(shown(path), "unreadable", f"{shown(path)}: is not a file")
        return pooch.file_hash(str(path))
    except OSError as error:
        kind = {FileNotFoundError: "missing", PermissionError: "no permission"}
        reason = f"{shown(path)}: cannot be read ({error.strerror})"
        return Problem(shown(path), kind.get(type(error), "unreadable"), reason)


def _formats(paths: Sequence[Path]) -> dict[Path, Format]:
    """What the headers of files say, without files whose header cannot be read."""

    def read(path: Path) -> Format | None:
        try:
            return read_format(path)
        except AudioError:
            return None  # reported when the sound is read

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = zip(paths, pool.map(read, paths), strict=True)
        return {path: form for path, form in found if form is not None}


def named_files(
    folder: Path, pattern: re.Pattern[str], described: str
) -> tuple[list[tuple[Path, re.Match[str]]], list[Problem]]:
    """Files of `folder` whose whole name matches, in order of name, and problems with the others.

    described: the pattern in words, for messages (``"digit_speaker_index.wav"``).

    Hidden files are ignored. Raises `CorpusError` for a folder that cannot be listed.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise CorpusError(f"{shown(folder)}: cannot be listed ({error.strerror})") from error
    found: list[tuple[Path, re.Match[str]]] = []
    problems: list[Problem] = []
    for path in paths:
        match = pattern.fullmatch(path.name)
        if match is None or path.is_dir():
            reason = f"{shown(path)}: is not a recording named {described}"
            problems.append(Problem(shown(path.name), "name", reason))
        else:
            found.append((path, match))
    return found, problems
