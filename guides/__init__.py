"""The Pyro guides: q of all modalities, and one q_m for each."""

from guides.gaussian import GaussianGuide
from guides.jmvae import JMVAEGuide
from guides.pvae import PartitionedGuide
from guides.vae import VAEGuide

__all__ = ["GaussianGuide", "JMVAEGuide", "PartitionedGuide", "VAEGuide"]
