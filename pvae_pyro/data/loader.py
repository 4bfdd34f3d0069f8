"""Batches of paired examples."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch

from pvae_pyro import distributed
from pvae_pyro.batch import Batch, Observation
from pvae_pyro.data.augment import Augmentation
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.missing import Presence, of_pairs
from pvae_pyro.data.pairing import pair_by_class


class PairedLoader:
    """Batches of one partition; every epoch pairs anew (`pair_by_class`) and shuffles.

    An epoch visits each example of the first modality (the anchor) once, or each of the known
    `pairs`; the last batch may be smaller. Complete tuples that come more than once in an epoch
    (`presence`) are paired anew each time. It is a function of (seed, epoch) alone, so training can
    resume at any batch.

    Where several processes train together, each gets a part of every batch, with about as many
    frames, in random order, and of equal size: a last batch that cannot be shared evenly is
    repeated from its start until it can. So the batches are those of a single process, but for
    their augmentation.

    Args:
        examples: modality -> its examples; the first is the anchor.
        device: where the batches go.
        shuffle: False keeps the anchor's order, for evaluation.
        part: (which, of how many) parts of each batch; None is (rank, number of processes).
        names: the modalities in the batches; None is all. The anchor stays the same, so models of
            different modalities see the same examples in the same order.
        pairs: the known pairs, in place of pairs by class: modality -> ``[R]`` indices of its
            examples, -1 where the modality is missing. Row r is one example in every epoch.
        presence: which examples have which modalities; None: all have all. What is missing is zero
            in the batch, a sequence of one frame, and marked (`Observation.present`).
        anew: False pairs once and for all, as the first epoch does.
        augment: modality -> its augmentation, for training. Its random numbers are a function of
            (seed, epoch, batch, part, modality).

    Raises ValueError for examples without labels if no pairs are given.
    """

    def __init__(
        self,
        examples: Mapping[str, Examples],
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        shuffle: bool = True,
        names: Collection[str] | None = None,
        part: tuple[int, int] | None = None,
        pairs: Mapping[str, np.ndarray] | None = None,
        presence: Presence | None = None,
        anew: bool = True,
        augment: Mapping[str, Augmentation] | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive; got {batch_size}")
        self.examples = dict(examples)
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.shuffle = shuffle
        self.names = [name for name in self.examples if names is None or name in names]
        self.part = part or (distributed.rank(), distributed.world_size())
        self.anew = anew
        self.augment = augment or {}
        anchor = next(iter(self.examples))
        self._anchor_lengths = self.examples[anchor].lengths
        self._known: dict[str, np.ndarray] | None = None
        if pairs is None:
            if not all(of.labelled for of in self.examples.values()):
                raise ValueError(
                    "examples without labels cannot be paired by class: give their known pairs, "
                    "as data.loader(split, batch_size) does"
                )
        else:
            presence = of_pairs({name: pairs[name] for name in self.names}, presence)
            self._known = {name: np.maximum(index, 0) for name, index in pairs.items()}
            if self._anchor_lengths is not None:
                lengths = self._anchor_lengths[self._known[anchor]]
                self._anchor_lengths = np.where(pairs[anchor] < 0, 1, lengths)
        self.presence = presence
        num_tuples = len(self.examples[anchor] if self._known is None else self._known[anchor])
        self.num_examples = num_tuples if presence is None else len(presence)
        # Otherwise the few pairs that are known would stay together for a whole epoch.
        self._repetition = (
            np.zeros(num_tuples, np.int64) if presence is None else presence.repetition
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.num_examples // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on."""
        pairs = self._pairs(epoch)
        for batch, rows in enumerate(self._rows(epoch, start), start):
            at = self._at(rows)
            found = {n: self._observation(n, pairs[n][at], rows) for n in self.names}
            yield {name: self._augmented(name, found[name], epoch, batch) for name in self.names}

    def held(self, epoch: int, batch: int) -> dict[str, np.ndarray]:
        """Modality -> the index of each example of a batch, -1 where the modality is missing."""
        rows, pairs = next(self._rows(epoch, batch)), self._pairs(epoch)
        indices = {name: pairs[name][self._at(rows)] for name in self.names}
        if self.presence is None:
            return indices
        present = self.presence.present
        return {name: np.where(present[name][rows], n, -1) for name, n in indices.items()}

    def _pairs(self, epoch: int) -> dict[str, np.ndarray]:
        """Modality -> indices of its examples, for each repetition and tuple."""
        if self._known is not None:
            return {name: index[np.newaxis] for name, index in self._known.items()}
        labels = {name: examples.labels for name, examples in self.examples.items()}
        if not self.anew:
            epoch, number = 0, 1
        else:
            number = 1 + int(self._repetition.max(initial=0))
        found = [pair_by_class(labels, self.seed, epoch, which) for which in range(number)]
        return {name: np.stack([pairs[name] for pairs in found]) for name in labels}

    def _rows(self, epoch: int, start: int) -> Iterator[np.ndarray]:
        order = np.arange(self.num_examples)
        if self.shuffle:
            np.random.default_rng([self.seed, epoch, 1]).shuffle(order)
        for batch in range(start, len(self)):
            yield self._of_part(order[batch * self.batch_size : (batch + 1) * self.batch_size])

    def _tuples(self, rows: np.ndarray) -> np.ndarray:
        """The tuples of the pairing to which the examples belong."""
        return rows if self.presence is None else self.presence.rows[rows]

    def _at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the examples are in `_pairs`: repetitions and tuples."""
        is_other = self.anew and self._known is None
        return self._repetition[rows] * is_other, self._tuples(rows)

    def _of_part(self, rows: np.ndarray) -> np.ndarray:
        which, number = self.part
        if number == 1:
            return rows
        rows = np.resize(rows, -(-len(rows) // number) * number)
        lengths = self._anchor_lengths
        by_length = np.argsort(
            0 * rows if lengths is None else lengths[self._tuples(rows)], kind="stable"
        )
        return rows[np.sort(by_length[which::number])]

    def _observation(self, name: str, index: np.ndarray, rows: np.ndarray) -> Observation:
        present = None if self.presence is None else self.presence.present[name]
        if present is None or present.all():
            observation = self.examples[name].observation(index)
        else:
            present = present[rows]
            observation = self.examples[name].observation_of_present(index, present)
        if self.device.type != "cuda":
            return observation.to(self.device)
        # From pinned memory the copy goes on while this process prepares what comes next.
        return observation.pin_memory().to(self.device, non_blocking=True)

    def _augmented(self, name: str, x: Observation, epoch: int, batch: int) -> Observation:
        if name not in self.augment:
            return x
        # Five numbers, the last not zero: numpy pads short seeds with zeros, so no other stream of
        # this seed is the same.
        which = 1 + list(self.examples).index(name)
        rng = np.random.default_rng([self.seed, epoch, batch, self.part[0], which])
        return self.augment[name](x, rng)
