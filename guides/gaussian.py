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
    """q(z | x) = Π_k q(z_k | x), where every factor depends on all modalities of the guide.

    The encoders' features, concatenated, go to one Gaussian head for each latent. With all
    modalities this is a multimodal guide (paper, Eq. 2), with one a unimodal guide (Eq. 6), which
    ignores the other modalities of the batch. A modality that is not in the batch is a KeyError.

    With `sees_presence`, modalities may be missing from an example or from the batch: their
    features are then 0, and a hidden layer mixes the features with one bit per modality that says
    whether it is present. Otherwise a guide of several modalities raises ValueError for an example
    that lacks one.

    After `models.fitting` the posterior of a style is that of z_style - offset(E[z_sem | x]).

    Args:
        modalities: those to infer from.
        latents: site -> dimension, in the model's order.
        requires: site -> the modality without which an example has no such latent.
        sees_presence: accept missing modalities.
        hidden: size of the hidden layer that mixes features and presence.
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        latents: Mapping[str, int],
        requires: Mapping[str, str] | None = None,
        sees_presence: bool = False,
        hidden: int = 512,
    ):
        super().__init__()
        self.requires = dict(requires or {})
        self.sees_presence = sees_presence
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities})
        self.sizes: dict[str, int] = {n: e.out_features for n, e in self.encoders.items()}  # type: ignore[misc]
        features = sum(self.sizes.values())
        self.mix: nn.Module | None = None
        if sees_presence:
            self.mix = nn.Sequential(nn.Linear(features + len(self.encoders), hidden), nn.ReLU())
            features = hidden
        self.heads = nn.ModuleDict({site: GaussianHead(features, d) for site, d in latents.items()})
        self.offsets = nn.ModuleDict()  # site -> StyleOffset; empty until `models.fitting`

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents. Keyword arguments are meant for the model and ignored."""
        pyro.module(f"guide_{'_'.join(self.encoders)}", self)
        features = self._features(batch) if self.mix is None else self._mixed_features(batch)
        z = {}
        with pyro.plate("examples", batch_size(batch), dim=-1):
            for site, head in self.heads.items():
                modality = self.requires.get(site)
                if modality is None or modality in batch:
                    with where_present(batch[modality] if modality else None):
                        z[site] = pyro.sample(site, self._posterior(site, head, features))
        return z

    def _posterior(self, site: str, head: nn.Module, features: Tensor) -> Any:
        if site not in self.offsets:
            return head(features)
        # What the mean of z_sem says about the style.
        return head(features, self.offsets[site](self.heads["z_sem"](features).mean))

    def _features(self, batch: Batch) -> Tensor:
        features = []
        for name, encoder in self.encoders.items():
            if batch[name].present is not None and len(self.encoders) > 1:
                raise ValueError(f"examples lack {name}: give the guide sees_presence=True")
            features.append(encoder(batch[name]))
        return torch.cat(features, dim=-1)

    def _mixed_features(self, batch: Batch) -> Tensor:
        assert self.mix is not None
        weight = next(self.parameters())
        features, bits = [], []
        for name, encoder in self.encoders.items():
            if name in batch:
                found, present = encoder(batch[name]), batch[name].present
                if present is None:
                    present = found.new_ones(len(found), dtype=torch.bool)
                features.append(torch.where(present.unsqueeze(-1), found, 0.0))
            else:
                present = weight.new_zeros(batch_size(batch), dtype=torch.bool)
                features.append(weight.new_zeros(len(present), self.sizes[name]))
            bits.append(present)
        return self.mix(torch.cat([*features, torch.stack(bits, -1).to(weight)], dim=-1))


def unimodal_guide(modality: Modality, latents: Mapping[str, int]) -> GaussianGuide:
    """q_m(z | x^m), which infers nothing from examples that lack the modality."""
    return GaussianGuide([modality], latents, dict.fromkeys(latents, modality.name))
