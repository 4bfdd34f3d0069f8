"""Classifiers that judge generated examples, and the augmentation of the real ones they learn from.

A decoder's means are smoother than real examples: they have no observation noise and are blurred
by the posterior's uncertainty. A classifier that never saw such examples may misread a good one, so
the method `varied` of each judge blurs, distorts and disturbs the real examples. The method
`features` is the input of the last layer. Judges share nothing with the networks of a model or
guide.

Shapes: B examples, T frames, F features of a frame, C channels, H x W pixels, K classes.
"""

from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from pvae_pyro.batch import Observation
from pvae_pyro.nn.frame_convolutions import FrameConvolutions, longest
from pvae_pyro.nn.packing import in_use
from pvae_pyro.nn.picture_layers import PictureShape, num_halvings


class PictureJudge(nn.Module):
    """3 x 3 convolutions, pooled to 3 x 3: pictures ``[B, C, H, W]`` -> logits ``[B, K]``.

    shape: C, H and W. Three convolutions up to 32 pixels, and one more for each further halving.
    """

    def __init__(self, shape: PictureShape, num_classes: int, width: int = 16):
        super().__init__()
        self.coarseness = 2 ** (num_halvings(shape) - 2)
        sizes = (shape[0], width, 2 * width, *[4 * width] * (num_halvings(shape) - 1))
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            # Group normalisation keeps no statistics of training data, which decoded means lack.
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.network = nn.Sequential(
            *layers[:-1],
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(9 * 4 * width, num_classes),
        )

    def features(self, observation: Observation) -> Tensor:
        return self.network[:-1](observation.value)

    def forward(self, observation: Observation) -> Tensor:
        return self.network[-1](self.features(observation))

    def varied(self, observation: Observation) -> Observation:
        """Each picture randomly turned, scaled, shifted, blurred, dimmed, and with noise."""
        value = observation.value
        angle, zoom = 0.2 * _uniform(value), 1 + 0.15 * _uniform(value)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        shift_x, shift_y = 0.12 * _uniform(value), 0.12 * _uniform(value)  # of half the picture
        rows = [[cos, -sin, shift_x], [sin, cos, shift_y]]
        affine = torch.stack([torch.stack(row, -1) for row in rows], -2)  # [B, 2, 3]
        grid = functional.affine_grid(affine, list(value.shape), align_corners=False)
        value = functional.grid_sample(value, grid, padding_mode="border", align_corners=False)
        value = _blurred(value, torch.ones_like(value), self.coarseness)
        value = value * (0.85 + 0.25 * _uniform(value)).view(-1, 1, 1, 1)
        return Observation(_noisy(value, 0.1))


class SequenceJudge(FrameConvolutions):
    """`FrameConvolutions` and a linear layer: ``[B, T, F]`` -> logits ``[B, K]``."""

    def __init__(self, features: int, num_classes: int, width: int = 64):
        super().__init__(features, width, dropout=0.2)
        self.classes = nn.Linear(2 * width, num_classes)

    def features(self, observation: Observation) -> Tensor:
        return self.pooled(observation)

    def forward(self, observation: Observation) -> Tensor:
        return self.classes(self.features(observation))

    def varied(self, observation: Observation) -> Observation:
        """Each sequence randomly stretched, blurred, raised, partly masked, and with noise."""
        value, lengths = _stretched(*longest(observation))
        used = in_use(lengths, value.shape[1])
        weight = used.expand_as(value).to(value.dtype)
        value = _blurred(value.unsqueeze(1), weight.unsqueeze(1)).squeeze(1)
        value = value + 0.3 * _uniform(value).view(-1, 1, 1)
        masked = _span(value, lengths, 0.2).unsqueeze(2)
        num_features = torch.full_like(lengths, value.shape[2])
        masked = masked | _span(value.transpose(1, 2), num_features, 0.15).unsqueeze(1)
        value = _noisy(value.masked_fill(masked, 0.0), 0.5)  # zero is the mean of a feature
        return Observation(torch.where(used, value, 0.0), lengths)


