"""The inference networks of the joint multimodal VAE."""

from collections.abc import Iterable

from pvae_pyro.guides.dispatching import DispatchingGuide
from pvae_pyro.guides.gaussian import GaussianGuide, unimodal_guide
from pvae_pyro.modality import Modality


class JMVAEGuide(DispatchingGuide):
    """q(z | x) from all modalities, and q_m(z | x^m) from modality m alone (JMVAE-kl).

    They share no parameters. Examples with some of the modalities: see `DispatchingGuide`.

    Source: Suzuki et al. 2016 (arXiv:1611.01891), section 3.3.
    """

    def __init__(self, modalities: Iterable[Modality], latent_dim: int = 96):
        modalities = tuple(modalities)
        latents = {"z": latent_dim}
        super().__init__(
            GaussianGuide(modalities, latents),
            {m.name: unimodal_guide(m, latents) for m in modalities},
        )
