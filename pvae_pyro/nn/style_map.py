"""The part of a style that the content determines: its mean and its covariance."""

import torch
from torch import Tensor, nn


class StyleMap(nn.Module):
    r"""An invertible affine map of styles that depends on the content.

    .. math::
        f(z_{sem}, z) = \bar z + b(z_{sem}) + C(z_{sem}) (z - \bar z), \qquad
        b = \sum_k p(k | z_{sem}) b_k, \quad C = \sum_k p(k | z_{sem}) C_k

    p(k | z_sem) is the responsibility of component k of a mixture over z_sem. The C_k are symmetric
    and positive definite, and so is C.

    Args:
        mixture: has ``responsibilities``, ``[..., D] -> [..., K]``. It stays the model's prior: no
            parameter, state or submodule of this module.
        loc: z̄, ``[E]``.
        offsets: b_k, ``[K, E]``.
        linear: C_k, ``[K, E, E]``.
    """

    loc: Tensor
    offsets: Tensor
    linear: Tensor

    def __init__(self, mixture: nn.Module, loc: Tensor, offsets: Tensor, linear: Tensor):
        super().__init__()
        self._mixture = (mixture,)  # a tuple, which registers no submodule
        self.register_buffer("loc", loc)
        self.register_buffer("offsets", offsets)
        self.register_buffer("linear", linear)

    def forward(self, z_sem: Tensor, z: Tensor) -> Tensor:
        """Styles ``[..., E]`` as they go with the content z_sem ``[..., D]``."""
        with torch.autocast(z.device.type, enabled=False):
            shares = self._shares(z_sem)
            # All C_k (z - z̄) in one product: [..., E] [E, K E].
            each = (z - self.loc) @ self.linear.permute(2, 0, 1).flatten(1)
            scaled = (shares.unsqueeze(-2) @ each.unflatten(-1, self.offsets.shape)).squeeze(-2)
            return self.loc + shares @ self.offsets + scaled

    def inverse(self, z_sem: Tensor, z: Tensor) -> Tensor:
        """The style that `forward` maps to z, ``[..., E]``: without what z_sem says about it."""
        with torch.autocast(z.device.type, enabled=False):
            shares = self._shares(z_sem)
            linear = (shares @ self.linear.flatten(1)).unflatten(-1, self.linear.shape[1:])
            rest = z - self.loc - shares @ self.offsets
            return self.loc + torch.linalg.solve(linear, rest.unsqueeze(-1)).squeeze(-1)

    def _shares(self, z_sem: Tensor) -> Tensor:
        shares: Tensor = self._mixture[0].responsibilities(z_sem)  # type: ignore[operator]
        return shares.to(self.offsets.dtype)