class VectorJudge(nn.Module):
    """Two hidden layers: vectors ``[B, D]`` -> logits ``[B, K]``."""

    def __init__(self, size: int, num_classes: int, width: int = 128):
        super().__init__()
        layers: list[nn.Module] = []
        for before in (size, width):
            layers += [nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.2)]
        self.network = nn.Sequential(*layers, nn.Linear(width, num_classes))

    def features(self, observation: Observation) -> Tensor:
        return self.network[:-1](observation.value)

    def forward(self, observation: Observation) -> Tensor:
        return self.network[-1](self.features(observation))

    def varied(self, observation: Observation) -> Observation:
        """Each vector scaled towards the mean, as generated ones are, and with noise."""
        value = observation.value * (0.85 + 0.25 * _uniform(observation.value)).unsqueeze(1)
        return Observation(_noisy(value, 0.5))


Judge: TypeAlias = PictureJudge | SequenceJudge | VectorJudge


def _uniform(like: Tensor) -> Tensor:
    """One number in [-1, 1) for each example, ``[B]``."""
    return torch.rand(len(like), dtype=like.dtype, device=like.device) * 2 - 1


def _blurred(value: Tensor, used: Tensor, coarseness: int = 1) -> Tensor:
    """A random mixture of ``[B, C, H, W]`` and its smoothing over the pixels in use (1, else 0).

    The binomial kernel is applied a random one to four times, to the means of `coarseness` x
    `coarseness` pixels: the blur of a large picture is as wide as that of a small one.
    """
    smooth, weight = value, used
    if coarseness > 1:
        smooth, weight = (functional.avg_pool2d(x, coarseness) for x in (value, used))
    for _ in range(int(torch.randint(1, 5, ()))):
        smooth = _binomial(smooth * weight) / _binomial(weight).clamp(min=1e-6)
    if coarseness > 1:
        smooth = functional.interpolate(smooth, size=value.shape[-2:], mode="bilinear")
    amount = (0.5 + 0.5 * _uniform(value)).view(-1, 1, 1, 1)
    return torch.lerp(value, smooth, amount) * used


def _binomial(x: Tensor) -> Tensor:
    """Weights 1-2-1 along the last two dimensions, zero-padded; faster than conv2d here."""
    for dim in (-1, -2):
        edges = torch.zeros_like(x.narrow(dim, 0, 1))
        padded = torch.cat([edges, x, edges], dim)
        size = x.shape[dim]
        x = 0.5 * x + 0.25 * (padded.narrow(dim, 0, size) + padded.narrow(dim, 2, size))
    return x


def _noisy(value: Tensor, most: float) -> Tensor:
    """Add Gaussian noise, of a random scale between 0 and `most` for each example."""
    scale = most * (0.5 + 0.5 * _uniform(value))
    return value + scale.view(-1, *[1] * (value.dim() - 1)) * torch.randn_like(value)


def _stretched(value: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Stretch to 0.8 to 1.2 times the duration, interpolating frames linearly."""
    longer = (lengths * (1 + 0.2 * _uniform(value))).round().long().clamp(min=1)
    time = torch.arange(int(longer.max()), device=value.device)
    last = (lengths - 1).unsqueeze(1)
    position = time * (last / (longer - 1).clamp(min=1).unsqueeze(1))  # [B, T']
    position = torch.minimum(position, last)
    before = position.floor().long()
    after = torch.minimum(before + 1, last)
    row = torch.arange(len(value), device=value.device).unsqueeze(1)
    fraction = (position - before).unsqueeze(2)
    return torch.lerp(value[row, before], value[row, after], fraction), longer


def _span(value: Tensor, lengths: Tensor, most: float) -> Tensor:
    """A random span of each row, at most the fraction `most` of its length: ``[B, T]`` bool."""
    width = most * lengths * (0.5 + 0.5 * _uniform(value))
    start = (lengths - width) * (0.5 + 0.5 * _uniform(value))
    time = torch.arange(value.shape[1], device=value.device)
    return (time >= start.unsqueeze(1)) & (time < (start + width).unsqueeze(1))
