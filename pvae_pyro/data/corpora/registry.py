"""Corpora by name: what `--dataset` and `--image-dataset` know, and which options each takes."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.corpora.an4 import an4_corpus
from pvae_pyro.data.corpora.audio_mnist import audio_mnist_corpus
from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from pvae_pyro.data.corpora.manifest import manifest_corpus, manifest_images
from pvae_pyro.data.corpora.mnist import mnist_corpus
from pvae_pyro.data.corpora.secuvoice import secuvoice_corpus
from pvae_pyro.data.corpora.speech_commands import speech_commands_corpus
from pvae_pyro.data.corpora.spoken_words import spoken_words_corpus
from pvae_pyro.data.corpora.tidigits import tidigits_corpus
from pvae_pyro.data.corpus import CorpusError, CorpusMissing, ImageCorpus
from pvae_pyro.data.pictures.decoding import SIZE, square
from pvae_pyro.data.recording import SpeechCorpus

log = logging.getLogger(__name__)

MANIFEST = "manifest:"


@dataclass(frozen=True)
class Known:
    """A reader ``read(root, **options)``, the options it takes, and what is known of the corpus.

    stand_in: of a licensed corpus, the language of the digits that eSpeak NG speaks for it.
    where: how to obtain a licensed corpus.
    silence: recordings have silence at their ends, which is cut off unless the user says no.
    """

    read: Callable[..., SpeechCorpus]
    options: tuple[str, ...] = ()
    stand_in: str | None = None
    where: str = ""
    silence: bool = False


SPEECH = {
    "tidigit": Known(
        tidigits_corpus,
        ("folder", "alignments", "speakers", "oh"),
        stand_in="en",
        where="TIDIGITS is LDC93S10, licensed by https://catalog.ldc.upenn.edu/LDC93S10",
    ),
    "secuvoice": Known(
        secuvoice_corpus,
        ("folder", "pattern", "phone"),
        stand_in="es",
        where="Ask the authors of SecuVoice for it, see Martín-Doñas et al., IberSPEECH 2016",
        silence=True,
    ),
    "fsdd": Known(fsdd_corpus),
    "audio_mnist": Known(audio_mnist_corpus),
    "speech_commands": Known(speech_commands_corpus, ("validation",)),
    "an4": Known(an4_corpus, ("oh",)),
    "mswc": Known(spoken_words_corpus, ("language", "words")),
}
DATASETS = tuple(SPEECH)


def speech_corpus(
    dataset: str, root: Path, options: Mapping[str, Any], *, require_corpus: bool = False
) -> SpeechCorpus:
    """The corpus of that name under `root`, or a stand-in, which the log announces.

    dataset: one of `DATASETS`, or ``manifest:FILE``.
    options: of the reader; those that are None are not given.

    Raises `CorpusError` for an unknown name, an option that the corpus does not take, a corpus
    that is missing or damaged; with `require_corpus`, instead of using a stand-in.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if dataset.startswith(MANIFEST):
        _refuse_others(dataset, given, ("manifest_root", "sample_rate", "channel"))
        return manifest_corpus(dataset.removeprefix(MANIFEST), **given)
    if dataset not in SPEECH:
        raise CorpusError(
            f"unknown dataset {dataset!r}; choose from {', '.join(DATASETS)} or manifest:FILE.csv"
        )
    known = SPEECH[dataset]
    _refuse_others(dataset, given, known.options)
    try:
        return known.read(root, **given)
    except CorpusMissing as error:
        if known.stand_in is None:
            raise
        if require_corpus or given:
            why = "--require-corpus was" if require_corpus else "options of the corpus were"
            reason = f"{error}. {known.where}. There is a stand-in, but {why} given."
            raise CorpusMissing(reason) from error
        corpus = espeak_corpus(known.stand_in)
        rule = "!" * 88
        log.warning(
            f"\n{rule}\n!!  STAND-IN: {dataset.upper()} is licensed, and was not found:\n"
            f"!!  {error}.\n!!  Using {corpus.name} instead.\n"
            f"!!  No figure of this run is a figure for {dataset.upper()}.\n"
            f"!!  {known.where}.\n{rule}"
        )
        return corpus


def has_silence(dataset: str) -> bool:
    """Whether its recordings are known to have silence at their ends."""
    return dataset in SPEECH and SPEECH[dataset].silence


def image_corpus(dataset: str, root: Path, options: Mapping[str, Any]) -> ImageCorpus:
    """Images by name: ``mnist``, or ``manifest:FILE``; raises `CorpusError` as `speech_corpus`.

    options: ``image_size``, and of a manifest ``image_root`` and ``image_colour``.
    """
    given = {name: value for name, value in options.items() if value is not None}
    size = given.get("image_size", SIZE)
    if dataset.startswith(MANIFEST):
        path, where = dataset.removeprefix(MANIFEST), given.get("image_root")
        return manifest_images(path, where, size, given.get("image_colour"))
    _refuse_others(dataset, given, ("image_size",))
    if dataset != "mnist":
        raise CorpusError(f"unknown images {dataset!r}; choose mnist or manifest:FILE.csv")
    corpus = mnist_corpus(root)
    return corpus if size == SIZE else _resized(corpus, size)


def _resized(corpus: ImageCorpus, size: int) -> ImageCorpus:
    """A corpus of grey images with `size` x `size` pixels."""
    images = {
        split: np.stack([square(image[0], size) for image in of])[:, None]
        for split, of in corpus.images.items()
    }
    return replace(corpus, images=images)


def _refuse_others(dataset: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if others := [f"--{name.replace('_', '-')}" for name in given if name not in known]:
        raise CorpusError(f"{', '.join(others)}: not an option of {dataset}")
