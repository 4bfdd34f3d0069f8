"""Posterior means of a partition, by the unimodal guides."""

from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import prune_subsample_sites
from torch import nn

from pvae_pyro.data.examples import Examples


@torch.no_grad()
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
        # The guide draws as it goes; the means do not depend on it, and the caller's random
        # state is left alone.
        with torch.random.fork_rng(), pyro.get_param_store().scope():
            trace: Any = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
        for site, node in trace.nodes.items():
            if node["type"] == "sample":
                parts.setdefault(site, []).append(node["fn"].mean.cpu().numpy())
    return {site: np.concatenate(values) for site, values in parts.items()}
