"""From a list of what is said where to a corpus: bad files left out, parts of files read."""

import hashlib
import math
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pvae_pyro.data.audio.reading import Format, read_audio, read_format
from pvae_pyro.data.corpus import AudioError, Problem, Recording, SpeechCorpus, Split
from pvae_pyro.data.shards import MAY_PASS
from pvae_pyro.data.spans import Spans
from pvae_pyro.errors import shown

# Word boundaries come in steps of 10 ms and may lie a little after the end of the file.
_TOLERANCE = 0.020  # seconds
_CHUNK = 1 << 20

_Part = tuple[float, float, int | None]  # start, end, channel


@dataclass(frozen=True)
class Entry:
    """What is said in a file, or in a part of it.

    path: of the file. name: unique in the corpus, and what messages call it.
    start, end: in seconds; None is the start or the end of the file.
    channel: which one of several, from 1; None is their mean.
    """

    path: Path
    name: str
    label: str
    speaker: str
    split: Split
    start: float | None = None
    end: float | None = None
    channel: int | None = None


def list_corpus(
    name: str,
    sample_rate: int,
    entries: Sequence[Entry],
    problems: Iterable[Problem] = (),
    *,
    notes: Iterable[str] = (),
    recorded_at: int | None = None,
    progress: bool = True,
) -> SpeechCorpus:
    """A corpus of the entries, in their order, keyed by the SHA-256 of their files.

    recorded_at: the rate in Hz that every file must have; None is any.

    Left out, and told of in the corpus's problems after those given: entries of a file that
    cannot be opened, of a file whose bytes are those of one before it, of a name or a part of a
    file that is there already, and of a part that overlaps one of the other split. No sound is
    decoded yet.
    """
    found = list(problems)
    hashed = hash_files([entry.path for entry in entries], name, progress)
    first: dict[str, Path] = {}
    for path, sha in hashed.items():
        if isinstance(sha, str):
            first.setdefault(sha, path)
    recordings: dict[str, Recording] = {}
    parts: dict[tuple[Path, Split], dict[_Part, Entry]] = {}
    # By channel: what is said on another one does not overlap.
    spans: dict[tuple[Path, Split], dict[int | None, Spans[str]]] = defaultdict(
        partial(defaultdict, partial(Spans, _TOLERANCE))
    )
    formats = _formats({path for path, sha in hashed.items() if isinstance(sha, str)})
    for entry in entries:
        sha = hashed[entry.path]
        if isinstance(sha, Problem):
            found.append(Problem(entry.name, sha.kind, sha.reason))
            continue
        here = parts.setdefault((entry.path, entry.split), {})
        there = spans[entry.path, "test" if entry.split == "train" else "train"]
        reason = None
        if first[sha] != entry.path:
            reason = f"is the same file as {shown(first[sha])}"
        elif entry.name in recordings:
            of_class = shown(recordings[entry.name].label)
            reason = f"there is another {shown(entry.name)}, class {of_class}"
        elif other := here.get(_part(entry)):
            reason = f"{shown(entry.name)} is the same part as {shown(other.name)}"
        elif overlapping := _overlapping(entry, there):
            reason = f"{shown(entry.name)} overlaps {shown(overlapping)} of the other split"
        if reason is not None:
            found.append(Problem(entry.name, "duplicate", f"{shown(entry.path)}: {reason}"))
            continue
        here[_part(entry)] = entry
        start, end, channel = _part(entry)
        spans[entry.path, entry.split][channel].add(start, end, entry.name)
        span = "" if entry.start is None and entry.end is None else f" {entry.start, entry.end}"
        span += "" if entry.channel is None else f" channel {entry.channel}"
        recordings[entry.name] = Recording(
            entry.name,
            entry.label,
            entry.speaker,
            entry.split,
            f"{sha}{span}",
            partial(_read, entry, sha, recorded_at),
            formats[entry.path].rate if entry.path in formats else None,
            f"{entry.path}#{entry.channel}",  # a channel is decoded by itself
        )
    used = {entry for of in parts.values() for entry in of.values()}
    notes = (*notes, *_remarks(used, formats))
    return SpeechCorpus(name, False, sample_rate, tuple(recordings.values()), tuple(found), notes)


