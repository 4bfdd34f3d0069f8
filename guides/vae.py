"""The inference network of the VAE of one modality."""

from pvae_pyro.guides.gaussian import GaussianGuide
from pvae_pyro.modality import Modality


class VAEGuide(GaussianGuide):
    """q(z | x)."""

    def __init__(self, modality: Modality, latent_dim: int = 64):
        super().__init__([modality], {"z": latent_dim}, {"z": modality.name})

    @property
    def unimodal(self) -> dict[str, GaussianGuide]:
        """As of the other guides: modality -> its guide, which is this one."""
        return dict.fromkeys(self.encoders, self)
