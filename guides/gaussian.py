"""An inference network: encoders, and a diagonal Gaussian for each latent."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pvae_pyro.modality import Batch, Modality, batch_size
from pvae_pyro.nn.heads import GaussianHead


class GaussianGuide(nn.Module):
    """q(z | x) = Π_k q(z_k | x), every factor seeing all the modalities of the guide.

    Their encoders' features, side by side, go to one head of each latent. Of all modalities it
    is a multimodal guide (paper, Eq. 2), of one a unimodal guide (Eq. 6), which looks at no other
    modality of the batch. A modality that is not in the batch is a KeyError.

    Args:
        modalities: those to infer from.
        latents: site -> dimension, in the model's order.
    """

    def __init__(self, modalities: Iterable[Modality], latents: Mapping[str, int]):
        super().__init__()
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities})
        features = sum(encoder.out_features for encoder in self.encoders.values())
        self.heads = nn.ModuleDict({site: GaussianHead(features, d) for site, d in latents.items()})

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents; keywords are the model's and say nothing to the guide."""
        pyro.module(f"guide_{'_'.join(self.encoders)}", self)
        features = torch.cat(
            [encoder(batch[name]) for name, encoder in self.encoders.items()], dim=-1
        )
        with pyro.plate("examples", batch_size(batch), dim=-1):
            return {site: pyro.sample(site, head(features)) for site, head in self.heads.items()}
