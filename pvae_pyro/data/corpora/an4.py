"""AN4 (CMU, 1991): spelled names, numbers and commands, 16 kHz; its digits, found by alignment.

Acero, Acoustical and Environmental Robustness in Automatic Speech Recognition, 1993. Free for any
use, http://www.speech.cs.cmu.edu/databases/an4/. Nothing is downloaded.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pvae_pyro.data.alignment.aligner import aligner
from pvae_pyro.data.alignment.forced import Utterance
from pvae_pyro.data.alignment.transcripts import (
    align_utterances,
    digit_class,
    read_transcripts,
    spoken_words,
)
from pvae_pyro.data.corpus import SPLITS, CorpusError, CorpusMissing, Problem
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.text_file import read_text
from pvae_pyro.errors import shown

SAMPLE_RATE = 16000

# Lines of an4_train.fileids and of an4_train.transcription. These are not in the same order.
_FILE = re.compile(r"[\w-]+/(?P<speaker>[\w-]+)/(?P<id>[\w-]+)")
_TRANSCRIPT = re.compile(r"(?:<s>)?(?P<words>[^<>()]*)(?:</s>)?\s*\((?P<id>[\w-]+)\)")


def an4_corpus(
    root: str | os.PathLike[str],
    oh: str = "zero",
    cache_dir: str | os.PathLike[str] | None = None,
) -> SpeechCorpus:
    """The digits in the utterances of ``<root>/an4``, in AN4's own split.

    The folder is as CMU packs it, ``etc/an4_{train,test}.{fileids,transcription}`` and
    ``wav/an4_clstk/<speaker>/<id>.sph``, or has a list ``utterances.csv`` (`read_transcripts`).

    oh: the word "oh" is ``zero`` (class 0), left out (``drop``), or class "o" (``separate``). The
        letter "o" of a spelled name is no digit, nor is a part of a number ("sixty").
    cache_dir: as of `align_all`; aligning takes half a minute, once.

    Names are ``fash/an255-fash-b#6``: speaker, utterance, place of the word from 1. Where words
    begin and end is an estimate (`align_words`). What the lists have and is missing, cannot be
    read or cannot be aligned is among the problems.

    Raises `CorpusMissing` when it is not there, `CorpusError` for lists that cannot be read or
    have no digits, and when pocketsphinx is not installed.
    """
    folder = Path(root) / "an4"
    if (table := folder / "utterances.csv").is_file():
        utterances, problems = read_transcripts(table)
        utterances = [_renamed(utterance) for utterance in utterances]
    elif (folder / "etc").is_dir():
        utterances, problems = _read_lists(folder)
    else:
        raise CorpusMissing(
            f"{shown(folder)} has neither utterances.csv nor the folder etc: unpack "
            "an4_sphere.tar.gz of http://www.speech.cs.cmu.edu/databases/an4/ there"
        )
    tokens, not_aligned = align_utterances(
        utterances, digit_class(oh), cache_dir, required_rate=SAMPLE_RATE
    )
    if not tokens:
        reason = f"; the first problem: {not_aligned[0].reason}" if not_aligned else ""
        raise CorpusError(f"{shown(folder)}: no digit can be used{reason}")
    recordings = [token.recording for token in tokens]
    number = len({recording.speaker for recording in recordings})
    notes = [f"{len(tokens):,} digits of {number} speakers, found with {aligner()}"]
    problems += not_aligned
    return list_corpus(
        "AN4", SAMPLE_RATE, recordings, problems, notes=notes, required_rate=SAMPLE_RATE
    )


def _renamed(utterance: Utterance) -> Utterance:
    recording = utterance.recording
    name = f"{recording.speaker}/{recording.path.stem}"
    return replace(utterance, recording=replace(recording, name=name))


def _read_lists(folder: Path) -> tuple[list[Utterance], list[Problem]]:
    utterances: list[Utterance] = []
    problems: list[Problem] = []
    for split in SPLITS:
        transcripts: dict[str, str] = {}
        for where, line in _lines(folder / "etc" / f"an4_{split}.transcription"):
            if match := _TRANSCRIPT.fullmatch(line):
                transcripts[match["id"]] = match["words"]
            else:
                reason = f"{where}: is not a transcript, words and (utterance): {line!r}"
                problems.append(Problem(where, "transcript", reason))
        for where, line in _lines(folder / "etc" / f"an4_{split}.fileids"):
            match = _FILE.fullmatch(line)
            if match is None:
                reason = f"{where}: is not a file folder/speaker/utterance: {line!r}"
                problems.append(Problem(where, "name", reason))
            elif match["id"] not in transcripts:
                reason = f"{where}: {match['id']} has no transcript"
                problems.append(Problem(f"{match['speaker']}/{match['id']}", "transcript", reason))
            else:
                path, speaker = folder / "wav" / f"{line}.sph", match["speaker"]
                recording = Recording(path, f"{speaker}/{match['id']}", "", speaker, split)
                words = spoken_words(transcripts[match["id"]])
                utterances.append(Utterance(recording, words))
    return utterances, problems


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Name and number of each line that is not empty, and the line."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield f"{path.name}:{number}", line.strip()
