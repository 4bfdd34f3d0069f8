"""The components of a mixture prior as clusters."""

from typing import Any

import numpy as np
import torch

from pvae_pyro.evaluate.clustering import clustering_scores, partition_scores
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, is_shared


def components_in_use(responsibilities: np.ndarray, least: float = 0.01) -> dict[str, float]:
    """How many of K components are used by N examples, from ``[N, K]`` responsibilities.

    Returns ``in_use``, the number of components that are the most responsible one of at least
    the fraction `least` of the examples, and ``effective``, exp H(r̄) of the average
    responsibility r̄_k = 1/N Σ_n r_nk, from 1 (a single component) to K (all alike).
    """
    size, num_components = responsibilities.shape
    shares = np.bincount(responsibilities.argmax(1), minlength=num_components) / size
    average = responsibilities.mean(0)
    positive = average[average > 0]
    return {
        "in_use": int((shares >= least).sum()),
        "effective": float(np.exp(-(positive * np.log(positive)).sum())),
    }


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """Clusters of the test partition's posterior means of the shared latent.

    Each mean belongs to the component of the prior that is most responsible for it. For comparison,
    "kmeans" has the scores of k-means with as many clusters as there are components in use.
    Without labels there are no scores.
    """
    prior = getattr(run.model, "prior", None)
    responsibilities = getattr(prior, "responsibilities", None)
    if responsibilities is None:
        return {"reason": f"the prior is not a mixture but a {type(prior).__name__}"}
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents().items():
        for name, locs in of_modality.items() if is_shared(latent) else ():
            labels = run.test[name].labels
            shares = responsibilities(torch.as_tensor(locs, device=run.device)).cpu().numpy()
            use = components_in_use(shares)
            scores: dict[str, Any] = {**use, "components": shares.shape[1]}
            if run.test[name].labelled:
                scores = {
                    **partition_scores(labels, shares.argmax(1)),
                    **scores,
                    "kmeans": clustering_scores(locs, labels, max(1, int(use["in_use"]))),
                }
            found.setdefault(latent, {})[name] = scores
    return found
