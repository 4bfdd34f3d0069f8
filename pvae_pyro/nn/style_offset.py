"""The part of a style that the content determines."""

import torch
from torch import Tensor, nn


class StyleOffset(nn.Module):
    """Σ_k p(k | z_sem) offset_k: ``[..., D] -> [..., E]``.

    p(k | z_sem) is the responsibility of component k of a mixture over z_sem, and offset_k is how
    far styles that go with this component lie from the mean style.

    Args:
        mixture: has ``responsibilities``, ``[..., D] -> [..., K]``. It stays the model's prior: no
            parameter, state or submodule of this module.
        offsets: ``[K, E]``.
    """

    offsets: Tensor

    def __init__(self, mixture: nn.Module, offsets: Tensor):
        super().__init__()
        self._mixture = (mixture,)  # a tuple, which registers no submodule
        self.register_buffer("offsets", offsets)

    def forward(self, z_sem: Tensor) -> Tensor:
        responsibilities: Tensor = self._mixture[0].responsibilities(z_sem)  # type: ignore[operator]
        return torch.matmul(responsibilities, self.offsets)
