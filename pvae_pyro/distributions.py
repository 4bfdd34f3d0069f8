"""Distributions that Pyro lacks: over sequences of different lengths, and over grey pixels.

Shapes: T frames, F features of a frame; `...` is the batch shape.
"""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import Bernoulli, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pvae_pyro.nn.packing import in_use


class RaggedNormal(TorchDistribution):
    """Independent Normals on the first `lengths` of T frames; the rest is padding.

        log p(x) = Σ_{t < length} Σ_f log N(x_tf; loc_tf, scale_f²)

    Padding has no density, gets no gradient and is zero in samples, so a batch may be padded
    by any amount, with anything (NaN included), without a change.

    Args:
        loc: ``[..., T, F]``.
        scale: standard deviation, a scalar or ``[F]``.
        lengths: frames in use, ``[...]``, integer, 0 to T.
    """

    arg_constraints: ClassVar = {
        "loc": constraints.independent(constraints.real, 2),
        "lengths": constraints.nonnegative_integer,
    }
    support: ClassVar = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor | float,
        lengths: Tensor,
        validate_args: bool | None = None,
    ):
        self.scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        if self.scale.dim() > 1:
            raise ValueError(f"scale must be a scalar or [F]; got shape {tuple(self.scale.shape)}")
        self.lengths = lengths.to(loc.device, non_blocking=True)
        batch_shape = torch.broadcast_shapes(loc.shape[:-2], lengths.shape)
        self.loc = loc.expand(batch_shape + loc.shape[-2:])
        super().__init__(batch_shape, loc.shape[-2:], validate_args=validate_args)

    def _without_padding(self, x: Tensor) -> Tensor:
        return torch.where(in_use(self.lengths, self.event_shape[0]), x, 0.0)

    @property
    def mean(self) -> Tensor:
        return self._without_padding(self.loc)

    def log_prob(self, value: Tensor) -> Tensor:
        # Padding is replaced before it meets parameters: 0 x NaN is NaN in a gradient.
        difference = self._without_padding(self._without_padding(value) - self.loc)
        residual = difference / self.scale
        log_normaliser = (self.scale.log() + 0.5 * math.log(2 * math.pi)).expand(
            self.event_shape[1]
        )
        return -0.5 * residual.square().sum((-2, -1)) - self.lengths * log_normaliser.sum()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self._without_padding(self.loc + self.scale * noise)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RaggedNormal":
        batch_shape = torch.Size(batch_shape)
        loc, lengths = self.loc.expand(batch_shape + self.event_shape), self.lengths
        return RaggedNormal(loc, self.scale, lengths.expand(batch_shape), validate_args=False)


class SoftBernoulli(Bernoulli):
    """A Bernoulli whose value may also be a probability x in [0, 1].

        log_prob(x) = x log p + (1 - x) log(1 - p) = E_{b ~ Bernoulli(x)}[log p(b)]

    This is the expectation of binarising pixels anew at every use (Salakhutdinov & Murray 2008),
    without its noise; samples are 0 or 1. For x in {0, 1} it is the Bernoulli's log-probability.
    For other x it is an expected log-probability and not a log-density of x, which the continuous
    Bernoulli has (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845); its maximum is at p = x.
    """

    support = constraints.unit_interval
    has_enumerate_support = False
