"""A CSV file of pairs: one row an example, one column a modality, an empty cell where it lacks one.

speech,image,split
ana/seven.wav,7.png,train
ben/3.flac,,train
ben/4.flac,4.png,test
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pvae_pyro.data.corpora.manifest import PART, Part, part_of
from pvae_pyro.data.corpus import CorpusError, Problem, Split
from pvae_pyro.data.listing import hash_files
from pvae_pyro.data.table import Row, read_header, read_table
from pvae_pyro.data.user_file import SOUNDS
from pvae_pyro.errors import shown

PICTURES = "image"  # the column of pictures; those of sounds may have any name
_RESERVED = ("split", "label", "speaker", *PART)


class Item(NamedTuple):
    """A picture, or a sound: a file or a part of one. path: the first file with its bytes."""

    path: Path
    part: Part


@dataclass(frozen=True)
class PairRow:
    """A row. name: ``<file>:<line>``. items: by modality. label, speaker: "" if not told."""

    name: str
    split: Split
    label: str
    speaker: str
    items: dict[str, Item]


class PairsFile(NamedTuple):
    """Rows that may be used, problems with others, and notes, one sentence each."""

    name: str
    modalities: tuple[str, ...]
    rows: list[PairRow]
    problems: list[Problem]
    notes: list[str]


def modalities_in(
    file: str | os.PathLike[str], asked: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The modalities of a file of pairs: its columns of files, or those of them that are asked for.

    Raises CorpusError for a file that cannot be read, has no column split, or lacks such a column.
    """
    names = read_header(file, _RESERVED)
    if "split" not in names:
        raise CorpusError(
            f"{shown(file)}: has no column split: add one that says train or test in every row"
        )
    found = tuple(name for name in names if name not in _RESERVED)
    if missing := [name for name in asked or () if name not in found]:
        raise CorpusError(
            f"{shown(file)}: has no column {', '.join(map(shown, missing))}, which --modalities "
            f"names; its columns of files are {', '.join(map(shown, found)) or 'none'}"
        )
    if not found:
        raise CorpusError(f"{shown(file)}: has no column of files, such as speech or {PICTURES}")
    return tuple(asked or found)


def read_pairs(
    file: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    modalities: Sequence[str] | None = None,
) -> PairsFile:
    """The rows of a file of pairs; no sound or picture is decoded yet.

    The column ``split`` is required; ``label``, ``speaker`` and those of a part of a sound
    (``start``, ``end``, ``duration``, ``channel``) may be there; every other column is a modality:
    `PICTURES` of pictures, the others of sounds. Rows may share files. Two files with the same
    bytes are one.

    root: what paths are relative to and may not leave; None is the file's folder.
    modalities: the columns to use, in this order; None is all. Others are then not read.

    Left out: rows as in `read_table`, without any file (``"row"``), whose files cannot be opened
    (``"missing"``, …), with the same items as an earlier row or an item of the other split
    (``"duplicate"``), or with an item whose label was another one before (``"label"``). Raises
    `CorpusError` as `read_table` and `modalities_in` do, for a column that is no modality, without
    a file, or with labels in some rows alone.
    """
    names = modalities_in(file, modalities)
    table = read_table(file, ("split",), root, (*names, *_RESERVED[1:]), files=names)
    problems, notes, rows = table.problems, table.notes, []
    for row in table.rows:
        if row.files:
            rows.append(row)
        elif modalities is None:
            problems.append(Problem(row.name, "row", f"{row.name}: names no file"))
    if number := len(table.rows) - len(rows) if modalities else 0:
        notes.append(f"rows that have no {' or '.join(names)}: {number:,}")
    _check_columns(file, names, rows)
    name = f"pairs {shown(Path(file).name)}"
    hashes = hash_files((path for row in rows for path in row.files.values()), name)
    found, unusable = _with_items(rows, hashes)
    kept, repeated = _consistent(found)
    return PairsFile(name, names, kept, [*problems, *unusable, *repeated], notes)


