"""Cross-modality semantic contrastiveness (paper, Eq. 8)."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor


def rbf_kernel(a: Tensor, b: Tensor, length_scale: float = 1.0) -> Tensor:
    """K(a, b) = exp(-‖a - b‖² / (2 length_scale²)) over the last dimension: ``[..., D] -> [...]``.

    The paper says "radius basis kernel function" without a width; ½ is ours (docs/model.md).
    """
    return torch.exp(-0.5 * (a - b).square().sum(-1) / length_scale**2)


def derangement(size: int, device: torch.device | str | None = None) -> Tensor:
    """A random permutation of ``range(size)`` that leaves nothing in place (one random cycle).

    Raises ValueError for fewer than two elements, which have no derangement.
    """
    if size < 2:
        raise ValueError(f"a derangement needs at least two examples to be contrasted, not {size}")
    cycle = torch.randperm(size, device=device)
    negatives = torch.empty_like(cycle)
    negatives[cycle] = cycle.roll(-1)
    return negatives


def negatives_among(present: Tensor) -> Tensor:
    """For each example that is present (``[B]`` bool), another present one at random; ``[B]``.

    The present examples form one random cycle, made without waiting for the device. A single
    present example gets itself; absent examples get some present one.
    """
    order = torch.rand(len(present), device=present.device) + 2.0 * ~present
    cycle = order.argsort()  # present examples come first
    position = torch.arange(1, len(present) + 1, device=present.device)
    negatives = torch.empty_like(cycle)
    negatives[cycle] = cycle[position % present.sum().clamp(min=1)]
    return negatives


def contrastive_hinge(
    locs: Mapping[str, Tensor],
    negatives: Tensor | Mapping[str, Tensor],
    margin: float = 0.5,
    length_scale: float = 1.0,
) -> dict[tuple[str, str], Tensor]:
    """The hinge of every ordered pair of modalities (paper, Eq. 8), per example.

        max(0, margin - K(μ_i(x), μ_j(x)) + K(μ_i(x), μ_j(x⁻))),  i ≠ j

    Args:
        locs: modality -> mean of q_m(z_sem | x^m), ``[B, D]``.
        negatives: ``[B]``, index of each example's negative x⁻, or modality j -> such an index.
            They are chosen without labels, so a negative may be of the same class.

    Returns: (i, j) -> ``[B]``.
    """
    hinge = {}
    for i, j in permutations(locs, 2):
        negative = negatives if isinstance(negatives, Tensor) else negatives[j]
        same = rbf_kernel(locs[i], locs[j], length_scale)
        other = rbf_kernel(locs[i], locs[j][negative], length_scale)
        hinge[i, j] = torch.relu(margin - same + other)
    return hinge


def hinge_of_present(
    locs: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    margin: float = 0.5,
    length_scale: float = 1.0,
) -> dict[tuple[str, str], Tensor]:
    """`contrastive_hinge` for examples that lack modalities: 0 unless i and j are present.

    The negative of j is drawn from the examples that have j; without another one the value is 0.
    Values are multiplied by B / n, so that their mean over the batch is the mean over the n
    examples that have both: the weight of the hinge does not shrink with n.

    Args:
        present: modality -> ``[B]`` bool.
    """
    negatives = {name: negatives_among(examples) for name, examples in present.items()}
    hinge = contrastive_hinge(locs, negatives, margin, length_scale)
    for (i, j), value in hinge.items():
        both = present[i] & present[j] & (present[j].sum() > 1)
        hinge[i, j] = torch.where(both, value, 0.0) * (len(both) / both.sum().clamp(min=1))
    return hinge
