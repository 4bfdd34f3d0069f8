"""The paper's image decoder (appendix B), and as many layers as larger pictures need.

The LSTM that decodes speech is part of its likelihood (models/likelihoods.py).
"""

from itertools import pairwise

from torch import Tensor, nn

from pvae_pyro.nn.picture_layers import MNIST, PictureShape, sides, widths


class ImageDecoder(nn.Module):
    """Two linear layers and transposed convolutions: ``[..., D]`` -> ``[..., C, H, W]``.

    The convolutions are the encoder's in reverse (`ImageEncoder`): two for 28 x 28 pixels.
    """

    def __init__(self, latent_dim: int, hidden: int = 512, shape: PictureShape = MNIST):
        super().__init__()
        channels, of_side = (*widths(shape)[::-1], shape[0]), sides(shape)[::-1]
        smallest = (channels[0], *of_side[0])
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, smallest[0] * smallest[1] * smallest[2]),
            nn.ReLU(),
            nn.Unflatten(-1, smallest),
        ]
        for (before, after), (height, width) in zip(pairwise(channels), of_side[1:], strict=True):
            # Twice as large, and one pixel more where the side is odd.
            odd = (height % 2, width % 2)
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, output_padding=odd), nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        return self.network(z.flatten(0, -2)).unflatten(0, z.shape[:-1])
