"""The PVAE's inference networks (paper, Eqs. 2 and 6)."""

from collections.abc import Iterable

from pvae_pyro.guides.dispatching import DispatchingGuide
from pvae_pyro.guides.gaussian import GaussianGuide, unimodal_guide
from pvae_pyro.modality import Modality


class PartitionedGuide(DispatchingGuide):
    """q(z_sem, z_style | x) = q(z_sem | x) Π_m q(z_style_m | x) from all modalities, and
    q_m(z_sem, z_style_m | x^m) = q_m(z_sem | x^m) q_m(z_style_m | x^m) from modality m alone.

    They share no parameters. An example that lacks modality m has no z_style_m, and q_m infers
    nothing from it. Examples with some of the modalities: see `DispatchingGuide`.
    """

    def __init__(
        self,
        modalities: Iterable[Modality],
        semantic_dim: int = 32,
        style_dim: int = 32,
    ):
        modalities = tuple(modalities)
        styles = {f"z_style_{m.name}": m.name for m in modalities}
        dims = {"z_sem": semantic_dim, **dict.fromkeys(styles, style_dim)}
        super().__init__(
            GaussianGuide(modalities, dims, styles),
            {
                m.name: unimodal_guide(m, {"z_sem": semantic_dim, f"z_style_{m.name}": style_dim})
                for m in modalities
            },
            detach_shared=True,
        )
