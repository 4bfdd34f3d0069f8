"""The paper's image decoder (appendix B), for 28 x 28 pixels.

The LSTM that decodes speech is part of its likelihood (models/likelihoods.py).
"""

from torch import Tensor, nn


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
