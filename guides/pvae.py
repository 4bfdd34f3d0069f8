"""The PVAE's inference networks (paper, Eqs. 2 and 6)."""

from collections.abc import Iterable

from guides.gaussian import GaussianGuide
from guides.together import GuidesTogether
from pvae_pyro.modality import Modality


class PartitionedGuide(GuidesTogether):
    """q(z_sem, z_style | x) = q(z_sem | x) Π_m q(z_style_m | x) from all modalities, and
    q_m(z_sem, z_style_m | x^m) = q_m(z_sem | x^m) q_m(z_style_m | x^m) from modality m alone.

    They share no parameters.
    """

    def __init__(self, modalities: Iterable[Modality], semantic_dim: int = 32, style_dim: int = 32):
        modalities = tuple(modalities)
        styles = {m.name: {f"z_style_{m.name}": style_dim} for m in modalities}
        shared = {"z_sem": semantic_dim}
        every_style = {site: dim for style in styles.values() for site, dim in style.items()}
        super().__init__(
            GaussianGuide(modalities, shared | every_style),
            {m.name: GaussianGuide([m], shared | styles[m.name]) for m in modalities},
        )
