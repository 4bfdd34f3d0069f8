"""An inference network: encoders, and a diagonal Gaussian for each latent."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, batch_size, where_present
from pvae_pyro.modality import Modality
from pvae_pyro.nn.heads import GaussianHead


class GaussianGuide(nn.Module):
    """q(z | x) = Π_k q(z_k | x), every factor seeing all the modalities of the guide.

    Their encoders' features, side by side, go to one head of each latent. Of all modalities it
    is a multimodal guide (paper, Eq. 2), of one a unimodal guide (Eq. 6), which looks at no other
    modality of the batch. A modality that is not in the batch is a KeyError.

    With `sees_presence`, modalities may be missing, from an example or from the batch: their
    features are 0, and a bit for each that is there goes with the features through a hidden layer,
    for what is left must then count for more. Without, a guide of several modalities
    raises ValueError for an example that lacks one.

    Args:
        modalities: those to infer from.
        latents: site -> dimension, in the model's order.
        belongs: site -> the modality without which an example has no such latent.
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        latents: Mapping[str, int],
        belongs: Mapping[str, str] | None = None,
        sees_presence: bool = False,
        hidden: int = 512,
    ):
        super().__init__()
        self.belongs = dict(belongs or {})
        self.sees_presence = sees_presence
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities})
        self.sizes: dict[str, int] = {n: e.out_features for n, e in self.encoders.items()}  # type: ignore[misc]
        features = sum(self.sizes.values())
        self.mix: nn.Module | None = None
        if sees_presence:
            self.mix = nn.Sequential(nn.Linear(features + len(self.encoders), hidden), nn.ReLU())
            features = hidden
        self.heads = nn.ModuleDict({site: GaussianHead(features, d) for site, d in latents.items()})

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents; keywords are the model's and say nothing to the guide."""
        pyro.module(f"guide_{'_'.join(self.encoders)}", self)
        if self.mix is None:
            features = self._features(batch)
        else:
            features = self.mix(self._features_of_present(batch))
        z = {}
        with pyro.plate("examples", batch_size(batch), dim=-1):
            for site, head in self.heads.items():
                modality = self.belongs.get(site)
                if modality is None or modality in batch:
                    with where_present(batch[modality] if modality else None):
                        z[site] = pyro.sample(site, head(features))
        return z

    def _features(self, batch: Batch) -> Tensor:
        of_each = []
        for name, encoder in self.encoders.items():
            if batch[name].present is not None and len(self.encoders) > 1:
                raise ValueError(f"examples lack {name}: the guide must be made to see presence")
            of_each.append(encoder(batch[name]))
        return torch.cat(of_each, dim=-1)

    def _features_of_present(self, batch: Batch) -> Tensor:
        weight = next(self.parameters())
        of_each, bits = [], []
        for name, encoder in self.encoders.items():
            if name in batch:
                found = encoder(batch[name])
                present = batch[name].present
                if present is None:
                    present = found.new_ones(len(found), dtype=torch.bool)
                of_each.append(torch.where(present.unsqueeze(-1), found, 0.0))
            else:
                present = weight.new_zeros(batch_size(batch), dtype=torch.bool)
                of_each.append(weight.new_zeros(len(present), self.sizes[name]))
            bits.append(present)
        return torch.cat([*of_each, torch.stack(bits, -1).to(weight)], dim=-1)


def unimodal_guide(modality: Modality, latents: Mapping[str, int]) -> GaussianGuide:
    """q_m(z | x^m): of examples that lack the modality, nothing."""
    return GaussianGuide([modality], latents, dict.fromkeys(latents, modality.name))
