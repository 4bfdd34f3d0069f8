"""The paper's evaluation of a trained model, on the test partition."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.clustering import active_units, clustering_scores
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.svi import SVI


def latent_of(site: str, modality: str) -> str:
    """What the latent of a site is called when modalities are compared: z_style_m is z_style."""
    return site.removesuffix(f"_{modality}")


def evaluate_latents(
    unimodal: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    num_clusters: int,
    device: torch.device | str,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Cluster each unimodal guide's posterior means and score them against the labels.

    Returns score -> latent (`latent_of`) -> modality -> value, for the scores purity, nmi, ari,
    hungarian and active_units.
    """
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for name, guide in unimodal.items():
        for site, locs in posterior_locs(guide, name, test[name], device).items():
            values = clustering_scores(locs, test[name].labels, num_clusters)
            values["active_units"] = active_units(locs)
            for score, value in values.items():
                scores.setdefault(score, {}).setdefault(latent_of(site, name), {})[name] = value
    return scores


@torch.no_grad()
def evaluate_terms(svi: SVI, loader: PairedLoader) -> dict[str, float]:
    """Each term of the objective on the loader's partition, mean in nats per example."""
    sums: dict[str, float] = {}
    for batch in loader.epoch(0):
        for name, value in svi.terms(batch).items():
            sums[name] = sums.get(name, 0.0) + value.sum().item()
    return {name: value / loader.num_examples for name, value in sums.items()}
