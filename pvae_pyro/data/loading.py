"""Corpora by name, as columns of examples: speech as log-Mel features, and images."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.rates import at_lowest_rate
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpora.registry import has_silence, image_corpus, speech_corpus
from pvae_pyro.data.corpus import SPLITS, CorpusError, ImageCorpus, Problem, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.features import compute_features, refuse_problems
from pvae_pyro.data.joining import join
from pvae_pyro.data.paired import PairedData, column
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.summary import problem_lines, summarise_images, summarise_speech

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 0.03, 3.0  # seconds of a word


def load_paired(
    dataset: str,
    root: Path,
    *,
    image_dataset: str = "mnist",
    image_options: Mapping[str, Any] | None = None,
    require_corpus: bool = False,
    strict: bool = False,
    **speech: Any,
) -> PairedData:
    """Speech and images of the same classes, those of the speech (`join`).

    dataset, image_dataset: names of the `registry`, or ``manifest:FILE.csv``.
    root: the folder of the corpora, to which they are downloaded.
    require_corpus: raise CorpusError instead of using a stand-in, for speech or images.
    speech: further arguments of `open_speech`.

    Raises CorpusError as `speech_column`, `image_column` and `join` do.
    """
    given = {"require_corpus": require_corpus, "strict": strict}
    columns = {
        "speech": speech_column(dataset, root, **given, **speech),
        "image": image_column(image_dataset, root, image_options, strict=strict),
    }
    return join(columns, require_corpus=require_corpus)


def speech_column(
    dataset: str,
    root: Path,
    *,
    require_corpus: bool = False,
    strict: bool = False,
    **options: Any,
) -> PairedData:
    """The speech corpus of that name; its features are computed once, then cached.

    options: further arguments of `open_speech`.

    Raises CorpusError as `open_speech` does, and if a partition is empty.
    """
    corpus = open_speech(dataset, root, require_corpus=require_corpus, strict=strict, **options)
    corpus, examples, remarks = speech_examples(corpus, strict=strict)
    log_problems(corpus.name, corpus.problems)
    classes = _classes(corpus)
    log_mel = LogMel(corpus.sample_rate)
    return column(
        corpus.name, corpus.stand_in, classes, examples, corpus.problems, remarks, log_mel
    )


def speech_examples(
    corpus: SpeechCorpus, *, strict: bool = False, workers: int | None = None
) -> tuple[SpeechCorpus, dict[Split, Examples], tuple[str, ...]]:
    """The features of a corpus (`compute_features`), of each partition, and remarks on them.

    corpus: as `ready` returns it. The one that is returned has the recordings that can be used.
    """
    frames = np.empty((0, LogMel(corpus.sample_rate).num_mels), np.float32)

    def append(shard: np.ndarray) -> None:
        # Grown in place: joining a list of shards at the end would take twice the memory.
        start = len(frames)
        frames.resize((start + len(shard), frames.shape[1]), refcheck=False)
        frames[start:] = shard

    corpus, statistics = compute_features(corpus, strict=strict, workers=workers, keep=append)
    remarks = log_remarks(summarise_speech(corpus, statistics))
    offsets = np.concatenate([[0], statistics["lengths"].cumsum()])
    return corpus, _partitions(corpus.recordings, _classes(corpus), frames, offsets), remarks


def _classes(corpus: SpeechCorpus) -> tuple[str, ...]:
    return tuple(sorted({recording.label for recording in corpus.recordings}))


def _partitions(
    recordings: Sequence[Recording],
    classes: Sequence[str],
    frames: np.ndarray,
    offsets: np.ndarray,
) -> dict[Split, Examples]:
    """Views of the frames ``[sum of T, F]``; training recordings come first (`open_speech`)."""
    boundary = sum(recording.split == "train" for recording in recordings)
    # Per Mel filter, on the training partition (the convention of the author's other work).
    normalisation = Normalisation.fitted(frames[: offsets[boundary]])
    labels = np.array([classes.index(recording.label) for recording in recordings])
    partitions: dict[Split, Examples] = {}
    for split in SPLITS:
        start, stop = (0, boundary) if split == "train" else (boundary, len(recordings))
        some = offsets[start : stop + 1]
        partitions[split] = Examples(
            frames[some[0] : some[-1]],
            labels[start:stop],
            normalisation,
            some - some[0],
            [recording.name for recording in recordings[start:stop]],
            [recording.speaker for recording in recordings[start:stop]],
        )
    return partitions


def image_column(
    dataset: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
    classes: Sequence[str] | None = None,
) -> PairedData:
    """The images of that name (`image_corpus`), with pixels from 0 to 1.

    strict: raise CorpusError at the first problem instead of leaving it out.
    classes: these labels alone; None is all.

    Raises CorpusError as `image_corpus` does, for an unknown class, and if a partition is empty.
    """
    corpus = image_corpus(dataset, root, options or {})
    refuse_problems(corpus.problems, strict)
    log_problems(corpus.name, corpus.problems)
    remarks = log_remarks(summarise_images(corpus))
    names, examples = image_examples(corpus)
    data = column(corpus.name, corpus.stand_in, names, examples, corpus.problems, remarks)
    return data if classes is None else data.only(sorted(set(classes)))


def image_examples(corpus: ImageCorpus) -> tuple[tuple[str, ...], dict[Split, Examples]]:
    """The names of the classes, and the images of each partition, with pixels from 0 to 1."""
    names = tuple(sorted({label for of in corpus.labels.values() for label in of.tolist()}))
    pixels = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    examples: dict[Split, Examples] = {
        split: Examples(
            corpus.images[split],
            np.searchsorted(np.array(names), corpus.labels[split]),
            pixels,
        )
        for split in SPLITS
    }
    return names, examples


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
    """The speech corpus of that name, ready to be read; the training recordings come first.

    The parts of one file are adjacent, so that the file is decoded once.

    options: of the corpus (`speech_corpus`).
    trim: cut silence off the ends; None does so for corpora that are known to need it.
    vad: how silence is found; None is `VoiceActivity`'s own parameters.
    shortest, longest: in seconds; recordings of other durations are problems.
    strict: raise CorpusError at the first problem instead of leaving it out.
    classes: these labels alone.
    limit: at most so many recordings of each class and partition, for trials.

    Raises CorpusError for an unknown class, a corpus that is missing or damaged, or if nothing of
    it can be used; ValueError unless 0 <= shortest < longest.
    """
    if not 0 <= shortest < longest:
        raise ValueError(f"expected 0 <= shortest < longest, got {shortest} and {longest} s")
    corpus = speech_corpus(dataset, root, options or {}, require_corpus=require_corpus)
    refuse_problems(corpus.problems, strict)
    if not corpus.recordings:
        raise CorpusError(f"{corpus.name}: nothing can be used{first_of(corpus.problems)}")
    if classes is not None:
        corpus = _of_classes(corpus, classes)
    if trim is None:
        trim = has_silence(dataset) and not corpus.stand_in
    return ready(corpus, trim, vad, shortest, longest, limit)


def ready(
    corpus: SpeechCorpus,
    trim: bool | None = None,
    vad: VoiceActivity | None = None,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
    limit: int | None = None,
) -> SpeechCorpus:
    """The last steps of `open_speech`, whose arguments these are: a corpus that can be read."""
    if trim:
        vad = vad or VoiceActivity()
        note = f"Silence at the ends of recordings is cut off: {vad}."
        corpus = replace(corpus, trim=vad, notes=(*corpus.notes, note))
    corpus = at_lowest_rate(replace(corpus, shortest=shortest, longest=longest))
    recordings = corpus.recordings if limit is None else _limited(corpus.recordings, limit)
    ordered = sorted(recordings, key=lambda recording: SPLITS.index(recording.split))
    return replace(corpus, recordings=_by_file(ordered))


def _by_file(recordings: Iterable[Recording]) -> tuple[Recording, ...]:
    """Recordings with those of one file, channel and partition at the place of the first one."""
    files: dict[tuple[Any, ...], list[Recording]] = {}
    for recording in recordings:
        key = (recording.split, recording.path, recording.channel)
        files.setdefault(key, []).append(recording)
    return tuple(recording for of_file in files.values() for recording in of_file)


def log_problems(name: str, problems: Sequence[Problem]) -> None:
    """Log what of a corpus was left out, if anything was."""
    if problems:
        told = [(problem.kind, problem.reason) for problem in problems]
        more_in = "the report of experiments/prepare.py"
        log.warning("\n".join([f"{name}:", *problem_lines(told, more_in)]))


def log_remarks(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Log the notes and warnings of a corpus's summary, and return them."""
    remarks = (*summary["notes"], *(f"WARNING: {warning}" for warning in summary["warnings"]))
    for remark in remarks:
        log.info(f"{summary['corpus']}: {remark}")
    return remarks


