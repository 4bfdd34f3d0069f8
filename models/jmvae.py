"""The joint multimodal VAE, a baseline of the paper: one latent for everything."""

from collections.abc import Callable, Collection, Iterable

import pyro
from torch import Tensor, nn

from pvae_pyro.batch import Batch, where_present
from pvae_pyro.modality import Modality
from pvae_pyro.models import priors
from pvae_pyro.models.conditioning import condition


class JMVAE(nn.Module):
    """p(x, z) = p(z) Π_m p(x^m | z).

    For each example of the batch:

        z    ~ prior, N(0, I) by default   content and style of all modalities
        x^m  ~ p(x^m | z)                  the likelihood of modality m, if the example has it

    With one modality it is the ordinary VAE (VAE-sp and VAE-im of the paper).

    Source: Suzuki et al. 2016 (arXiv:1611.01891), Eq. 2; Kingma & Welling 2014 for the VAE.

    Args:
        modalities: the names and networks of the modalities.
        latent_dim: size of z; the paper's is the sum of the sizes of the PVAE's latents.
        prior: makes the prior of z from its size (models/priors.py).
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        latent_dim: int = 96,
        prior: Callable[[int], nn.Module] = priors.StandardNormal,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.prior = prior(latent_dim)
        self.likelihoods = nn.ModuleDict({m.name: m.likelihood(latent_dim) for m in modalities})

    def forward(
        self,
        batch: Batch | None = None,
        *,
        names: Collection[str] | None = None,
        observed: Collection[str] | None = None,
        num_examples: int | None = None,
    ) -> dict[str, Tensor]:
        """Generate or score; see `models.conditioning`. Returns each modality's value."""
        pyro.module("model", self)
        observations, size = condition([*self.likelihoods], batch, names, observed, num_examples)
        with pyro.plate("examples", size, dim=-1):
            z = pyro.sample("z", self.prior())
            x = {}
            for name, observation in observations.items():
                with where_present(observation):
                    x[name] = self.likelihoods[name](name, z, observation)
            return x
