"""How far importance weights can be trusted.

Shapes: N examples, K draws.
"""

import numpy as np
from torch import Tensor

from pvae_pyro.inference_data import import_arviz, is_before_1

GOOD_K = 0.7  # Vehtari et al. 2024 (arXiv:1507.02646)


def pareto_k(log_weights: Tensor) -> np.ndarray:
    """Tail index k̂ of the importance weights of each example: ``[K, N]`` -> ``[N]``.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 √K) weights. It has
    1/k moments: up to k = 0.7 estimates by importance weighting converge at a usable rate; above
    1 not even the mean exists, so q misses where the posterior is. K draws do not distinguish a k
    above 1 - 1 / log10(K) from a harmless one (`reliable_k`). Infinite if there are too few weights
    to fit; 0 if all are within 1 % of each other.

    Source: Vehtari et al. 2024 (arXiv:1507.02646); ArviZ's `psislw`.
    """
    weights = log_weights.double().numpy(force=True)
    arviz = import_arviz()
    if len(weights) < 2:  # ArviZ indexes beyond the end
        found = np.full(weights.shape[1], np.inf)
    elif is_before_1(arviz):
        _, found = arviz.psislw(weights.T)
    else:
        from arviz_stats.base import array_stats

        _, found = array_stats.psislw(-weights.T)  # it expects log-likelihoods to leave out
    return np.where(np.ptp(weights, axis=0) < 0.01, 0.0, np.where(np.isnan(found), np.inf, found))


def reliable_k(num_samples: int) -> float:
    """min(1 - 1 / log10(K), 0.7), at least 0: the largest k that K draws support."""
    return max(0.0, min(1 - 1 / np.log10(max(num_samples, 2)), GOOD_K))
