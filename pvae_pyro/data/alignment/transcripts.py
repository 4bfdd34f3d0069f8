"""Transcribed utterances are cut into words by forced alignment."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pvae_pyro.data.alignment.forced import AlignedWord, Utterance, align_all
from pvae_pyro.data.corpora.digit_words import WORDS, digit_label
from pvae_pyro.data.corpus import Problem
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording
from pvae_pyro.data.table import read_table
from pvae_pyro.errors import shown

_RATE = 16000  # Hz; it has no effect, because no features are computed here
_COLUMNS = ("path", "speaker", "split", "transcript")
_PUNCTUATION = ",.;:!?\"'“”()"
_DIGIT_WORDS = frozenset(WORDS.values())


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
            recording = Recording(row.path, fields["path"], "", speaker, row.split)
            utterances.append(Utterance(recording, words))
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
) -> tuple[list[Token], list[Problem]]:
    """Those words of the utterances that have a label, in order, with their times; and problems.

    label: a function from a word to its class, or None to leave the word out. An utterance without
        a labelled word is not read.
    required_rate: the rate in Hz that every file must have; None is any.
    cache_dir, workers: see `align_all`.

    The name of a token is ``<utterance>#<number of the word, from 1>``. Problems are a second
    transcript of the same name, files that `list_corpus` leaves out or that cannot be read, and
    words that cannot be aligned. Raises `CorpusError` if pocketsphinx is not installed.
    """
    wanted: dict[str, Utterance] = {}
    problems: list[Problem] = []
    for utterance in utterances:
        if all(label(word) is None for word in utterance.words):
            continue
        name = utterance.recording.name
        if wanted.setdefault(name, utterance) is not utterance:
            reason = f"{shown(utterance.recording.path)}: there are two transcripts of {name}"
            problems.append(Problem(name, "duplicate", reason))
    whole = [utterance.recording for utterance in wanted.values()]
    corpus = list_corpus("transcripts", _RATE, whole, required_rate=required_rate)
    listed = [Utterance(r, wanted[r.name].words) for r in corpus.recordings]
    tokens: list[Token] = []
    problems += corpus.problems
    results = align_all(listed, cache_dir, workers)
    for utterance, result in zip(listed, results, strict=True):
        if isinstance(result, Problem):
            problems.append(result)
        else:
            tokens += _tokens(wanted[utterance.recording.name].recording, result, label)
    return tokens, problems


def _tokens(
    whole: Recording, aligned: Sequence[AlignedWord], label: Callable[[str], str | None]
) -> Iterator[Token]:
    for number, word in enumerate(aligned, 1):
        if (of_class := label(word.word)) is not None:
            name = f"{whole.name}#{number}"
            part = replace(whole, name=name, label=of_class, start=word.start, end=word.end)
            yield Token(part, word)
