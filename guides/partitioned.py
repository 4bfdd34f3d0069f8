"""The multimodal and the unimodal guides together, as training needs them."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from guides.multimodal import MultimodalGuide
from guides.unimodal import UnimodalGuide
from pvae_pyro.modality import Batch, Modality


class PartitionedGuide(nn.Module):
    """Calls the guide that fits what is in the batch; no parameters are shared between them.

    multimodal: the guide of all modalities.
    unimodal: modality -> its guide.
    """

    def __init__(self, modalities: Iterable[Modality], semantic_dim: int = 32, style_dim: int = 32):
        super().__init__()
        modalities = tuple(modalities)
        self.multimodal = MultimodalGuide(modalities, semantic_dim, style_dim)
        self.unimodal = nn.ModuleDict(
            {m.name: UnimodalGuide(m, semantic_dim, style_dim) for m in modalities}
        )

    def forward(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        """The multimodal guide on all modalities, a unimodal one on a single modality.

        Raises ValueError for any other subset: no guide was trained for it.
        """
        if batch.keys() >= self.unimodal.keys():
            return self.multimodal(batch, **kwargs)
        if len(batch) == 1 and batch.keys() <= self.unimodal.keys():
            (name,) = batch
            return self.unimodal[name](batch, **kwargs)
        raise ValueError(
            f"no guide infers from {sorted(batch)}: give all of {sorted(self.unimodal)} or one"
        )
