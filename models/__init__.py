"""The Pyro models, made to be edited: modalities, priors, and the generative process."""

from models.modalities import digit_modalities
from models.pvae import PVAE

__all__ = ["PVAE", "digit_modalities"]
