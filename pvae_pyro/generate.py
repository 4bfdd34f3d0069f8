"""Infer latents from some modalities, and generate modalities from latents."""

from collections.abc import Collection, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pvae_pyro.modality import Batch, Observation


class _AtMeans(Messenger):
    """The sites of the named modalities take their distributions' means."""

    def __init__(self, names: Collection[str]):
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        of_modality = any(msg["name"] == n or msg["name"].startswith(f"{n}_") for n in self.names)
        if of_modality and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = msg["fn"].mean, True


@torch.no_grad()
def infer(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Posterior means of a guide's latents: site -> ``[B, D]``.

    The guide draws as it goes; the means do not depend on it, and the random state is left alone.
    """
    with torch.random.fork_rng():
        return {name: site["fn"].mean for name, site in _latent_sites(guide, batch)}


@torch.no_grad()
def draw(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """One draw of a guide's latents: site -> ``[B, D]``."""
    return {name: site["value"] for name, site in _latent_sites(guide, batch)}


def _latent_sites(guide: nn.Module, batch: Batch) -> list[tuple[str, dict[str, Any]]]:
    with pyro.get_param_store().scope():
        trace: Any = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
    return [(name, site) for name, site in trace.nodes.items() if site["type"] == "sample"]


@torch.no_grad()
def decode(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str], chunk: int = 500
) -> dict[str, Observation]:
    """The mean of p(x | z), of the given latents; those not given are drawn from their prior.

    What is given decides what this is. The shared latent of another modality is a translation,
    in a style drawn from the prior; with a style besides, a translation in that style; the shared
    latent of one example and the style of another, a restyling; both of one, a reconstruction.
    Durations are at their means too, so nothing but a latent from its prior is random.

    Args:
        latents: site -> ``[B, D]``, at least one.
        names: modalities to generate. A site is a modality's if it is named as that, or so and
            an underscore before the rest.
        chunk: examples at a time.

    Returns: modality -> observation, with lengths where it is a sequence. Raises ValueError where
    no latent is given, for then there is no number of examples.
    """
    if not latents:
        raise ValueError("decode needs a latent at least")
    size = len(next(iter(latents.values())))
    parts: dict[str, list[Observation]] = {name: [] for name in names}
    for start in range(0, size, chunk):
        some = {site: value[start : start + chunk] for site, value in latents.items()}
        with pyro.get_param_store().scope():
            generated = means(model, some, names)
        for name in names:
            parts[name].append(generated[name])
    return {name: _joined(pieces) for name, pieces in parts.items()}


def means(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str]
) -> dict[str, Observation]:
    """As `decode`, at once, and differentiable in latents and parameters (durations are not)."""
    size = len(next(iter(latents.values())))
    with poutine.condition(data=dict(latents)), _AtMeans(names):
        trace: Any = poutine.trace(model).get_trace(names=names, num_examples=size)
    sites = {name: trace.nodes[name] for name in names}
    return {
        name: Observation(site["value"], getattr(site["fn"], "lengths", None))
        for name, site in sites.items()
    }


def _joined(parts: list[Observation]) -> Observation:
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Observation(
        torch.cat([part.value for part in parts]), torch.cat(lengths) if lengths else None
    )
