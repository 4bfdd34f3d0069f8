"""Dependence of two latents over a batch, as a penalty."""

import torch
from torch import Tensor

FEWEST = 4  # examples that an estimate needs


def median_kernel(x: Tensor) -> Tensor:
    """exp(-‖x_i - x_j‖² / (2 s²)), s the median distance of two examples: ``[B, D] -> [B, B]``.

    Neither the kernel nor anything made of it changes with the scale of x. So that gradients know
    it too, the median is differentiated: with a constant width, they would shrink latents that are
    independent, whose kernels are then nearer to 1.
    """
    squared = (x.unsqueeze(1) - x).square().sum(-1)
    size = len(x)
    # Of pairs i ≠ j: the first column of each row of this view is the diagonal.
    off_diagonal = squared.flatten()[1:].view(size - 1, size + 1)[:, :-1]
    return torch.exp(-0.5 * squared / off_diagonal.median().clamp(min=1e-12))


def normalised_hsic(x: Tensor, y: Tensor) -> Tensor:
    """How strongly x and y depend on each other: 0 on average if not at all, 1 if y is x.

        HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)),    HSIC(x, y) = Σ_{i≠j} K̃_ij L̃_ij / (B (B - 3))

    K̃ and L̃ are the `median_kernel` of x and of y, U-centred. This HSIC is the unbiased estimator
    of Song et al. 2012 (Eq. 5), in the form of Székely and Rizzo 2014 (section 3). The quotient is
    not biased by independence either: over all permutations of y its mean is 0, because the rows of
    K̃ and L̃ sum to 0. So a weight means the same for batches of 32 and of 256, and for the parts of
    a batch that several processes hold. A single batch may have less than 0.

    Args: ``[B, D]`` and ``[B, E]``. Returns each example's part, ``[B]``, whose mean is the value;
    zeros for a batch of fewer than four, of which nothing can be said. Raises ValueError for
    another number of dimensions.
    """
    if x.dim() != 2 or y.dim() != 2:
        raise ValueError(f"want [B, D], got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < FEWEST:
        return x.new_zeros(len(x))
    k, l = (_u_centred(median_kernel(z)) for z in (x, y))
    # Bounded before the root, whose slope at 0 is infinite.
    norm = (k.square().sum() * l.square().sum()).clamp(min=1e-24).sqrt()
    return len(x) * (k * l).sum(1) / norm


def _u_centred(kernel: Tensor) -> Tensor:
    """K_ij - Σ_l K_il / (B - 2) - Σ_k K_kj / (B - 2) + Σ_kl K_kl / ((B - 1)(B - 2)) for i ≠ j, and
    0 for i = j; the sums leave out the diagonal. Every row and column sums to 0."""
    size = len(kernel)
    diagonal = torch.eye(size, dtype=torch.bool, device=kernel.device)
    kernel = kernel.masked_fill(diagonal, 0.0)
    rows = kernel.sum(0) / (size - 2)
    centred = kernel - rows - rows.unsqueeze(1) + rows.sum() / (size - 1)
    return centred.masked_fill(diagonal, 0.0)
