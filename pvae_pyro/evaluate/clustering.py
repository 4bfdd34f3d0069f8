"""How well k-means clusters of a latent agree with class labels, which never trained it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.chance import permuted_score
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, latent_of


def purity(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Cluster-size weighted purity (paper, section 4.4): Σ_k max_c |k ∩ c| / N, in (0, 1].

    Args: labels and clusters, ``[N]`` each, N > 0.
    """
    return float(contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels))


def hungarian_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Accuracy if each cluster is given a different class: max_π Σ_k |k ∩ π(k)| / N.

    π is the best matching of clusters to classes (Kuhn 1955). Surplus clusters, and examples of
    surplus classes, count as errors. At most the purity.

    Args: labels and clusters, ``[N]`` each, N > 0.
    """
    counts = contingency_matrix(labels, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def partition_scores(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Any clusters ``[N]`` against ``[N]`` labels.

    Returns purity, nmi (arithmetic mean normalisation) and ari, by scikit-learn, and hungarian;
    and purity_chance, nmi_chance and hungarian_chance, the scores of random clusters of the same
    sizes (`permuted_score`). The ari of random clusters is 0 by its definition.
    """
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "purity": purity,
        "nmi": normalized_mutual_info_score,
        "hungarian": hungarian_accuracy,
    }
    found = {name: float(score(labels, clusters)) for name, score in scores.items()}
    for name, score in scores.items():
        found[f"{name}_chance"] = permuted_score(score, labels, clusters)
    return {**found, "ari": float(adjusted_rand_score(labels, clusters))}


def clustering_scores(
    latents: np.ndarray, labels: np.ndarray, num_clusters: int, seed: int = 0
) -> dict[str, float]:
    """`partition_scores` of k-means (10 starts) of ``[N, D]`` latents, against ``[N]`` labels."""
    clusters = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(latents)
    return partition_scores(labels, clusters)


def active_units(locs: np.ndarray, threshold: float = 0.01) -> int:
    """Dimensions of ``[N, D]`` posterior means whose variance over examples exceeds `threshold`.

    Source: Burda et al. 2016 (arXiv:1509.00519), section 5. A latent without active units is not
    in use, and the purity of its clusters means nothing.
    """
    return int((locs.var(axis=0) > threshold).sum())


def evaluate_latents(
    unimodal: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    num_clusters: int,
    device: torch.device | str,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Cluster each unimodal guide's posterior means and score them against the labels.

    Returns score -> latent (`latent_of`) -> modality -> value, for the scores of
    `partition_scores` and active_units; of examples without labels, for active_units alone.
    """
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for name, guide in unimodal.items():
        for site, locs in posterior_locs(guide, name, test[name], device).items():
            values: dict[str, Any] = {}
            if test[name].labelled:
                values |= clustering_scores(locs, test[name].labels, num_clusters)
            values["active_units"] = active_units(locs)
            for score, value in values.items():
                scores.setdefault(score, {}).setdefault(latent_of(site, name), {})[name] = value
    return scores


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`evaluate_latents` of the test partition."""
    return evaluate_latents(run.unimodal, run.test, run.num_clusters, run.device)
