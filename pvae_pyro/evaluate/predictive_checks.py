"""Criticism of a model: predictive checks, and how far importance weights can be trusted.

Shapes: N examples, K draws.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from torch import Tensor

from pvae_pyro.inference_data import import_arviz, is_before_1

SAMPLE = ("chain", "draw", "example")
PREDICTIVE = ("posterior_predictive", "prior_predictive")
GOOD_K = 0.7  # Vehtari et al. 2024 (arXiv:1507.02646)
_INSIDE = (0.05, 0.95)  # quantiles of the draws


def statistics(values: Any) -> dict[str, Any]:
    """Statistics of each example and draw, over its own entries; NaN is padding.

        mean      of the entries; of a picture, the amount of ink
        sd        of the entries, around that mean
        energy    Σ x², of a sequence
        duration  frames, of a sequence

    values: a variable of `pvae_pyro.inference_data`, an `xarray.DataArray`. Returns statistic ->
    DataArray over chain, draw and example, in the units of the values.
    """
    event = [dim for dim in values.dims if dim not in SAMPLE]
    found = {"mean": values.mean(event), "sd": values.std(event)}
    if frames := [dim for dim in event if str(dim).endswith("_frame")]:
        within = [dim for dim in event if dim not in frames]
        found["energy"] = (values**2).sum(event)
        found["duration"] = values.notnull().any(within).sum(frames)
    return found


def predictive_check(data: Any, names: Collection[str]) -> dict[str, Any]:
    """Observed statistics against predicted ones: modality -> statistic -> group -> figures.

        observed   mean over examples of the observed statistic
        predicted  the same of a replicate, averaged over draws; draws_sd: its sd over draws
        p          fraction of draws whose mean over examples is at least the observed one
        inside     fraction of examples whose observed statistic lies within the central 90 % of
                   its own draws

    data: what `inference_data` returns. A p near 0 or 1 is a misfit. The posterior's p is biased
    towards 1/2, since each latent was inferred from the example it predicts; the prior's is not.

    Source: Gelman, Meng & Stern 1996 (Statistica Sinica 6, 733-807).
    """
    found: dict[str, Any] = {}
    for name in names:
        observed = statistics(data["observed_data"][name])
        for group in PREDICTIVE:
            for what, drawn in statistics(data[group][name]).items():
                of_example = observed[what]
                replicates, mean = drawn.mean("example"), float(of_example.mean())
                low, high = (drawn.quantile(q, ["chain", "draw"]) for q in _INSIDE)
                found.setdefault(name, {}).setdefault(what, {})[group] = {
                    "observed": mean,
                    "predicted": float(replicates.mean()),
                    "draws_sd": float(replicates.std()),
                    "p": float((replicates >= mean).mean()),
                    "inside": float(((of_example >= low) & (of_example <= high)).mean()),
                }
    return found


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
    if is_before_1(arviz):
        _, found = arviz.psislw(weights.T)
    else:
        from arviz_stats.base import array_stats

        _, found = array_stats.psislw(-weights.T)  # it expects log-likelihoods to leave out
    return np.where(np.ptp(weights, axis=0) < 0.01, 0.0, np.where(np.isnan(found), np.inf, found))


def reliable_k(num_samples: int) -> float:
    """min(1 - 1 / log10(K), 0.7), at least 0: the largest k that K draws support."""
    return max(0.0, min(1 - 1 / np.log10(max(num_samples, 2)), GOOD_K))
