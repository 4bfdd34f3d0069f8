"""From features to the parameters of a distribution."""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

# exp(±7) ≈ 1100 and 0.0009: wide enough for any posterior, narrow enough for float32.
LOG_SCALE_BOUND = 7.0


class GaussianHead(nn.Module):
    """q(z | features): a diagonal Gaussian, mean and log standard deviation linear in features.

    ``[..., in_features]`` -> distribution of batch shape ``[...]``, event shape ``[dim]``.
    """

    def __init__(self, in_features: int, dim: int):
        super().__init__()
        self.loc = nn.Linear(in_features, dim)
        self.log_scale = nn.Linear(in_features, dim)

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        dtype = self.loc.weight.dtype  # the distributions' type, whatever autocast computes in
        log_scale = self.log_scale(features).to(dtype).clamp(-LOG_SCALE_BOUND, LOG_SCALE_BOUND)
        return dist.Normal(self.loc(features).to(dtype), torch.exp(log_scale)).to_event(1)
