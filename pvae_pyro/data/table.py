"""CSV files that list the files of a corpus, read as what they are: text from anyone."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pvae_pyro.data.corpus import CorpusError, Problem, Split, shown

SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class Row:
    """One line. name: ``<table>:<line>``, as messages call it. fields: by column, stripped."""

    name: str
    path: Path
    split: Split
    fields: dict[str, str]


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str], root: str | os.PathLike[str] | None = None
) -> tuple[list[Row], list[Problem]]:
    """Rows of a CSV file (UTF-8, a header line; ``.tsv``: tabs), and the rows left out.

    Case does not matter in names of columns and splits.

    columns: that must be there and filled, with ``path`` and ``split`` among them. Others are
        kept as they are.
    root: paths are relative to it, and may not leave it, not by ``..`` nor by a link; None is
        the table's own folder.

    Left out: a row with too few or too many fields (``"row"``), an empty field of `columns`
    (``"row"``), a split other than train and test (``"unknown split"``), a path that leaves the
    root (``"escapes its root"``). Raises `CorpusError` for a table that cannot be read, is not
    UTF-8, lacks a column or has no row.
    """
    path = Path(path)
    root = (path.parent if root is None else Path(root)).resolve()
    rows: list[Row] = []
    problems: list[Problem] = []
    try:
        # utf-8-sig: spreadsheets put a mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            tab = path.suffix.lower() == ".tsv"
            reader = csv.DictReader(file, delimiter="\t" if tab else ",", strict=True)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            if missing := [c for c in columns if c not in header]:
                hint = "; save it with commas" if header and ";" in header[0] else ""
                hint += "; tabs are for names in .tsv" if header and "\t" in header[0] else ""
                raise CorpusError(
                    f"{shown(path)}: has no column {', '.join(missing)}; it needs "
                    f"{','.join(columns)}, and has {shown(','.join(header)) or 'none'}{hint}"
                )
            if len(set(header)) < len(header):
                raise CorpusError(
                    f"{shown(path)}: has two columns of one name: {shown(','.join(header))}"
                )
            for fields in reader:
                name = f"{shown(path.name)}:{reader.line_num}"
                row = _row(name, fields, columns, root)
                (rows if isinstance(row, Row) else problems).append(row)  # type: ignore[arg-type]
    except OSError as error:
        raise CorpusError(f"{shown(path)}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{shown(path)}: is not UTF-8 text ({error.reason}): save it as CSV UTF-8"
        ) from error
    except csv.Error as error:
        raise CorpusError(f"{shown(path)}: is not a CSV file ({error})") from error
    if not rows and not problems:
        raise CorpusError(f"{shown(path)}: lists nothing")
    return rows, problems


def _row(
    name: str, fields: dict[str, str | None], columns: Sequence[str], root: Path
) -> Row | Problem:
    if None in fields or None in fields.values():
        return Problem(name, "row", f"{name}: has another number of fields than the header")
    filled = {column: (value or "").strip() for column, value in fields.items()}
    if empty := [column for column in columns if not filled[column]]:
        return Problem(name, "row", f"{name}: {', '.join(empty)} is empty")
    split = next((s for s in SPLITS if s == filled["split"].lower()), None)
    if split is None:
        reason = f"{name}: unknown split {filled['split']!r}; it must be {' or '.join(SPLITS)}"
        return Problem(name, "unknown split", reason)
    try:
        target = (root / filled["path"]).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        return Problem(name, "unreadable", f"{name}: {filled['path']!r} is no path ({error})")
    if not target.is_relative_to(root):
        reason = (
            f"{name}: {filled['path']!r} is outside {shown(root)}: give the folder that holds all "
            "as root"
        )
        return Problem(name, "escapes its root", reason)
    if "\\" in filled["path"] and os.sep == "/" and not target.exists():
        reason = f"{name}: there is no {filled['path']!r}: write / between folders"
        return Problem(name, "missing", reason)
    return Row(name, target, split, filled)
