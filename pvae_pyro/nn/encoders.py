"""The paper's encoders of speech and images (appendix B); for others see speech_encoders.py."""

from itertools import pairwise

from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.nn.picture_layers import MNIST, PictureShape, sides, widths


class SpeechEncoder(nn.Module):
    """The last state of a one-layer LSTM: ``[B, T, num_mels]``, lengths -> ``[B, num_cells]``.

    Raises ValueError for an observation without lengths.
    """

    def __init__(self, num_mels: int = 80, num_cells: int = 512):
        super().__init__()
        self.out_features = num_cells
        self.lstm = RaggedLSTM(num_mels, num_cells)

    def forward(self, observation: Observation) -> Tensor:
        return self.lstm.last_state(observation.value, observation.packing)


class ImageEncoder(nn.Module):
    """4 x 4 convolutions of stride 2 and a linear layer: ``[B, C, H, W]`` -> ``[B, out_features]``.

    shape: C, H and W. The paper's two convolutions are for 28 x 28 pixels; each further halving of
    a larger picture has another one (`picture_layers`). Their 8 and 16 channels mirror the
    decoder's; the paper does not state them.
    """

    def __init__(self, out_features: int = 512, shape: PictureShape = MNIST):
        super().__init__()
        self.out_features = out_features
        layers: list[nn.Module] = []
        for before, after in pairwise((shape[0], *widths(shape))):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        height, width = sides(shape)[-1]
        last = nn.Linear(widths(shape)[-1] * height * width, out_features)
        self.network = nn.Sequential(*layers, nn.Flatten(), last, nn.ReLU())

    def forward(self, observation: Observation) -> Tensor:
        return self.network(observation.value)
