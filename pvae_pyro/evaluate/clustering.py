"""How well the clusters of a latent agree with class labels, which never trained it."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix


def purity(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Cluster-size weighted purity (paper, section 4.4): Σ_k max_c |k ∩ c| / N, in (0, 1].

    Args: labels and clusters, ``[N]`` each. Raises ValueError when there is nothing to score.
    """
    if len(labels) == 0:
        raise ValueError("purity of no example at all")
    return float(contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels))


def hungarian_accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Accuracy of the clusters, each named after a class of its own: max_π Σ_k |k ∩ π(k)| / N.

    π is the best matching of clusters to classes (Kuhn 1955). There may be more of one than of
    the other; those left over count as errors. At most the purity.

    Args: labels and clusters, ``[N]`` each. Raises ValueError when there is nothing to score.
    """
    if len(labels) == 0:
        raise ValueError("accuracy of no example at all")
    counts = contingency_matrix(labels, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def clustering_scores(
    latents: np.ndarray, labels: np.ndarray, num_clusters: int, seed: int = 0
) -> dict[str, float]:
    """k-means (10 starts) of ``[N, D]`` latents, against ``[N]`` labels.

    Returns purity, nmi (arithmetic mean normalisation) and ari, by scikit-learn, and hungarian.
    """
    clusters = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(latents)
    return {
        "purity": purity(labels, clusters),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "hungarian": hungarian_accuracy(labels, clusters),
    }


def active_units(locs: np.ndarray, threshold: float = 0.01) -> int:
    """Dimensions of ``[N, D]`` posterior means whose variance over examples exceeds `threshold`.

    Of Burda et al. 2016 (arXiv:1509.00519), section 5. A latent with none is not in use, and
    the purity of its clusters means nothing.
    """
    return int((locs.var(axis=0) > threshold).sum())
