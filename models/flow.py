"""A normalising flow as the prior of z_sem; see `pvae_pyro.models.priors`."""

from collections.abc import Callable

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import AffineCoupling, Permute
from torch import Tensor, nn


class Flow(nn.Module):
    """z = f_L(… f_1(ε)), ε ~ N(0, I), so log p(z) = log N(f⁻¹(z); 0, I) + log |∂f⁻¹/∂z|.

    Each f_l is an affine coupling of the halves of a vector, ``(a, b) -> (a, b · exp s_l(a) +
    t_l(a))``, followed by a permutation. A network with one hidden layer gives s_l and t_l. Every
    second permutation is random; the others reverse the order, so that two layers change every
    dimension. Initially s and t are small and p(z) is near N(0, I).

    Source: Dinh et al. 2017 (arXiv:1605.08803), Eqs. 7 and 8, by Pyro's transforms; as a prior
    Chen et al. 2017 (arXiv:1611.02731).

    Args:
        dim: of z.
        num_layers: L.
        hidden_dim: of each network's hidden layer.

    Raises ValueError for fewer than two dimensions or one layer.
    """

    loc: Tensor
    permutations: Tensor

    def __init__(self, dim: int, num_layers: int = 6, hidden_dim: int = 64):
        super().__init__()
        if dim < 2:
            raise ValueError(f"a flow needs at least two dimensions, not {dim}: use a mixture")
        if num_layers < 1:
            raise ValueError(f"a flow needs at least one layer, not {num_layers}")
        self.split = dim // 2
        # Each network gives t and s, concatenated.
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.split, hidden_dim),
                nn.ReLU(),
                nn.Linear(hidden_dim, 2 * (dim - self.split)),
            )
            for _ in range(num_layers)
        )
        with torch.no_grad():
            for network in self.networks:
                assert isinstance(network, nn.Sequential)
                for parameter in network[-1].parameters():
                    parameter.mul_(0.1)
        turned = torch.arange(dim).flip(0)
        orders = [torch.randperm(dim) if n % 2 else turned for n in range(num_layers)]
        self.register_buffer("permutations", torch.stack(orders))
        self.register_buffer("loc", torch.zeros(dim), persistent=False)

    def forward(self) -> dist.TransformedDistribution:
        # Pyro's transforms cache their last values, which would be wrong after a change of the
        # parameters. So they are made anew at each call.
        transforms: list[dist.transforms.Transform] = []
        for network, permutation in zip(self.networks, self.permutations, strict=True):
            transforms += [AffineCoupling(self.split, _halved(network)), Permute(permutation)]
        base = dist.Normal(self.loc, torch.ones_like(self.loc)).to_event(1)
        return dist.TransformedDistribution(base, transforms)


def _halved(network: nn.Module) -> Callable[[Tensor], tuple[Tensor, ...]]:
    # In the vector's type, whatever autocast computes in; see GaussianHead.
    return lambda half: network(half).to(half.dtype).chunk(2, -1)
