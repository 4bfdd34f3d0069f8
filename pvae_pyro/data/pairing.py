"""Which example goes with which: paired data made of unpaired corpora by class."""

from collections.abc import Mapping

import numpy as np


def pair_by_class(
    labels: Mapping[str, np.ndarray], seed: int, epoch: int, repetition: int = 0
) -> dict[str, np.ndarray]:
    """Give each example of the first modality a random one of its class from every other.

    A function of (seed, epoch, repetition) alone. Within an epoch (and repetition) an example is
    drawn again only after all others of its class have been. Over many epochs, the pairs connect
    all examples of a class: nearly full supervision of which examples share one (docs/data.md,
    "Labels and pairs").

    Args:
        labels: modality -> ``[N_m]`` class indices, of one partition.
        repetition: for other pairs in the same epoch.

    Returns: modality -> ``[N_first]`` indices, row n being one tuple of the same class. The
    first modality's are 0, 1, 2, …

    Raises ValueError when a modality has no example of a class that the first one has.
    """
    key = (repetition,) if repetition else ()
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=key))
    (anchor, anchor_labels), *others = labels.items()
    pairs = {anchor: np.arange(len(anchor_labels))}
    for name, other_labels in others:
        pairs[name] = np.empty(len(anchor_labels), np.int64)
        for label in np.unique(anchor_labels):
            wanted = np.flatnonzero(anchor_labels == label)
            available = np.flatnonzero(other_labels == label)
            if not len(available):
                raise ValueError(f"{name} has no example of class {label}, which {anchor} has")
            rounds = -(-len(wanted) // len(available))
            drawn = np.concatenate([rng.permutation(available) for _ in range(rounds)])
            pairs[name][wanted] = drawn[: len(wanted)]
    return pairs
