"""The scale of a likelihood: fixed, or learnt."""

import math

import torch
from torch import Tensor, nn

# A learnt scale stays between 1 / MOST and MOST. 0.01 is 2.5 of 255 grey levels, below any useful
# prediction error. Without a bound, the density of pixels that never vary would grow for ever.
MOST = 100.0


class ObservationScale(nn.Module):
    r"""One positive number for a whole modality: ``() -> float``, or a tensor ``[]`` if learnt.

    .. math:: \text{scale} = \exp(b \tanh(u / b)), \quad b = \log 100

    with u the parameter ``unbounded``, which starts at `scale`. Unlike a clamped scale, it has a
    gradient at every value.

    The likelihood of Normals is greatest at the root mean square error of loc, that of Laplaces at
    the mean absolute error. Source: Rybkin et al. 2021 (arXiv:2006.13202, σ-VAE); the bound is
    ours.

    Raises ValueError for a scale that is not positive, or is to be learnt and out of bounds.
    """

    def __init__(self, scale: float, learn: bool = False):
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"a scale is positive and finite, not {scale}")
        self.start = scale
        self.bound = math.log(MOST)
        self.unbounded: nn.Parameter | None = None
        if learn:
            if not 1 / MOST < scale < MOST:
                raise ValueError(f"a learnt scale is between {1 / MOST} and {MOST}, not {scale}")
            start = self.bound * math.atanh(math.log(scale) / self.bound)
            self.unbounded = nn.Parameter(torch.tensor(start))

    def forward(self) -> float | Tensor:
        if self.unbounded is None:
            return self.start
        return torch.exp(self.bound * torch.tanh(self.unbounded / self.bound))
