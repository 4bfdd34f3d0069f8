"""CSV files that list the files of a corpus, read as what they are: text from anyone."""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pvae_pyro.data.column_names import name_columns, num_known
from pvae_pyro.data.corpus import SPLITS, CorpusError, Problem, Split
from pvae_pyro.data.spelling import found_file, tidied
from pvae_pyro.data.text_file import read_text
from pvae_pyro.errors import shown

_DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?(?=[\r\n])', re.IGNORECASE)  # for Excel, as its first line


@dataclass(frozen=True)
class Row:
    """One line. name: ``<table>:<line>``, as messages call it. fields: by column, tidied."""

    name: str
    path: Path
    split: Split
    fields: dict[str, str]


class Table(NamedTuple):
    """rows that can be used; problems, of those that cannot; notes, a sentence each."""

    rows: list[Row]
    problems: list[Problem]
    notes: list[str]


class _Line(NamedTuple):
    """A row as it stands, from line `first` to line `last`."""

    first: int
    last: int
    values: list[str]


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    optional: Sequence[str] = (),
) -> Table:
    """Rows of a CSV file with a header line, and the rows left out.

    Text as of `read_text`. Between columns are commas, semicolons, tabs or bars, whichever make
    the most columns known. Columns may go by the names that others give them (`name_columns`);
    case does not matter in their names and in splits. Lines of empty fields are passed over.

    columns: that must be there and filled, with ``path`` and ``split`` among them. optional: that
        may be there. Others are kept as they are, and a note names them.
    root: paths are relative to it, and may not leave it, not by ``..`` nor by a link; None is
        the table's own folder.

    Left out: a row with too few or too many fields (``"row"``), an empty field of `columns`
    (``"row"``), a split other than train and test (``"unknown split"``), a path that leaves the
    root (``"escapes its root"``). Raises `CorpusError` for a table that cannot be read, is no
    CSV, lacks a column, has one that is not understood (`name_columns`) or has no row.
    """
    path = Path(path)
    root = (path.parent if root is None else Path(root)).resolve()
    wanted = (*columns, *optional)
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        raise CorpusError(f"{shown(path)}: is JSON, and must be CSV with {','.join(columns)}")
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    if told := _SEP.match(text):
        delimiter, text = told[1], text[told.end() :]
    else:
        delimiter = _delimiter(text, wanted, usual)
    lines = _lines(path, text, delimiter)
    header = next(lines, _Line(0, 0, [])).values
    try:
        names = name_columns(header, wanted)
    except CorpusError as error:
        raise CorpusError(f"{shown(path)}: {error}") from error
    if missing := [column for column in columns if column not in names]:
        raise CorpusError(
            f"{shown(path)}: has no column {', '.join(missing)}; it needs {','.join(columns)}, "
            f"and has {shown(delimiter.join(header)) or 'none'}{_hint(header)}"
        )
    rows: list[Row] = []
    problems: list[Problem] = []
    unread: dict[str, None] = {}
    for line in lines:
        values = line.values
        if any(_holds_lines(value, delimiter, len(names)) for value in values):
            raise CorpusError(
                f"{shown(path)}:{line.first}: has a field that goes on to line {line.last} and "
                'holds whole lines: a quote (") is missing, or is one too many'
            )
        row = _row(f"{shown(path.name)}:{line.first}", line, names, columns, root)
        (rows if isinstance(row, Row) else problems).append(row)  # type: ignore[arg-type]
        pairs = zip(names, values, strict=False)
        unread |= {
            name or "one without a name": None
            for name, value in pairs
            if name not in wanted and value.strip()
        }
    if not rows and not problems:
        raise CorpusError(f"{shown(path)}: lists nothing")
    notes = [f"columns that are not read: {', '.join(map(shown, unread))}"] if unread else []
    return Table(rows, problems, notes)


def _delimiter(text: str, wanted: Sequence[str], usual: str) -> str:
    for line in io.StringIO(text, newline=""):
        if line.strip():
            found = {
                d: num_known(next(csv.reader([line], delimiter=d)), wanted) for d in _DELIMITERS
            }
            return max((usual, *_DELIMITERS), key=lambda d: found[d])
    return usual


def _lines(path: Path, text: str, delimiter: str) -> Iterator[_Line]:
    """Those that are not empty, without the empty fields that Excel writes at their ends."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    length = 0  # of the header
    first = 1
    try:
        for values in reader:
            while len(values) > length and not values[-1].strip():
                values.pop()
            if any(value.strip() for value in values):
                length = length or len(values)
                yield _Line(first, reader.line_num, values)
            first = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(
            f'{shown(path)}:{first}: is not CSV from here on ({error}): perhaps a quote (") is '
            "missing, or is one too many"
        ) from error


def _holds_lines(value: str, delimiter: str, columns: int) -> bool:
    """Whether a quoted field has swallowed the rows that follow it."""
    return ("\n" in value or "\r" in value) and value.count(delimiter) >= columns - 1


def _hint(header: Sequence[str]) -> str:
    if len(header) == 1 and any(d in header[0] for d in _DELIMITERS):
        return "; each line is one quoted field: take the quotes around whole lines out"
    return ""


def _row(
    name: str, line: _Line, names: Sequence[str], columns: Sequence[str], root: Path
) -> Row | Problem:
    if len(line.values) != len(names):
        reason = f"{name}: has another number of fields than the header"
        if line.last > line.first:
            reason += f'; it goes on to line {line.last}: perhaps a quote (") is missing'
        return Problem(name, "row", reason)
    filled = {
        column: value.strip() if column == "path" else tidied(value)
        for column, value in zip(names, line.values, strict=True)
    }
    if empty := [column for column in columns if not filled[column]]:
        return Problem(name, "row", f"{name}: {', '.join(empty)} is empty")
    split = next((s for s in SPLITS if s == filled["split"].lower()), None)
    if split is None:
        reason = f"{name}: unknown split {filled['split']!r}; it must be {' or '.join(SPLITS)}"
        return Problem(name, "unknown split", reason)
    path = file_below(root, filled["path"], name)
    return path if isinstance(path, Problem) else Row(name, path, split, filled)


def file_below(root: Path, path: str, name: str) -> Path | Problem:
    """The file of that relative path, or why it may not be read; `name` is the line it is from.

    It may not leave the root, neither by ``..`` nor by a link.
    """
    root = root.resolve()
    try:
        target = found_file(root, path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        return Problem(name, "unreadable", f"{name}: {path!r} is no path ({error})")
    if not target.is_relative_to(root):
        reason = f"{name}: {path!r} is outside {shown(root)}: give the folder that holds all files"
        return Problem(name, "escapes its root", f"{reason} as root")
    if "\\" in path and os.sep == "/" and not target.exists():
        return Problem(name, "missing", f"{name}: there is no {path!r}: write / between folders")
    return target
