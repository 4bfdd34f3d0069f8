"""Posterior means and samples of a partition, by the unimodal guides."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.generation import draw, infer


def posterior_locs(
    guide: nn.Module, name: str, examples: Examples, device: torch.device | str, chunk: int = 500
) -> dict[str, np.ndarray]:
    """Means of q_m(z | x^m) of every example: latent site -> ``[N, D]``.

    Args:
        guide: of the one modality `name`. chunk: examples at a time.
    """
    return _of_all(infer, guide, name, examples, device, chunk)


def posterior_samples(
    guide: nn.Module,
    name: str,
    examples: Examples,
    device: torch.device | str,
    chunk: int = 500,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """As `posterior_locs`, one draw from q_m(z | x^m) of every example, which `seed` fixes.

    The random state does not change.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _of_all(draw, guide, name, examples, device, chunk)


def _of_all(
    find: Callable[[nn.Module, Batch], dict[str, Tensor]],
    guide: nn.Module,
    name: str,
    examples: Examples,
    device: torch.device | str,
    chunk: int,
) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(examples), chunk):
        index = np.arange(start, min(start + chunk, len(examples)))
        batch = {name: examples.observation(index).to(device)}
        for site, values in find(guide, batch).items():
            parts.setdefault(site, []).append(values.cpu().numpy())
    return {site: np.concatenate(values) for site, values in parts.items()}
