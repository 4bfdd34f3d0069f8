"""Posterior means and samples of a partition, by the unimodal guides."""

import numpy as np
import torch
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.generation import draw, infer


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
        for start in range(0, len(examples), chunk):
            index = np.arange(start, min(start + chunk, len(examples)))
            batch = {name: examples.observation(index).to(device)}
            found = infer(guide, batch) if seed is None else draw(guide, batch)
            for site, values in found.items():
                parts.setdefault(site, []).append(values.cpu().numpy())
    return {site: np.concatenate(values) for site, values in parts.items()}
