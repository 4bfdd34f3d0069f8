"""Alternatives to the paper's LSTM encoder of speech: convolutions, and a transformer.

Both take what `SpeechEncoder` takes, have about as many parameters, and no dropout, so that runs
can be compared. Frames past a row's length influence nothing, whatever they contain. Thousands of
parameters with 80 Mel filters and 256 / 512 cells: LSTM 346 / 1,217, convolutions 364 / 1,351,
transformer 370 / 1,330.

Shapes: B rows, T frames, F Mel filters, W channels, H = `num_cells`.
"""

import math

import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.nn.frame_convolutions import FrameConvolutions, after_stride, longest
from pvae_pyro.nn.packing import in_use


class ConvolutionalSpeechEncoder(FrameConvolutions):
    """Four convolutions over frames, their mean and maximum: ``[B, T, F]``, lengths -> ``[B, H]``.

        features = ReLU(linear(mean_t h_4, max_t h_4))        h_4: see `FrameConvolutions`

    W = H / 2. The order of frames matters within 33 frames, a third of a second. Source: time-delay
    networks (Waibel et al. 1989), pooled as in Snyder et al. 2018 ("X-vectors"), with the maximum
    in place of the deviation, which has no gradient in an utterance of one frame.

    Raises ValueError for an observation without lengths.
    """

    def __init__(self, num_mels: int = 80, num_cells: int = 512):
        width = max(num_cells // 2, 1)
        super().__init__(num_mels, width)
        self.out_features = num_cells
        self.last = nn.Linear(2 * width, num_cells)

    def forward(self, observation: Observation) -> Tensor:
        return self.last(self.pooled(observation)).relu()


class TransformerSpeechEncoder(nn.Module):
    """Two layers of self-attention, their mean: ``[B, T, F]``, lengths -> ``[B, H]``.

        h_0 = conv(x) + sinusoids of time                  a kernel of 7, stride 4
        h_l = layer_l(h_{l-1}),  l = 1, 2                  attention, then 2 W hidden units
        features = ReLU(linear(mean_t LayerNorm(h_2)))     over steps in use

    W = H / 2, rounded up to a multiple of 4, for 4 heads. A step advances by 40 ms and sees 70 ms,
    which costs a quarter of one step per frame. Source: Vaswani et al. 2017 (arXiv:1706.03762),
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
        # Not nn.TransformerEncoder, which initialises its layers as copies of one.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, self.num_heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(self.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, num_cells)

    def forward(self, observation: Observation) -> Tensor:
        x, lengths = longest(observation)
        x = torch.where(in_use(lengths, x.shape[1]), x, 0.0)
        x = self.first(x.transpose(1, 2)).transpose(1, 2)
        lengths = after_stride(lengths, self.stride)
        x = x + _sinusoids(x.shape[1], x.shape[2], self.first.weight)
        used = in_use(lengths, x.shape[1])
        padding = ~used.squeeze(2)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=padding)
        x = torch.where(used, self.norm(x), 0.0)
        return self.last(x.sum(1) / lengths.unsqueeze(1)).relu()


def _sinusoids(num_frames: int, width: int, like: Tensor) -> Tensor:
    """``[T, W]``: sines and cosines of time, with periods from 2π to nearly 20,000 π steps.

    like: a tensor of the device and dtype to use; bfloat16 would be too coarse for time.
    """
    half = width // 2
    time = torch.arange(num_frames, device=like.device, dtype=like.dtype).unsqueeze(1)
    index = torch.arange(half, device=like.device, dtype=like.dtype)
    angles = time * torch.exp(index * (-math.log(10_000) / half))
    return torch.cat([angles.sin(), angles.cos()], 1)
