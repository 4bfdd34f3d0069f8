"""The paper's image networks (appendix B), for 28 x 28 pixels in [0, 1]."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pvae_pyro.modality import Observation


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
    """p(x | z) = Π_pixels N(x; loc(z), scale²): the site ``<name>``.

    Without an observation, the site ``<name>_loc`` holds the mean besides the noisy sample.

    Args:
        latent_dim: of z.
        scale: standard deviation of a pixel. 1.0 is the paper's unit variance; smaller values
            give sharper pictures and leave more of the class in the style latent.
    """

    def __init__(self, latent_dim: int, scale: float = 1.0):
        super().__init__()
        self.decoder = ImageDecoder(latent_dim)
        self.scale = scale

    def forward(self, name: str, z: Tensor, observation: Observation | None) -> Tensor:
        loc = self.decoder(z).to(z.dtype)  # see GaussianHead
        if observation is None:
            pyro.deterministic(f"{name}_loc", loc, event_dim=3)
        return pyro.sample(
            name,
            dist.Normal(loc, torch.full_like(loc[..., :1, :1, :1], self.scale)).to_event(3),
            obs=None if observation is None else observation.value,
        )