def hash_files(
    paths: Iterable[Path], name: str, progress: bool = True
) -> dict[Path, str | Problem]:
    """SHA-256 in hex of each file, once, or why it cannot be opened; `name` is for the bar."""
    files = list(dict.fromkeys(paths))
    # None: no bar in a log file. A few files take no time.
    disable = None if progress and len(files) > 1000 else True
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(
            pool.map(_sha256, files),
            f"files of {name}",
            total=len(files),
            leave=False,
            disable=disable,
        )
        return dict(zip(files, bar, strict=True))


def _part(entry: Entry) -> _Part:
    return entry.start or 0.0, math.inf if entry.end is None else entry.end, entry.channel


def _overlapping(entry: Entry, spans: Mapping[int | None, Spans[str]]) -> str | None:
    """What of the other partition overlaps the entry: on its channel, or on all of them."""
    start, end, channel = _part(entry)
    shared = [s for c, s in spans.items() if channel is None or c in (channel, None)]
    return next((name for s in shared if (name := s.overlapping(start, end))), None)


def _formats(paths: Iterable[Path]) -> dict[Path, Format]:
    """What the headers of files say; without those that cannot be read, told of when they are."""

    def read(path: Path) -> Format | None:
        try:
            return read_format(path)
        except AudioError:
            return None

    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = zip(paths, pool.map(read, paths), strict=True)
        return {path: form for path, form in found if form is not None}


def _remarks(entries: Iterable[Entry], formats: Mapping[Path, Format]) -> list[str]:
    """What is to be known of the files' channels and bits, a sentence each."""
    of_several: set[Path] = set()
    picked: set[Path] = set()
    eight_bit: set[Path] = set()
    for entry in entries:
        form = formats.get(entry.path)
        if form is None:
            continue
        if form.channels > 1:
            (of_several if entry.channel is None else picked).add(entry.path)
        if form.eight_bit:
            eight_bit.add(entry.path)
    told = {
        "of several channels: their mean is taken (--channel takes one)": of_several,
        "of several channels: one is taken": picked,
        "of eight bits a sample, whose rounding can be heard": eight_bit,
    }
    return [f"files {what}: {len(paths):,}" for what, paths in told.items() if paths]


def _sha256(path: Path) -> str | Problem:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would be to wait for ever
            return Problem(shown(path), "unreadable", f"{shown(path)}: is not a file")
        with path.open("rb") as file:
            sha = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                sha.update(chunk)
    except OSError as error:
        kind = {FileNotFoundError: "missing", PermissionError: "no permission"}
        reason = f"{shown(path)}: cannot be read ({error.strerror})"
        return Problem(shown(path), kind.get(type(error), "unreadable"), reason)
    return sha.hexdigest()


def _read(entry: Entry, sha: str, recorded_at: int | None) -> tuple[np.ndarray, int]:
    name, start, end = shown(entry.path), entry.start, entry.end
    found = _read_file(str(entry.path), entry.channel, sha)
    if isinstance(found, Problem):
        raise AudioError(found.reason, found.kind)
    samples, rate = found
    if recorded_at is not None and rate != recorded_at:
        raise AudioError(
            f"{name}: says it is at {rate} Hz, the corpus is at {recorded_at} Hz", "wrong rate"
        )
    if start is None and end is None:
        return samples, rate
    first = 0 if start is None else round(start * rate)
    last = len(samples) if end is None else round(end * rate)
    if not 0 <= first < min(last, len(samples)) or last > len(samples) + _TOLERANCE * rate:
        raise AudioError(
            f"{name}: {first / rate:.2f} to {last / rate:.2f} s is not a part of its "
            f"{len(samples) / rate:.2f} s",
            "outside the file",
        )
    part = samples[first:last]
    if not part.any():
        reason = f"{name}: is silent from {first / rate:.2f} to {last / rate:.2f} s"
        raise AudioError(reason, "silent")
    return part, rate


@lru_cache(maxsize=1)
def _read_file(path: str, channel: int | None, _sha: str) -> tuple[np.ndarray, int] | Problem:
    """Kept until the next file or channel: the parts of each follow each other (`by_file`).

    So is what is wrong with its content, which takes as long to find.
    """
    try:
        return read_audio(path, channel)
    except AudioError as error:
        if error.kind in MAY_PASS:
            raise
        return Problem(path, error.kind, str(error))


def by_file(recordings: Iterable[Recording]) -> list[Recording]:
    """A partition's recordings with those of one file side by side, where its first one is."""
    files: dict[str, list[Recording]] = {}
    for recording in recordings:
        files.setdefault(recording.file or recording.name, []).append(recording)
    return [recording for of_file in files.values() for recording in of_file]
