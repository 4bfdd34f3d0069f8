"""How strongly style latents depend on the shared latent, beside the value of independent ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvae_pyro.evaluate.run import STYLE, MeasureSettings, TrainedRun, is_shared
from pvae_pyro.objective.hsic import FEWEST, normalised_hsic


def dependence(
    shared: np.ndarray,
    style: np.ndarray,
    batch_size: int = 64,
    num_permutations: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """`normalised_hsic` of two latents, averaged over batches of random examples.

    A last batch that is smaller is left out, unless it is the only one. seed: of the order of
    the examples and of the permutations.

    Args: ``[N, D]`` and ``[N, E]``, row by row of the same example.

    Returns dependence; permuted and permuted_sd, the mean and the standard deviation of the same
    average over permutations of the rows of `style`, which make the two independent; and
    num_examples. The first three are None, with the reason, for fewer than four examples.
    """
    if len(shared) < FEWEST:
        unknown = dict.fromkeys(("dependence", "permuted", "permuted_sd"))
        return {**unknown, "reason": f"dependence needs {FEWEST} examples or more"}
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(shared))[: len(shared) // batch_size * batch_size or None]
    x, y = torch.from_numpy(shared[order]), torch.from_numpy(style[order])
    permuted = [
        _over_batches(x, y[torch.from_numpy(rng.permutation(len(y)))], batch_size)
        for _ in range(num_permutations)
    ]
    return {
        "dependence": _over_batches(x, y, batch_size),
        "permuted": float(np.mean(permuted)),
        "permuted_sd": float(np.std(permuted, ddof=1)),
        "num_examples": len(order),
    }


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """modality -> "samples" and "means" -> the `dependence` of the test examples' styles.

    The styles are one sample, or the mean, of each unimodal posterior of z_style. Their dependence
    is on the mean of the same guide's posterior of the shared latent, as in the objective, whose
    styles are samples of the multimodal guide. A model without style latents has no modality here.
    """
    means, samples = run.latents("test"), run.latents("test", sampled=True)
    (shared,) = (of_modality for latent, of_modality in means.items() if is_shared(latent))
    return {
        name: {
            "samples": dependence(shared[name], samples[STYLE][name]),
            "means": dependence(shared[name], style),
        }
        for name, style in means.get(STYLE, {}).items()
    }


def _over_batches(x: Tensor, y: Tensor, batch_size: int) -> float:
    batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return float(np.mean([normalised_hsic(a, b).mean().item() for a, b in batches]))
