"""Tiny models and data of spoken and written digits."""

from functools import partial

import numpy as np
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.guides import PartitionedGuide, VAEGuide
from pvae_pyro.models import JMVAE, PVAE, digit_modalities
from pvae_pyro.models.priors import StandardNormal, VampPrior
from pvae_pyro.svi import SVI

NUM_MELS = 6
MAX_FRAMES = 9


def tiny_modalities(**networks):
    """networks: options of `digit_modalities`, such as speech_encoder."""
    return digit_modalities(num_mels=NUM_MELS, num_cells=8, max_frames=MAX_FRAMES, **networks)


def tiny_pair(prior=StandardNormal, **networks):
    modalities = tiny_modalities(**networks)
    dims = {"semantic_dim": 3, "style_dim": 2}
    model = PVAE(modalities, **dims, prior=prior)
    guide = PartitionedGuide(modalities, **dims)
    if isinstance(model.prior, VampPrior):
        model.prior.follow(guide.multimodal.heads["z_sem"])
    return model, guide


def tiny_svi(seed=0, learning_rate=1e-3, prior=StandardNormal):
    torch.manual_seed(seed)
    model, guide = tiny_pair(prior)
    return SVI(model, guide, partial(torch.optim.Adam, lr=learning_rate), PartitionedELBO())


def tiny_speech_svi(seed=0, learning_rate=1e-3):
    """One modality and some 2,000 weights, so that a checkpoint is small."""
    torch.manual_seed(seed)
    (speech, _) = tiny_modalities()
    model, guide = JMVAE([speech], 3), VAEGuide(speech, 3)
    objective = PartitionedELBO(alpha=0.0, beta=0.0)
    return SVI(model, guide, partial(torch.optim.Adam, lr=learning_rate), objective)


def tiny_batch(size=5, padding=0, filler=0.0):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([1 + n % MAX_FRAMES for n in range(size)])
    value = torch.randn(size, MAX_FRAMES, NUM_MELS, generator=generator)
    value = torch.cat([value, torch.zeros(size, padding, NUM_MELS)], 1)
    frames = torch.arange(MAX_FRAMES + padding)
    value[frames >= lengths[:, None]] = filler
    image = torch.rand(size, 1, 28, 28, generator=generator)
    return {"speech": Observation(value, lengths), "image": Observation(image)}


def tiny_examples(num_speech=23, num_images=31, num_classes=3, seed=0, num_mels=NUM_MELS):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, MAX_FRAMES + 1, num_speech)
    labels = np.arange(num_speech) % num_classes
    frames = np.repeat(labels, lengths)[:, None] + rng.normal(size=(lengths.sum(), num_mels))
    image_labels = np.arange(num_images) % num_classes
    images = rng.integers(0, 100, (num_images, 1, 28, 28)) + 70 * image_labels[:, None, None, None]
    return {
        "speech": Examples(
            frames.astype(np.float32),
            labels,
            Normalisation(np.float32(1.0), np.float32(2.0)),
            offsets=np.concatenate([[0], lengths.cumsum()]),
            names=[f"speech{n}" for n in range(num_speech)],
        ),
        "image": Examples(
            images.astype(np.uint8), image_labels, Normalisation(np.float32(0), np.float32(255))
        ),
    }


def tiny_loader(batch_size=5, **kwargs):
    return PairedLoader(tiny_examples(), batch_size, **kwargs)
