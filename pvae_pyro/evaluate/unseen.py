"""Where examples of classes that no training example has come to lie in a latent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pvae_pyro.evaluate.clustering import clustering_scores


def unseen_classes(
    train: np.ndarray,
    train_labels: np.ndarray,
    latents: np.ndarray,
    labels: np.ndarray,
    unseen: Sequence[int],
) -> dict[str, Any]:
    """How classes that were left out of training spread in a latent, beside those that were not.

    Args:
        train: ``[N, D]`` posterior means of training examples, of seen classes or of any.
        latents: ``[M, D]`` of test examples, of seen and unseen classes.
        labels: ``[M]`` class indices; train_labels: ``[N]``.
        unseen: class indices.

    Returns:
        seen, unseen, all: `clustering_scores` of the test examples of these classes alone, with as
            many clusters as they are; with chance, the share of the largest class (where unseen is
            one class, None: it cannot be confused).
        nearest_seen: class index -> seen class index -> fraction of its test examples that are
            nearest (Euclidean) to that class's training centroid; fractions of 0 are left out.
        novelty_auroc: of the distance to the nearest of these centroids, as a sign that a test
            example is of an unseen class; ½ is none.

    Raises ValueError where the test examples lack seen or unseen ones.
    """
    is_unseen = np.isin(labels, unseen)
    if is_unseen.all() or not is_unseen.any():
        raise ValueError("test examples of seen and of unseen classes are wanted")
    found: dict[str, Any] = {}
    for name, which in (("seen", ~is_unseen), ("unseen", is_unseen), ("all", labels == labels)):
        classes, counts = np.unique(labels[which], return_counts=True)
        found[name] = None
        if len(classes) > 1:
            scores = clustering_scores(latents[which], labels[which], len(classes))
            found[name] = {**scores, "chance": float(counts.max() / counts.sum())}
    seen = np.setdiff1d(np.unique(train_labels), unseen)
    centroids = np.stack([train[train_labels == label].mean(0) for label in seen])
    distances = np.linalg.norm(latents[:, None] - centroids, axis=-1)
    nearest = seen[distances.argmin(1)]
    found["nearest_seen"] = {
        int(label): {
            int(at): float((nearest[labels == label] == at).mean())
            for at in np.unique(nearest[labels == label])
        }
        for label in np.unique(labels[is_unseen])
    }
    found["novelty_auroc"] = float(roc_auc_score(is_unseen, distances.min(1)))
    return found
