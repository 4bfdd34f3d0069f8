"""CSV tables: rows that can be used, rows that are reported, and tables that cannot be read."""

import unicodedata
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
    rows, problems, _ = read_table(_table(tmp_path, text), COLUMNS)
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


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("a.wav,x", "row", "number of fields"),
        ("a.wav,x,train,more", "row", "number of fields"),
        ("a.wav,  ,train", "row", "label is empty"),
        ("a.wav,x,dev", "unknown split", "unknown split 'dev'; it must be train or test"),
        ("b\\c.wav,x,train", "missing", "write / between folders"),
        ("b/../../a.wav,x,train", "escapes its root", "is outside"),
        ("/etc/passwd,x,train", "escapes its root", "'/etc/passwd' is outside"),
        ("link/a.wav,x,train", "escapes its root", "is outside"),
    ],
)
def test_rows_left_out(tmp_path, line, kind, message):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    path = _table(folder, f"path,label,split\ngood.wav,x,train\n{line}\n")
    (row,), (problem,), _ = read_table(path, COLUMNS)
    assert row.path == folder / "good.wav"
    assert (problem.name, problem.kind) == ("words.csv:3", kind)
    assert problem.reason.startswith("words.csv:3: ")
    assert message in problem.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,split\na,train\n", "has no column label; it needs path,label,split, and has path,s"),
        ("", "has no column path, label, split"),
        ("path,word,split,Text\na,b,train,c\n", "two columns for label, word and Text"),
        ("path,label,split\n,,\n", "lists nothing"),
        ('{"audio_filepath": "a", "offset": 0.1, "text": "b"}\n', "words.csv: has"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(CorpusError, match=message) as error:
        read_table(_table(tmp_path, text), COLUMNS)
    assert "words.csv" in str(error.value)


def test_not_utf8_and_not_there(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("path,label,split\nñ.wav,x,train\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.csv:2: is not UTF-8"):
        read_table(path, COLUMNS)
    with pytest.raises(CorpusError, match=r"none\.csv: cannot be read"):
        read_table(tmp_path / "none.csv", COLUMNS)


@pytest.mark.parametrize("closed", [False, True])
def test_the_line_of_a_stray_quote_is_named(tmp_path, closed):
    lines = ["a.wav,x,train"] * 1000
    lines[498] = '"a.wav,x,train'
    if closed:
        lines[540] = '"a.wav",x,train'
    path = _table(tmp_path, "path,label,split\n" + "\n".join(lines))
    with pytest.raises(CorpusError, match=r"words\.csv:500: .*quote"):
        read_table(path, COLUMNS)


def test_rows_swallowed_by_a_quoted_field_are_not_lost(tmp_path):
    """The fields are as many as they should be; the label is of three lines."""
    text = 'path,label,split\na.wav,"x,train\nb.wav,x,train\nc.wav,x",train\n'
    with pytest.raises(CorpusError, match=r"words\.csv:2: .*line 4.*quote"):
        read_table(_table(tmp_path, text), COLUMNS)
    text = 'path,label,split\na.wav,x,"train\nb.wav",x,train\nd.wav,x,train\n'
    (row,), (problem,), _ = read_table(_table(tmp_path, text), COLUMNS)
    assert row.name == "words.csv:4"
    assert problem.name == "words.csv:2"
    assert "quote" in problem.reason
    text = 'path,label,split,note\na.wav,"new\nyork",train,"one\ntwo"\n'  # Alt+Enter in Excel
    (row,), problems, _ = read_table(_table(tmp_path, text), COLUMNS)
    assert (row.fields["label"], problems) == ("new york", [])


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split,,\na.wav,x,train,,\n,,,,\nb.wav,x,test,,\n",
        "path;label;split\na.wav;x;train\nb.wav;x;test\n",
        "path\tlabel\tsplit\na.wav\tx\ttrain\nb.wav\tx\ttest\n",
        "path|label|split\na.wav|x|train\nb.wav|x|test\n",
        "\n\npath,label,split\n\na.wav,x,train\nb.wav,x,test",
        "path,label,split\ra.wav,x,train\rb.wav,x,test\r",
        ",path,label,split\n0,a.wav,x,train\n1,b.wav,x,test\n",  # pandas' index
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_are_read_as_spreadsheets_write_them(tmp_path, text, encoding):
    path = tmp_path / "words.csv"
    path.write_bytes(text.encode(encoding))
    rows, problems, _ = read_table(path, COLUMNS)
    assert problems == []
    assert [(r.path.name, r.fields["label"], r.split) for r in rows] == [
        ("a.wav", "x", "train"),
        ("b.wav", "x", "test"),
    ]


def test_columns_that_are_not_read_are_reported(tmp_path):
    text = ",path,label,split,age,Empty,word\n0,a.wav,x,train,7,,y\n"
    (row,), _, (note,) = read_table(_table(tmp_path, text), COLUMNS)
    assert row.fields["label"] == "x"
    assert all(part in note for part in ("age", "word", "without a name"))
    assert "empty" not in note


@pytest.mark.parametrize(
    "header",
    [
        "audio_filepath,text,client_id,set",
        "File,Word,Speaker ID,Partition",
        "file-name,sentence,talker,split",
    ],
)
def test_common_names_of_columns(tmp_path, header):
    path = _table(tmp_path, f"{header}\na.wav,x,ann,train\n")
    (row,), problems, notes = read_table(path, ("path", "label", "speaker", "split"))
    assert (row.path.name, row.fields["label"], row.fields["speaker"], row.split) == (
        *("a.wav", "x", "ann", "train"),
    )
    assert (problems, notes) == ([], [])


@pytest.mark.parametrize(
    "columns", ["start,offset", "clip start", "bbox", "t0,t1", "StartMs", "start,num_samples"]
)
def test_a_column_that_looks_like_a_part_is_not_passed_over(tmp_path, columns):
    values = ",1" * (columns.count(",") + 1)
    path = _table(tmp_path, f"path,label,split,{columns}\na.wav,x,train{values}\n")
    with pytest.raises(CorpusError, match=r"words\.csv: has .*column"):
        read_table(path, COLUMNS, optional=("start", "end", "duration"))
    with pytest.raises(CorpusError, match=r"words\.csv: .*part of a file"):
        read_table(path, COLUMNS)


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_file_whose_name_is_in_another_normal_form(tmp_path, on_disk, written):
    name = "año/é.wav"
    file = tmp_path / unicodedata.normalize(on_disk, name)
    file.parent.mkdir()
    file.touch()
    path = _table(tmp_path, f"path,label,split\n{unicodedata.normalize(written, name)},x,train\n")
    (row,), _, _ = read_table(path, COLUMNS)
    assert row.path == file
