"""Augmentation of training batches: other voices, tempos, levels, noises and shapes of strokes.

An augmented example takes the place of the original: the guide reads it and the model explains it.
So the data have more people in them, and the model stays as it is. For that reason there are none
of SpecAugment's masks: the model must explain what it sees, so a latent would have to hold which
bands are masked, and bands would be missing from what is generated.

Shapes: B examples of a batch, T frames, F Mel filters, pictures of H x W pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.nn.packing import in_use

if TYPE_CHECKING:  # it imports torchaudio, which training does not need
    from pvae_pyro.data.audio.log_mel import LogMel

# Changes the observation of one modality; all that is random comes from the generator.
Augmentation: TypeAlias = Callable[[Observation, np.random.Generator], Observation]

_KNEE = 0.8  # of the highest frequency: above it the warp returns to the identity


def augmentations(
    train: Mapping[str, Examples], log_mels: "Mapping[str, LogMel]", max_frames: int | None = None
) -> dict[str, Augmentation]:
    """Modality -> its augmentation, for speech and images; other modalities have none.

    log_mels: how the features of each speech were computed. max_frames: no recording becomes
        longer; None: than the longest one of its modality.
    """
    found: dict[str, Augmentation] = {}
    for name, examples in train.items():
        if name in log_mels:
            assert examples.lengths is not None
            longest = max_frames or int(examples.lengths.max())
            found[name] = SpeechAugmentation(log_mels[name], examples.normalisation, longest)
        elif name == "image":
            side = max(examples.values.shape[-2:])
            found[name] = ImageAugmentation(shift=side / 14)  # 2 pixels of 28
    return found


@dataclass(frozen=True)
class SpeechAugmentation:
    """Another vocal tract, tempo, level and noise for each recording of a batch.

        tempo         T' = round(T u) frames, at most `max_frames`, interpolated between frames
        vocal tract   frequencies times u (`warped_frequencies`), interpolated between filters
        level         log energies plus a constant
        noise         energies plus those of steady noise of density Hz^-a, a from 0 (white) to 2

    All of it happens to log energies, before the normalisation, and each u is uniform in 1 ± a
    range. The vocal tract's warp is that of Jaitly and Hinton (2013). Energies have the floor of
    `log_mel`. A range of 0 leaves its property as it is.

    Args:
        log_mel: how the features were computed; ``[F]`` normalisation: of the features.
        max_frames: no recording becomes longer.
        vocal_tract, tempo: ranges of the factors of frequency and of duration.
        level: the largest change in dB.
        noise: the probability of noise.
        noise_below: the least and the largest distance in dB of the noise's mean energy, over
            frames and filters, from that of the recording.
    """

    log_mel: "LogMel"
    normalisation: Normalisation
    max_frames: int
    vocal_tract: float = 0.12
    tempo: float = 0.15
    level: float = 6.0
    noise: float = 0.5
    noise_below: tuple[float, float] = (15.0, 40.0)

    def __call__(self, observation: Observation, rng: np.random.Generator) -> Observation:
        """``[B, T, F]`` -> ``[B, T', F]``, T' the new longest length; padding is zero."""
        assert observation.lengths is not None
        value, lengths, size = observation.value, observation.lengths, len(observation.value)
        frames = lengths.numpy() * rng.uniform(1 - self.tempo, 1 + self.tempo, size)
        frames = np.rint(frames).clip(1, self.max_frames).astype(np.int64)
        factor = rng.uniform(1 - self.vocal_tract, 1 + self.vocal_tract, size)
        gain = rng.uniform(-self.level, self.level, size)
        is_noisy = rng.random(size) < self.noise
        below, exponent = rng.uniform(*self.noise_below, size), rng.uniform(0, 2, size)

        new = torch.from_numpy(frames)
        loc, scale = (_like(value, x) for x in (self.normalisation.loc, self.normalisation.scale))
        energy = self._warped(resampled_frames(value, lengths, new) * scale + loc, factor)
        energy = energy.exp_().mul_(_like(value, 10 ** (gain / 10))[:, None, None])
        mask = in_use(new, energy.shape[1]).to(value.device, non_blocking=True)
        mean = torch.where(mask, energy, 0).sum((1, 2)) / _like(value, frames * energy.shape[2])
        share = np.where(is_noisy, 10 ** (-below / 10), 0)
        energy += mean[:, None, None] * _like(value, self._noise(exponent, share))[:, None]
        normalised = energy.clamp_(min=self.log_mel.floor).log_().sub_(loc).div_(scale)
        return Observation(torch.where(mask, normalised, 0), new, observation.present)

    def _warped(self, log_energy: Tensor, factor: np.ndarray) -> Tensor:
        """Each recording's frequencies times its factor: what was at f is at about f times u."""
        centres = self.log_mel.centre_frequencies
        before = warped_frequencies(centres, 1 / factor[:, None], self.log_mel.top_frequency)
        filters = np.arange(len(centres))
        # Filter k' of the result is at this place between the filters of the original.
        place = _like(log_energy, np.interp(before, centres, filters))
        weights = 1 - (place[:, None, :] - _like(log_energy, filters)[:, None]).abs()
        return log_energy @ weights.clamp_(min=0)  # [B, F, F], two weights in each column

    def _noise(self, exponent: np.ndarray, share: np.ndarray) -> np.ndarray:
        """``[B, F]`` energies of noise in the filters, of mean `share`.

        A filter's energy is its width, which grows as 700 Hz + f, times the density at f.
        """
        centres = self.log_mel.centre_frequencies
        energy = (700 + centres) * centres ** -exponent[:, None]
        return share[:, None] * energy / energy.mean(1, keepdims=True)


def resampled_frames(value: Tensor, lengths: Tensor, new: Tensor) -> Tensor:
    """The frames of each sequence at another length, interpolated linearly.

    Frame t of L' has the place (t + 1/2) L / L' - 1/2 among L frames, within 0 and L - 1.

    value: ``[B, T, F]``. lengths, new: ``[B]``, before and after, at least 1; on the CPU.
    Returns ``[B, max(new), F]``; what is beyond a new length is of no meaning, but finite.
    """
    time, last = torch.arange(int(new.max())), (lengths - 1).unsqueeze(1)
    place = (time + 0.5) * (lengths / new).unsqueeze(1) - 0.5
    place = torch.minimum(place.clamp_(min=0), last)
    before = place.long()
    rows = (torch.arange(len(lengths)) * value.shape[1]).unsqueeze(1)
    index = torch.stack([rows + before, rows + torch.minimum(before + 1, last)])
    index = index.to(value.device, non_blocking=True)
    weight = (place - before).to(value, non_blocking=True).unsqueeze(2)
    flat = value.flatten(0, 1)
    first, second = (flat.index_select(0, i.flatten()).unflatten(0, i.shape) for i in index)
    return torch.lerp(first, second, weight)


def warped_frequencies(frequency: np.ndarray, factor: np.ndarray, top: float) -> np.ndarray:
    """Frequencies times a factor u, but `top` stays.

    Below a knee it is u f; above, a line from the knee to (top, top). The knee is where the larger
    of f and u f is 0.8 `top`, so the warp by 1 / u is the inverse. Source: Jaitly and Hinton
    (2013), Vocal tract length perturbation improves speech recognition.
    """
    knee = _KNEE * top / np.maximum(factor, 1)
    above = top - (top - frequency) * (top - factor * knee) / (top - knee)
    return np.where(frequency <= knee, factor * frequency, above)


@dataclass(frozen=True)
class ImageAugmentation:
    """A small affine map of each picture, about its centre.

        p' = R(angle) [[1, shear], [0, 1]] (size p) + shift

    p and p' are pixels (x right, y down). Pixels are interpolated bilinearly. What comes in from
    outside has the shade of the picture's ground, the median of its border. A range of 0 leaves
    its property as it is.

    shift: in pixels. rotation: in degrees. size: of a factor, 1 ± size. shear: of x, by y.
    """

    shift: float = 2.0
    rotation: float = 10.0
    size: float = 0.1
    shear: float = 0.15

    def __call__(self, observation: Observation, rng: np.random.Generator) -> Observation:
        """``[B, C, H, W]`` -> the same shape, within the range of each picture's pixels."""
        value, size = observation.value, len(observation.value)
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation, size))
        factor = rng.uniform(1 - self.size, 1 + self.size, size)
        shear = rng.uniform(-self.shear, self.shear, size)
        shift = rng.uniform(-self.shift, self.shift, (size, 2))

        cos, sin = np.cos(angle), np.sin(angle)
        matrix = factor * np.array([[cos, shear * cos - sin], [sin, shear * sin + cos]])
        back = np.linalg.inv(matrix.transpose(2, 0, 1))  # [B, 2, 2]: p is back @ (p' - shift)
        half = np.array(value.shape[:-3:-1]) / 2  # of width and height: places are from -1 to 1
        affine = np.concatenate([back * half, -back @ shift[:, :, None]], 2) / half[:, None]
        grid = affine_grid(_like(value, affine), list(value.shape), align_corners=False)
        ground = _border(value).median(2).values[:, :, None, None]
        # Outside it is 0, so the ground is 0 here.
        moved = grid_sample(value - ground, grid, align_corners=False) + ground
        least, most = value.amin((2, 3), keepdim=True), value.amax((2, 3), keepdim=True)
        moved = torch.minimum(torch.maximum(moved, least), most)  # rounding
        return Observation(moved, None, observation.present)


def _border(pictures: Tensor) -> Tensor:
    """``[B, C, H, W] -> [B, C, 2 (H + W)]``: the pixels at the four sides."""
    sides = (pictures[..., 0, :], pictures[..., -1, :], pictures[..., 0], pictures[..., -1])
    return torch.cat(sides, -1)


def _like(value: Tensor, array: np.ndarray) -> Tensor:
    """An array as a tensor of the type and on the device of `value`."""
    return torch.as_tensor(array).to(value, non_blocking=True)
