"""A PVAE whose every term has a closed form: x^m = A_m z_sem + B_m z_style_m + noise.

The columns of [A_m B_m] are orthogonal, so that the exact posteriors factorise as the guides do.
"""

from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.modality import Modality
from pvae_pyro.models import PVAE
from pvae_pyro.models.priors import StandardNormal, VampPrior

SIZES = {"a": 5, "b": 7}
DIM = 2  # of z_sem and of each z_style
NOISE = 0.6


class Flat(nn.Module):
    """Features = the observation."""

    def __init__(self, size: int):
        super().__init__()
        self.out_features = size

    def forward(self, observation: Observation) -> Tensor:
        return observation.value


class LinearLikelihood(nn.Module):
    """x ~ N(W z, NOISE² I), the columns of W orthogonal."""

    def __init__(self, latent_dim: int, size: int):
        super().__init__()
        basis, _ = torch.linalg.qr(torch.randn(size, latent_dim))
        # Contiguous: of any other parameter Pyro's store trains a copy.
        self.weight = nn.Parameter((basis * torch.linspace(0.5, 2.0, latent_dim)).contiguous())

    def forward(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        likelihood = dist.Normal(z @ self.weight.T, NOISE).to_event(1)
        return pyro.sample(name, likelihood, obs=None if observation is None else observation.value)


MODALITIES = tuple(
    Modality(name, partial(Flat, size), partial(LinearLikelihood, size=size))
    for name, size in SIZES.items()
)


def make_pair(prior=StandardNormal) -> tuple[PVAE, PartitionedGuide]:
    model = PVAE(MODALITIES, DIM, DIM, prior)
    guide = PartitionedGuide(MODALITIES, DIM, DIM)
    if isinstance(model.prior, VampPrior):
        model.prior.follow(guide.multimodal.heads["z_sem"])
    return model, guide


def make_batch(size: int = 6) -> dict[str, Observation]:
    return {name: Observation(torch.randn(size, n)) for name, n in SIZES.items()}


def joint_weight(model: PVAE) -> Tensor:
    """W of x = W z + noise: rows by modality, columns of z_sem and then of the styles."""
    weights = [model.likelihoods[name].weight.detach() for name in SIZES]
    z_sem = torch.cat([weight[:, :DIM] for weight in weights])
    return torch.cat([z_sem, torch.block_diag(*(weight[:, DIM:] for weight in weights))], 1)


def log_evidence(model: PVAE, batch: dict[str, Observation]) -> Tensor:
    """log p(x) of each example: x is Gaussian with covariance W Wᵀ + NOISE² I."""
    weight = joint_weight(model)
    x = torch.cat([batch[name].value for name in SIZES], 1)
    covariance = weight @ weight.T + NOISE**2 * torch.eye(len(weight))
    return torch.distributions.MultivariateNormal(torch.zeros(len(weight)), covariance).log_prob(x)


def set_exact_posterior(model: PVAE, guide: PartitionedGuide) -> None:
    """Make the multimodal and the unimodal guides p(z | x) and p(z | x^m)."""
    weights = {name: model.likelihoods[name].weight.detach() for name in SIZES}
    shared = torch.cat([weights[name][:, :DIM] for name in SIZES])
    set_head(guide.multimodal.heads["z_sem"], shared)
    for name in SIZES:
        own = torch.cat(
            [weights[n][:, DIM:] if n == name else torch.zeros(SIZES[n], DIM) for n in SIZES]
        )
        set_head(guide.multimodal.heads[f"z_style_{name}"], own)
        set_head(guide.unimodal[name].heads["z_sem"], weights[name][:, :DIM])
        set_head(guide.unimodal[name].heads[f"z_style_{name}"], weights[name][:, DIM:])


@torch.no_grad()
def set_head(head: nn.Module, weight: Tensor) -> None:
    precision = 1 + weight.square().sum(0) / NOISE**2
    head.loc.weight.copy_((weight / NOISE**2 / precision).T)
    head.loc.bias.zero_()
    head.log_scale.weight.zero_()
    head.log_scale.bias.copy_(-0.5 * precision.log())
