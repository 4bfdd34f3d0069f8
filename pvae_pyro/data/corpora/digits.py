"""Spoken and written digits by name: the corpora that `--dataset` knows."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from pvae_pyro.data.corpora.mnist import mnist_corpus
from pvae_pyro.data.corpus import CorpusError, ImageCorpus, Recording, SpeechCorpus, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.features import RaggedFeatures, corpus_features
from pvae_pyro.data.log_mel import LogMel

log = logging.getLogger(__name__)

# Licensed corpora: language of the stand-in, and where the real one is to be had.
LICENSED = {
    "tidigit": ("en", "TIDIGITS is LDC93S10, licensed by https://catalog.ldc.upenn.edu/LDC93S10"),
    "secuvoice": (
        "es",
        "SecuVoice is to be asked for from its authors, see Martín-Doñas et al., IberSPEECH 2016",
    ),
}
OPEN: dict[str, Callable[[Path], SpeechCorpus]] = {"fsdd": fsdd_corpus}
SPLITS: tuple[Split, ...] = ("train", "test")
DATASETS = (*LICENSED, *OPEN)


@dataclass(frozen=True)
class PairedData:
    """Two partitions of paired modalities, ready for a `PairedLoader`.

    corpus: what it is, for result files. stand_in: some part of it is not what was asked for.
    """

    corpus: str
    stand_in: bool
    num_classes: int
    train: dict[str, Examples]
    test: dict[str, Examples]

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


def load_digits(
    dataset: str, root: Path, *, require_corpus: bool = False, limit: int | None = None
) -> PairedData:
    """Speech and image of digits; features are computed once and then come from the cache.

    Args:
        dataset: one of `DATASETS`. For the licensed ones this version has no reader yet: they
            run on digits spoken by eSpeak NG, and say so.
        root: where corpora lie or are downloaded to.
        require_corpus: raise CorpusError rather than take a stand-in, for speech or images.
        limit: at most so many recordings of each class and partition, for trials.

    Raises CorpusError when a corpus is missing or damaged, saying what to do.
    """
    speech = _limited(_speech_corpus(dataset, root, require_corpus), limit)
    image = mnist_corpus(root)
    for corpus in (speech, image):
        if corpus.stand_in and require_corpus:
            raise CorpusError(
                f"--require-corpus was given, and there is only a stand-in: {corpus.name}"
            )
    features = corpus_features(speech, LogMel(sample_rate=speech.sample_rate), on_error="skip")
    for name, reason in features.skipped:
        log.warning("skipped %s: %s", name, reason)
    classes = sorted({recording.label for recording in speech.recordings})
    speech_examples = _speech_examples(speech, features, classes)
    image_examples = _image_examples(image, classes)
    train, test = (
        {"speech": speech_examples[split], "image": image_examples[split]} for split in SPLITS
    )
    name = f"{speech.name} + {image.name}"
    return PairedData(name, speech.stand_in or image.stand_in, len(classes), train, test)


def _speech_corpus(dataset: str, root: Path, require_corpus: bool) -> SpeechCorpus:
    if dataset in OPEN:
        return OPEN[dataset](root)
    if dataset not in LICENSED:
        raise CorpusError(f"unknown dataset {dataset!r}; choose from {', '.join(DATASETS)}")
    language, where = LICENSED[dataset]
    if require_corpus:
        raise CorpusError(
            f"--dataset {dataset} has no reader in this version, only a stand-in, and "
            f"--require-corpus was given. {where}."
        )
    corpus = espeak_corpus(language)
    log.warning(
        "\n%s\n!!  STAND-IN: %s is licensed, and this version has no reader for it.\n"
        "!!  Training on %s instead.\n"
        "!!  No figure of this run is a figure for %s.\n!!  %s.\n%s",
        *("!" * 88, dataset.upper(), corpus.name, dataset.upper(), where, "!" * 88),
    )
    return corpus


def _speech_examples(
    corpus: SpeechCorpus, features: RaggedFeatures, classes: list[str]
) -> dict[Split, Examples]:
    recordings = {recording.name: recording for recording in corpus.recordings}
    kept = [recordings[name] for name in features.names]
    unnormalised = Normalisation(np.array(0, np.float32), np.array(1, np.float32))
    everything = Examples(
        features.frames,
        np.array([classes.index(recording.label) for recording in kept]),
        unnormalised,
        features.offsets,
        [recording.name for recording in kept],
        [recording.speaker for recording in kept],
    )
    partitions: dict[Split, Examples] = {
        split: everything.subset(np.flatnonzero([r.split == split for r in kept]))
        for split in SPLITS
    }
    # Per Mel filter, on the training partition (the convention of the author's other work).
    frames = partitions["train"].values
    normalisation = Normalisation(
        frames.mean(0, dtype=np.float64).astype(np.float32),
        # A filter that never changes stays zero.
        np.maximum(frames.std(0, dtype=np.float64), 1e-6).astype(np.float32),
    )
    return {split: replace(p, normalisation=normalisation) for split, p in partitions.items()}


def _image_examples(corpus: ImageCorpus, classes: list[str]) -> dict[Split, Examples]:
    pixels = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    return {
        split: Examples(
            corpus.images[split][:, None],
            np.array([classes.index(str(label)) for label in corpus.labels[split]]),
            pixels,
        )
        for split in corpus.images
    }


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
