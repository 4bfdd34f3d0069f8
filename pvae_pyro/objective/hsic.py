"""Dependence of two latents over a batch, as a penalty."""

import torch
from torch import Tensor


def median_kernel(x: Tensor) -> Tensor:
    """exp(-‖x_i - x_j‖² / (2 s²)), s the median distance of two examples: ``[B, D] -> [B, B]``.

    So a rescaled x has the same kernel. The width is a constant to gradients.
    """
    squared = (x.unsqueeze(1) - x).square().sum(-1)
    size = len(x)
    # Of pairs i ≠ j: the first column of each row of this view is the diagonal.
    off_diagonal = squared.detach().flatten()[1:].view(size - 1, size + 1)[:, :-1]
    return torch.exp(-0.5 * squared / off_diagonal.median().clamp(min=1e-12))


def normalised_hsic(x: Tensor, y: Tensor) -> Tensor:
    """How much y depends on x, of whatever form: 0 for independence, 1 at most.

        HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)),  HSIC(x, y) = tr(K H L H) / B²

    with the `median_kernel` K of x and L of y, and H = I - 1/B (Gretton et al. 2005; normalised
    as in Kornblith et al. 2019, arXiv:1905.00414). The biased estimator: samples that are
    independent give more than 0, the more so the fewer the examples and the more the dimensions
    of equal spread (about 0.03 for 64 examples of 1, half for 64 of 32). As a penalty it so favours
    latents of few dimensions as well.

    Raises ValueError for anything but ``[B, D]``.

    Args: ``[B, D]`` and ``[B, E]``. Returns each example's part, ``[B]``, whose mean is the value;
    zero for a batch of fewer than three, which shows nothing.
    """
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"want [B, D], got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < 3:
        return x.new_zeros(len(x))
    k, l = (_centred(median_kernel(z)) for z in (x, y))
    # Bounded before the root, whose slope at 0 is infinite.
    norm = (k.square().sum() * l.square().sum()).clamp(min=1e-24).sqrt()
    return len(x) * (k * l).sum(1) / norm


def _centred(kernel: Tensor) -> Tensor:
    rows = kernel.mean(0)
    return kernel - rows - rows.unsqueeze(1) + rows.mean()
