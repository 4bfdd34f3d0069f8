"""What Pyro lacks: distributions over sequences whose length differs, and a Bernoulli of grey.

Shapes: T frames, F features of a frame, V categories; `...` is the batch shape.
"""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import Bernoulli, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pvae_pyro.nn.packing import in_use


class RaggedNormal(TorchDistribution):
    """Independent Normals on the first `lengths` of T frames; what follows is padding.

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

    @property
    def frames_in_use(self) -> Tensor:
        """``[..., T, 1]``, True on frames in use."""
        return in_use(self.lengths, self.event_shape[0])

    @property
    def mean(self) -> Tensor:
        return torch.where(self.frames_in_use, self.loc, 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        # Padding is replaced before it meets anything that learns: 0 x NaN is NaN in a gradient.
        used = self.frames_in_use
        residual = torch.where(used, torch.where(used, value, 0.0) - self.loc, 0.0) / self.scale
        log_normaliser = (self.scale.log() + 0.5 * math.log(2 * math.pi)).expand(
            self.event_shape[1]
        )
        return -0.5 * residual.square().sum((-2, -1)) - self.lengths * log_normaliser.sum()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return torch.where(self.frames_in_use, self.loc + self.scale * noise, 0.0)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RaggedNormal":
        batch_shape = torch.Size(batch_shape)
        return RaggedNormal(
            self.loc.expand(batch_shape + self.event_shape),
            self.scale,
            self.lengths.expand(batch_shape),
            validate_args=False,
        )


class SoftBernoulli(Bernoulli):
    """A Bernoulli that can be told a probability x in [0, 1] in place of a value, 0 or 1.

        log_prob(x) = x log p + (1 - x) log(1 - p) = E_{b ~ Bernoulli(x)}[log p(b)]

    which is what binarising anew at every look comes to (Salakhutdinov & Murray 2008), without its
    noise; samples are 0 or 1. Of x in {0, 1} it is the Bernoulli's. Of others it is an expected
    log-probability and no log-density of x, which a continuous Bernoulli has (Loaiza-Ganem &
    Cunningham 2019, arXiv:1907.06845); it is greatest at p = x, and below 0 there.
    """

    support = constraints.unit_interval
    has_enumerate_support = False


class RaggedOneHotCategorical(TorchDistribution):
    """Independent choices of one of V categories, on the first `lengths` of T frames.

        log p(x) = Σ_{t < length} Σ_v x_tv log softmax(logits_t)_v,   x_t one-hot

    The mean is the categories' probabilities, so it can be read where samples are. Padding is as
    of `RaggedNormal`: without density or gradient, whatever it holds, and zero in samples.

    Args:
        logits: ``[..., T, V]``, not normalised.
        lengths: frames in use, ``[...]``, integer, 0 to T.
    """

    arg_constraints: ClassVar = {
        "logits": constraints.independent(constraints.real, 2),
        "lengths": constraints.nonnegative_integer,
    }
    support: ClassVar = constraints.independent(constraints.one_hot, 1)

    def __init__(self, logits: Tensor, lengths: Tensor, validate_args: bool | None = None):
        self.lengths = lengths.to(logits.device, non_blocking=True)
        batch_shape = torch.broadcast_shapes(logits.shape[:-2], lengths.shape)
        self.logits = logits.expand(batch_shape + logits.shape[-2:])
        super().__init__(batch_shape, logits.shape[-2:], validate_args=validate_args)

    @property
    def frames_in_use(self) -> Tensor:
        """``[..., T, 1]``, True on frames in use."""
        return in_use(self.lengths, self.event_shape[0])

    @property
    def mean(self) -> Tensor:
        used = self.frames_in_use
        return torch.where(used, torch.where(used, self.logits, 0.0).softmax(-1), 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        # As in `RaggedNormal`, before it meets anything that learns.
        used = self.frames_in_use
        logits = torch.where(used, self.logits, 0.0)
        return (torch.where(used, value, 0.0) * logits.log_softmax(-1)).sum((-2, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            used = self.frames_in_use
            logits = torch.where(used, self.logits, 0.0)
            drawn = torch.distributions.OneHotCategorical(logits=logits).sample(
                torch.Size(sample_shape)
            )
            return torch.where(used, drawn, 0.0)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RaggedOneHotCategorical":
        batch_shape = torch.Size(batch_shape)
        return RaggedOneHotCategorical(
            self.logits.expand(batch_shape + self.event_shape),
            self.lengths.expand(batch_shape),
            validate_args=False,
        )
