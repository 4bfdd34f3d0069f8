"""Cross-modality semantic contrastiveness (paper, Eq. 8)."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor


def rbf_kernel(a: Tensor, b: Tensor, length_scale: float = 1.0) -> Tensor:
    """K(a, b) = exp(-‖a - b‖² / (2 length_scale²)) over the last dimension: ``[..., D] -> [...]``.

    The paper says "radius basis kernel function"; its width is lost. ½ is ours (README, constants).
    """
    return torch.exp(-0.5 * (a - b).square().sum(-1) / length_scale**2)


def derangement(size: int, device: torch.device | str | None = None) -> Tensor:
    """A random permutation of ``range(size)`` that leaves nothing in place (one random cycle).

    Raises ValueError for fewer than two elements: there is none.
    """
    if size < 2:
        raise ValueError(f"{size} example has no other one to be contrasted with")
    cycle = torch.randperm(size, device=device)
    negatives = torch.empty_like(cycle)
    negatives[cycle] = cycle.roll(-1)
    return negatives


def contrastive_hinge(
    locs: Mapping[str, Tensor], negatives: Tensor, margin: float = 0.5, length_scale: float = 1.0
) -> dict[tuple[str, str], Tensor]:
    """The hinge of every ordered pair of modalities (paper, Eq. 8), per example.

        max(0, margin - K(μ_i(x), μ_j(x)) + K(μ_i(x), μ_j(x⁻))),  i ≠ j

    Args:
        locs: modality -> mean of q_m(z_sem | x^m), ``[B, D]``.
        negatives: ``[B]``, index of each example's negative x⁻. No label is looked at, so a
            negative may be of the same class.

    Returns: (i, j) -> ``[B]``.
    """
    hinge = {}
    for i, j in permutations(locs, 2):
        same = rbf_kernel(locs[i], locs[j], length_scale)
        other = rbf_kernel(locs[i], locs[j][negatives], length_scale)
        hinge[i, j] = torch.relu(margin - same + other)
    return hinge
