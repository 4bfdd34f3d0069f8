"""The Pyro models, made to be edited: modalities, priors, and the generative processes."""

from pvae_pyro.models.jmvae import JMVAE
from pvae_pyro.models.modalities import digit_modalities
from pvae_pyro.models.pvae import PVAE

__all__ = ["JMVAE", "PVAE", "digit_modalities"]
