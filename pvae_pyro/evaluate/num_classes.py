"""How many classes a latent holds, counted without labels.

The pairs that a model is trained on are made by class (docs/data.md, "Labels and pairs").

Shapes: N points, D dimensions, K components of a mixture.
"""

from itertools import combinations
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, ward
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp
from sklearn.cluster import KMeans

from pvae_pyro.evaluate.mixture import (
    Mixture,
    factor_gaussian,
    overlaps,
    search,
    valley,
)
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, is_shared

LEAST_OVERLAP = 0.01  # components that are confused less often are different classes
LEAST_VALLEY = 0.9  # the density between two classes is below this part of the density in them
LEAST_SIZE = 5  # points of a class
MOST_WIDTH = 3.0  # of a class, in those of the median one; a wider one is background
_MOST_INERTIA = 30  # clusters of k-means whose inertia is drawn


def find_num_classes(
    points: np.ndarray, most: int = 100, seed: int = 0, most_points: int = 3000
) -> dict[str, Any]:
    """The number of classes in ``[N, D]`` draws of a latent, one from each example's posterior.

    A class is a group of components of a Gaussian mixture that nothing separates:

    1. The mixture has diagonal covariances and the number of components with the best BIC.
    2. Two components become one if a single Gaussian explains the points as well (`join_alike`),
       or if the density between their means has no valley (`join_touching`).
    3. What has fewer than `LEAST_SIZE` points, or is `MOST_WIDTH` times as wide as the median
       class (geometric mean of the standard deviations), is no class but background.

    Draws, not means: they blur what a decoder cannot rely on, such as parts of a class that are
    closer than the posteriors are wide. Of more than `most_points` points that many are drawn.

    Returns ``{"number", "components", "capped", "sizes", "bic", "num_points"}`` for JSON.
    `components` is K before anything is joined, `sizes` the fraction of the points in each class,
    and `bic` the BIC at K = 1, 2, …. If the best K is the last one allowed, `most` or N/4, `capped`
    is true and there is a `reason`.

    Raises ValueError if there are fewer than 8 distinct points.
    """
    points = np.asarray(points, np.float64)
    allowed = len(np.unique(points, axis=0)) // 4
    if allowed < 2:
        raise ValueError("classes cannot be counted in fewer than 8 distinct points")
    allowed = min(allowed, most)
    if len(points) > most_points:
        rng = np.random.default_rng(seed)
        points = points[rng.choice(len(points), most_points, replace=False)]
        allowed = min(allowed, most_points // 4)
    mixture, bic = search(points, allowed)
    components = mixture.log_joint.shape[1]
    shares = join_touching(points, join_alike(points, mixture.responsibilities))
    sizes = np.sort(shares.sum(axis=0)[are_classes(points, shares)])[::-1] / len(points)
    found = {
        "number": max(1, len(sizes)),
        "components": components,
        "capped": components == allowed,
        "sizes": sizes.tolist(),
        "bic": bic,
        "num_points": len(points),
    }
    if found["capped"]:
        found["reason"] = (
            f"the mixture has {components} components, which is the most that were tried; there "
            "may be more classes: increase --most-classes, or use more data"
        )
    return found


def join_alike(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Join the components that a single Gaussian explains as well, starting with the most alike.

    Each component becomes a `factor_gaussian`, which may be longer in some directions, so that one
    long class is not several round ones. Two are replaced by one while that increases the
    log-likelihood less one nat for each parameter (Akaike's criterion).

    Args: shares: ``[N, K]`` responsibilities. Returns those of the joined ones.
    """
    shares = shares[:, shares.sum(axis=0) >= 2]
    columns = [factor_gaussian(points, share) for share in shares.T]
    while True:
        mixture = Mixture(
            np.stack([column for column, _ in columns], axis=1),
            np.array([number for _, number in columns]),
        )
        shares = mixture.responsibilities
        evidence = logsumexp(mixture.log_joint, axis=1)
        best, best_gain = None, 0.0
        for a, b in np.argwhere(np.triu(overlaps(shares)) >= LEAST_OVERLAP):
            joined, number = factor_gaussian(points, shares[:, a] + shares[:, b])
            rest = np.maximum(1 - shares[:, a] - shares[:, b], 1e-300)
            gain = np.logaddexp(np.log(rest), joined - evidence).sum()
            gain += mixture.num_parameters[[a, b]].sum() - number
            if gain > best_gain:
                best, best_gain = (a, b, (joined, number)), gain
        if best is None:
            return shares
        a, b, column = best
        columns = [one for n, one in enumerate(columns) if n not in (a, b)] + [column]


def join_touching(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Join components with no `valley` between them, and what is connected by such pairs.

    Args: shares: ``[N, K]`` responsibilities. Returns those of the joined ones.
    """
    cluster, overlap = shares.argmax(axis=1), overlaps(shares)
    touching = np.zeros(overlap.shape, bool)
    for a, b in combinations(range(len(overlap)), 2):
        if overlap[a, b] >= LEAST_OVERLAP and (cluster == a).any() and (cluster == b).any():
            touching[a, b] = valley(points[cluster == a], points[cluster == b]) > LEAST_VALLEY
    _, group = connected_components(touching, directed=False)
    return shares @ np.eye(group.max() + 1)[group]


def are_classes(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Which of the groups with responsibilities ``[N, K]`` are classes rather than background."""
    counts = shares.sum(axis=0)
    loc = shares.T @ points / counts[:, None]
    variance = np.maximum(shares.T @ points**2 / counts[:, None] - loc**2, 1e-12)
    width = np.exp(np.log(variance).mean(axis=1) / 2)
    median = np.sort(width)[(len(width) - 1) // 2]
    return np.asarray((counts >= LEAST_SIZE) & (width <= MOST_WIDTH * median))


def inertias(
    latents: np.ndarray, most: int = _MOST_INERTIA, most_points: int = 2000
) -> list[float]:
    """The inertia of k-means of ``[N, D]`` at k = 1, 2, … (paper, Fig. 3): the sum of squared
    distances to the closest centroid.

    Each starts at the clusters of Ward's hierarchy of some of the points. At most N/4 clusters.
    """
    latents = np.asarray(latents, np.float64)
    order = np.random.default_rng(0).permutation(len(latents))
    some = latents[order[:most_points]]
    merges, curve = ward(some), []
    for k in range(1, min(most, len(np.unique(some, axis=0)) // 4) + 1):
        cluster = fcluster(merges, k, "maxclust")
        start = np.array([some[cluster == c].mean(axis=0) for c in np.unique(cluster)])
        fit = KMeans(len(start), init=start, n_init=1, random_state=0).fit(latents)
        curve.append(float(fit.inertia_))
    return curve


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`find_num_classes` in the shared latents of the training partition, which is larger; and the
    `inertias` of the posterior means."""
    found: dict[str, Any] = {}
    means = run.latents("train")
    for latent, of_modality in run.latents("train", sampled=True).items():
        for name, draws in of_modality.items() if is_shared(latent) else ():
            try:
                result = find_num_classes(draws, settings.most_classes)
                result["inertia"] = inertias(means[latent][name])
            except ValueError as error:  # hardly any points
                result = {"number": None, "reason": str(error)}
            found.setdefault(latent, {})[name] = result
    return found
