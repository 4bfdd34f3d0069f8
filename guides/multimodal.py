"""The multimodal inference network (paper, Eq. 2)."""

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pvae_pyro.modality import Batch, Modality, batch_size
from pvae_pyro.nn.heads import GaussianHead


class MultimodalGuide(nn.Module):
    """q(z_sem, z_style | x) = q(z_sem | x) Π_m q(z_style_m | x).

    Every factor sees all modalities: their encoders' features, side by side, go to one head of
    each latent. Needs every modality in the batch (KeyError otherwise).
    """

    def __init__(self, modalities: Iterable[Modality], semantic_dim: int = 32, style_dim: int = 32):
        super().__init__()
        modalities = tuple(modalities)
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities})
        features = sum(encoder.out_features for encoder in self.encoders.values())
        self.z_sem = GaussianHead(features, semantic_dim)
        self.z_style = nn.ModuleDict(
            {m.name: GaussianHead(features, style_dim) for m in modalities}
        )

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents; keywords are the model's and say nothing to the guide."""
        pyro.module("multimodal_guide", self)
        features = torch.cat(
            [encoder(batch[name]) for name, encoder in self.encoders.items()], dim=-1
        )
        with pyro.plate("examples", batch_size(batch), dim=-1):
            latents = {"z_sem": pyro.sample("z_sem", self.z_sem(features))}
            for name, head in self.z_style.items():
                latents[f"z_style_{name}"] = pyro.sample(f"z_style_{name}", head(features))
        return latents
