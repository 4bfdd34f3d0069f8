"""Cross-modal retrieval: are the nearest examples of another modality of the same class, or known
to belong together?"""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from pvae_pyro.data.known_pairs import connected
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, is_shared


def cross_modal_retrieval(
    latents: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """`retrieval_scores` of every ordered pair of modalities, as ``"query->gallery"``.

    Args:
        latents: modality -> ``[N, D]``, posterior means of one shared latent.
        labels: modality -> ``[N]``.
    """
    return {
        f"{query}->{gallery}": retrieval_scores(
            latents[query], labels[query], latents[gallery], labels[gallery]
        )
        for query in latents
        for gallery in latents
        if query != gallery
    }


def retrieval_scores(
    queries: np.ndarray,
    query_labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    chunk: int = 500,
) -> dict[str, float]:
    """Rank the whole gallery by its distance to each query; examples of its class are relevant.

    Classes weigh as they occur in the data; only queries whose class the gallery lacks are left
    out.

    Args:
        queries: ``[N, D]``; gallery: ``[M, D]``; labels: ``[N]`` and ``[M]``.
        chunk: queries at a time; ``chunk * M`` distances are in memory.

    Returns:
        recall_at_1: proportion of queries whose nearest neighbour is relevant.
        mrr: mean over queries of 1 / rank of the nearest relevant example. Irrelevant ones at the
            same distance rank before it: a latent that is one point retrieves nothing.
        chance_recall_at_1, chance_mrr: the expectation for a random order.
        num_queries.

    Raises ValueError if no query's class is in the gallery.
    """
    known = np.isin(query_labels, gallery_labels)
    queries, query_labels = queries[known], query_labels[known]
    if not len(queries):
        raise ValueError("no query has its class in the gallery")
    ranks = np.empty(len(queries))
    for start in range(0, len(queries), chunk):
        stop = min(start + chunk, len(queries))
        distances = cdist(queries[start:stop], gallery)
        relevant = query_labels[start:stop, None] == gallery_labels
        nearest = np.where(relevant, distances, np.inf).min(axis=1, keepdims=True)
        ranks[start:stop] = 1 + (~relevant & (distances <= nearest)).sum(axis=1)
    classes, counts = np.unique(query_labels, return_counts=True)
    chances = [chance(int((gallery_labels == label).sum()), len(gallery)) for label in classes]
    chance_recall, chance_mrr = np.average(chances, axis=0, weights=counts)
    return {
        "recall_at_1": float((ranks == 1).mean()),
        "mrr": float((1 / ranks).mean()),
        "chance_recall_at_1": float(chance_recall),
        "chance_mrr": float(chance_mrr),
        "num_queries": len(queries),
    }


def chance(num_relevant: int, num_all: int) -> tuple[float, float]:
    """Expected R@1 and 1 / rank of the first of `num_relevant` in a random order of `num_all`.

    With R relevant of M, P(rank > r) = Π_{i < r} (M - R - i) / (M - i), and
    E[1 / rank] = Σ_r (P(rank > r - 1) - P(rank > r)) / r.
    """
    before = np.arange(num_all - num_relevant + 1)
    later = np.cumprod((num_all - num_relevant - before) / (num_all - before))
    at = np.concatenate([[1.0], later[:-1]]) - later
    return num_relevant / num_all, float((at / (before + 1)).sum())


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`cross_modal_retrieval` of the test partition, in each shared latent.

    If the pairs are known, "partner" holds the same of partners: examples that are in one row, or
    in rows that share examples. It needs no labels.
    """
    labels = {name: examples.labels for name, examples in run.test.items()}
    labelled = all(examples.labelled for examples in run.test.values())
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents().items():
        if is_shared(latent):
            found[latent] = cross_modal_retrieval(of_modality, labels) if labelled else {}
            if run.data.pairs and len(of_modality) > 1:
                found[latent]["partner"] = _of_partners(run, of_modality)
    return found


def _of_partners(run: TrainedRun, latents: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """`retrieval_scores` with the groups of connected rows as classes, where some are common."""
    pairs = {name: run.data.pairs["test"][name] for name in latents}
    groups = connected(list(pairs.values()))
    group_of: dict[str, np.ndarray] = {}
    for name, index in pairs.items():
        group_of[name] = np.full(len(latents[name]), -1 - len(group_of))  # of no row: no partner
        group_of[name][index[index >= 0]] = groups[index >= 0]
    return {
        f"{one}->{other}": retrieval_scores(
            latents[one], group_of[one], latents[other], group_of[other]
        )
        for one, other in permutations(latents, 2)
        if np.isin(group_of[one], group_of[other]).any()
    }
