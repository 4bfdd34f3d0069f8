"""Contrast of a pair with all other examples of the batch."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor

# A kernel of which the exponent is -2 on average tells examples apart, and is nowhere near 0.
_MEAN_RATIO = 4.0  # mean squared distance over squared width


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

    The squared width of K is

        s² = min(length_scale², Σ_x,x' ‖μ_i(x) - μ_j(x')‖² / (4 B²)),  without gradient.

    With a constant width, means that are all nearly equal, as at the start of training, would have
    nearly no gradient, and might stay so.

    Source: van den Oord et al. 2018 (arXiv:1807.03748), Eqs. 4 and 5, with the kernel as density
    ratio.

    Args:
        locs: modality -> mean of q_m(z_sem | x^m), ``[B, D]``.
        present: modality -> ``[B]`` bool; None: every example has every modality. An example that
            lacks i or j has the value 0, and is no x' if it lacks j. As in `hinge_of_present`,
            values are multiplied by B / n for n examples that have both.
        length_scale: of K, at most.

    Returns: (i, j) -> ``[B]``.
    """
    found = {}
    for i, j in permutations(locs, 2):
        squared = (locs[i].unsqueeze(1) - locs[j]).square().sum(-1)
        there = None if present is None else present[i].unsqueeze(1) & present[j]
        logits = -0.5 * squared / _squared_width(squared.detach(), there, length_scale)
        if present is None:
            found[i, j] = -torch.log_softmax(logits, 1).diagonal()
            continue
        # Not -inf, which would make a row of an empty batch NaN.
        logits = logits.masked_fill(~present[j], torch.finfo(logits.dtype).min)
        both = present[i] & present[j]
        value = torch.where(both, -torch.log_softmax(logits, 1).diagonal(), 0.0)
        found[i, j] = value * (len(both) / both.sum().clamp(min=1))
    return found


def _squared_width(squared: Tensor, there: Tensor | None, length_scale: float) -> Tensor:
    """s², from the squared distances ``[B, B]`` that are there (``[B, B]`` bool; None: all)."""
    number = squared.numel() if there is None else there.sum().clamp(min=1)
    mean = (squared if there is None else squared * there).sum() / number
    return (mean / _MEAN_RATIO).clamp(min=1e-12, max=length_scale**2)