def _check_columns(file: str | os.PathLike[str], names: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise CorpusError for columns that cannot be used as they are."""
    for name in names:
        first = next((row for row in rows if name in row.files), None)
        if first is None:
            raise CorpusError(
                f"{shown(file)}: the column {shown(name)} has no file in any row: take it out, or "
                "give --modalities without it"
            )
        cell = first.fields[name]
        if name not in ("speech", PICTURES) and not cell.lower().endswith(SOUNDS):
            raise CorpusError(
                f"{first.name}: the column {shown(name)} is unknown, and {shown(cell)} is no sound "
                f"file: pictures are in the column {PICTURES}, sounds in speech or any other. Take "
                "the column out, or name those that are to be used: --modalities "
                f"{','.join(n for n in names if n != name) or 'speech,image'}"
            )
    sounds = [name for name in names if name != PICTURES]
    if len(sounds) > 1 and (cut := next((r for r in rows if _has_part(r)), None)):
        raise CorpusError(
            f"{cut.name}: selects a part of a sound, but there are several columns of sounds "
            f"({', '.join(sounds)}): cut the sounds into files of their own"
        )
    without = [row for row in rows if not row.fields.get("label")]
    if without and len(without) < len(rows):
        raise CorpusError(
            f"{without[0].name}: has no label, and other rows do: give every row a label, or take "
            "the column out and give the labels to evaluate.py (--labels)"
        )


def _has_part(row: Row) -> bool:
    return any(row.fields.get(column) for column in PART)


def _with_items(
    rows: Sequence[Row], hashes: dict[Path, str | Problem]
) -> tuple[list[PairRow], list[Problem]]:
    """The rows whose files can be opened, and problems with the others."""
    first: dict[str, tuple[Path, str]] = {}  # digest -> the first file with it, as it is written
    kept, problems = [], []
    for row in rows:
        items: dict[str, Item] = {}
        problem = None
        for modality, path in row.files.items():
            sha = hashes[path]
            if isinstance(sha, Problem):
                problem = Problem(row.name, sha.kind, f"{row.name}: {sha.reason}")
                break
            written = str(PurePosixPath(row.fields[modality]))
            same, text = first.setdefault(sha, (path, written))
            part = part_of(row, text) if modality != PICTURES else Part(text, None, None, None)
            if isinstance(part, Problem):
                problem = part
                break
            items[modality] = Item(same, part)
        if problem:
            problems.append(problem)
            continue
        label, speaker = (row.fields.get(column, "") for column in ("label", "speaker"))
        kept.append(PairRow(row.name, row.split, label, speaker, items))
    return kept, problems


def _consistent(rows: Sequence[PairRow]) -> tuple[list[PairRow], list[Problem]]:
    """The rows that contradict no earlier one, and problems with the others."""
    known: dict[tuple[str, Item], PairRow] = {}
    listed: dict[tuple[tuple[str, Item], ...], PairRow] = {}
    kept, problems = [], []
    for row in rows:
        items = tuple(row.items.items())
        kind, reason = "duplicate", ""
        if same := listed.get(items):
            reason = f"{row.name}: is the same pair as {same.name}"
        for item in items:
            if (before := known.get(item)) and before.split != row.split:
                where = f"{shown(item[1].part.name)}, which is in the {before.split} split"
                kind, reason = "duplicate", f"{row.name}: has {where} ({before.name})"
            elif before and before.label != row.label:
                kind = "label"
                reason = (
                    f"{row.name}: {shown(item[1].part.name)} is of class {shown(before.label)} in "
                    f"{before.name}, but is listed as class {shown(row.label)}"
                )
        if reason:
            problems.append(Problem(row.name, kind, reason))
            continue
        kept.append(row)
        listed[items] = row
        for item in items:
            known.setdefault(item, row)
    return kept, problems
