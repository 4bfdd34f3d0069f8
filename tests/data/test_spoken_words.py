"""Multilingual Spoken Words: the table decides; its statements are checked."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.corpora.spoken_words import DIGITS, spoken_words_corpus
from pvae_pyro.data.corpus import CorpusError, CorpusMissing

HEADER = ["SET", "LINK", "WORD", "VALID", "SPEAKER", "GENDER"]
SPANISH = DIGITS["es"].split()
RATE = 48000


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Ogg Opus files, as the corpus has them, no two alike."""
    made = []
    for n in range(26):
        path = tmp_path_factory.mktemp("clips") / "clip.opus"
        sound = 0.3 * np.sin(2 * np.pi * (300 + 20 * n) * np.arange(RATE // 10) / RATE)
        soundfile.write(path, sound, RATE, format="OGG", subtype="OPUS")
        made.append(path.read_bytes())
    return made


class Corpus:
    """`<root>/mswc/<language>`, to which rows and their clips are added."""

    def __init__(self, root: Path, clips: list[bytes], language: str = "es", top: str = "mswc"):
        self.folder = root / top / language
        self.table = self.folder / f"{language}_splits.csv"
        self.rows = [HEADER]
        self.unused = list(clips)
        (self.folder / "clips").mkdir(parents=True)

    def add(self, part: str, word: str, valid="True", speaker="ana", link=None, clip=True) -> str:
        name = link or f"{word}/common_voice_es_{len(self.rows)}.opus"
        self.rows.append([part, name, word, valid, speaker, "FEMALE"])
        if clip:
            path = self.folder / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.unused.pop())
        self.write()
        return name

    def write(self) -> None:
        with self.table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(self.rows)


@pytest.fixture
def corpus(tmp_path: Path, clips: list[bytes]) -> Corpus:
    """Every digit once to train and once to test."""
    made = Corpus(tmp_path, clips)
    for word in SPANISH:
        made.add("TRAIN", word, speaker="ana")
        made.add("TEST", word, speaker="eva")
    return made


def _found(tmp_path: Path, **options) -> list[tuple[str, str, str]]:
    recordings = spoken_words_corpus(tmp_path, **options).recordings
    return [(r.label, r.speaker, r.split) for r in recordings]


def test_digits(corpus: Corpus, tmp_path: Path):
    found = spoken_words_corpus(tmp_path)
    assert (found.stand_in, found.sample_rate) == (False, 16000)
    assert found.name == "Multilingual Spoken Words (es, 10 words)"
    assert (found.problems, found.notes) == ((), ())
    assert _found(tmp_path) == [
        (str(digit), *of) for digit in range(10) for of in (("ana", "train"), ("eva", "test"))
    ]
    assert found.recordings[0].name == corpus.rows[1][1] == "cero/common_voice_es_1.opus"
    samples, rate = found.recordings[0].read()
    assert (len(samples), rate) == (RATE // 10, RATE)
    assert 0.2 < np.abs(samples).max() < 0.5


def test_words(corpus: Corpus, tmp_path: Path):
    corpus.add("TRAIN", "casa", speaker="leo")
    corpus.add("TEST", "perro", speaker="eva")
    corpus.add("TEST", "gato")
    found = spoken_words_corpus(tmp_path, words=("Perro", "casa", "uno"))
    assert [(r.label, r.speaker, r.split) for r in found.recordings] == [
        ("uno", "ana", "train"),
        ("uno", "eva", "test"),
        ("casa", "leo", "train"),
        ("Perro", "eva", "test"),
    ]
    assert found.notes == (
        "there is no train recording of perro",
        "there is no test recording of casa",
    )


def test_left_out_and_noted(corpus: Corpus, tmp_path: Path):
    before = _found(tmp_path)
    corpus.add("DEV", "dos")
    corpus.add("DEV", "tres")
    corpus.add("TRAIN", "dos", valid="False")
    corpus.add("TRAIN", "casa", valid="False")
    assert _found(tmp_path) == before
    assert sorted(spoken_words_corpus(tmp_path).notes) == [
        "1 recordings that are not VALID are left out",
        "2 recordings of the DEV set are left out",
    ]


def test_no_word_at_all(corpus: Corpus, tmp_path: Path):
    with pytest.raises(CorpusError, match=r"es_splits\.csv: has no usable recording of gato"):
        spoken_words_corpus(tmp_path, words=["gato"])


ESCAPING = ["../../../evil.opus", "/etc/hostname", "uno/../../x.opus", "link/evil.opus"]
ROWS = {
    **{link: (["TRAIN", link, "uno", "True", "ana", ""], "escapes its root") for link in ESCAPING},
    "missing clip": (["TRAIN", "uno/none.opus", "uno", "True", "ana", ""], "missing"),
    "no clip": (["TRAIN", "", "uno", "True", "ana", ""], "unreadable"),
    "another set": (["OTHER", "uno/x.opus", "uno", "True", "ana", ""], "unknown split"),
    "nobody": (["TRAIN", "uno/x.opus", "uno", "True", "NA", ""], "no speaker"),
    "too short": (["TRAIN", "uno/x.opus", "uno"], "row"),
    "too long": (["TRAIN", "uno/x.opus", "uno", "True", "ana", "", "more"], "row"),
}


@pytest.mark.parametrize("case", ROWS)
def test_problems(corpus: Corpus, tmp_path: Path, case: str):
    before = _found(tmp_path)
    row, kind = ROWS[case]
    (tmp_path / "evil.opus").write_bytes(corpus.unused.pop())
    (corpus.folder / "clips" / "link").symlink_to(tmp_path)
    corpus.rows.append(row)
    corpus.write()
    found = spoken_words_corpus(tmp_path)
    assert _found(tmp_path) == before
    (problem,) = found.problems
    assert problem.kind == kind
    # Where there is a path to name, it is the file's; else the table's line.
    message = (
        row[1] if kind == "missing" else "clips" if kind == "unreadable" else "es_splits.csv:22"
    )
    assert message in problem.reason


TABLES = {
    "no column": (b"SET,LINK,WORD,SPEAKER\n", "has no column VALID"),
    "only a header": (b"SET,LINK,WORD,VALID,SPEAKER,GENDER\n", "has no usable recording"),
    "not UTF-8": (b"SET,LINK,WORD,VALID,SPEAKER,GENDER\n\xff\xfe", "cannot be read"),
    "one field without end": (
        b'SET,LINK,WORD,VALID,SPEAKER,GENDER\n"' + b"TRAIN\n" * 50_000,
        "cannot be read .*field",
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_used(corpus: Corpus, tmp_path: Path, case: str):
    content, message = TABLES[case]
    corpus.table.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"es_splits\.csv: {message}"):
        spoken_words_corpus(tmp_path)


@pytest.mark.parametrize("there", ["nothing", "table", "clips"])
def test_absent(corpus: Corpus, tmp_path: Path, there: str):
    if there != "table":
        corpus.table.unlink()
    if there != "clips":
        (corpus.folder / "clips").rename(corpus.folder / "other")
    message = r"mswc/es has no es_splits\.csv with a folder clips .*/audio/es\.tar\.gz"
    with pytest.raises(CorpusMissing, match=message):
        spoken_words_corpus(tmp_path)


def test_unknown_digits(tmp_path: Path):
    with pytest.raises(CorpusError, match="language 'eo' are not known, only those of ca, de, en"):
        spoken_words_corpus(tmp_path, "eo")
