"""The Pyro models, made to be edited: modalities, priors, and the generative processes."""

from models.jmvae import JMVAE
from models.modalities import digit_modalities
from models.pvae import PVAE

__all__ = ["JMVAE", "PVAE", "digit_modalities"]
