"""The paper's image networks (appendix B), for 28 x 28 pixels in [0, 1]."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.distributions import SoftBernoulli
from pvae_pyro.modality import Observation
from pvae_pyro.nn.scale import ObservationScale

FAMILIES = ("normal", "bernoulli", "laplace")


class ImageEncoder(nn.Module):
    """Two 4 x 4 convolutions of stride 2 and a linear layer: ``[B, 1, 28, 28]`` -> ``[B, 512]``.

    8 and 16 channels mirror the decoder's; the paper's own numbers are lost.
    """

    def __init__(self, out_features: int = 512):
        super().__init__()
        self.out_features = out_features
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 7 * 7, out_features),
            nn.ReLU(),
        )

    def forward(self, observation: Observation) -> Tensor:
        return self.network(observation.value)


class ImageDecoder(nn.Module):
    """Two linear and two transposed convolution layers: ``[..., D]`` -> ``[..., 1, 28, 28]``."""

    def __init__(self, latent_dim: int, hidden: int = 512):
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(latent_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 16 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(-1, (16, 7, 7)),
            nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.network(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


class ImageLikelihood(nn.Module):
    """p(x | z) = Π_pixels p(x_i | z): the site ``<name>``.

        normal      N(x_i; m_i(z), scale²)
        laplace     exp(-|x_i - m_i(z)| / scale) / (2 scale)
        bernoulli   p_i^x_i (1 - p_i)^(1 - x_i),  p = sigmoid(m(z)); see `SoftBernoulli`

    m is the decoder's output. Without an observation, the site ``<name>_loc`` holds the mean (m,
    or p) besides the noisy sample, which under Bernoulli is black and white. What is observed is
    in [0, 1]. A Bernoulli's ``log_prob`` is no density of grey: no other's compares with it.

    Args:
        latent_dim: of z.
        scale: of a pixel: Normal's standard deviation, Laplace's mean absolute deviation. 1.0 is
            the paper's unit variance; smaller values give sharper pictures and leave more of the
            class in the style latent.
        family: one of `FAMILIES`; the paper's is Normal.
        learn_scale: `scale` is where learning starts, see `ObservationScale`. A Bernoulli has none.

    Raises ValueError for another family, and as `ObservationScale` does.
    """

    def __init__(
        self,
        latent_dim: int,
        scale: float = 1.0,
        family: str = "normal",
        learn_scale: bool = False,
    ):
        super().__init__()
        if family not in FAMILIES:
            raise ValueError(f"no likelihood {family!r}: there are {', '.join(FAMILIES)}")
        self.family = family
        self.decoder = ImageDecoder(latent_dim)
        self.scale = ObservationScale(scale, learn_scale and family != "bernoulli")

    def forward(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        pixels = self._pixels(self.decoder(z).to(z.dtype))  # see GaussianHead
        if observation is None:
            pyro.deterministic(f"{name}_loc", pixels.mean, event_dim=3)
        return pyro.sample(name, pixels, obs=None if observation is None else observation.value)

    def _pixels(self, output: Tensor) -> dist.TorchDistribution:
        if self.family == "bernoulli":
            return SoftBernoulli(logits=output).to_event(3)
        scale = torch.ones_like(output[..., :1, :1, :1]) * self.scale()  # for all pixels at once
        of_family = dist.Normal if self.family == "normal" else dist.Laplace
        return of_family(output, scale).to_event(3)
