"""The Pyro guides: q of all modalities, and one q_m for each."""

from pvae_pyro.guides.gaussian import GaussianGuide
from pvae_pyro.guides.jmvae import JMVAEGuide
from pvae_pyro.guides.pvae import PartitionedGuide
from pvae_pyro.guides.vae import VAEGuide

__all__ = ["GaussianGuide", "JMVAEGuide", "PartitionedGuide", "VAEGuide"]
