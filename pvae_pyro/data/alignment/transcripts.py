"""Transcribed utterances are cut into words by forced alignment."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvae_pyro.data.alignment.forced import AlignedWord, Request, align_all
from pvae_pyro.data.corpora.digit_words import WORDS, digit_label
from pvae_pyro.data.corpus import Problem, Split
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording
from pvae_pyro.data.table import read_table
from pvae_pyro.errors import shown

_RATE = 16000  # Hz; it has no effect, because no features are computed here
_COLUMNS = ("path", "speaker", "split", "transcript")
_PUNCTUATION = ",.;:!?\"'“”()"
_DIGIT_WORDS = frozenset(WORDS.values())


@dataclass(frozen=True)
class Utterance:
    """A file and the words that are said in it, in lower case; its name is unique."""

    path: Path
    name: str
    speaker: str
    split: Split
    words: tuple[str, ...]


@dataclass(frozen=True)
class Token:
    """A word of an utterance: a recording for a corpus, and what the alignment gave."""

    recording: Recording
    aligned: AlignedWord


def read_transcripts(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None
) -> tuple[list[Utterance], list[Problem]]:
    """Utterances of a CSV file with the columns ``path,speaker,split,transcript``, and problems.

    Case and punctuation around words do not matter. An utterance's name is its path as written.

    root: the folder that paths are relative to and may not leave; None is the file's own folder.

    Problems are of the kinds of `read_table` and ``"transcript"`` (without a word). Raises
    `CorpusError` as `read_table` does.
    """
    rows, problems, _ = read_table(path, _COLUMNS, root)
    utterances = []
    for row in rows:
        fields = row.fields
        if words := spoken_words(fields["transcript"]):
            speaker = fields["speaker"]
            utterances.append(Utterance(row.path, fields["path"], speaker, row.split, words))
        else:
            reason = f"{row.name}: there is no word in {fields['transcript']!r}"
            problems.append(Problem(row.name, "transcript", reason))
    return utterances, problems


def spoken_words(transcript: str) -> tuple[str, ...]:
    """The words of a transcript, in lower case and without punctuation around them."""
    words = (word.strip(_PUNCTUATION) for word in transcript.lower().split())
    return tuple(word for word in words if word)


def digit_class(oh: str) -> Callable[[str], str | None]:
    """A function from a word to its class (`digit_label`), or None if it is not a digit.

    The letter "o" is not "oh", and "sixty" is not "six".
    """
    return lambda word: digit_label(word, oh) if word in _DIGIT_WORDS else None


def align_utterances(
    utterances: Sequence[Utterance],
    label: Callable[[str], str | None],
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    required_rate: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[list[Token], list[Problem]]:
    """Those words of the utterances that have a label, in order, with their times; and problems.

    label: a function from a word to its class, or None to leave the word out. An utterance without
        a labelled word is not read.
    required_rate: the rate in Hz that every file must have; None is any.
    cache_dir, workers, progress: see `align_all`.

    The name of a token is ``<utterance>#<number of the word, from 1>``. Problems are a second
    transcript of the same name, files that `list_corpus` leaves out or that cannot be read, and
    words that cannot be aligned. Raises `CorpusError` if pocketsphinx is not installed.
    """
    wanted: dict[str, Utterance] = {}
    problems: list[Problem] = []
    for utterance in utterances:
        if all(label(word) is None for word in utterance.words):
            continue
        if wanted.setdefault(utterance.name, utterance) is not utterance:
            reason = f"{shown(utterance.path)}: there are two transcripts of {utterance.name}"
            problems.append(Problem(utterance.name, "duplicate", reason))
    whole = [Recording(u.path, u.name, "", u.speaker, u.split) for u in wanted.values()]
    corpus = list_corpus(
        "transcripts", _RATE, whole, required_rate=required_rate, progress=progress
    )
    requests = [Request(r, wanted[r.name].words) for r in corpus.recordings]
    tokens: list[Token] = []
    problems += corpus.problems
    for request, result in zip(
        requests, align_all(requests, cache_dir, workers, progress), strict=True
    ):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            tokens += _tokens(wanted[request.recording.name], result, label)
    return tokens, problems


def speakers_in_both(spoken: Iterable[Utterance | Recording]) -> list[str]:
    """The speakers of the training partition that are in the test partition as well."""
    pairs = {(item.speaker, item.split) for item in spoken}
    return sorted(name for name, split in pairs if split == "train" and (name, "test") in pairs)


def _tokens(
    utterance: Utterance, aligned: Sequence[AlignedWord], label: Callable[[str], str | None]
) -> Iterator[Token]:
    for place, word in enumerate(aligned, 1):
        if (name := label(word.word)) is not None:
            recording = Recording(
                utterance.path,
                f"{utterance.name}#{place}",
                name,
                utterance.speaker,
                utterance.split,
                word.start,
                word.end,
            )
            yield Token(recording, word)
