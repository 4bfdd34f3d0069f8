"""How many classes a latent holds, found without a label, by four criteria."""

from collections.abc import Sequence
from statistics import median_low
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, ward
from scipy.spatial.distance import cdist
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.metrics.cluster import contingency_matrix

# Tibshirani & Walther 2005 take 0.8 to 0.9. One elongated cluster, cut in two, reaches 0.8.
LEAST_STRENGTH = 0.9


def find_num_classes(
    latents: np.ndarray, most: int = 30, seed: int = 0, most_points: int = 2000
) -> dict[str, Any]:
    """The number of clusters in ``[N, D]`` posterior means, out of 1 to `most`.

    The criteria see `most_points` of the points, drawn at random (not by class: no label is
    known here); the inertia is of all of them. Each criterion gives a number of its own:

    - silhouette: the k >= 2 of k-means with the greatest average silhouette (Rousseeuw 1987).
      It cannot answer 1, and prefers groups of clusters where some are far closer than others.
    - gap: `gap_statistic`, then `first_maximum`. It exceeds where clusters are no round balls,
      and stays at 1 where clusters are so equally far apart that two groups explain little.
    - prediction_strength: the greatest k where `prediction_strength` is at least
      `LEAST_STRENGTH`. It falls short where halves hold only a few points of a class.
    - density: `density_clusters`. It falls short where stray points bridge clusters, and
      exceeds where a few hundred points have no structure but chance.

    Returns ``{"agreed", "agreed_by", "criteria", "curves", "inertia", "num_points"}``, for JSON.
    `agreed` is the second least of the four, their lower median: one may be far off on either
    side, or one on each. `agreed_by` is how many gave that number: look at the curves where it is
    one or two, and ask for a greater `most` where the number is close to it. `curves` has what a
    criterion saw at k = 1, 2, … (None where undefined). `inertia` is the sum of squared distances
    to the closest centroid of k-means per k (paper, Fig. 3).

    Below 4 `most` distinct points, N/4 takes the place of `most`. Raises ValueError where there
    are fewer than 8, e.g. in a latent of one point.
    """
    most = min(most, len(np.unique(latents, axis=0)) // 4)
    if most < 2:
        raise ValueError("fewer than 8 distinct points have no number of clusters")
    rng = np.random.default_rng(seed)
    points = latents = np.asarray(latents, np.float64)
    if len(latents) > most_points:
        points = latents[rng.choice(len(latents), most_points, replace=False)]
    # Moving and turning changes no distance, and lays the gap statistic's box along the data.
    pca = PCA().fit(points)
    points, latents = pca.transform(points), pca.transform(latents)

    fits = k_means(points, most)
    distances = cdist(points, points)
    silhouette = [
        float(silhouette_score(distances, fit.labels_, metric="precomputed")) for fit in fits[1:]
    ]
    gap, gap_errors = gap_statistic(points, fits, rng)
    strength = prediction_strength(points, most, rng)
    criteria = {
        "silhouette": 2 + int(np.argmax(silhouette)),
        "gap": first_maximum(gap, gap_errors),
        "prediction_strength": 1 + int(np.flatnonzero(strength >= LEAST_STRENGTH)[-1]),
        "density": density_clusters(points),
    }
    agreed = median_low(criteria.values())
    return {
        "agreed": agreed,
        "agreed_by": list(criteria.values()).count(agreed),
        "criteria": criteria,
        "curves": {
            "silhouette": [None, *silhouette],
            "gap": gap.tolist(),
            "prediction_strength": strength.tolist(),
        },
        "inertia": [
            float(KMeans(len(start), init=start, n_init=1, random_state=0).fit(latents).inertia_)
            for start in (fit.cluster_centers_ for fit in fits)
        ],
        "num_points": len(points),
    }


def k_means(points: np.ndarray, most: int) -> list[KMeans]:
    """k-means of ``[N, D]`` points at k = 1 to `most`, started at Ward's clusters.

    Ward's hierarchy is cut at every k. Ten random starts still cut some of 10 clusters of unequal
    size in two and join others; this start does so less, and is one.
    """
    merges = ward(points)
    fits = []
    for k in range(1, most + 1):
        clusters = fcluster(merges, k, "maxclust")
        start = np.array([points[clusters == c].mean(axis=0) for c in np.unique(clusters)])
        fits.append(KMeans(len(start), init=start, n_init=1, random_state=0).fit(points))
    return fits


def gap_statistic(
    points: np.ndarray, fits: Sequence[KMeans], rng: np.random.Generator, num_references: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Gap(k) = E*[log W_k] - log W_k and its error s_k, at k = 1 to ``len(fits)``.

    Of Tibshirani, Walther & Hastie 2001. W_k is the inertia of `fits`, k-means of `points`; E*
    is over `num_references` sets as large as `points`, uniform on the box around them whose
    sides are the axes (give principal components). s_k = sd*(log W_k) √(1 + 1/num_references).
    """

    def log_inertia(fits: Sequence[KMeans]) -> np.ndarray:
        return np.log([fit.inertia_ for fit in fits])

    low, high = points.min(axis=0), points.max(axis=0)
    references = np.array(
        [
            log_inertia(k_means(rng.uniform(low, high, points.shape), len(fits)))
            for _ in range(num_references)
        ]
    )
    gap = references.mean(axis=0) - log_inertia(fits)
    return gap, references.std(axis=0) * np.sqrt(1 + 1 / num_references)


def first_maximum(gap: np.ndarray, errors: np.ndarray) -> int:
    """The least k with Gap(k) >= Gap(k + 1) - s_(k+1), or the last k where there is none."""
    enough = gap[:-1] >= gap[1:] - errors[1:]
    return 1 + int(np.argmax(enough)) if enough.any() else len(gap)


def prediction_strength(
    points: np.ndarray, most: int, rng: np.random.Generator, num_splits: int = 5
) -> np.ndarray:
    """Whether the clusters of one half are those of the other: at k = 1 to `most`, in [0, 1].

    Of Tibshirani & Walther 2005: both halves are clustered, then `pairs_kept` of either half's
    clusters by the other's centroids. The mean over both directions of `num_splits` random
    halvings. At k = 1 it is 1.
    """
    strengths = np.zeros((num_splits, most))
    for row in strengths:
        one, other = np.array_split(points[rng.permutation(len(points))], 2)
        for k, (a, b) in enumerate(zip(k_means(one, most), k_means(other, most), strict=True)):
            kept = pairs_kept(a.labels_, b.predict(one)), pairs_kept(b.labels_, a.predict(other))
            row[k] = sum(kept) / 2
    return strengths.mean(axis=0)


def pairs_kept(clusters: np.ndarray, assigned: np.ndarray) -> float:
    """The proportion of a cluster's pairs that are together in `assigned` too, the least of all.

    The least, so that one cluster cut at will is seen. A cluster of one point keeps none.
    """
    counts = contingency_matrix(clusters, assigned).astype(float)
    sizes = counts.sum(axis=1)
    kept = (counts * (counts - 1)).sum(axis=1)
    return float((kept / np.maximum(sizes * (sizes - 1), 1)).min())


def density_clusters(points: np.ndarray, least: float = 0.01) -> int:
    """The number of dense regions, by HDBSCAN (Campello et al. 2013); 1 where it tells none apart.

    A region holds at least the part `least` of the points, and 5 of them; others are noise.
    """
    size = max(5, int(least * len(points)))
    clusters = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
    return max(1, int(clusters.max()) + 1)
