"""How many classes a latent holds, found without labels, by three criteria."""

from collections import Counter
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, ward
from scipy.spatial.distance import cdist
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import silhouette_score
from sklearn.metrics.cluster import contingency_matrix

from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, is_shared

# Tibshirani & Walther 2005 take 0.8 to 0.9. One elongated cluster, cut in two, reaches 0.8.
LEAST_STRENGTH = 0.9


def find_num_classes(
    latents: np.ndarray, most: int = 30, seed: int = 0, most_points: int = 2000
) -> dict[str, Any]:
    """The number of clusters in ``[N, D]`` posterior means, out of 1 to `most`.

    The criteria see `most_points` of the points, drawn at random; the inertia is of all of them.
    Each criterion counts clusters of at least 1 % of the points, and at least 5; smaller ones are
    outliers:

    - silhouette: the k >= 2 of k-means with the greatest average silhouette (Rousseeuw 1987).
      It answers 1 only if all other clusters are outliers, and prefers groups of clusters if some
      are far closer than others.
    - prediction_strength: the greatest k where `prediction_strength` is at least
      `LEAST_STRENGTH`. It is too low if halves hold only a few points of a class, so give it
      a thousand points or more; it counts separate parts of a class, such as two speakers.
    - density: `density_clusters`. It is too low if stray points bridge clusters, and too high if
      a few hundred points have no structure.

    Returns ``{"agreed", "agreed_by", "criteria", "curves", "inertia", "num_points"}``, for JSON.
    `agreed` is the number that at least two criteria give. If all differ, it is 1 if the
    prediction strength says so (two halves have no cluster in common), else the silhouette's.
    `agreed_by` is how many criteria gave that number: if it is 1, look at the curves. `curves` has
    the criteria at k = 1, 2, … (None where undefined). `inertia` is the sum of squared distances to
    the closest centroid of k-means per k (paper, Fig. 3).

    With fewer than 4 `most` distinct points N, N/4 takes the place of `most`. Raises ValueError if
    there are fewer than 8, e.g. in a latent that is one point.
    """
    most = min(most, len(np.unique(latents, axis=0)) // 4)
    if most < 2:
        raise ValueError("clusters cannot be counted in fewer than 8 distinct points")
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

    Ten random starts still cut some of 10 clusters of unequal size in two and join others; the one
    start from Ward's hierarchy, cut at k, does so less.
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
    """How well the clusters of one half predict those of the other, at k = 1 to `most`, in [0, 1].

    Both halves are clustered; each half's `pairs_kept` are counted under the other's centroids. The
    mean over both directions and `num_splits` random halvings; at k = 1 it is 1.

    Source: Tibshirani & Walther 2005.
    """
    strengths = np.zeros((num_splits, most))
    for row in strengths:
        one, other = np.array_split(points[rng.permutation(len(points))], 2)
        for k, (a, b) in enumerate(zip(k_means(one, most), k_means(other, most), strict=True)):
            kept = pairs_kept(a.labels_, b.predict(one)), pairs_kept(b.labels_, a.predict(other))
            row[k] = sum(kept) / 2
    return strengths.mean(axis=0)


def pairs_kept(clusters: np.ndarray, assigned: np.ndarray) -> float:
    """The proportion of a cluster's pairs that are also together in `assigned`: of all clusters the
    least, so that one arbitrarily cut cluster is seen. Outliers (`least_size`) are left out; 0 if
    all clusters are.
    """
    counts = contingency_matrix(clusters, assigned).astype(float)
    counts = counts[counts.sum(axis=1) >= least_size(len(clusters))]
    sizes = counts.sum(axis=1)
    kept = (counts * (counts - 1)).sum(axis=1)
    return float((kept / (sizes * (sizes - 1))).min(initial=1)) if len(counts) else 0.0


def least_size(num_points: int, least: float = 0.01) -> int:
    """The fewest points of a class: the fraction `least` of all points, and at least 5."""
    return max(5, int(least * num_points))


def density_clusters(points: np.ndarray, least: float = 0.01) -> int:
    """The number of dense regions of `least_size` points or more, at least 1.

    Source: HDBSCAN (Campello et al. 2013).
    """
    size = least_size(len(points), least)
    clusters = HDBSCAN(min_cluster_size=size, copy=True).fit_predict(points)
    return max(1, int(clusters.max()) + 1)


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`find_num_classes` in the shared latents of the training partition, which is larger."""
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents("train").items():
        for name, locs in of_modality.items() if is_shared(latent) else ():
            try:
                result = find_num_classes(locs)
            except ValueError as error:  # a latent that is hardly in use
                result = {"agreed": None, "reason": str(error)}
            found.setdefault(latent, {})[name] = result
    return found
