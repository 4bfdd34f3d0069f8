"""Where the examples of classes that training left out lie in a latent."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from pvae_pyro.evaluate.clustering import clustering_scores
from pvae_pyro.evaluate.retrieval import cross_modal_retrieval
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, is_shared


def unseen_class_scores(
    train: np.ndarray,
    train_labels: np.ndarray,
    latents: np.ndarray,
    labels: np.ndarray,
    unseen: Sequence[int],
) -> dict[str, Any]:
    """How the classes that were left out of training spread in a latent, beside the seen ones.

    Args:
        train: ``[N, D]`` posterior means of training examples; train_labels: ``[N]``.
        latents: ``[M, D]`` of test examples, of seen and unseen classes; labels: ``[M]``.
        unseen: class indices.

    Returns:
        seen, unseen, all: `clustering_scores` of the test examples of these classes alone, with as
            many clusters as classes; None for a single class, which cannot be confused.
        nearest_seen: class index -> seen class index -> fraction of its test examples that are
            nearest (Euclidean) to that class's training centroid; fractions of 0 are left out.
        novelty_auroc: area under the ROC curve if the distance to the nearest of these centroids
            is used to detect unseen classes; ½ is no information.
    """
    is_unseen = np.isin(labels, unseen)
    found: dict[str, Any] = {}
    for name, which in (("seen", ~is_unseen), ("unseen", is_unseen), ("all", labels == labels)):
        num_classes = len(np.unique(labels[which]))
        found[name] = None
        if num_classes > 1:
            found[name] = clustering_scores(latents[which], labels[which], num_classes)
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


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`unseen_class_scores` of each latent and modality, and retrieval among unseen classes."""
    if not run.unseen_classes:
        return {"reason": "the run was trained on all classes"}
    left_out = [list(run.data.classes).index(label) for label in run.unseen_classes]
    is_unseen = {name: np.isin(of.labels, left_out) for name, of in run.test.items()}
    for name, which in is_unseen.items():
        if which.all() or not which.any():
            kind = "seen" if which.all() else "unseen"
            return {"reason": f"no test example of {name} is of a class that was {kind}"}
    found: dict[str, Any] = {}
    train = run.examples("train")
    for latent, of_modality in run.latents().items():
        for name, locs in of_modality.items():
            of_train = run.latents("train")[latent][name], train[name].labels
            scores = unseen_class_scores(*of_train, locs, run.test[name].labels, left_out)
            found.setdefault(latent, {})[name] = scores
        if is_shared(latent) and len(of_modality) > 1:
            found[latent]["retrieval"] = cross_modal_retrieval(
                {name: locs[is_unseen[name]] for name, locs in of_modality.items()},
                {name: run.test[name].labels[is_unseen[name]] for name in of_modality},
            )
    return found
