"""All examples of one modality in one partition, in memory, and batches made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.corpus import CorpusError

_CHUNK = 100_000  # rows, 32 MB of 80 features


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - loc) / scale; both broadcast over examples. By default values stay as they are."""

    loc: np.ndarray = field(default_factory=lambda: np.zeros((), np.float32))
    scale: np.ndarray = field(default_factory=lambda: np.ones((), np.float32))

    @classmethod
    def fitted(cls, values: np.ndarray) -> "Normalisation":
        """To mean 0 and standard deviation 1 of the last dimension's entries, over all others."""
        from sklearn.preprocessing import StandardScaler  # slow to import

        rows = values.reshape(-1, values.shape[-1])
        if not len(rows):
            return cls()
        scaler = StandardScaler()
        for start in range(0, len(rows), _CHUNK):  # in double precision, so not all at once
            scaler.partial_fit(rows[start : start + _CHUNK].astype(np.float64))
        scale = np.maximum(np.sqrt(scaler.var_), 1e-6)  # a constant stays zero
        return cls(scaler.mean_.astype(np.float32), scale.astype(np.float32))

    def apply(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.loc) / self.scale).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Examples:
    """Values and labels of the examples, their names and groups.

    values: ``[N, ...]``; for sequences, the frames of all examples end to end, ``[ΣT, F]``.
    labels: ``[N]`` class indices, or -1 where the class is not known. They pair examples and score
        results, but are in no batch.
    normalisation: applied when a batch is made.
    offsets: for sequences, ``[N + 1]``: example n is ``values[offsets[n]:offsets[n + 1]]``.
    names, groups: of each example, e.g. its file and its speaker; may be empty.
    """

    values: np.ndarray
    labels: np.ndarray
    normalisation: Normalisation
    offsets: np.ndarray | None = None
    names: Sequence[str] = field(default=())
    groups: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        size = len(self.values) if self.offsets is None else len(self.offsets) - 1
        if size != len(self.labels):
            raise ValueError(f"{size} examples but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether the class of each example is known."""
        return bool((self.labels >= 0).all())

    @property
    def lengths(self) -> np.ndarray | None:
        """Frames of each example, ``[N]``, for sequences."""
        return None if self.offsets is None else np.diff(self.offsets)

    def take(self, index: np.ndarray) -> "Examples":
        """The examples at `index`, in that order, copied."""
        values, offsets = self.values, self.offsets
        if offsets is None:
            values = values[index]
        else:
            parts = [values[offsets[n] : offsets[n + 1]] for n in index]
            values = np.concatenate([values[:0], *parts])
            offsets = np.cumsum([0, *map(len, parts)])
        return Examples(
            values,
            self.labels[index],
            self.normalisation,
            offsets,
            [self.names[n] for n in index] if self.names else (),
            [self.groups[n] for n in index] if self.groups else (),
        )

    def observation(self, index: np.ndarray) -> Observation:
        """The examples at `index`, normalised; sequences padded with zeros to the longest."""
        if self.offsets is None:
            return Observation(torch.from_numpy(self.normalisation.apply(self.values[index])))
        start, stop = self.offsets[index], self.offsets[index + 1]
        lengths = stop - start
        value = np.zeros((len(index), lengths.max(), self.values.shape[1]), np.float32)
        for row, (a, b) in enumerate(zip(start, stop, strict=True)):
            value[row, : b - a] = self.normalisation.apply(self.values[a:b])
        return Observation(torch.from_numpy(value), torch.from_numpy(lengths))

    def observation_of_present(self, index: np.ndarray, present: np.ndarray) -> Observation:
        """As `observation` for examples that are `present`; the others are zero, of one frame."""
        mask = torch.from_numpy(present)
        some = self.observation(index[present]) if present.any() else self.observation(index[:1])
        value = some.value.new_zeros(len(index), *some.value.shape[1:])
        lengths = None
        if some.lengths is not None:
            lengths = torch.ones(len(index), dtype=some.lengths.dtype)
        if present.any():
            value[mask] = some.value
            if lengths is not None and some.lengths is not None:
                lengths[mask] = some.lengths
        return Observation(value, lengths, mask)


def stacked(values: Any, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and offsets of `Examples`, from an array ``[N, ...]`` or a list of sequences.

    values: an array, or a list of N arrays ``[T, F]``, each with its own T.

    Raises CorpusError, which begins with `where`, if a list has anything but sequences, a sequence
    has no frame, or a value is no number or not finite.
    """
    offsets = None
    if len(values) and not isinstance(values, np.ndarray):
        if {np.ndim(sequence) for sequence in values} != {2}:
            raise CorpusError(f"{where}: a list must have sequences [T, F] alone")
        lengths = [len(sequence) for sequence in values]
        if min(lengths) < 1:
            raise CorpusError(f"{where}: sequence {lengths.index(0)} has no frame")
        offsets, values = np.cumsum([0, *lengths]), np.concatenate(values)
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise CorpusError(f"{where}: values must be numbers, not {values.dtype}")
    if not np.isfinite(values).all():
        raise CorpusError(f"{where}: a value is not finite")
    return values, offsets