def first_of(problems: Sequence[Problem]) -> str:
    """The first of some problems, for the end of a message."""
    return f"; the first of {len(problems)} problems: {problems[0].reason}" if problems else ""


def _of_classes(corpus: SpeechCorpus, classes: Sequence[str]) -> SpeechCorpus:
    existing = {recording.label for recording in corpus.recordings}
    if unknown := sorted(set(classes) - existing):
        raise CorpusError(
            f"{corpus.name}: no recording of class {', '.join(unknown)}; there are "
            f"{', '.join(sorted(existing))}{first_of(corpus.problems)}"
        )
    kept = tuple(recording for recording in corpus.recordings if recording.label in classes)
    note = f"only the classes {', '.join(sorted(set(classes)))}"
    return replace(corpus, recordings=kept, notes=(*corpus.notes, note))


def _limited(recordings: Sequence[Recording], limit: int) -> list[Recording]:
    """At most `limit` recordings of each class and partition, at random but fixed."""
    groups: dict[tuple[str, str], list[Recording]] = {}
    for recording in recordings:
        groups.setdefault((recording.split, recording.label), []).append(recording)
    rng = np.random.default_rng(0)
    return [
        group[n]
        for group in groups.values()
        for n in sorted(rng.permutation(len(group))[:limit].tolist())
    ]
