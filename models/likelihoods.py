"""The likelihoods p(x | z) of speech and images: the Pyro sites of what is observed.

Pixels are in [0, 1]. Speech is log-Mel frames, with a duration that is ours, not the paper's.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.distributions import RaggedNormal, SoftBernoulli
from pvae_pyro.nn.choices import PixelFamily
from pvae_pyro.nn.decoders import ImageDecoder
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.nn.packing import Packing
from pvae_pyro.nn.picture_layers import MNIST, PictureShape
from pvae_pyro.nn.scale import ObservationScale

WITH_SCALE = {"normal": dist.Normal, "laplace": dist.Laplace}
FAMILIES = (*WITH_SCALE, "bernoulli")


class ImageLikelihood(nn.Module):
    """p(x | z) = Π_pixels p(x_i | z): the site ``<name>``.

        normal      N(x_i; m_i(z), scale²)
        laplace     exp(-|x_i - m_i(z)| / scale) / (2 scale)
        bernoulli   p_i^x_i (1 - p_i)^(1 - x_i),  p = sigmoid(m(z)); see `SoftBernoulli`

    m is the decoder's output. Without an observation, the site ``<name>_loc`` holds the mean (m,
    or p) beside the noisy sample, which under Bernoulli is black and white. Observed pixels are
    in [0, 1]. A Bernoulli's ``log_prob`` is not a density of grey and not comparable with others.

    Args:
        latent_dim: the number of dimensions of z.
        scale: the scale of a pixel, which is Normal's standard deviation or Laplace's mean absolute
            deviation. 1.0 is the paper's unit variance; smaller values give sharper pictures and
            leave more of the class in the style latent.
        family: one of `FAMILIES`; the paper's is Normal.
        learn_scale: learn the scale, starting at `scale` (see `ObservationScale`). A Bernoulli has
            no scale.
        shape: channels, height and width of a picture.

    Raises ValueError for another family, and as `ObservationScale` does.
    """

    def __init__(
        self,
        latent_dim: int,
        scale: float = 1.0,
        family: PixelFamily = "normal",
        learn_scale: bool = False,
        shape: PictureShape = MNIST,
    ):
        super().__init__()
        if family not in FAMILIES:
            raise ValueError(f"no likelihood {family!r}: there are {', '.join(FAMILIES)}")
        self.family = family
        self.decoder = ImageDecoder(latent_dim, shape=shape)
        self.scale = ObservationScale(scale, learn_scale and family != "bernoulli")

    def forward(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        pixels = self._pixels(self.decoder(z).to(z.dtype))  # see GaussianHead
        if observation is None:
            pyro.deterministic(f"{name}_loc", pixels.mean, event_dim=3)
        return pyro.sample(name, pixels, obs=None if observation is None else observation.value)

    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        if self.family == "bernoulli":
            return SoftBernoulli(logits=output).to_event(3)
        scale = torch.ones_like(output[..., :1, :1, :1]) * self.scale()
        return WITH_SCALE[self.family](output, scale).to_event(3)


class SpeechLikelihood(nn.Module):
    """p(x, T | z): how many frames, and Normal frames around an LSTM's output.

        log T ~ N(duration(z), duration_scale²)          site <name>_log_frames
        x_t   ~ N(loc_t(z), scale²),  t < T              site <name>

    z is the LSTM's input at every step. The paper leaves the duration T out of the model;
    ``duration_scale=None`` does too, and generated speech then has `max_frames`. Without an
    observation, ``<name>_loc`` holds the mean beside the noisy sample; both are padded to
    `max_frames`, so that draws of different duration can be stacked.

    Args:
        latent_dim: the number of dimensions of z.
        scale: standard deviation of a normalised log-Mel coefficient; the paper's is 1.
        max_frames: the longest duration that can be generated.
        learn_scale: learn the scale of the frames, starting at `scale` (see `ObservationScale`).
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        num_mels: int = 80,
        num_cells: int = 512,
        scale: float = 1.0,
        max_frames: int = 300,
        duration_scale: float | None = 0.1,
        learn_scale: bool = False,
    ):
        super().__init__()
        self.scale = ObservationScale(scale, learn_scale)
        self.max_frames = max_frames
        self.duration_scale = duration_scale
        self.lstm = RaggedLSTM(latent_dim, num_cells)
        self.loc = nn.Linear(num_cells, num_mels)
        if duration_scale is not None:
            last = nn.Linear(64, 1)
            # Start from a plausible duration: log T is near 4, but a fresh layer gives 0.
            nn.init.constant_(last.bias, math.log(max_frames / 3))
            self.duration = nn.Sequential(nn.Linear(latent_dim, 64), nn.ReLU(), last)

    def forward(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        lengths = self._num_frames(name, z, observation)
        num_frames = self.max_frames if observation is None else observation.value.shape[-2]
        if observation is not None and z.dim() == 2:
            packing = observation.packing
        else:
            packing = Packing.of(lengths.expand(z.shape[:-1]).flatten(), num_frames)
        frames = self.loc(self.lstm.unroll(z.flatten(0, -2), packing))
        loc = packing.pad(frames.to(z.dtype)).unflatten(0, z.shape[:-1])
        likelihood = RaggedNormal(loc, self.scale(), lengths)
        if observation is None:
            pyro.deterministic(f"{name}_loc", likelihood.mean, event_dim=2)
        return pyro.sample(name, likelihood, obs=None if observation is None else observation.value)

    def _num_frames(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        lengths = None if observation is None else observation.lengths
        if self.duration_scale is not None:
            # log T is near 4: bfloat16 would round it by 0.02, much compared with a scale of 0.1.
            with torch.autocast(z.device.type, enabled=False):
                loc = self.duration(z).squeeze(-1)
            log_frames = pyro.sample(
                f"{name}_log_frames",
                dist.Normal(loc, self.duration_scale),
                obs=None if lengths is None else lengths.to(z, non_blocking=True).log(),
            )
            if lengths is None:
                return log_frames.exp().round().clamp(1, self.max_frames).long()
        if lengths is None:
            return z.new_full(z.shape[:-1], self.max_frames).long()
        return lengths
