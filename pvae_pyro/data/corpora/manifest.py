"""Anyone's own corpus: a CSV file says which file, or which part of one, belongs to which class."""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pvae_pyro.data.cache import digest
from pvae_pyro.data.corpus import SPLITS, CorpusError, ImageCorpus, Problem
from pvae_pyro.data.listing import hash_files, list_corpus
from pvae_pyro.data.pictures import decoding as pictures
from pvae_pyro.data.pictures import framing
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.shards import Result, compute_in_shards
from pvae_pyro.data.table import Row, read_table
from pvae_pyro.errors import shown
from pvae_pyro.nn.choices import ImageColour

# Most of the information of speech; a corpus of telephone speech stays at its own rate.
USUAL_RATE = 16000
_TIMES = ("start", "end", "duration")
PART = (*_TIMES, "channel")  # columns that select a part of a sound file
_LATEST = 86_400.0  # seconds
_ROUNDING = 0.0151  # seconds: three times, each written with two decimals
_IMAGES_VERSION = "images 4"
_SHARD = 4096
_POOL_FROM = 20_000  # images, which one core reads in about 10 s


def manifest_corpus(
    manifest: str | os.PathLike[str],
    manifest_root: str | os.PathLike[str] | None = None,
    sample_rate: int | None = None,
    channel: int | None = None,
) -> SpeechCorpus:
    """Recordings listed in a CSV file with the columns ``path,label,speaker,split``.

    ``start`` and ``end``, or ``start`` and ``duration`` (seconds), may follow, for a part of a
    file; each may be empty. So may ``channel``, from 1, for speakers on channels of their own.
    Columns may have the names that others give them (`name_columns`).
    Labels are any strings, splits ``train`` and ``test``, files any that `read_audio` takes.

    manifest_root: what paths are relative to and may not leave; None is the manifest's folder.
    sample_rate: of the features, in Hz; None is 16,000, or the lowest rate of the files if
        that is less (`pvae_pyro.data.audio.rates`), for above half of it such a file has nothing.
    channel: of files with several, where the row does not say; None is their mean.

    Rows that cannot be used are among the corpus's problems. Raises `CorpusError` for a file
    that is no such manifest (`read_table`).
    """
    columns = ("path", "label", "speaker", "split")
    rows, problems, notes = read_table(manifest, columns, manifest_root, PART)
    recordings = []
    for row in rows:
        part = part_of(row, row.fields["path"])
        if isinstance(part, Problem):
            problems.append(part)
            continue
        name, start, end, number = part
        label, speaker, of = row.fields["label"], row.fields["speaker"], number or channel
        recordings.append(Recording(row.path, name, label, speaker, row.split, start, end, of))
    corpus = list_corpus(
        _name(manifest), sample_rate or USUAL_RATE, recordings, problems, notes=notes
    )
    return replace(corpus, any_rate=sample_rate is None)


def manifest_images(
    manifest: str | os.PathLike[str],
    manifest_root: str | os.PathLike[str] | None = None,
    size: int = pictures.SIZE,
    colour: ImageColour | None = None,
) -> ImageCorpus:
    """Images listed in a CSV file with the columns ``path,label,split``.

    PNG, JPEG, GIF, BMP, TIFF, WebP, PPM, JPEG 2000 or TGA, of any size: turned as their EXIF data
    say, padded to a square with the median of their border, and resized to `size` x `size`
    (`square`). Light and dark stay as they are; notes tell of mixtures in grey.

    colour: None reads all in RGB if one of them holds colour, else in grey (`read_pixels`).

    Images that cannot be used (damaged, of one shade, of more than 64 Mi pixels), and copies,
    are among the corpus's problems. Raises `CorpusError` as `manifest_corpus` does.
    """
    rows, problems, notes = read_table(manifest, ("path", "label", "split"), manifest_root)
    return images_of(manifest, _name(manifest), rows, problems, notes, size, colour)


def images_of(
    table: str | os.PathLike[str],
    name: str,
    rows: list[Row],
    problems: list[Problem],
    notes: Sequence[str],
    size: int = pictures.SIZE,
    colour: ImageColour | None = None,
) -> ImageCorpus:
    """The images of the rows of a table with the columns ``path`` and ``label``, in their order.

    table: the file, for errors. name: of the corpus. size, colour: as of `manifest_images`.

    Raises `CorpusError` if none can be used.
    """
    hashed = hash_files((row.path for row in rows), name)
    rows, not_used = _listed_once(rows, hashed)
    prepared = f"{size} {colour}"
    shards = [rows[n : n + _SHARD] for n in range(0, len(rows), _SHARD)]
    results = compute_in_shards(
        shards,
        lambda some: digest(
            _IMAGES_VERSION, prepared, *(f"{hashed[r.path]} {r.name}" for r in some)
        ),
        partial(_read_images, size=size, colour=colour),
        directory=None,
        pool_from=_POOL_FROM,
        title="images",
    )
    problems = [*problems, *not_used]
    kept: list[Row] = []
    parts: list[np.ndarray] = []
    with contextlib.closing(results):
        for some, (arrays, failed) in zip(shards, results, strict=True):
            problems += failed.values()
            kept += [row for n, row in enumerate(some) if n not in failed]
            parts.append(arrays["images"])
    if not kept:
        reason = f"; the first: {problems[0].reason}" if problems else ""
        raise CorpusError(f"{shown(table)}: no image can be used{reason}")
    images = np.concatenate(_alike(parts))
    labels = np.array([row.fields["label"] for row in kept])
    in_split = {split: np.array([row.split == split for row in kept], bool) for split in SPLITS}
    return ImageCorpus(
        name,
        stand_in=False,
        images={split: images[part] for split, part in in_split.items()},
        labels={split: labels[part] for split, part in in_split.items()},
        problems=tuple(problems),
        notes=(*notes, *_shape_notes(kept, images, colour), *_ground_notes(kept, images)),
    )


