"""Transcribed recordings to digits, as a library and as a command."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.alignment.transcripts import (
    align_utterances,
    digit_class,
    read_transcripts,
)
from pvae_pyro.data.corpora.manifest import manifest_corpus
from pvae_pyro.experiments import align
from tests.support.joined import Joined, american_strings

pytest.importorskip("pocketsphinx")
pytest.importorskip("espeakng_loader")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def spoken() -> list[Joined]:
    return american_strings("317", "50", "982", "46")


@pytest.fixture
def folder(tmp_path: Path, spoken: list[Joined]) -> Path:
    """Four recordings of three speakers, one of them in a folder below."""
    folder = tmp_path / "söme sounds"
    (folder / "b c").mkdir(parents=True)
    for name, string in zip(("a.wav", "b c/ß.wav", "c.wav", "d.wav"), spoken, strict=True):
        soundfile.write(folder / name, string.samples, string.rate)
    return folder


TRANSCRIPTS = """\ufeffpath,speaker,split,transcript
a.wav,ann,train,"Three, one -- no wait: SEVEN."
b c/ß.wav,bob,train,five oh
c.wav,eve,test,nine eight two
d.wav,ann,test,four six
"""
# "no wait" is not said in the sound: see below.
RIGHT = TRANSCRIPTS.replace(" -- no wait:", "")


def _write(folder: Path, text: str = RIGHT) -> Path:
    path = folder / "transcripts.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_transcripts_are_read(folder):
    utterances, problems = read_transcripts(_write(folder, TRANSCRIPTS))
    assert problems == []
    first, second = utterances[:2]
    assert first.words == ("three", "one", "--", "no", "wait", "seven")
    assert second.recording.path == folder / "b c" / "ß.wav"
    assert second.recording.name == "b c/ß.wav"
    assert (second.recording.speaker, second.recording.split) == ("bob", "train")
    assert second.words == ("five", "oh")


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ("x.wav,ann,train,", "row", "transcript is empty"),
        ("x.wav,ann,train, . ", "transcript", "there is no word in '.'"),
        ("/etc/hostname,ann,train,six", "escapes its root", "is outside"),
    ],
)
def test_rows_that_cannot_be_used(folder, row, kind, message):
    path = _write(folder, f"{RIGHT}{row}\n")
    utterances, (problem,) = read_transcripts(path)
    assert len(utterances) == 4
    assert (problem.name, problem.kind) == ("transcripts.csv:6", kind)
    assert message in problem.reason


@pytest.mark.parametrize(
    ("oh", "zero_and_oh"), [("zero", ["0", "0"]), ("drop", ["0", None]), ("separate", ["0", "o"])]
)
def test_classes(oh, zero_and_oh):
    label = digit_class(oh)
    assert [label(word) for word in ("zero", "oh")] == zero_and_oh
    assert [label(word) for word in ("one", "six", "nine")] == ["1", "6", "9"]
    assert {label(word) for word in ("o", "z", "1", "ten", "sixty", "for", "")} == {None}


def test_digits_are_found(folder, spoken, tmp_path):
    utterances, _ = read_transcripts(_write(folder))
    tokens, problems = align_utterances(utterances, digit_class("zero"), tmp_path / "own")
    assert problems == []
    assert [t.recording.label for t in tokens] == list("3175098246")
    assert [(t.recording.name, t.recording.speaker, t.recording.split) for t in tokens][2:6] == [
        ("a.wav#3", "ann", "train"),
        ("b c/ß.wav#1", "bob", "train"),
        ("b c/ß.wav#2", "bob", "train"),
        ("c.wav#1", "eve", "test"),
    ]
    known = np.concatenate([string.heard for string in spoken])
    found = np.array([(t.recording.start, t.recording.end) for t in tokens])
    assert np.median(np.abs(found - known)) <= 0.050
    assert not (tmp_path / "cache").exists()


def test_unusable_utterances_are_left_out(folder):
    """A file without digits is not opened."""
    text = f"{RIGHT}a.wav,eve,test,six\n./a.wav,eve,test,six\ncopy.wav,eve,test,six\n"
    text += "gone.wav,eve,test,six\nhello.wav,eve,test,hello\nqx.wav,eve,test,six qxzzy 7\n"
    text += "short.wav,eve,test,six six six six six\nslow.wav,eve,test,six\n"
    (folder / "copy.wav").write_bytes((folder / "a.wav").read_bytes())
    rng = np.random.default_rng(0)
    soundfile.write(folder / "qx.wav", rng.normal(0, 0.1, 8000), 16000)
    soundfile.write(folder / "short.wav", rng.normal(0, 0.1, 3000), 16000)
    soundfile.write(folder / "slow.wav", rng.normal(0, 0.1, 8000), 8000)
    utterances, _ = read_transcripts(_write(folder, text))
    tokens, problems = align_utterances(utterances, digit_class("zero"), required_rate=16000)
    assert len(tokens) == 10
    assert {(p.name, p.kind) for p in problems} == {
        ("a.wav", "duplicate"),
        ("./a.wav", "duplicate"),
        ("copy.wav", "duplicate"),
        ("gone.wav", "missing"),
        ("qx.wav", "unknown word"),
        ("short.wav", "not aligned"),
        ("slow.wav", "wrong rate"),
    }


def _run(*arguments) -> int:
    return align.main([str(argument) for argument in arguments])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_command_writes_a_manifest(folder, capsys):
    out = folder / "new" / "digits.csv"
    assert _run(_write(folder), "--root", folder, "--out", out) == 0
    rows = _rows(out)
    assert list(rows[0]) == ["path", "label", "speaker", "split", "start", "end", "score", "word"]
    assert [row["label"] for row in rows] == list("3175098246")
    assert (rows[4]["path"], rows[4]["word"]) == ("b c/ß.wav", "oh")
    assert all(len(row[c].partition(".")[2]) == 3 for row in rows for c in ("start", "end"))
    printed = capsys.readouterr().out
    assert "10 words in 4 utterances" in printed
    assert "WARNING: 1 speakers are in both splits: ann" in printed
    assert "left out: 0" in printed
    assert f"--dataset manifest:{out} --manifest-root {folder}\n" in printed

    corpus = manifest_corpus(out, folder)
    assert corpus.problems == ()
    assert [r.label for r in corpus.recordings] == list("3175098246")
    samples, rate = corpus.recordings[3].read()
    length = float(rows[3]["end"]) - float(rows[3]["start"])
    assert len(samples) == pytest.approx(length * rate, abs=1)

    words = folder / "words.csv"
    assert _run(_write(folder), "--out", words, "--words", "all") == 0
    assert [row["label"] for row in _rows(words)][:5] == ["three", "one", "seven", "five", "oh"]
    assert f"--dataset manifest:{words}\n" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--out", "transcripts.csv"], ["--out", "."], []])
def test_wrong_usage(folder, monkeypatch, options, capsys):
    path = _write(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as caught:
        _run("transcripts.csv", *options)
    assert caught.value.code == 2
    assert path.read_text("utf-8") == RIGHT
    assert capsys.readouterr().err


def test_problems_are_printed(folder, capsys):
    out = folder / "digits.csv"
    text = RIGHT.replace("four six", "qxzzy six") + "gone.wav,eve,dev,six\nx.wav,eve,test,6 2 4\n"
    options = (_write(folder, text), "--out", out, "--oh", "drop")
    assert _run(*options, "--strict") == 1
    assert "error: --strict: transcripts.csv:6: unknown split 'dev'" in capsys.readouterr().err
    assert not out.exists()
    assert _run(*options) == 0
    assert [row["label"] for row in _rows(out)] == list("3175982")
    printed = capsys.readouterr().out
    assert "left out: 3, 2 unknown word, 1 unknown split" in printed
    assert "d.wav: 'qxzzy' is not in the pronunciation dictionary" in printed
    assert "x.wav: write numbers as words, not '6 2 4'" in printed


def test_errors(folder, capsys, monkeypatch):
    assert _run(folder / "nothing.csv", "--out", folder / "a.csv") == 1
    assert "nothing.csv: cannot be read" in capsys.readouterr().err
    table = _write(folder, "path,speaker,split,transcript\na.wav,ann,train,hello\n")
    assert _run(table, "--out", folder / "a.csv") == 1
    assert "no word could be listed from 1 transcripts" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert _run(_write(folder), "--out", folder / "a.csv") == 1
    assert "pip install pocketsphinx" in capsys.readouterr().err
