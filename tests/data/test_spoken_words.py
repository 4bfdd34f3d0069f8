"""Multilingual Spoken Words: the table decides; its statements are checked."""

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
    """`<root>/mswc/es`, to which rows and their clips are added."""

    def __init__(self, root: Path, clips: list[bytes]):
        self.folder = root / "mswc" / "es"
        self.table = self.folder / "es_splits.csv"
        self.rows = [HEADER]
        self.unused = list(clips)
        (self.folder / "clips").mkdir(parents=True)

    def add(self, part: str, word: str, valid: str = "True", speaker: str = "ana") -> None:
        name = f"{word}/common_voice_es_{len(self.rows)}.opus"
        path = self.folder / "clips" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.unused.pop())
        self.add_row([part, name, word, valid, speaker, "FEMALE"])

    def add_row(self, row: list[str]) -> None:
        self.rows.append(row)
        self.table.write_text("".join(f"{','.join(row)}\n" for row in self.rows), "utf-8")


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


ESCAPING = ["../../../evil.opus", "link/evil.opus"]
ROWS = {
    **{link: (["TRAIN", link, "uno", "True", "ana", ""], "escapes its root") for link in ESCAPING},
    "missing clip": (["TRAIN", "uno/none.opus", "uno", "True", "ana", ""], "missing"),
    "another set": (["OTHER", "uno/x.opus", "uno", "True", "ana", ""], "unknown split"),
    "nobody": (["TRAIN", "uno/x.opus", "uno", "True", "NA", ""], "no speaker"),
    "too short": (["TRAIN", "uno/x.opus", "uno"], "row"),
}


@pytest.mark.parametrize("case", ROWS)
def test_problems(corpus: Corpus, tmp_path: Path, case: str):
    before = _found(tmp_path)
    row, kind = ROWS[case]
    (tmp_path / "evil.opus").write_bytes(corpus.unused.pop())
    (corpus.folder / "clips" / "link").symlink_to(tmp_path)
    corpus.add_row(row)
    found = spoken_words_corpus(tmp_path)
    assert _found(tmp_path) == before
    (problem,) = found.problems
    assert problem.kind == kind
    assert (row[1] if kind == "missing" else "es_splits.csv:22") in problem.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SET,LINK,WORD,SPEAKER\n", "has no column VALID"),
        (b"SET,LINK,WORD,VALID,SPEAKER,GENDER\n", "has no usable recording of cero, uno"),
        (b"SET,LINK,WORD,VALID,SPEAKER,GENDER\n\xff\xfe", "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(corpus: Corpus, tmp_path: Path, content: bytes, message: str):
    corpus.table.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"es_splits\.csv: {message}"):
        spoken_words_corpus(tmp_path)


def test_what_is_not_there(corpus: Corpus, tmp_path: Path):
    corpus.table.unlink()
    message = r"mswc/es has no es_splits\.csv with a folder clips .*/audio/es\.tar\.gz"
    with pytest.raises(CorpusMissing, match=message):
        spoken_words_corpus(tmp_path)
    with pytest.raises(CorpusError, match="language 'eo' are not known, only those of ca, de, en"):
        spoken_words_corpus(tmp_path, "eo")
