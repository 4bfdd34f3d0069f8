"""Posterior means and samples of a partition, by the unimodal guides, and what they cost."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.generation import draw, infer, infer_moments


def posterior_locs(
    guide: nn.Module,
    name: str,
    examples: Examples,
    device: torch.device | str,
    chunk: int = 500,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Means of q_m(z | x^m) of every example: latent site -> ``[N, D]``.

    The random state does not change.

    Args:
        guide: of the one modality `name`. chunk: examples at a time.
        seed: of one draw from each posterior, which is returned instead of its mean.
    """
    parts: dict[str, list[np.ndarray]] = {}
    with torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        for batch in _batches(name, examples, device, chunk):
            found = infer(guide, batch) if seed is None else draw(guide, batch)
            for site, values in found.items():
                parts.setdefault(site, []).append(values.cpu().numpy())
    return {site: np.concatenate(values) for site, values in parts.items()}


def posterior_kl(
    guide: nn.Module,
    name: str,
    examples: Examples,
    device: torch.device | str,
    chunk: int = 500,
) -> dict[str, np.ndarray]:
    """KL(q_m(z_d | x^m) ‖ N(0, 1)) of each dimension, mean over examples: latent site -> ``[D]``.

        1/N Σ_n ½ (μ_nd² + σ_nd² - 1 - ln σ_nd²)        nats

    for Gaussian posteriors with means μ and variances σ². The random state does not change.
    """
    sums: dict[str, np.ndarray] = {}
    for batch in _batches(name, examples, device, chunk):
        for site, moments in infer_moments(guide, batch).items():
            mean, variance = (moment.cpu().double() for moment in moments)
            kl = 0.5 * (mean.square() + variance - 1 - variance.log())
            sums[site] = sums.get(site, 0.0) + kl.sum(0).numpy()
    return {site: total / len(examples) for site, total in sums.items()}


def _batches(
    name: str, examples: Examples, device: torch.device | str, chunk: int
) -> Iterator[Batch]:
    for start in range(0, len(examples), chunk):
        index = np.arange(start, min(start + chunk, len(examples)))
        yield {name: examples.observation(index).to(device)}
