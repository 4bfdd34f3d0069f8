"""What a score would be without any information: its mean if the answers were dealt out at random.

Random answers keep their sizes, since a score of classes depends on them: of 300 examples of ten
classes, ten random clusters have a purity of some 19 %, of 10,000 examples 12 %.
"""

from collections.abc import Callable

import numpy as np

_DRAWS = 200  # of `largest_share`


def permuted_score(
    score: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    clusters: np.ndarray,
    permutations: int = 30,
    seed: int = 0,
) -> float:
    """Mean of ``score(labels, clusters)`` over random permutations of the ``[N]`` clusters.

        1/P Σ_p score(labels, clusters[π_p])

    Every cluster keeps its size. seed: of the permutations. Its standard error falls with P: it is
    some 0.002 for a purity of 300 examples.
    """
    rng = np.random.default_rng(seed)
    return float(np.mean([score(labels, rng.permutation(clusters)) for _ in range(permutations)]))


def chance_agreement(one: np.ndarray, other: np.ndarray) -> float:
    """How often two lists of classes, ``[N]`` and ``[M]``, agree by chance.

        Σ_c p(c) q(c),  p and q the relative frequencies of class c

    which is the mean agreement over all permutations of one of two lists of the same length.
    """
    classes = np.union1d(one, other)
    p, q = ((values[:, None] == classes).mean(0) for values in (one, other))
    return float(p @ q)


def agreement(one: np.ndarray, other: np.ndarray) -> tuple[float | None, float | None]:
    """How often two lists of ``[N]`` classes agree, and `chance_agreement`; None if N is 0."""
    if not len(one):
        return None, None
    return float((one == other).mean()), chance_agreement(one, other)


def largest_share(classes: np.ndarray) -> float:
    """The share of the commonest of ``[N]`` classes: 1 if all are of one class."""
    return float(np.unique(classes, return_counts=True)[1].max() / len(classes))


def chance_largest_share(classes: np.ndarray, size: int, seed: int = 0) -> float:
    """Mean `largest_share` of `size` random draws from the distribution of ``[M]`` real classes.

    It is what a generator with the right share of each class shows: more than the largest
    probability, since the largest of several random counts is above their mean.
    """
    counts = np.unique(classes, return_counts=True)[1]
    draws = np.random.default_rng(seed).multinomial(size, counts / counts.sum(), _DRAWS)
    return float(draws.max(1).mean() / size)
