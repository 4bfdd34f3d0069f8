"""Posterior means of a partition, by the unimodal guides."""

import numpy as np
import torch
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.generate import infer


def posterior_locs(
    guide: nn.Module, name: str, examples: Examples, device: torch.device | str, chunk: int = 500
) -> dict[str, np.ndarray]:
    """Means of q_m(z | x^m) of every example: latent site -> ``[N, D]``.

    Args:
        guide: of the one modality `name`. chunk: examples at a time.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(examples), chunk):
        index = np.arange(start, min(start + chunk, len(examples)))
        batch = {name: examples.observation(index).to(device)}
        for site, loc in infer(guide, batch).items():
            parts.setdefault(site, []).append(loc.cpu().numpy())
    return {site: np.concatenate(values) for site, values in parts.items()}
