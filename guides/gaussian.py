"""An inference network: encoders, and a diagonal Gaussian for each latent."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, batch_size, masked
from pvae_pyro.modality import Modality
from pvae_pyro.nn.heads import GaussianHead


class GaussianGuide(nn.Module):
    """q(z | x) = Π_k q(z_k | x), where every factor depends on all modalities of the guide.

    The encoders' features, concatenated, go to one Gaussian head for each latent. With all
    modalities this is a multimodal guide (paper, Eq. 2), with one a unimodal guide (Eq. 6), which
    ignores the other modalities of the batch. A modality that is not in the batch is a KeyError.

    After `models.fitting` the mean of a style is f^{-1}(E[z_sem | x], E[z_style | x]), where f is a
    `StyleMap`; its scale stays.

    Args:
        modalities: those to infer from.
        latents: site -> dimension, in the model's order.
        requires: site -> the modality without which an example has no such latent.
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        latents: Mapping[str, int],
        requires: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.requires = dict(requires or {})
        self.encoders = nn.ModuleDict({m.name: m.encoder() for m in modalities})
        features = sum(encoder.out_features for encoder in self.encoders.values())  # type: ignore[misc]
        self.heads = nn.ModuleDict({site: GaussianHead(features, d) for site, d in latents.items()})
        self.style_maps = nn.ModuleDict()  # site -> StyleMap; empty until `models.fitting`

    def forward(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Sample the latents. Keyword arguments are meant for the model and ignored.

        Raises ValueError if a guide of several modalities is given examples that lack one.
        """
        if len(self.encoders) > 1:
            for name in self.encoders:
                if batch[name].present is not None:
                    raise ValueError(
                        f"examples lack {name}, and this guide needs all of {[*self.encoders]}: "
                        f"call the guide that holds it and the unimodal guides"
                    )
        self.register()
        present = {site: batch[modality].present for site, modality in self.requires.items()}
        return sample_latents(self.posteriors(batch), present, batch_size(batch))

    def register(self) -> None:
        """Tell Pyro's parameter store, by which stock Pyro optimises, of the weights."""
        pyro.module(f"guide_{'_'.join(self.encoders)}", self)

    def posteriors(self, batch: Batch) -> dict[str, Any]:
        """The distribution of each latent, batch shape ``[B]``: site -> q(z_k | x).

        What it says of an example that lacks a modality of the guide has no meaning.
        """
        features = torch.cat([e(batch[name]) for name, e in self.encoders.items()], dim=-1)
        return {site: self._posterior(site, head, features) for site, head in self.heads.items()}

    def _posterior(self, site: str, head: nn.Module, features: Tensor) -> Any:
        posterior = head(features)
        if site not in self.style_maps:
            return posterior
        z_sem = self.heads["z_sem"](features).mean
        loc = self.style_maps[site].inverse(z_sem, posterior.mean)  # type: ignore[operator]
        return dist.Normal(loc, posterior.base_dist.scale).to_event(1)


def sample_latents(
    posteriors: Mapping[str, dist.TorchDistribution],
    present: Mapping[str, Tensor | None],
    size: int,
) -> dict[str, Tensor]:
    """Sample every latent in the plate of a batch of `size` examples: site -> ``[B, D]``.

    present: site -> ``[B]`` bool, the examples that have the latent; None or no entry: all.
    """
    z = {}
    with pyro.plate("examples", size, dim=-1):
        for site, posterior in posteriors.items():
            with masked(present.get(site)):
                z[site] = pyro.sample(site, posterior)
    return z


def unimodal_guide(modality: Modality, latents: Mapping[str, int]) -> GaussianGuide:
    """q_m(z | x^m), which infers nothing from examples that lack the modality."""
    return GaussianGuide([modality], latents, dict.fromkeys(latents, modality.name))
