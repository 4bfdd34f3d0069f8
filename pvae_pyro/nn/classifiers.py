"""Class classifiers of generated examples, and how real ones are varied to train them.

A decoder's means are smoother than anything real: no observation noise, blurred by all the
posterior does not know. A classifier that never saw such examples may misread a good one, so
each judge comes with a `varied`, which blurs, distorts and disturbs the real examples it learns
from. Judges share nothing with the networks of a model or guide.

Shapes: B examples, T frames, F features of a frame, C channels, H x W pixels, K classes.
"""

from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from pvae_pyro.batch import Observation
from pvae_pyro.nn.packing import in_use


class PictureJudge(nn.Module):
    """Three 3 x 3 convolutions, pooled to 3 x 3: pictures ``[B, C, H, W]`` -> logits ``[B, K]``."""

    def __init__(self, channels: int, num_classes: int, width: int = 16):
        super().__init__()
        sizes = (channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            # Group normalisation: no statistics of training data, which means are not like.
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.network = nn.Sequential(
            *layers[:-1],
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(9 * 4 * width, num_classes),
        )

    def forward(self, observation: Observation) -> Tensor:
        return self.network(observation.value)

    def varied(self, observation: Observation) -> Observation:
        """Each turned, scaled and shifted a little, blurred, dimmed and disturbed at random."""
        value = observation.value
        angle, zoom = 0.2 * _uniform(value), 1 + 0.15 * _uniform(value)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        shift_x, shift_y = 0.12 * _uniform(value), 0.12 * _uniform(value)  # of half the picture
        rows = [[cos, -sin, shift_x], [sin, cos, shift_y]]
        affine = torch.stack([torch.stack(row, -1) for row in rows], -2)  # [B, 2, 3]
        grid = functional.affine_grid(affine, list(value.shape), align_corners=False)
        value = functional.grid_sample(value, grid, padding_mode="border", align_corners=False)
        value = _blurred(value, torch.ones_like(value))
        value = value * (0.85 + 0.25 * _uniform(value)).view(-1, 1, 1, 1)
        return Observation(_noisy(value, 0.1))


class SequenceJudge(nn.Module):
    """Four convolutions over frames, their mean and maximum: ``[B, T, F]`` -> logits ``[B, K]``.

    Each output sees 33 frames. Frames past a row's length influence nothing, whatever they hold.
    """

    strides = (1, 2, 2, 2)

    def __init__(self, features: int, num_classes: int, width: int = 64):
        super().__init__()
        inputs = [features] + [width] * (len(self.strides) - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, width, 5, stride=stride, padding=2)
            for size, stride in zip(inputs, self.strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.strides)
        self.dropout = nn.Dropout(0.2)
        self.classes = nn.Linear(2 * width, num_classes)

    def forward(self, observation: Observation) -> Tensor:
        lengths = _lengths(observation)
        x = observation.value[:, : int(lengths.max())]
        used = in_use(lengths, x.shape[1])
        x = torch.where(used, x, 0.0)
        layers = zip(self.strides, self.convolutions, self.norms, strict=True)
        for stride, convolution, norm in layers:
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2)).relu()
            # Zero past the end, as a convolution pads the longest row.
            lengths = torch.div(lengths - 1, stride, rounding_mode="floor") + 1
            used = in_use(lengths, x.shape[1])
            x = self.dropout(torch.where(used, x, 0.0))
        mean = x.sum(1) / lengths.unsqueeze(1)
        return self.classes(torch.cat([mean, x.amax(1)], 1))  # outputs are at least zero

    def varied(self, observation: Observation) -> Observation:
        """Each stretched, blurred, raised, partly masked and disturbed at random."""
        value, lengths = _stretched(observation.value, _lengths(observation))
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

    def forward(self, observation: Observation) -> Tensor:
        return self.network(observation.value)

    def varied(self, observation: Observation) -> Observation:
        """Each drawn towards the mean, as what is generated is, and disturbed at random."""
        value = observation.value * (0.85 + 0.25 * _uniform(observation.value)).unsqueeze(1)
        return Observation(_noisy(value, 0.5))


Judge: TypeAlias = PictureJudge | SequenceJudge | VectorJudge


def _lengths(observation: Observation) -> Tensor:
    if observation.lengths is None:
        raise ValueError("a judge of sequences needs their lengths")
    return observation.lengths.to(observation.value.device)


def _uniform(like: Tensor) -> Tensor:
    """One number in [-1, 1) for each example, ``[B]``."""
    return torch.rand(len(like), dtype=like.dtype, device=like.device) * 2 - 1


def _blurred(value: Tensor, used: Tensor) -> Tensor:
    """Some way, by example, towards ``[B, C, H, W]`` smoothed over the pixels in use (1, else 0).

    The kernel is binomial, applied once to four times by chance.
    """
    smooth = value
    for _ in range(int(torch.randint(1, 5, ()))):
        smooth = _binomial(smooth * used) / _binomial(used).clamp(min=1e-6)
    amount = (0.5 + 0.5 * _uniform(value)).view(-1, 1, 1, 1)
    return torch.lerp(value, smooth, amount) * used


def _binomial(x: Tensor) -> Tensor:
    """Weighted 1-2-1 along both of the last dimensions, zeros around; faster than conv2d here."""
    for dim in (-1, -2):
        edges = torch.zeros_like(x.narrow(dim, 0, 1))
        padded = torch.cat([edges, x, edges], dim)
        size = x.shape[dim]
        x = 0.5 * x + 0.25 * (padded.narrow(dim, 0, size) + padded.narrow(dim, 2, size))
    return x


def _noisy(value: Tensor, most: float) -> Tensor:
    """With Gaussian noise, its scale between 0 and `most` by example."""
    scale = most * (0.5 + 0.5 * _uniform(value))
    return value + scale.view(-1, *[1] * (value.dim() - 1)) * torch.randn_like(value)


def _stretched(value: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Played at 0.8 to 1.2 times the duration, frames interpolated linearly."""
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
    """One random stretch of each row's length, at most that part of it: ``[B, T]`` bool."""
    width = most * lengths * (0.5 + 0.5 * _uniform(value))
    start = (lengths - width) * (0.5 + 0.5 * _uniform(value))
    time = torch.arange(value.shape[1], device=value.device)
    return (time >= start.unsqueeze(1)) & (time < (start + width).unsqueeze(1))
