"""Every prior, small, with parameters away from their initial values."""

import torch

from pvae_pyro.models.flow import Flow
from pvae_pyro.models.priors import GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.nn.heads import GaussianHead

FEATURES = 5


def mixture(dim):
    prior = GaussianMixture(dim, 3)
    with torch.no_grad():
        prior.loc.copy_(torch.linspace(-2.0, 3.0, 3 * dim).reshape(3, dim))
        prior.raw_scale.copy_(torch.linspace(0.4, -0.8, 3 * dim).reshape(3, dim))
        prior.logits.copy_(torch.tensor([0.5, -0.7, 0.0]))
    return prior


def flow(dim):
    prior = Flow(dim, num_layers=3, hidden_dim=8)
    with torch.no_grad():
        for network in prior.networks:
            network[-1].weight.mul_(8.0)  # far from N(0, I)
    return prior


# kind -> prior of so many dimensions; a VampPrior follows no head yet.
PRIORS = {"normal": StandardNormal, "mixture": mixture, "vamp": VampPrior, "flow": flow}


def make_prior(kind, dim):
    """A prior that can be called; a VampPrior follows a head that nothing else uses."""
    prior = PRIORS[kind](dim) if kind != "vamp" else VampPrior(dim, 3)
    if kind == "vamp":
        prior.follow(GaussianHead(FEATURES, dim))
        with torch.no_grad():
            prior.features.mul_(2.0)
    return prior
