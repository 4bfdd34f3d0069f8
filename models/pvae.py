"""The partitioned generative model (paper, Eq. 1)."""

from collections.abc import Callable, Collection, Iterable

import pyro
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, where_present
from pvae_pyro.modality import Modality
from pvae_pyro.models import priors
from pvae_pyro.models.conditioning import condition


class PVAE(nn.Module):
    """p(x, z) = p(z_sem) Π_m p(z_style_m) p(x^m | z_sem, z_style_m).

    For each example of the batch:

        z_sem      ~ prior, N(0, I) by default   the content that all modalities share
        z_style_m  ~ style prior, N(0, I)        the style of modality m
        x^m        ~ p(x^m | z_sem, z_style_m)   the likelihood of modality m

    An example that lacks modality m (`Observation.present`) has neither z_style_m nor x^m.

    `models.fitting` replaces the priors after training. The decoder of modality m then gets
    f_m(z_sem, z_style_m) for z_style_m, where f_m is a `StyleMap`.

    Args:
        modalities: the names and networks of the modalities.
        semantic_dim, style_dim: sizes of z_sem and of each z_style.
        prior: makes the prior of z_sem from its size (models/priors.py).
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        semantic_dim: int = 32,
        style_dim: int = 32,
        prior: Callable[[int], nn.Module] = priors.StandardNormal,
    ):
        super().__init__()
        self.semantic_dim = semantic_dim
        self.style_dim = style_dim
        self.prior = prior(semantic_dim)
        modalities = tuple(modalities)
        self.style_priors = nn.ModuleDict(
            {m.name: priors.StandardNormal(style_dim) for m in modalities}
        )
        self.style_maps = nn.ModuleDict()  # modality -> StyleMap; empty until it is fitted
        self.likelihoods = nn.ModuleDict(
            {m.name: m.likelihood(semantic_dim + style_dim) for m in modalities}
        )

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
        z_style = {}
        with pyro.plate("examples", size, dim=-1):
            z_sem = pyro.sample("z_sem", self.prior())
            for name, observation in observations.items():
                with where_present(observation):
                    z_style[name] = pyro.sample(f"z_style_{name}", self.style_priors[name]())
            x = {}
            for name, observation in observations.items():
                with where_present(observation):
                    style = z_style[name]
                    if name in self.style_maps:
                        style = self.style_maps[name](z_sem, style)
                    z = torch.cat([z_sem, style], -1)
                    x[name] = self.likelihoods[name](name, z, observation)
            return x
