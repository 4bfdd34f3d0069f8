"""A multimodal guide and the unimodal guides of the same latents."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pvae_pyro.batch import Batch
from pvae_pyro.guides.gaussian import GaussianGuide


class DispatchingGuide(nn.Module):
    """Calls the guide that fits the modalities of a batch.

    multimodal: the guide of all modalities. unimodal: modality -> its guide.
    """

    def __init__(self, multimodal: GaussianGuide, unimodal: Mapping[str, GaussianGuide]):
        super().__init__()
        self.multimodal = multimodal
        self.unimodal = nn.ModuleDict(unimodal)

    def forward(self, batch: Batch, **kwargs: Any) -> dict[str, Tensor]:
        """Call the multimodal guide on all modalities, a unimodal guide on one of them.

        Other subsets go to the multimodal guide if it sees presence. Otherwise no guide was trained
        for them: ValueError.
        """
        if batch.keys() >= self.unimodal.keys():
            return self.multimodal(batch, **kwargs)
        if len(batch) == 1 and batch.keys() <= self.unimodal.keys():
            (name,) = batch
            return self.unimodal[name](batch, **kwargs)
        if getattr(self.multimodal, "sees_presence", False):
            return self.multimodal(batch, **kwargs)
        raise ValueError(
            f"no guide infers from {sorted(batch)}: give all of {sorted(self.unimodal)} or one"
        )
