"""A multimodal guide and the unimodal guides of the same latents."""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, batch_size
from pvae_pyro.guides.gaussian import GaussianGuide, sample_latents


class DispatchingGuide(nn.Module):
    """Infers each example from the modalities that it has, in training and afterwards.

    - All modalities: the multimodal guide.
    - Some of them: every style from its unimodal guide, and a shared latent from the product of
      the unimodal posteriors (`product`), which for one modality is its unimodal guide's.

    The modalities of one batch may differ from example to example (`Observation.present`).

    Args:
        multimodal: the guide of all modalities.
        unimodal: modality -> its guide.
        detach_shared: whether an incomplete example's bound leaves the posterior of its shared
            latent as it is. Otherwise the unimodal guide puts into the shared latent whatever helps
            to reconstruct its own modality, whether or not others share it. The value is the same.
    """

    def __init__(
        self,
        multimodal: GaussianGuide,
        unimodal: Mapping[str, GaussianGuide],
        detach_shared: bool = False,
    ):
        super().__init__()
        self.multimodal = multimodal
        self.unimodal = nn.ModuleDict(unimodal)
        self.detach_shared = detach_shared

    def forward(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        """Sample the latents of each example from what it has. Keyword arguments are ignored.

        A batch of all modalities may hold others besides. Otherwise an unknown modality, or a batch
        without any, raises ValueError.
        """
        names = self.multimodal.encoders.keys()
        present = {name: batch[name].present for name in names if name in batch}
        all_given = len(present) == len(names)
        if all_given and all(p is None for p in present.values()):
            return self.multimodal(batch, **kwargs)
        if not present or (not all_given and batch.keys() - names):
            raise ValueError(f"no guide infers from {sorted(batch)}: there are {[*names]}")
        for name in present:
            self.unimodal[name].register()  # type: ignore[operator]
        posteriors = self.product(batch)
        if self.detach_shared:
            for site in posteriors.keys() - self.multimodal.requires.keys():
                posteriors[site] = _detached(posteriors[site])
        if all_given:
            self.multimodal.register()
            complete = torch.stack([p for p in present.values() if p is not None]).all(0)
            for site, of_complete in self.multimodal.posteriors(batch).items():
                posteriors[site] = _where(complete, of_complete, posteriors[site])
        mask = {site: present[name] for site, name in self._style_sites(batch).items()}
        if all(p is not None for p in present.values()):  # some may have no modality at all
            anything = torch.stack([p for p in present.values() if p is not None]).any(0)
            mask |= dict.fromkeys(posteriors.keys() - mask.keys(), anything)
        return sample_latents(posteriors, mask, batch_size(batch))

    def product(self, batch: Batch) -> dict[str, Any]:
        """The posteriors of the unimodal guides, multiplied for a shared latent: site -> q(z | x).

        An example with n ≥ 2 modalities, whose Gaussian posteriors each contain the prior N(0, I),
        has

            precision  Λ = Σ_m 1/scale_m² - (n - 1), at least 1      mean  Σ_m loc_m/scale_m² / Λ

        (Wu & Goodman 2018, arXiv:1802.05335, section 2.2). Under another prior the formula is not
        exact. A style has the posterior of its modality's guide.
        """
        found: dict[str, list[Any]] = {site: [] for site in self.multimodal.heads}
        for name, guide in self.unimodal.items():
            if name in batch:
                for site, posterior in guide.posteriors(batch).items():  # type: ignore[operator]
                    found[site].append((posterior, batch[name].present))
        return {site: _product(factors) for site, factors in found.items() if factors}

    def _style_sites(self, batch: Batch) -> dict[str, str]:
        return {site: name for site, name in self.multimodal.requires.items() if name in batch}


def _product(factors: list[tuple[Any, Tensor | None]]) -> Any:
    """The product of ``[B, D]`` Gaussians over those that are present in an example."""
    if len(factors) == 1:
        return factors[0][0]
    loc, scale = (
        torch.stack([getattr(q.base_dist, p) for q, _ in factors]) for p in ("loc", "scale")
    )
    everyone = loc.new_ones(loc.shape[1], dtype=torch.bool)
    there = torch.stack([everyone if p is None else p for _, p in factors]).unsqueeze(-1)
    precisions = there / scale**2
    number, precision = there.sum(0), precisions.sum(0)
    several = (precision - (number - 1)).clamp(min=1.0)  # also of an example without any
    total = torch.where(number == 1, precision, several)
    return dist.Normal((precisions * loc).sum(0) / total, total.rsqrt()).to_event(1)


def _detached(q: Any) -> Any:
    return dist.Normal(q.base_dist.loc.detach(), q.base_dist.scale.detach()).to_event(1)


def _where(chosen: Tensor, q: Any, other: Any) -> Any:
    """q for the examples that are chosen ``[B]``, and the other for the rest."""
    chosen = chosen.unsqueeze(-1)
    q, other = q.base_dist, other.base_dist
    scale = torch.where(chosen, q.scale, other.scale)
    return dist.Normal(torch.where(chosen, q.loc, other.loc), scale).to_event(1)
