"""Convolutions over the frames of sequences of different lengths.

Shapes: B rows, T frames (T' = the longest length), F features of a frame, W channels.
"""

import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.nn.packing import in_use


class FrameConvolutions(nn.Module):
    """Four convolutions, their mean and maximum over frames: ``[B, T', F]`` -> ``[B, 2 W]``.

        h_l = ReLU(LayerNorm(conv_l(h_{l-1}))),  l = 1 … 4         kernels of 5, strides 1, 2, 2, 2

    Each output sees 33 frames. Frames past a row's length influence nothing, whatever they contain.
    Layer normalisation is over a frame's channels (Ba et al. 2016, arXiv:1607.06450): statistics
    over a batch would include padding.
    """

    strides = (1, 2, 2, 2)

    def __init__(self, features: int, width: int, dropout: float = 0.0):
        super().__init__()
        inputs = [features] + [width] * (len(self.strides) - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, width, 5, stride=stride, padding=2)
            for size, stride in zip(inputs, self.strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.strides)
        self.dropout = nn.Dropout(dropout)

    def pooled(self, observation: Observation) -> Tensor:
        """Mean and maximum over the frames in use. Raises ValueError without lengths."""
        x, lengths = longest(observation)
        x = torch.where(in_use(lengths, x.shape[1]), x, 0.0)
        layers = zip(self.strides, self.convolutions, self.norms, strict=True)
        for stride, convolution, norm in layers:
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2)).relu()
            lengths = after_stride(lengths, stride)
            # Zero past the end, which is how a convolution pads the longest row.
            x = self.dropout(torch.where(in_use(lengths, x.shape[1]), x, 0.0))
        mean = x.sum(1) / lengths.unsqueeze(1)
        return torch.cat([mean, x.amax(1)], 1)  # padding is never above a ReLU's output


def longest(observation: Observation) -> tuple[Tensor, Tensor]:
    """The frames up to the longest length ``[B, T', F]``, and the lengths on their device."""
    num_frames = len(observation.packing.alive)  # made once, for all networks
    assert observation.lengths is not None
    value = observation.value[:, :num_frames]
    return value, observation.lengths.to(value.device, non_blocking=True)


def after_stride(lengths: Tensor, stride: int) -> Tensor:
    """Steps whose middle is in use, of a kernel of odd size padded by half of it."""
    return torch.div(lengths - 1, stride, rounding_mode="floor") + 1
