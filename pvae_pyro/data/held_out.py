"""Which training examples to hold out, for choices that must not see the test partition."""

import numpy as np


class TooFew(ValueError):
    """A class cannot be divided. label: its index. The message says of what there are too few."""

    def __init__(self, label: int, what: str):
        super().__init__(what)
        self.label = label


def of_classes(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Hold out `fraction` of each class, at least one example: labels ``[N]`` -> ``[N]`` bool.

    Raises TooFew if nothing would be left of a class.
    """
    is_held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        size = max(1, round(fraction * len(of_class)))
        if size == len(of_class):
            raise TooFew(label, f"examples ({size})")
        is_held[of_class[:size]] = True
    return is_held


def of_speakers(
    speakers: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Hold out all examples of random speakers, until they are `fraction` of the examples.

    Args: speakers ``[N]``, labels ``[N]``. Returns ``[N]`` bool.
    Raises TooFew if a class would not be in both parts.
    """
    is_held = of_groups(speakers, fraction, rng)
    both = np.intersect1d(labels[is_held], labels[~is_held])
    for label in np.setdiff1d(labels, both):
        raise TooFew(label, f"speakers ({len(np.unique(speakers[labels == label]))})")
    return is_held


def of_groups(groups: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Hold out random groups as a whole, until they are `fraction`: ``[N]`` -> ``[N]`` bool."""
    names, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    return np.isin(groups, names[order[before < fraction * len(groups)]])
