"""Multilingual Spoken Words (MLCommons): words in 50 languages, cut from read sentences.

One second each, Ogg Opus, CC BY 4.0, https://mlcommons.org/datasets/multilingual-spoken-words/.
Mazumder et al. 2021, "Multilingual Spoken Words Corpus", NeurIPS Datasets and Benchmarks.
"""

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pvae_pyro.data.corpus import SPLITS, CorpusError, CorpusMissing, Problem, Split
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.table import file_below
from pvae_pyro.errors import shown

# The digits from 0.
DIGITS = {
    "ca": "zero u dos tres quatre cinc sis set vuit nou",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "en": "zero one two three four five six seven eight nine",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
}
SAMPLE_RATE = 16000

_SPLITS: dict[str, Split] = {"TRAIN": "train", "TEST": "test"}
_COLUMNS = ("SET", "LINK", "WORD", "VALID", "SPEAKER")
_SOURCE = "https://mswc.mlcommons-storage.org"


def spoken_words_corpus(
    root: str | os.PathLike[str], language: str = "es", words: Sequence[str] | None = None
) -> SpeechCorpus:
    """Recordings of some words in ``<root>/mswc/<language>``, or ``<root>/mswc_microset/...``.

    language: the corpus's code, a folder with ``<language>_splits.csv`` (columns SET, LINK, WORD,
        VALID, SPEAKER, GENDER) and the sound in ``clips/<LINK>``.
    words: the classes, which are the labels. None is the language's digits, if they are in
        `DIGITS`, with labels "0" to "9". Case and Unicode normal form do not matter.

    Training and test are the corpus's TRAIN and TEST. Left out and noted: DEV, recordings that
    are not VALID, and which words have no recording (the shortest may lack: the 1 of Catalan,
    French and Portuguese). Left out as problems: missing clips, a LINK that leaves the folder, a
    row of another length, an unknown SET, no speaker. Features are at 16,000 Hz.

    Nothing is downloaded. Raises `CorpusMissing`, which says where to get it, when it is not
    there, `CorpusError` for a table that cannot be read or has none of the words.
    """
    labels = _labels(language, words)
    folder = _find(Path(root), language)
    recordings, problems, notes = _read_table(folder / f"{language}_splits.csv", labels)
    name = f"Multilingual Spoken Words ({language}, {len(set(labels.values()))} words)"
    return list_corpus(name, SAMPLE_RATE, recordings, problems, notes=notes)


def _labels(language: str, words: Sequence[str] | None) -> dict[str, str]:
    if words is not None:
        return {_normal(word): word for word in words}
    if language not in DIGITS:
        raise CorpusError(
            f"the digits of language {language!r} are not known, only those of "
            f"{', '.join(DIGITS)}: give the words"
        )
    return {_normal(word): str(digit) for digit, word in enumerate(DIGITS[language].split())}


def _normal(word: str) -> str:
    return unicodedata.normalize("NFC", word.strip().lower())


def _find(root: Path, language: str) -> Path:
    folders = [root / name / language for name in ("mswc", "mswc_microset")]
    for folder in folders:
        if (folder / "clips").is_dir() and (folder / f"{language}_splits.csv").is_file():
            return folder
    raise CorpusMissing(
        f"{folders[0]} has no {language}_splits.csv with a folder clips beside it; unpack "
        f"{_SOURCE}/audio/{language}.tar.gz (several GB) in {folders[0].parent} and "
        f"{_SOURCE}/splits/{language}.tar.gz in {folders[0]}, or, for English and Spanish digits, "
        f"{_SOURCE}/mswc_microset.tar.gz (0.6 GB) in {root}"
    )


def _read_table(
    table: Path, labels: Mapping[str, str]
) -> tuple[list[Recording], list[Problem], list[str]]:
    recordings: list[Recording] = []
    problems: list[Problem] = []
    left_out: Counter[str] = Counter()
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [c for c in _COLUMNS if c not in (reader.fieldnames or [])]:
                raise CorpusError(f"{shown(table)}: has no column {', '.join(missing)}")
            for row in reader:
                line = f"{table.name}:{reader.line_num}"
                if None in row or None in row.values():
                    reason = f"{line}: has another number of fields than the header"
                    problems.append(Problem(line, "row", reason))
                elif _normal(row["WORD"]) not in labels:
                    continue
                elif row["VALID"].lower() != "true":
                    left_out["that are not VALID"] += 1
                elif row["SET"] == "DEV":
                    left_out["of the DEV set"] += 1
                else:
                    label = labels[_normal(row["WORD"])]
                    found = _recording(line, table.parent / "clips", row, label)
                    (problems if isinstance(found, Problem) else recordings).append(found)  # type: ignore[arg-type]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{shown(table)}: cannot be read ({error})") from error
    if not recordings:
        raise CorpusError(f"{shown(table)}: has no usable recording of {', '.join(labels)}")
    notes = [f"{count} recordings {what} are left out" for what, count in left_out.items()]
    present = {(recording.split, recording.label) for recording in recordings}
    for split in SPLITS:
        if lacking := [word for word, label in labels.items() if (split, label) not in present]:
            notes.append(f"there is no {split} recording of {', '.join(lacking)}")
    return recordings, problems, notes


def _recording(line: str, clips: Path, row: Mapping[str, str], label: str) -> Recording | Problem:
    link, speaker, split = row["LINK"], row["SPEAKER"], _SPLITS.get(row["SET"])
    if split is None:
        return Problem(line, "unknown split", f"{line}: unknown SET {row['SET']!r}")
    if speaker in ("", "NA"):
        return Problem(line, "no speaker", f"{line}: does not say who speaks")
    path = file_below(clips, link, line)
    return path if isinstance(path, Problem) else Recording(path, link, label, speaker, split)
