"""A modality that is neither sound nor picture: token sequences of different lengths."""

import numpy as np
import pyro
import torch
from torch import nn

from pvae_pyro.data.paired import column_of
from pvae_pyro.distributions import RaggedNormal
from pvae_pyro.modality import Modality
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM

TOKENS, LONGEST = 5, 9


class TokenEncoder(nn.Module):
    out_features = 8

    def __init__(self):
        super().__init__()
        self.lstm = RaggedLSTM(TOKENS, self.out_features)

    def forward(self, observation):
        return self.lstm.last_state(observation.value, observation.packing)


class TokenLikelihood(nn.Module):
    """Tokens are independent given z; as many as are observed, or LONGEST."""

    def __init__(self, latent_dim):
        super().__init__()
        self.logits = nn.Linear(latent_dim, LONGEST * TOKENS)

    def forward(self, name, z, observation):
        loc = self.logits(z).unflatten(-1, (LONGEST, TOKENS)).softmax(-1)
        if observation is None:
            lengths = torch.full(z.shape[:-1], LONGEST)
            return pyro.sample(name, RaggedNormal(loc, 0.3, lengths))
        loc = loc[..., : observation.value.shape[-2], :]
        tokens = RaggedNormal(loc, 0.3, observation.lengths)
        return pyro.sample(name, tokens, obs=observation.value)


def token_column(root, classes, copies=8):
    """The class of a sequence is its most frequent token."""
    rng = np.random.default_rng(1)
    partitions = {}
    for split in ("train", "test"):
        sequences, labels = [], []
        for n, label in enumerate(classes):
            for _ in range(copies):
                drawn = rng.integers(TOKENS, size=rng.integers(3, LONGEST + 1))
                drawn[rng.random(len(drawn)) < 0.8] = n % TOKENS
                sequences.append(np.eye(TOKENS, dtype=np.float32)[drawn])
                labels.append(label)
        partitions[split] = sequences, labels
    return column_of("made-up tokens", partitions, stand_in=True, standardise=False)


MODALITY = Modality("tokens", TokenEncoder, TokenLikelihood, token_column)
