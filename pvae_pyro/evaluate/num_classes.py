"""How many classes a latent holds, found without a label, by three criteria."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, ward
from scipy.spatial.distance import cdist
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import silhouette_score
from sklearn.metrics.cluster import contingency_matrix

# Tibshirani & Walther 2005 take 0.8 to 0.9. One elongated cluster, cut in two, reaches 0.8.
LEAST_STRENGTH = 0.9


def find_num_classes(
    latents: np.ndarray, most: int = 30, seed: int = 0, most_points: int = 2000
) -> dict[str, Any]:
    """The number of clusters in ``[N, D]`` posterior means, out of 1 to `most`.

    The criteria see `most_points` of the points, drawn at random (not by class: no label is
    known here); the inertia is of all of them. Each criterion gives a number of its own, of
    clusters that hold 1 % of the points or more, and 5 of them; smaller ones are outliers:

    - silhouette: the k >= 2 of k-means with the greatest average silhouette (Rousseeuw 1987).
      It answers 1 for outliers only, and prefers groups of clusters where some are far closer
      than others.
    - prediction_strength: the greatest k where `prediction_strength` is at least
      `LEAST_STRENGTH`. It falls short where halves hold only a few points of a class, so give it
      a thousand points or more; it counts parts of classes that are apart, such as two speakers.
    - density: `density_clusters`. It falls short where stray points bridge clusters, and
      exceeds where a few hundred points have no structure but chance.

    (The gap statistic of Tibshirani et al. 2001 was one once: on latents of ten clusters that are
    no round balls it gave 1, 10, 11, 21 and 30.)

    Returns ``{"agreed", "agreed_by", "criteria", "curves", "inertia", "num_points"}``, for JSON.
    `agreed` is what two criteria or all three say. Where each says another number it is 1 if the
    prediction strength is, for then two halves have no cluster in common; else the silhouette's.
    `agreed_by` is how many criteria gave that number: where it is one, look at the curves; ask
    for a greater `most` where the number is close to it. `curves` has
    what a criterion saw at k = 1, 2, … (None where undefined). `inertia` is the sum of squared
    distances to the closest centroid of k-means per k (paper, Fig. 3).

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
    fits = k_means(points, most)
    distances = cdist(points, points)
    silhouette = [
        float(silhouette_score(distances, fit.labels_, metric="precomputed")) for fit in fits[1:]
    ]
    strength = prediction_strength(points, most, rng)
    # From the best k to its classes: without the clusters that are outliers.
    classes = [(np.bincount(fit.labels_) >= least_size(len(points))).sum() for fit in fits]
    criteria = {
        "silhouette": int(classes[1 + np.argmax(silhouette)]),
        # One cluster where none is found twice: of few points even one may not be.
        "prediction_strength": int(
            classes[max(np.flatnonzero(strength >= LEAST_STRENGTH), default=0)]
        ),
        "density": density_clusters(points),
    }
    agreed, agreed_by = Counter(criteria.values()).most_common(1)[0]
    if agreed_by == 1:
        agreed = 1 if criteria["prediction_strength"] == 1 else criteria["silhouette"]
    return {
        "agreed": agreed,
        "agreed_by": agreed_by,
        "criteria": criteria,
        "curves": {
            "silhouette": [None, *silhouette],
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

    The least, so that one cluster cut at will is seen. Clusters that hold fewer points than
    `least_size` are outliers, and left out: one of one point would keep none. Where all are, 0.
    """
    counts = contingency_matrix(clusters, assigned).astype(float)
    counts = counts[counts.sum(axis=1) >= least_size(len(clusters))]
    sizes = counts.sum(axis=1)
    kept = (counts * (counts - 1)).sum(axis=1)
    return float((kept / (sizes * (sizes - 1))).min(initial=1)) if len(counts) else 0.0


def least_size(num_points: int, least: float = 0.01) -> int:
    """The fewest points that are a class: the part `least` of all of them, and at least 5."""
    return max(5, int(least * num_points))


def density_clusters(points: np.ndarray, least: float = 0.01) -> int:
    """The number of dense regions, by HDBSCAN (Campello et al. 2013); 1 where it tells none apart.

    A region holds `least_size` points or more; others are noise.
    """
    size = least_size(len(points), least)
    clusters = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
    return max(1, int(clusters.max()) + 1)