def _name(manifest: str | os.PathLike[str]) -> str:
    return f"manifest {shown(Path(manifest).name)}"


class Part(NamedTuple):
    """A part of a sound file; None is the start, the end, or the mean of all channels.

    name: of the part, unique. Not that of its line: with a line more, all features would be
    computed again.
    """

    name: str
    start: float | None
    end: float | None
    channel: int | None


def part_of(row: Row, path: str) -> Part | Problem:
    """The part of `path` that the columns `PART` of a row select, or why that cannot be."""
    try:
        start, end = _part(row)
    except ValueError as error:
        return Problem(row.name, "times", f"{row.name}: {error}")
    number = row.fields.get("channel", "")
    if number and not (number.isdecimal() and int(number) >= 1):
        reason = f"{row.name}: channel must be a number from 1, not {number!r}"
        return Problem(row.name, "row", reason)
    name = path
    name += "" if start is None and end is None else f"#{start or 0.0}-{end or 'end'}"
    name += f"#channel {int(number)}" if number else ""
    return Part(name, start, end, int(number or 0) or None)


def _part(row: Row) -> tuple[float | None, float | None]:
    """Start and end in seconds; None is the start or the end of the file.

    Raises ValueError for what cannot be.
    """
    told = {name: row.fields[name] for name in _TIMES if row.fields.get(name)}
    start, end, duration = (_seconds(told.get(name, "")) for name in _TIMES)
    by_duration = end if duration is None else round((start or 0.0) + duration, 6)
    end = by_duration if end is None else end
    written = ", ".join(f"{name} {text!r}" for name, text in told.items())
    if any(t is not None and not 0 <= t < _LATEST for t in (start, end, duration)) or (
        end is not None and end <= (start or 0.0)
    ):
        raise ValueError(f"start and end must be seconds, 0 <= start < end, not {written}")
    if end is not None and by_duration is not None and abs(end - by_duration) > _ROUNDING:
        raise ValueError(f"start and duration give another end than end does: {written}")
    return start, end


def _seconds(text: str) -> float | None:
    """None where nothing is said; NaN where it is no number. 0,5 is a half, as Excel may write."""
    if not text:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _shape_notes(rows: list[Row], images: np.ndarray, colour: ImageColour | None) -> list[str]:
    """A sentence about RGB, and why; grey is what was not asked for."""
    if images.shape[1] == 1:
        return []
    coloured = np.flatnonzero((images != images[:, :1]).any((1, 2, 3)))
    if colour or not len(coloured):
        return ["the images are read in RGB"]
    first = shown(rows[coloured[0]].fields["path"])
    return [
        f"the images are read in RGB, because {len(coloured)} of {len(rows)} hold colour, such as "
        f"{first}; --image-colour grey reads them in grey"
    ]


def _ground_notes(rows: list[Row], images: np.ndarray) -> list[str]:
    """A sentence about a mixture of light and dark grounds."""
    if images.shape[1] > 1:
        return []
    grounds = np.array([framing.ground_of(image) for image in images[:, 0]])
    light, dark = (np.flatnonzero(grounds == ground) for ground in ("light", "dark"))
    if not min(len(light), len(dark)) or len(light) + len(dark) < framing.MOST * len(rows):
        return []
    fewer = min(light, dark, key=len)[0]
    return [
        f"{len(light)} images are on a light ground and {len(dark)} on a dark one, which they "
        f"keep: {shown(rows[fewer].fields['path'])} is on a {grounds[fewer]} one"
    ]


def _listed_once(
    rows: list[Row], hashed: dict[Path, str | Problem]
) -> tuple[list[Row], list[Problem]]:
    """Rows whose image exists and is not a copy of an earlier one, and problems with the others."""
    kept: dict[str, Row] = {}
    problems = []
    for row in rows:
        sha = hashed[row.path]
        if isinstance(sha, Problem):
            problems.append(Problem(row.name, sha.kind, sha.reason))
        elif (first := kept.setdefault(sha, row)) is not row:
            reason = f"{shown(row.path)}: is the same image as {shown(first.path)} ({first.name})"
            here, there = row.fields["label"], first.fields["label"]
            if contradicts := here != there:
                reason += f", class {shown(there)}, but is listed as class {shown(here)}"
            problems.append(Problem(row.name, "label" if contradicts else "duplicate", reason))
    return list(kept.values()), problems


def _read_images(rows: Sequence[Row], size: int, colour: ImageColour | None) -> Result:
    """``images``, ``[N, C, size, size]``: RGB if one of these holds colour, as far as not given."""
    images: list[np.ndarray] = []
    problems: dict[int, Problem] = {}
    for n, row in enumerate(rows):
        try:
            pixels = pictures.square(pictures.read_pixels(row.path, colour), size)
        except CorpusError as error:
            problems[n] = Problem(row.name, error.kind, str(error))
        else:
            images.append(pictures.channels_first(pixels)[None])
    none = np.empty((0, 1, size, size), np.uint8)
    return {"images": np.concatenate(_alike([none, *images]))}, problems


def _alike(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """``[n, C, N, N]`` each: in RGB if one is; a grey picture then has three equal channels."""
    channels = max(part.shape[1] for part in parts)
    return [np.broadcast_to(x, (len(x), channels, *x.shape[2:])) for x in parts]
