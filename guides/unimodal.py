"""The unimodal inference networks (paper, Eq. 6)."""

from typing import Any

import pyro
from torch import Tensor, nn

from pvae_pyro.modality import Batch, Modality, batch_size
from pvae_pyro.nn.heads import GaussianHead


class UnimodalGuide(nn.Module):
    """q_m(z_sem, z_style_m | x^m) = q_m(z_sem | x^m) q_m(z_style_m | x^m), for one modality m.

    Looks at no other modality of the batch.
    """

    def __init__(self, modality: Modality, semantic_dim: int = 32, style_dim: int = 32):
        super().__init__()
        self.name = modality.name
        self.encoder = modality.encoder()
        self.z_sem = GaussianHead(self.encoder.out_features, semantic_dim)
        self.z_style = GaussianHead(self.encoder.out_features, style_dim)

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents; keywords are the model's and say nothing to the guide."""
        pyro.module(f"unimodal_guide_{self.name}", self)
        features = self.encoder(batch[self.name])
        with pyro.plate("examples", batch_size(batch), dim=-1):
            return {
                "z_sem": pyro.sample("z_sem", self.z_sem(features)),
                f"z_style_{self.name}": pyro.sample(f"z_style_{self.name}", self.z_style(features)),
            }
