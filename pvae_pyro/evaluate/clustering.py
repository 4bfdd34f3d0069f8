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


def partition_scores(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Clusters ``[N]``, however found, against ``[N]`` labels.

    Returns purity, nmi (arithmetic mean normalisation) and ari, by scikit-learn, and hungarian.
    """
    return {
        "purity": purity(labels, clusters),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
        "hungarian": hungarian_accuracy(labels, clusters),
    }


def clustering_scores(
    latents: np.ndarray, labels: np.ndarray, num_clusters: int, seed: int = 0
) -> dict[str, float]:
    """`partition_scores` of k-means (10 starts) of ``[N, D]`` latents, against ``[N]`` labels."""
    clusters = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(latents)
    return partition_scores(labels, clusters)


def components_in_use(responsibilities: np.ndarray, least: float = 0.01) -> dict[str, float]:
    """How many of K components have any of N examples, by ``[N, K]`` responsibilities.

    Returns ``in_use``, the number of components that are the most responsible one of at least
    the fraction `least` of the examples, and ``effective``, exp H(r̄) of their average
    responsibility r̄_k = 1/N Σ_n r_nk: 1 where a single one has all, K where all have as much.
    The latter counts small and doubtful shares too. Raises ValueError without any example.
    """
    size, num_components = responsibilities.shape
    if size == 0:
        raise ValueError("components in use by no example at all")
    shares = np.bincount(responsibilities.argmax(1), minlength=num_components) / size
    average = responsibilities.mean(0)
    positive = average[average > 0]
    return {
        "in_use": int((shares >= least).sum()),
        "effective": float(np.exp(-(positive * np.log(positive)).sum())),
    }


def active_units(locs: np.ndarray, threshold: float = 0.01) -> int:
    """Dimensions of ``[N, D]`` posterior means whose variance over examples exceeds `threshold`.

    Of Burda et al. 2016 (arXiv:1509.00519), section 5. A latent with none is not in use, and
    the purity of its clusters means nothing.
    """
    return int((locs.var(axis=0) > threshold).sum())
