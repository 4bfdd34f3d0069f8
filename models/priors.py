"""Priors of the latents; swap one by editing the line of the model that samples from it."""

import pyro.distributions as dist
from torch import Tensor


def standard_normal(dim: int, like: Tensor) -> dist.TorchDistribution:
    """N(0, I), event shape ``[dim]``: the paper's prior of every latent.

    like: any tensor of the device and dtype to use.
    """
    return dist.Normal(like.new_zeros(dim), like.new_ones(dim)).to_event(1)
