"""CSV files that list the files of a corpus."""

import csv
import io
import os
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


@dataclass(frozen=True)
class Row:
    """One line.

    name: ``<table>:<line>``, for messages. files: by column, of those that are filled. fields: by
    column, `tidied`.
    """

    name: str
    files: dict[str, Path]
    split: Split
    fields: dict[str, str]

    @property
    def path(self) -> Path:
        return self.files["path"]


class Table(NamedTuple):
    """Rows that can be used, problems with the others, and notes, one sentence each."""

    rows: list[Row]
    problems: list[Problem]
    notes: list[str]


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    root: str | os.PathLike[str] | None = None,
    optional: Sequence[str] = (),
    files: Sequence[str] = ("path",),
) -> Table:
    """Rows of a CSV file with a header line, and the rows left out.

    The file is text as of `read_text`. Columns are separated by commas, semicolons, tabs or bars,
    whichever make the most columns known, and may have the names that others give them
    (`name_columns`). Case does not matter in their names and in splits. Empty lines are ignored.

    columns: which must exist and be filled. Without ``split`` among them, all rows are of the
        training split. optional: which may exist. Others are kept as they are, and a note names
        them.
    files: those of both that hold paths.
    root: paths are relative to it, and may not leave it, neither by ``..`` nor by a link; None is
        the table's own folder.

    Left out: a row with too few or too many fields (``"row"``), an empty field of `columns`
    (``"row"``), a split other than train and test (``"unknown split"``), a path that leaves the
    root (``"escapes its root"``). Raises `CorpusError` for a table that cannot be read, is not
    CSV, lacks a column, has one that is not understood (`name_columns`) or has no row.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    wanted = (*columns, *optional)
    text = read_text(path)
    delimiter = _delimiter(text, wanted)
    lines = _lines(path, text, delimiter)
    _, header = next(lines, (0, []))
    names = _named(path, header, wanted)
    if missing := [column for column in columns if column not in names]:
        raise CorpusError(
            f"{shown(path)}: has no column {', '.join(missing)}; it needs {','.join(columns)}, "
            f"and has {shown(delimiter.join(header)) or 'none'}"
        )
    rows: list[Row] = []
    problems: list[Problem] = []
    unread: dict[str, None] = {}
    for number, values in lines:
        row = _row(f"{shown(path.name)}:{number}", values, names, columns, files, root)
        (rows if isinstance(row, Row) else problems).append(row)  # type: ignore[arg-type]
        for name, value in zip(names, values, strict=False):
            if name not in wanted and value.strip():
                unread[name or "one without a name"] = None
    if not rows and not problems:
        raise CorpusError(f"{shown(path)}: lists nothing")
    notes = [f"columns that are not read: {', '.join(map(shown, unread))}"] if unread else []
    return Table(rows, problems, notes)


def read_header(path: str | os.PathLike[str], wanted: Sequence[str]) -> list[str]:
    """The names of a table's columns, as `read_table` with these columns would call them.

    Raises `CorpusError` as it does.
    """
    text = read_text(Path(path))
    lines = _lines(Path(path), text, _delimiter(text, wanted))
    return _named(Path(path), next(lines, (0, []))[1], wanted)


def _named(path: Path, header: Sequence[str], wanted: Sequence[str]) -> list[str]:
    try:
        return name_columns(header, wanted)
    except CorpusError as error:
        raise CorpusError(f"{shown(path)}: {error}") from error


def _delimiter(text: str, wanted: Sequence[str]) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")
    fields = {d: next(csv.reader([header], delimiter=d), []) for d in _DELIMITERS}
    return max(_DELIMITERS, key=lambda d: num_known(fields[d], wanted))


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not empty; Excel's empty last fields are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    length = 0  # of the header
    first = 1
    quote = 'perhaps a quote (") is missing, or is one too many'
    try:
        for values in reader:
            while len(values) > length and not values[-1].strip():
                values.pop()
            if any(value.strip() for value in values):
                length = length or len(values)
                # A quoted field may hold a line break, but not the rows that follow it.
                if any(
                    len(v.splitlines()) > 1 and v.count(delimiter) >= length - 1 for v in values
                ):
                    raise CorpusError(
                        f"{shown(path)}:{first}: has a field that goes on to line "
                        f"{reader.line_num} and holds whole lines: {quote}"
                    )
                yield first, values
            first = reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(
            f"{shown(path)}:{first}: is not CSV from here on ({error}): {quote}"
        ) from error


def _row(
    name: str,
    values: Sequence[str],
    names: Sequence[str],
    columns: Sequence[str],
    files: Sequence[str],
    root: Path,
) -> Row | Problem:
    if len(values) != len(names):
        reason = f"{name}: has another number of fields than the header"
        if any(len(value.splitlines()) > 1 for value in values):
            reason += ', and a line break in a field: perhaps a quote (") is missing'
        return Problem(name, "row", reason)
    filled = {
        column: value.strip() if column == "path" or column in files else tidied(value)
        for column, value in zip(names, values, strict=True)
    }
    if empty := [column for column in columns if not filled[column]]:
        return Problem(name, "row", f"{name}: {', '.join(empty)} is empty")
    told = filled["split"].lower() if "split" in columns else "train"
    split = next((s for s in SPLITS if s == told), None)
    if split is None:
        reason = f"{name}: unknown split {filled['split']!r}; it must be {' or '.join(SPLITS)}"
        return Problem(name, "unknown split", reason)
    paths: dict[str, Path] = {}
    for column in files:
        if filled.get(column):
            path = file_below(root, filled[column], name)
            if isinstance(path, Problem):
                return path
            paths[column] = path
    return Row(name, paths, split, filled)


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
