"""What a corpus is, before any feature is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Recording:
    """One spoken item, not yet read.

    name: unique within the corpus, and what error messages call it.
    label: the class it belongs to, as the corpus writes it (``"7"``).
    fingerprint: changes whenever the sound would; the feature cache is keyed by it.
    read: returns mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.
        Raises `AudioError`, naming the file and the reason, when the sound is unusable.
    """

    name: str
    label: str
    speaker: str
    split: Split
    fingerprint: str
    read: Callable[[], tuple[np.ndarray, int]]


@dataclass(frozen=True)
class SpeechCorpus:
    """Recordings and what a result file must say of them.

    stand_in: the corpus is not the one that was asked for; every result says so.
    sample_rate: features are computed at this rate; other rates are resampled to it.
    """

    name: str
    stand_in: bool
    sample_rate: int
    recordings: tuple[Recording, ...]


@dataclass(frozen=True)
class ImageCorpus:
    """Images ``[N, rows, columns]`` (uint8) and their labels, by split."""

    name: str
    stand_in: bool
    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]


class CorpusError(Exception):
    """A corpus is missing, incomplete or damaged; the message says which file and what to do."""


class AudioError(CorpusError):
    """A sound file cannot be used; the message names the file and the reason."""
