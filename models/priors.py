"""Priors of z_sem; to swap one, edit the line of the model that makes it (docs/priors.md).

A prior is a module that, called without arguments, returns a distribution of event shape ``[dim]``
and no batch shape. `Flow`, a normalising flow, is in models/flow.py.

Shapes: D dimensions, K components, F features.
"""

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.models.flow import Flow
from pvae_pyro.nn.heads import GaussianHead

__all__ = ["Flow", "GaussianMixture", "StandardNormal", "VampPrior"]

# exp(±5) ≈ 150 and 0.007. Without a bound, a component could shrink onto one point for ever.
LOG_SCALE_BOUND = 5.0


class StandardNormal(nn.Module):
    """N(0, I): the paper's prior of every latent. It has neither parameters nor state."""

    loc: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(dim), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        return dist.Normal(self.loc, torch.ones_like(self.loc)).to_event(1)


class _Mixture(nn.Module):
    """A prior of K components."""

    def __init__(self, dim: int, num_components: int):
        super().__init__()
        if dim < 1 or num_components < 1:
            raise ValueError(f"no mixture of {num_components} components in {dim} dimensions")

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z): ``[..., D] -> [..., K]``."""
        mixture = self()
        log_prob = mixture.component_distribution.log_prob(z.unsqueeze(-2))
        return torch.softmax(log_prob + mixture.mixture_distribution.logits, -1)


class GaussianMixture(_Mixture):
    """p(z) = Σ_k π_k N(z; loc_k, diag scale_k²), all of it learnt.

        π = softmax(logits)      scale = exp(b tanh(raw_scale / b)), within exp(±b)

    b is `LOG_SCALE_BOUND`. Initially π is uniform, scale 1, and loc_k ~ N(0, spread² I): all
    components lie where the posteriors begin, share every example, and differ. If they began far
    apart, the few nearest to the first posteriors would take every example and keep them. The KL
    divergence from this prior has no formula and is sampled.

    Source: Dilokthanakul et al. 2016 (arXiv:1611.02648) and Jiang et al. 2017
    (arXiv:1611.05148), whose component is a latent variable; here it is summed out.

    Args: dim, num_components: D, K. spread: in units of z. Raises ValueError for D or K below 1.
    """

    def __init__(self, dim: int, num_components: int = 30, spread: float = 0.1):
        super().__init__(dim, num_components)
        self.loc = nn.Parameter(spread * torch.randn(num_components, dim))
        self.raw_scale = nn.Parameter(torch.zeros(num_components, dim))
        self.logits = nn.Parameter(torch.zeros(num_components))

    @classmethod
    def of(cls, weights: Tensor, loc: Tensor, scale: Tensor) -> "GaussianMixture":
        """The mixture with these weights ``[K]``, means and standard deviations ``[K, D]``.

        Scales beyond 0.999 of the bound are cut. Raises ValueError if the shapes do not agree.
        """
        if loc.dim() != 2 or scale.shape != loc.shape or weights.shape != loc.shape[:1]:
            shapes = [tuple(tensor.shape) for tensor in (weights, loc, scale)]
            raise ValueError(f"want [K], [K, D] and [K, D], got {shapes}")
        with torch.random.fork_rng(devices=[]):  # its initial values are not used
            mixture = cls(loc.shape[1], loc.shape[0])
        bounded = (scale.log() / LOG_SCALE_BOUND).clamp(-0.999, 0.999)
        parameters = {
            "loc": loc,
            "raw_scale": LOG_SCALE_BOUND * torch.atanh(bounded),
            "logits": weights.log(),
        }
        mixture.load_state_dict(parameters)
        return mixture

    def forward(self) -> dist.MixtureSameFamily:
        scale = torch.exp(LOG_SCALE_BOUND * torch.tanh(self.raw_scale / LOG_SCALE_BOUND))
        components = dist.Normal(self.loc, scale).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)


class VampPrior(_Mixture):
    """p(z) = 1/K Σ_k q(z | u_k): the posterior of K learnt pseudo-inputs, averaged.

    Source: Tomczak & Welling 2018 (arXiv:1705.07120), Eq. 9, with one departure. There u_k is a
    pseudo-*input*, an x. Here inputs are ragged and of several modalities, so u_k is a vector of
    the multimodal encoders' features ``[F]``, which goes through the guide's own head of the site.
    Gradients flow into u and into the head, not into encoders.

    The head stays the guide's: it is no parameter, state or submodule of the prior. A copy of
    the model alone (`copy.deepcopy`) has its own head, which no longer follows the guide.

    Args: dim, num_components: D, K. Raises ValueError for D or K below 1.
    """

    def __init__(self, dim: int, num_components: int = 30):
        super().__init__(dim, num_components)
        self.dim = dim
        self.num_components = num_components
        self._head: tuple[GaussianHead, ...] = ()  # a tuple, which registers no submodule
        self.features: nn.Parameter | None
        self.register_parameter("features", None)

    def follow(self, head: GaussianHead) -> None:
        """Use the guide's head of this site; the first call makes u ~ N(0, I), ``[K, F]``.

        Call it before parameters are given to an optimiser. Raises ValueError if the head has
        another number of dimensions, or of features than before.
        """
        size, dim = head.loc.in_features, head.loc.out_features
        if dim != self.dim:
            raise ValueError(f"a VampPrior of {self.dim} dimensions follows no head of {dim}")
        if self.features is None:
            features = torch.randn(self.num_components, size)
            self.features = nn.Parameter(features.to(head.loc.weight))
        elif self.features.shape[1] != size:
            raise ValueError(
                f"the pseudo-inputs have {self.features.shape[1]} features, the head {size}"
            )
        self._head = (head,)

    def forward(self) -> dist.MixtureSameFamily:
        """Raises RuntimeError before `follow`."""
        if not self._head or self.features is None:
            raise RuntimeError(
                "the VampPrior has no posterior to average: call "
                'model.prior.follow(guide.multimodal.heads["z_sem"]) first'
            )
        (head,) = self._head
        uniform = dist.Categorical(logits=self.features.new_zeros(self.num_components))
        return dist.MixtureSameFamily(uniform, head(self.features))
