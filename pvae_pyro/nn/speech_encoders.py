"""Encoders in place of the paper's LSTM: convolutions, and a transformer.

Both take what `SpeechEncoder` takes, have about as many parameters, and no dropout, so that runs
compare. Frames past a row's length influence nothing, whatever they hold. Thousands of
parameters, of 80 Mel filters and 256 / 512 cells: LSTM 346 / 1,217, convolutions 364 / 1,351,
transformer 370 / 1,330.

Shapes: B rows, T frames (T' = the longest length), F Mel filters, W channels, H = `num_cells`.
"""

import math

import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.nn.packing import in_use


class ConvolutionalSpeechEncoder(nn.Module):
    """Four convolutions over frames, their mean and maximum: ``[B, T, F]``, lengths -> ``[B, H]``.

        h_l = ReLU(LayerNorm(conv_l(h_{l-1}))),  l = 1 … 4         kernels of 5, strides 1, 2, 2, 2
        features = ReLU(linear(mean_t h_4, max_t h_4))             over frames in use

    W = H / 2. Each output sees 33 frames, a third of a second; of their order beyond that nothing
    is kept. Layer normalisation is of a frame's channels (Ba et al. 2016, arXiv:1607.06450): a
    batch's statistics would be of padding too. Source: time-delay networks (Waibel et al. 1989),
    pooled as in Snyder et al. 2018 ("X-vectors"), with the maximum for the deviation,
    which has no gradient in an utterance of one frame.

    Raises ValueError for an observation without lengths.
    """

    strides = (1, 2, 2, 2)

    def __init__(self, num_mels: int = 80, num_cells: int = 512):
        super().__init__()
        self.out_features = num_cells
        width = max(num_cells // 2, 1)
        inputs = [num_mels] + [width] * (len(self.strides) - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, width, 5, stride=stride, padding=2)
            for size, stride in zip(inputs, self.strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.strides)
        self.last = nn.Linear(2 * width, num_cells)

    def forward(self, observation: Observation) -> Tensor:
        x, lengths = _longest(observation)
        x = torch.where(in_use(lengths, x.shape[1]), x, 0.0)
        layers = zip(self.strides, self.convolutions, self.norms, strict=True)
        for stride, convolution, norm in layers:
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2)).relu()
            # Zero past the end, as a convolution pads the longest row.
            lengths = _after_stride(lengths, stride)
            x = torch.where(in_use(lengths, x.shape[1]), x, 0.0)
        mean = x.sum(1) / lengths.unsqueeze(1)
        return self.last(torch.cat([mean, x.amax(1)], 1)).relu()  # outputs are at least zero


class TransformerSpeechEncoder(nn.Module):
    """Two layers of self-attention, their mean: ``[B, T, F]``, lengths -> ``[B, H]``.

        h_0 = conv(x) + sinusoids of time                  a kernel of 7, stride 4
        h_l = layer_l(h_{l-1}),  l = 1, 2                  attention, then 2 W hidden units
        features = ReLU(linear(mean_t LayerNorm(h_2)))     over steps in use

    W = H / 2, in 4 heads (rounded up to a multiple of 4). A step is of 40 ms and sees 70, which
    costs a quarter of a step for every frame. Source: Vaswani et al. 2017 (arXiv:1706.03762),
    sections 3.2, 3.5; normalised before rather than after, which needs no warm-up (Xiong et al.
    2020, arXiv:2002.04745).

    Raises ValueError for an observation without lengths.
    """

    num_layers = 2
    num_heads = 4
    stride = 4

    def __init__(self, num_mels: int = 80, num_cells: int = 512):
        super().__init__()
        self.out_features = num_cells
        width = self.num_heads * -(-num_cells // (2 * self.num_heads))
        self.first = nn.Conv1d(num_mels, width, 2 * self.stride - 1, self.stride, self.stride - 1)
        # A list, for nn.TransformerEncoder would start its layers as copies of one.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, self.num_heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(self.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, num_cells)

    def forward(self, observation: Observation) -> Tensor:
        x, lengths = _longest(observation)
        x = torch.where(in_use(lengths, x.shape[1]), x, 0.0)
        x = self.first(x.transpose(1, 2)).transpose(1, 2)
        lengths = _after_stride(lengths, self.stride)
        x = x + _sinusoids(x.shape[1], x.shape[2], self.first.weight)
        used = in_use(lengths, x.shape[1])
        padding = ~used.squeeze(2)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        x = torch.where(used, self.norm(x), 0.0)
        return self.last(x.sum(1) / lengths.unsqueeze(1)).relu()


def _longest(observation: Observation) -> tuple[Tensor, Tensor]:
    """Frames up to the longest length ``[B, T', F]``, and lengths beside them."""
    longest = len(observation.packing.alive)  # which checks lengths, and is there for the decoder
    assert observation.lengths is not None
    value = observation.value[:, :longest]
    return value, observation.lengths.to(value.device, non_blocking=True)


def _after_stride(lengths: Tensor, stride: int) -> Tensor:
    """Steps whose middle is in use, of a kernel of odd size padded by half of it."""
    return torch.div(lengths - 1, stride, rounding_mode="floor") + 1


def _sinusoids(num_frames: int, width: int, like: Tensor) -> Tensor:
    """``[T, W]``: sines and cosines of time, of periods from 2π to nearly 20,000 π steps.

    like: of the device and dtype to use; not what autocast computes in, too coarse for time.
    """
    half = width // 2
    time = torch.arange(num_frames, device=like.device, dtype=like.dtype).unsqueeze(1)
    index = torch.arange(half, device=like.device, dtype=like.dtype)
    angles = time * torch.exp(index * (-math.log(10_000) / half))
    return torch.cat([angles.sin(), angles.cos()], 1)
