"""What a corpus is, before any feature is computed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pvae_pyro.errors import PvaeError, shown

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Recording:
    """One spoken item, not yet read.

    name: unique within the corpus, and what error messages call it.
    label: the class it belongs to, as the corpus writes it (``"7"``).
    fingerprint: changes whenever the sound would; the feature cache is keyed by it.
    read: returns mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.
        Raises `AudioError`, naming the file and the reason, when the sound is unusable.
    rate: in Hz, as the file's header says; None where that is not known.
    file: that it is in, perhaps with others; "" is one of its own.
    """

    name: str
    label: str
    speaker: str
    split: Split
    fingerprint: str
    read: Callable[[], tuple[np.ndarray, int]]
    rate: int | None = None
    file: str = ""


@dataclass(frozen=True)
class Problem:
    """Something of a corpus that cannot be used, and is left out.

    name: what it is called: a file, a line of a list, a part of a file.
    kind: a few words to count it by (``"truncated"``); the same for every one of its sort.
    reason: the whole sentence, which names the file.
    """

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class SpeechCorpus:
    """Recordings and what a result file must say of them.

    stand_in: the corpus is not the one that was asked for; every result says so.
    sample_rate: features are computed at this rate; other rates are resampled to it.
    any_rate: it may be lowered to that of the recordings (`pvae_pyro.data.audio.rates`).
    problems: what was found on listing the files and is not among the recordings.
    notes: what a user should know of the corpus as it was found, a sentence each.
    completeness: of the recordings that could be read, what there is to say about how many
        they should be; None is nothing.
    """

    name: str
    stand_in: bool
    sample_rate: int
    recordings: tuple[Recording, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    completeness: Callable[[Sequence[Recording]], str] | None = None
    any_rate: bool = False


@dataclass(frozen=True)
class ImageCorpus:
    """Images ``[N, rows, columns]`` (uint8) and their labels (strings ``[N]``), by split.

    problems: what was found on reading the files and is not among the images.
    notes: what a user should know of the images as they were found, a sentence each.
    """

    name: str
    stand_in: bool
    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


class CorpusError(PvaeError):
    """A corpus is missing, incomplete or damaged; the message says which file and what to do.

    kind: as of a `Problem`.
    """

    def __init__(self, message: str, kind: str = "unusable"):
        super().__init__(shown(message, keep="\n"))
        self.kind = kind


class CorpusMissing(CorpusError):
    """A corpus is not where it is looked for; the message says where that is."""


class AudioError(CorpusError):
    """A sound file cannot be used; the message names the file and the reason."""
