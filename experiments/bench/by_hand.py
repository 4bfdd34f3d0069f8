"""The paper's objective written by hand in torch, without Pyro, for `speed.py` to compare with.

`ByHand` shares the parameters of a model and guide, and computes what `PartitionedELBO` does of
speech and image with γ = δ = 0.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pvae_pyro.batch import Batch, Observation
from pvae_pyro.experiments.support.config import Config
from pvae_pyro.nn.heads import LOG_SCALE_BOUND, GaussianHead
from pvae_pyro.nn.lstm.ragged_lstm import RaggedLSTM
from pvae_pyro.nn.packing import in_use
from pvae_pyro.objective.contrastive import derangement
from pvae_pyro.svi import SVI

Gaussian = tuple[Tensor, Tensor]  # loc, scale


class PackedLSTM(nn.LSTM):
    """What most people write: `pack_padded_sequence`, `nn.LSTM`, `pad_packed_sequence`."""

    def last_state(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self(packed)[1][0][0]

    def unroll(self, x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        steps = x.unsqueeze(1).expand(-1, num_frames, -1)
        packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self(packed)[0], batch_first=True, total_length=num_frames)[0]


class PaddedLSTM(nn.LSTM):
    """`nn.LSTM` on all frames: faster on CPU, although it also computes the padding."""

    def last_state(self, x: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        return self(x)[0][rows, (lengths - 1).to(x.device, non_blocking=True)]

    def unroll(self, x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        return self(x.unsqueeze(1).expand(-1, num_frames, -1))[0]


class ByHand(nn.Module):
    """loss(batch): the negative of the objective (paper, Eq. 9), averaged over the batch.

    Args:
        svi: of a PVAE of speech and image with duration; its parameters are shared.
        config: alpha, beta, margin and length_scale of the objective.
        lstm: `PackedLSTM` or `PaddedLSTM` replaces our recurrent network; None keeps it.
    """

    def __init__(self, svi: SVI, config: Config, lstm: type[nn.LSTM] | None):
        super().__init__()
        # Their attributes, such as `guide.multimodal`, are unknown to the type nn.Module.
        model: Any = svi.model
        self.guide: Any = svi.guide
        self.speech: Any = model.likelihoods["speech"]
        self.image: Any = model.likelihoods["image"]
        self.config, self.ours = config, lstm is None
        ours = (m for m in (*self.guide.modules(), self.speech.lstm) if isinstance(m, RaggedLSTM))
        self.lstms: dict[int, Any] = {id(m): _replaced(m, lstm) if lstm else m for m in ours}

    def forward(self, batch: Batch) -> Tensor:
        joint = self.guide.multimodal
        features = torch.cat([self.encode(joint, x, name) for name, x in batch.items()], 1)
        q = {site: _gaussian(head, features) for site, head in joint.heads.items()}
        z = {site: loc + scale * torch.randn_like(loc) for site, (loc, scale) in q.items()}
        of_speech = torch.cat([z["z_sem"], z["z_style_speech"]], 1)
        of_image = torch.cat([z["z_sem"], z["z_style_image"]], 1)
        elbo = self.log_prob_speech(of_speech, batch["speech"])
        elbo = elbo + self.log_prob_image(of_image, batch["image"])
        for loc, scale in q.values():
            elbo = elbo - _kl((loc, scale), (torch.zeros_like(loc), torch.ones_like(scale)))
        coherence, locs = torch.zeros_like(elbo), {}
        for name, observation in batch.items():
            guide = self.guide.unimodal[name]
            features = self.encode(guide, observation, name)
            for site, head in guide.heads.items():
                q_m = _gaussian(head, features)
                coherence = coherence + _kl(q[site], q_m)
                if site == "z_sem":
                    locs[name] = q_m[0]
        a, b, negatives = locs["speech"], locs["image"], derangement(len(elbo), elbo.device)
        hinge = self.hinge(a, b, b[negatives]) + self.hinge(b, a, a[negatives])
        return -(elbo - self.config.alpha * coherence - self.config.beta * hinge).mean()

    def encode(self, guide: Any, observation: Observation, name: str) -> Tensor:
        encoder = guide.encoders[name]
        if name == "image":
            return encoder(observation)
        ragged: Any = observation.packing if self.ours else observation.lengths
        # Autocast has cuDNN compute in float16, even where bfloat16 is asked for.
        return self.lstms[id(encoder.lstm)].last_state(observation.value, ragged).float()

    def log_prob_speech(self, z: Tensor, observation: Observation) -> Tensor:
        value, lengths = observation.value, observation.lengths
        assert lengths is not None
        lengths = lengths.to(z.device, non_blocking=True)
        used, scale = in_use(lengths, value.shape[1]), self.speech.scale()
        residual = torch.where(used, value - self.speech_loc(z, observation), 0.0)
        squares = (residual / scale).square().sum((1, 2))
        constant = value.shape[2] * (math.log(scale) + 0.5 * math.log(2 * math.pi))
        with torch.autocast(z.device.type, enabled=False):
            duration = self.speech.duration(z).squeeze(1)
        residual = (lengths.to(z).log() - duration) / self.speech.duration_scale
        log_duration = -0.5 * residual.square() - math.log(self.speech.duration_scale)
        return log_duration - 0.5 * math.log(2 * math.pi) - 0.5 * squares - lengths * constant

    def speech_loc(self, z: Tensor, observation: Observation) -> Tensor:
        """The mean of speech, ``[B, T, F]``."""
        lstm, num_frames = self.lstms[id(self.speech.lstm)], observation.value.shape[1]
        if self.ours:
            packing = observation.packing
            return packing.pad(self.speech.loc(lstm.unroll(z, packing)).float())
        return self.speech.loc(lstm.unroll(z, observation.lengths, num_frames)).float()

    def log_prob_image(self, z: Tensor, observation: Observation) -> Tensor:
        scale = self.image.scale()
        residual = (observation.value - self.image.decoder(z)) / scale
        constant = residual[0].numel() * (math.log(scale) + 0.5 * math.log(2 * math.pi))
        return -0.5 * residual.square().sum((1, 2, 3)) - constant

    def hinge(self, a: Tensor, b: Tensor, other: Tensor) -> Tensor:
        width = 2 * self.config.length_scale**2
        same = torch.exp(-(a - b).square().sum(1) / width)
        different = torch.exp(-(a - other).square().sum(1) / width)
        return torch.relu(self.config.margin - same + different)


def _replaced(lstm: RaggedLSTM, kind: type[nn.LSTM]) -> nn.LSTM:
    other = kind(lstm.input_size, lstm.hidden_size, batch_first=True)
    for name, parameter in lstm.named_parameters():
        setattr(other, name, parameter)  # shared, not copied
    return other


def _gaussian(head: GaussianHead, features: Tensor) -> Gaussian:
    log_scale = head.log_scale(features).float().clamp(-LOG_SCALE_BOUND, LOG_SCALE_BOUND)
    return head.loc(features).float(), log_scale.exp()


def _kl(q: Gaussian, p: Gaussian) -> Tensor:
    ratio = (q[1] / p[1]).square()
    shift = ((q[0] - p[0]) / p[1]).square()
    return 0.5 * (ratio + shift - 1 - ratio.log()).sum(1)
