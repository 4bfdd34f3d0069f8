"""Contrast of a pair with all other examples of the batch."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor


def infonce(
    locs: Mapping[str, Tensor],
    present: Mapping[str, Tensor] | None = None,
    length_scale: float = 1.0,
) -> dict[tuple[str, str], Tensor]:
    """InfoNCE of every ordered pair of modalities in nats, per example.

        -log K(μ_i(x), μ_j(x)) / Σ_x' K(μ_i(x), μ_j(x')),  i ≠ j,

    where K is the paper's kernel, `rbf_kernel`, and x' runs over all examples of the batch, x among
    them. So each example is contrasted with all others, and not with a single one as in the paper's
    Eq. 8. log B minus the mean is a lower bound of the mutual information of μ_i and μ_j; the value
    is log B if K tells no examples apart, and has no upper bound. With missing modalities, B is the
    number of examples that have j. No label is used: examples of the class of x are among the x'.
    With several processes, x' runs over each process's own part of the batch.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), Eqs. 4 and 5, with the kernel as density
    ratio.

    Args:
        locs: modality -> mean of q_m(z_sem | x^m), ``[B, D]``.
        present: modality -> ``[B]`` bool; None: every example has every modality. An example that
            lacks i or j has the value 0, and is no x' if it lacks j. As in `hinge_of_present`,
            values are multiplied by B / n for n examples that have both.
        length_scale: of K.

    Returns: (i, j) -> ``[B]``.
    """
    found = {}
    for i, j in permutations(locs, 2):
        squared = (locs[i].unsqueeze(1) - locs[j]).square().sum(-1)
        logits = -0.5 * squared / length_scale**2
        if present is None:
            found[i, j] = -torch.log_softmax(logits, 1).diagonal()
            continue
        # Not -inf, which would make a row of an empty batch NaN.
        logits = logits.masked_fill(~present[j], torch.finfo(logits.dtype).min)
        both = present[i] & present[j]
        value = torch.where(both, -torch.log_softmax(logits, 1).diagonal(), 0.0)
        found[i, j] = value * (len(both) / both.sum().clamp(min=1))
    return found
