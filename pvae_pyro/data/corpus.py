"""What all readers of corpora share: partitions, problems with single items, errors, images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pvae_pyro.errors import PvaeError, shown

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class Problem:
    """An item of a corpus that cannot be used and is left out.

    name: of the file, the line of a list, or the part of a file.
    kind: the category it is counted under, such as ``"truncated"``.
    reason: a whole sentence that names the file.
    """

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ImageCorpus:
    """Images ``[N, C, rows, columns]`` (uint8) and their labels (strings ``[N]``), by split.

    C is 1 for grey and 3 for RGB.

    stand_in: the images are not those that were asked for.
    problems: files that were left out.
    notes: what a user should know about the images, one sentence each.
    """

    name: str
    stand_in: bool
    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


class CorpusError(PvaeError):
    """A corpus is missing, incomplete or damaged; the message says which file and what to do.

    kind: the category it is counted under, as in `Problem`.
    """

    def __init__(self, message: str, kind: str = "unusable"):
        super().__init__(shown(message, keep="\n"))
        self.kind = kind


class CorpusMissing(CorpusError):
    """A corpus is not where it is looked for; the message says where that is."""


class AudioError(CorpusError):
    """A sound file cannot be used; the message names the file and the reason."""
