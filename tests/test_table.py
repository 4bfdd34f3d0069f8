"""CSV tables: rows that can be used, rows that are told of, and tables that cannot be read."""

import os
from pathlib import Path

import pytest

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.table import read_table

COLUMNS = ("path", "label", "split")


def _table(folder: Path, text: str, name: str = "words.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_rows(tmp_path):
    text = "\ufeffLabel, path ,split,note\r\n"
    text += 'a,"with, comma/ß ñ.wav",train,\r\nb, two words.wav ,TEST,x\r\n'
    rows, problems = read_table(_table(tmp_path, text), COLUMNS)
    assert problems == []
    assert [row.path for row in rows] == [
        tmp_path / "with, comma" / "ß ñ.wav",
        tmp_path / "two words.wav",
    ]
    assert [(row.split, row.fields["label"], row.fields["note"]) for row in rows] == [
        ("train", "a", ""),
        ("test", "b", "x"),
    ]
    assert [row.name for row in rows] == ["words.csv:2", "words.csv:3"]


def test_tabs_and_a_root(tmp_path):
    path = _table(tmp_path, "path\tlabel\tsplit\na,b.wav\tx\ttrain\n", "words.TSV")
    (row,), _ = read_table(path, COLUMNS, tmp_path / "sounds")
    assert row.path == tmp_path / "sounds" / "a,b.wav"


@pytest.mark.parametrize(
    ("line", "kind", "told"),
    [
        ("a.wav,x", "row", "number of fields"),
        ("a.wav,x,train,more", "row", "number of fields"),
        ("a.wav,,train", "row", "label is empty"),
        ("a.wav,  ,train", "row", "label is empty"),
        ("a.wav,x,dev", "unknown split", "unknown split 'dev'; it must be train or test"),
        ("a.wav,x,training", "unknown split", "'training'"),
        ("b\\c.wav,x,train", "missing", "write / between folders"),
        ("../a.wav,x,train", "escapes its root", "'../a.wav' is outside"),
        ("b/../../a.wav,x,train", "escapes its root", "is outside"),
        ("/etc/passwd,x,train", "escapes its root", "'/etc/passwd' is outside"),
        ("link/a.wav,x,train", "escapes its root", "is outside"),
        ("a\0.wav,x,train", "unreadable", "is no path"),
    ],
)
def test_rows_left_out(tmp_path, line, kind, told):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    path = _table(folder, f"path,label,split\ngood.wav,x,train\n{line}\n")
    (row,), (problem,) = read_table(path, COLUMNS)
    assert row.path == folder / "good.wav"
    assert (problem.name, problem.kind) == ("words.csv:3", kind)
    assert problem.reason.startswith("words.csv:3: ")
    assert told in problem.reason


def test_inside_the_root_by_another_way(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sounds")
    lines = f"link/a.wav,x,train\n{tmp_path}/sounds/b.wav,x,train\nc/../d.wav,x,train\n"
    rows, problems = read_table(_table(tmp_path, "path,label,split\n" + lines), COLUMNS)
    assert problems == []
    assert [os.path.relpath(row.path, tmp_path) for row in rows] == [
        "sounds/a.wav",
        "sounds/b.wav",
        "d.wav",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,split\na,train\n", "has no column label; it needs path,label,split, and has path,s"),
        ("", "has no column path, label, split"),
        ("path;label;split\na;b;train\n", "has path;label;split; save it with commas"),
        ("path\tlabel\tsplit\na\tb\ttrain\n", "tabs are for names in .tsv"),
        ("path,label,split,label\na,b,train,c\n", "two columns of one name"),
        ("path,label,split\n", "lists nothing"),
        ('path,label,split\n"a,b,train\n', "is not a CSV file"),
        ("path,label,split\n" + "a" * 200_000 + ",b,train\n", "is not a CSV file"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, told):
    with pytest.raises(CorpusError, match=told) as error:
        read_table(_table(tmp_path, text), COLUMNS)
    assert "words.csv" in str(error.value)


def test_not_utf8_and_not_there(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("path,label,split\nñ.wav,x,train\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.csv: is not UTF-8"):
        read_table(path, COLUMNS)
    with pytest.raises(CorpusError, match=r"none\.csv: cannot be read"):
        read_table(tmp_path / "none.csv", COLUMNS)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_table(tmp_path, COLUMNS)
