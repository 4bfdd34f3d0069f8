"""Gaussian mixtures whose number of components is not known: fitted, and merged into classes.

Shapes: N points, D dimensions, K components.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, ward
from scipy.special import logsumexp

MOST_FACTORS = 2  # of one class: directions in which it is longer than its diagonal says
_FLOOR = 1e-3  # of the average variance, added to every variance
_STEPS, _TOLERANCE = 40, 1e-4  # of EM; the tolerance is in nats a point


class Mixture(NamedTuple):
    """log_joint: ``[N, K]``, log π_k + log N(x_n | k). num_parameters: ``[K]``."""

    log_joint: np.ndarray
    num_parameters: np.ndarray

    @property
    def responsibilities(self) -> np.ndarray:
        """``[N, K]``, π_k N(x_n | k) / Σ_j π_j N(x_n | j)."""
        return np.exp(self.log_joint - logsumexp(self.log_joint, axis=1, keepdims=True))

    @property
    def bic(self) -> float:
        """Σ_n log p(x_n) - P/2 log N, the larger the better (Schwarz 1978), for P parameters."""
        penalty = (self.num_parameters.sum() - 1) / 2 * math.log(len(self.log_joint))
        return float(logsumexp(self.log_joint, axis=1).sum() - penalty)


def search(points: np.ndarray, most: int) -> tuple[Mixture, list[float]]:
    """The diagonal mixture of the greatest BIC out of 1 to `most` components, and the BIC at each.

    Each starts at Ward's clusters. The search goes up until the last 5 numbers, or the last third,
    were no better than the best one before.
    """
    merges = ward(points)
    best, curve = fit_diagonal(points, np.zeros(len(points), int)), list[float]()
    best_k = 1
    for k in range(1, most + 1):
        mixture = fit_diagonal(points, fcluster(merges, k, "maxclust") - 1)
        curve.append(mixture.bic)
        if mixture.bic > best.bic:
            best, best_k = mixture, k
        if k >= best_k + max(5, best_k // 3):
            break
    return best, curve


def fit_diagonal(points: np.ndarray, labels: np.ndarray) -> Mixture:
    """A mixture of Gaussians with diagonal covariances by EM, started at the clusters `labels`."""
    size, dim = points.shape
    floor, squares, before = _FLOOR * points.var(axis=0).mean(), points**2, -math.inf
    shares = np.eye(labels.max() + 1)[labels]
    for _ in range(_STEPS):
        counts = shares.sum(axis=0) + 1e-10
        loc = shares.T @ points / counts[:, None]
        variance = np.maximum(shares.T @ squares / counts[:, None] - loc**2, 0) + floor
        distances = squares @ (1 / variance).T - 2 * points @ (loc / variance).T
        distances += (loc**2 / variance).sum(axis=1)
        log_scale = dim * math.log(2 * math.pi) + np.log(variance).sum(axis=1)
        log_joint = np.log(counts / size) - (log_scale + distances) / 2
        evidence = logsumexp(log_joint, axis=1)
        shares = np.exp(log_joint - evidence[:, None])
        if evidence.sum() - before < _TOLERANCE * size:
            break
        before = evidence.sum()
    return Mixture(log_joint, np.full(len(counts), 2 * dim + 1))


def factor_gaussian(points: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, int]:
    """One Gaussian for the `shares` ``[N]`` of points: log π + log N(x_n) ``[N]``; its parameters.

    Its covariance is a diagonal plus as many of the `MOST_FACTORS` greatest principal factors as
    have the best BIC.
    """
    count, (size, dim) = shares.sum(), points.shape
    centred = points - shares @ points / count
    covariance = (centred.T * shares) @ centred / count
    scale = np.sqrt(np.diag(covariance) + _FLOOR * points.var(axis=0).mean())
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    best = -math.inf, 0, np.eye(dim)
    for q in range(min(MOST_FACTORS, dim - 1) + 1):
        rest = values[: dim - q].mean()
        loadings = vectors[:, dim - q :] * np.sqrt(np.maximum(values[dim - q :] - rest, 0))
        unique = np.maximum(1 - (loadings**2).sum(axis=1), 0.05)
        model = loadings @ loadings.T + np.diag(unique)
        misfit = np.linalg.slogdet(model)[1] + np.trace(np.linalg.solve(model, correlation))
        best = max(best, (-count / 2 * misfit - dim * q / 2 * math.log(size), q, model), key=_first)
    _, q, model = best
    root = np.linalg.cholesky(model)
    distances = (np.linalg.solve(root, (centred / scale).T) ** 2).sum(axis=0)
    log_scale = dim * math.log(2 * math.pi) + 2 * np.log(scale).sum()
    log_scale += 2 * np.log(np.diag(root)).sum()
    return math.log(count / size) - (log_scale + distances) / 2, (2 + q) * dim + 1


def _first(candidate: tuple[float, int, np.ndarray]) -> float:
    return candidate[0]


def overlaps(shares: np.ndarray) -> np.ndarray:
    """How often a point of one component is taken for one of the other: ``[K, K]``, symmetric.

    The greater one of the two directions; the diagonal is 0.

    Source: Hennig 2010 (doi:10.1007/s11634-010-0058-3), directly estimated misclassification.
    """
    taken = np.eye(shares.shape[1])[shares.argmax(axis=1)]
    confused = (shares.T @ taken) / np.maximum(shares.sum(axis=0), 1e-9)[:, None]
    np.fill_diagonal(confused, 0)
    return np.maximum(confused, confused.T)


def valley(points: np.ndarray, others: np.ndarray) -> float:
    """The density's least value between two groups' means, over the smaller of the two maxima
    beside it: near 0 if they are apart, about 1 if nothing separates them.

    The density is a kernel estimate of the points, both groups weighing the same, projected onto
    the direction that separates diagonal Gaussians.

    Args: points, others: ``[N, D]`` and ``[M, D]``.
    """
    sizes = np.array([len(points), len(others)])
    pooled = sizes @ [points.var(axis=0), others.var(axis=0)] / sizes.sum()
    direction = (others.mean(axis=0) - points.mean(axis=0)) / np.maximum(pooled, 1e-12)
    parts = points @ direction, others @ direction
    spread = math.sqrt(sizes @ [part.var() for part in parts] / sizes.sum())
    if min(sizes) < 2 or spread == 0 or parts[0].mean() >= parts[1].mean():
        return 1.0
    width = spread * min(sizes) ** -0.2
    grid = np.linspace(parts[0].mean(), parts[1].mean(), 41)[:, None]
    density = sum(np.exp(-(((grid - part) / width) ** 2) / 2).mean(axis=1) for part in parts)
    lowest = 1 + density[1:-1].argmin()
    return float(density[lowest] / min(density[:lowest].max(), density[lowest + 1 :].max()))
