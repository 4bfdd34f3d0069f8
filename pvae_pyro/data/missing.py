"""Which examples have which modalities, where some are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Presence:
    """The examples of an epoch, each a tuple of a pairing with some of its modalities.

    rows: ``[R]`` indices of tuples; a tuple may come more than once, in several parts.
    present: modality -> ``[R]`` bool. Every example has at least one modality.
    """

    rows: np.ndarray
    present: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        if not np.logical_or.reduce(list(self.present.values())).all():
            raise ValueError("an example has no modality at all")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_complete(self) -> int:
        """Tuples with every modality; repeated ones are counted once."""
        return len(np.unique(self.rows[np.logical_and.reduce(list(self.present.values()))]))

    @property
    def repetition(self) -> np.ndarray:
        """How often a complete tuple has come before, ``[R]``; 0 for incomplete ones."""
        whole = np.flatnonzero(np.logical_and.reduce(list(self.present.values())))
        order = np.argsort(self.rows[whole], kind="stable")
        _, start, counts = np.unique(self.rows[whole][order], return_index=True, return_counts=True)
        found = np.zeros(len(self.rows), np.int64)
        found[whole[order]] = np.arange(len(whole)) - np.repeat(start, counts)
        return found

    @property
    def complete(self) -> "Presence":
        """The examples that have every modality. Raises ValueError where there is none."""
        whole = np.logical_and.reduce(list(self.present.values()))
        if not whole.any():
            raise ValueError("no example has every modality")
        return Presence(self.rows[whole], {name: p[whole] for name, p in self.present.items()})


def of_pairs(pairs: Mapping[str, np.ndarray], presence: Presence | None = None) -> Presence | None:
    """What is there of known pairs; None if each of them is complete, and no `presence` is given.

    Pairs without any of the modalities are left out.

    Args:
        pairs: modality -> ``[R]`` indices of its examples, -1 where the modality is missing.
        presence: of some of the pairs, which may lack more.

    Raises ValueError if nothing is there.
    """
    rows = np.arange(len(next(iter(pairs.values())))) if presence is None else presence.rows
    there = {name: index[rows] >= 0 for name, index in pairs.items()}
    if presence is None and all(of.all() for of in there.values()):
        return None
    if presence is not None:
        there = {name: of & presence.present[name] for name, of in there.items()}
    some = np.logical_or.reduce(list(there.values()))
    if not some.any():
        raise ValueError(f"no pair has {' or '.join(pairs)}")
    return Presence(rows[some], {name: of[some] for name, of in there.items()})


def missing_at_random(
    num_examples: int, names: Sequence[str], fraction: float, seed: int
) -> Presence:
    """Each modality of each example is missing with probability `fraction`, independently.

    A function of the seed, not of the epoch. Examples without any modality are left out. Raises
    ValueError if that is all of them.
    """
    rng = _generator(seed, "missing")
    there = rng.random((len(names), num_examples)) >= fraction
    rows = np.flatnonzero(there.any(0))
    if not len(rows):
        raise ValueError(f"with {fraction:g} missing, nothing is left of {num_examples} examples")
    return Presence(rows, {name: there[m, rows] for m, name in enumerate(names)})


def few_paired(
    num_examples: int, names: Sequence[str], fraction: float, seed: int, share: float = 0.0
) -> Presence:
    """`fraction` of the tuples stay together; the others fall into one example per modality.

    So no data are lost except the knowledge of what belongs together. Which tuples stay is a
    function of the seed; at least one does.

    share: tuples that stay are repeated until they make up this share of the examples.
    """
    num_paired = max(1, round(fraction * num_examples))
    order = _generator(seed, "paired").permutation(num_examples)
    paired, alone = np.sort(order[:num_paired]), np.sort(order[num_paired:])
    wanted = round(share / (1 - share) * len(names) * len(alone))
    paired = np.resize(paired, max(num_paired, wanted))
    rows = np.concatenate([paired, *[alone] * len(names)])
    present = {}
    for m, name in enumerate(names):
        of_alone = np.repeat(np.arange(len(names)) == m, len(alone))
        present[name] = np.concatenate([np.ones(len(paired), bool), of_alone])
    return Presence(rows, present)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """A stream of the seed that no epoch of the pairing or the shuffling has.

    An epoch's key has no spawn key, and NumPy pads only keys with one to four words first.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))
