"""Two corpora, by name, become partitions of paired examples."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from pvae_pyro.data.bounds import bounded
from pvae_pyro.data.corpora.registry import has_silence, image_corpus, speech_corpus
from pvae_pyro.data.corpus import CorpusError, ImageCorpus, Problem, Recording, SpeechCorpus, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.features import RaggedFeatures, corpus_features
from pvae_pyro.data.log_mel import LogMel
from pvae_pyro.data.summary import problem_lines, summarise_speech
from pvae_pyro.data.table import SPLITS
from pvae_pyro.data.voice_activity import VoiceActivity, trimmed

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 0.03, 3.0  # seconds of a word
_CHUNK = 100_000  # frames, 32 MB


@dataclass(frozen=True)
class PairedData:
    """Two partitions of paired modalities, ready for a `PairedLoader`.

    corpus: what it is, for result files. stand_in: some part of it is not what was asked for.
    classes: the labels, in the order of the class indices.
    problems: what was left out, and why.
    remarks: what else is to be known of the speech and the images (`summarise_speech`), a
        sentence each.
    log_mel: how the speech's features were computed, for what shows them.
    """

    corpus: str
    stand_in: bool
    classes: tuple[str, ...]
    train: dict[str, Examples]
    test: dict[str, Examples]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    log_mel: LogMel | None = None

    def digest(self) -> str:
        """SHA-256 of all values, labels and normalisations."""
        sha = hashlib.sha256()
        for partition in (self.train, self.test):
            for name, examples in partition.items():
                sha.update(name.encode())
                normalisation = (examples.normalisation.loc, examples.normalisation.scale)
                for array in (examples.values, examples.labels, examples.offsets, *normalisation):
                    if array is not None:
                        sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


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
    if classes is not None:
        corpus = _of_classes(corpus, classes)
    if trim or (trim is None and has_silence(dataset) and not corpus.stand_in):
        corpus = trimmed(corpus, vad or VoiceActivity())
    corpus = _limited(bounded(corpus, shortest, longest), limit)
    if not corpus.recordings:
        problems = corpus.problems
        first = f"; the first of {len(problems)} problems: {problems[0].reason}" if problems else ""
        raise CorpusError(f"{corpus.name}: nothing can be used{first}")
    # So that each partition is one piece of memory.
    ordered = sorted(corpus.recordings, key=lambda recording: SPLITS.index(recording.split))
    return replace(corpus, recordings=tuple(ordered))


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
    """Speech and images of the same classes; features are computed once, then cached.

    dataset, image_dataset: names of the `registry`, or ``manifest:FILE.csv``.
    root: where corpora lie or are downloaded to.
    require_corpus: raise CorpusError rather than take a stand-in, for speech or images.
    speech: further arguments of `open_speech`.

    The classes are those of the speech. Raises CorpusError when a corpus is missing or damaged,
    a partition is empty, or the images lack a class, saying what to do.
    """
    corpus = open_speech(dataset, root, require_corpus=require_corpus, strict=strict, **speech)
    corpus, features = load_features(corpus, strict)
    images = image_corpus(image_dataset, root, image_options or {})
    refuse_problems(images.problems, strict)
    for found in (corpus, images):
        if found.stand_in and require_corpus:
            raise CorpusError(
                f"--require-corpus was given, and there is only a stand-in: {found.name}"
            )
        if found.problems:
            told = [(problem.kind, problem.reason) for problem in found.problems]
            more_in = "the report of experiments/prepare.py"
            log.warning("\n".join([f"{found.name}:", *problem_lines(told, more_in)]))
    summary = summarise_speech(corpus, features.of)
    remarks = (*summary["notes"], *(f"WARNING: {told}" for told in summary["warnings"]))
    for remark in remarks:
        log.info(f"{corpus.name}: {remark}")
    kept = [corpus.recordings[n] for n in features.of.index]
    classes = tuple(sorted({recording.label for recording in kept}))
    speech_examples = _speech_examples(corpus.name, kept, features, classes)
    image_examples = _image_examples(images, classes)
    train, test = (
        {"speech": speech_examples[split], "image": image_examples[split]} for split in SPLITS
    )
    return PairedData(
        f"{corpus.name} + {images.name}",
        corpus.stand_in or images.stand_in,
        classes,
        train,
        test,
        (*corpus.problems, *images.problems),
        remarks,
        LogMel(corpus.sample_rate),
    )


def load_features(corpus: SpeechCorpus, strict: bool) -> tuple[SpeechCorpus, RaggedFeatures]:
    """The corpus with what reading it brought to light, and the features of the rest."""
    features = corpus_features(corpus, LogMel(corpus.sample_rate), on_error="skip")
    refuse_problems(features.of.skipped, strict)
    return replace(corpus, problems=(*corpus.problems, *features.of.skipped)), features


def refuse_problems(problems: Sequence[Problem], strict: bool) -> None:
    """With `strict`, raise CorpusError for the first problem, if there is one."""
    if strict and problems:
        raise CorpusError(f"--strict: {problems[0].reason}")


def _speech_examples(
    name: str, kept: Sequence[Recording], features: RaggedFeatures, classes: Sequence[str]
) -> dict[Split, Examples]:
    splits = [recording.split for recording in kept]
    boundary = splits.count("train")
    if splits != ["train"] * boundary + ["test"] * (len(kept) - boundary):
        raise ValueError("the training partition must come first")
    if not 0 < boundary < len(kept):
        empty = "test" if boundary else "training"
        raise CorpusError(f"{name}: the {empty} partition has nothing that can be used")
    # Per Mel filter, on the training partition (the convention of the author's other work).
    scaler = StandardScaler()
    end = features.offsets[boundary]
    for start in range(0, end, _CHUNK):  # in double precision, so not all at once
        scaler.partial_fit(features.frames[start : min(start + _CHUNK, end)].astype(np.float64))
    normalisation = Normalisation(
        scaler.mean_.astype(np.float32),
        # A filter that never changes stays zero.
        np.maximum(np.sqrt(scaler.var_), 1e-6).astype(np.float32),
    )
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


def _image_examples(corpus: ImageCorpus, classes: Sequence[str]) -> dict[Split, Examples]:
    """Images of the classes; others are left out."""
    pixels = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    examples: dict[Split, Examples] = {}
    for split in SPLITS:
        labels = corpus.labels[split]
        if missing := sorted(set(classes) - set(labels.tolist())):
            raise CorpusError(
                f"{corpus.name}: no {split} image of class {', '.join(missing)}, which the speech "
                f"has; it has {', '.join(sorted(set(labels.tolist()))) or 'none'}. Give images of "
                "these classes with --image-dataset manifest:FILE.csv"
            )
        of_class = np.isin(labels, classes)
        examples[split] = Examples(
            corpus.images[split][of_class][:, None],
            np.searchsorted(np.array(classes), labels[of_class]),
            pixels,
        )
    return examples


def _of_classes(corpus: SpeechCorpus, classes: Sequence[str]) -> SpeechCorpus:
    there = {recording.label for recording in corpus.recordings}
    if unknown := sorted(set(classes) - there):
        raise CorpusError(
            f"{corpus.name}: no recording of class {', '.join(unknown)}; there are "
            f"{', '.join(sorted(there))}"
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
