"""The paper's encoders of speech and images (appendix B); for others see speech_encoders.py."""

from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM


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
    """Two 4 x 4 convolutions of stride 2 and a linear layer: ``[B, 1, 28, 28]`` -> ``[B, 512]``.

    8 and 16 channels mirror the decoder's; the paper does not state them.
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
