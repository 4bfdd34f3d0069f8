"""Spoken words, by a corpus's name, become a column of log-Mel features."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.rates import at_lowest_rate
from pvae_pyro.data.audio.voice_activity import VoiceActivity, trimmed
from pvae_pyro.data.bounds import bounded
from pvae_pyro.data.column import Column, fitted, refuse_empty
from pvae_pyro.data.corpora.registry import has_silence, speech_corpus
from pvae_pyro.data.corpus import CorpusError, Problem, Recording, SpeechCorpus, Split
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.features import RaggedFeatures, corpus_features
from pvae_pyro.data.listing import by_file
from pvae_pyro.data.summary import problem_lines, summarise_speech
from pvae_pyro.data.table import SPLITS

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 0.03, 3.0  # seconds of a word


def speech_column(
    dataset: str,
    root: Path,
    *,
    require_corpus: bool = False,
    strict: bool = False,
    **options: Any,
) -> Column:
    """The corpus of that name; features are computed once, then cached.

    options: further arguments of `open_speech`, which raises what this raises; CorpusError too
    where a partition is empty.
    """
    corpus = open_speech(dataset, root, require_corpus=require_corpus, strict=strict, **options)
    corpus, features = load_features(corpus, strict)
    tell_problems(corpus.name, corpus.problems)
    remarks = tell_remarks(summarise_speech(corpus, features.of))
    kept = [corpus.recordings[n] for n in features.of.index]
    classes = tuple(sorted({recording.label for recording in kept}))
    return Column(
        corpus.name,
        corpus.stand_in,
        classes,
        _examples(corpus.name, kept, features, classes),
        corpus.problems,
        remarks,
        LogMel(corpus.sample_rate),
    )


def open_speech(
    dataset: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    *,
    trim: bool | None = None,
    vad: VoiceActivity | None = None,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
    require_corpus: bool = False,
    strict: bool = False,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
) -> SpeechCorpus:
    """The corpus of that name, as it is to be used; the training partition comes first.

    The parts of a file stand side by side, in the order of the files' first ones.

    options: of the corpus (`speech_corpus`).
    trim: cut silence off the ends; None is where the corpus is known to need it.
    vad: how that is done; None is `VoiceActivity`'s own parameters.
    shortest, longest: in seconds; others are problems.
    strict: raise CorpusError at the first problem instead of leaving it out.
    classes: these labels alone; CorpusError if there is no such label.
    limit: at most so many recordings of each class and partition, for trials.

    Raises CorpusError when it is missing or damaged, or nothing of it can be used.
    """
    corpus = speech_corpus(dataset, root, options or {}, require_corpus=require_corpus)
    refuse_problems(corpus.problems, strict)
    _refuse_nothing(corpus)
    if classes is not None:
        corpus = _of_classes(corpus, classes)
    if trim or (trim is None and has_silence(dataset) and not corpus.stand_in):
        corpus = trimmed(corpus, vad or VoiceActivity())
    corpus = _limited(at_lowest_rate(bounded(corpus, shortest, longest)), limit)
    # Each partition is one piece of memory; in it a file with many parts is decoded once.
    ordered = [
        recording
        for split in SPLITS
        for recording in by_file(r for r in corpus.recordings if r.split == split)
    ]
    return replace(corpus, recordings=tuple(ordered))


def load_features(corpus: SpeechCorpus, strict: bool) -> tuple[SpeechCorpus, RaggedFeatures]:
    """The corpus with what reading it brought to light, and the features of the rest."""
    features = corpus_features(corpus, LogMel(corpus.sample_rate), on_error="skip")
    refuse_problems(features.of.skipped, strict)
    return replace(corpus, problems=(*corpus.problems, *features.of.skipped)), features


def refuse_problems(problems: Sequence[Problem], strict: bool) -> None:
    """With `strict`, raise CorpusError for the first problem, if there is one."""
    if strict and problems:
        raise CorpusError(f"--strict: {problems[0].reason}")


def tell_problems(name: str, problems: Sequence[Problem]) -> None:
    """Log what of a corpus was left out, if anything was."""
    if problems:
        told = [(problem.kind, problem.reason) for problem in problems]
        more_in = "the report of experiments/prepare.py"
        log.warning("\n".join([f"{name}:", *problem_lines(told, more_in)]))


def tell_remarks(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The notes and warnings of a corpus's summary, logged."""
    remarks = (*summary["notes"], *(f"WARNING: {told}" for told in summary["warnings"]))
    for remark in remarks:
        log.info(f"{summary['corpus']}: {remark}")
    return remarks


def _examples(
    name: str, kept: Sequence[Recording], features: RaggedFeatures, classes: Sequence[str]
) -> dict[Split, Examples]:
    splits = [recording.split for recording in kept]
    boundary = splits.count("train")
    if splits != ["train"] * boundary + ["test"] * (len(kept) - boundary):
        raise ValueError("the training partition must come first")
    sizes = boundary, len(kept) - boundary
    for split, size in zip(SPLITS, sizes, strict=True):
        refuse_empty(name, split, size)
    # Per Mel filter, on the training partition (the convention of the author's other work).
    normalisation = fitted(features.frames[: features.offsets[boundary]])
    partitions: dict[Split, slice] = {
        "train": slice(0, boundary),
        "test": slice(boundary, len(kept)),
    }
    examples: dict[Split, Examples] = {}
    for split, part in partitions.items():
        offsets = features.offsets[part.start : part.stop + 1]
        examples[split] = Examples(
            features.frames[offsets[0] : offsets[-1]],  # a view: it is most of the memory
            np.array([classes.index(recording.label) for recording in kept[part]]),
            normalisation,
            offsets - offsets[0],
            [recording.name for recording in kept[part]],
            [recording.speaker for recording in kept[part]],
        )
    return examples


def _refuse_nothing(corpus: SpeechCorpus) -> None:
    if not corpus.recordings:
        raise CorpusError(f"{corpus.name}: nothing can be used{_the_first(corpus.problems)}")


def _the_first(problems: Sequence[Problem]) -> str:
    if not problems:
        return ""
    return f"; the first of {len(problems)} problems: {problems[0].reason}"


def _of_classes(corpus: SpeechCorpus, classes: Sequence[str]) -> SpeechCorpus:
    there = {recording.label for recording in corpus.recordings}
    if unknown := sorted(set(classes) - there):
        raise CorpusError(
            f"{corpus.name}: no recording of class {', '.join(unknown)}; there are "
            f"{', '.join(sorted(there)) or 'none'}{_the_first(corpus.problems)}"
        )
    kept = tuple(recording for recording in corpus.recordings if recording.label in classes)
    return replace(
        corpus,
        recordings=kept,
        notes=(*corpus.notes, f"only the classes {', '.join(sorted(set(classes)))}"),
    )


def _limited(corpus: SpeechCorpus, limit: int | None) -> SpeechCorpus:
    """At most `limit` recordings of each class and partition, spread over the speakers.

    Before features are computed, so that a trial is quick.
    """
    if limit is None:
        return corpus
    groups: dict[tuple[str, str], list[Recording]] = {}
    for recording in corpus.recordings:
        groups.setdefault((recording.split, recording.label), []).append(recording)
    rng = np.random.default_rng(0)
    kept = [
        group[n]
        for group in groups.values()
        for n in sorted(rng.permutation(len(group))[:limit].tolist())
    ]
    return replace(corpus, recordings=tuple(kept))
