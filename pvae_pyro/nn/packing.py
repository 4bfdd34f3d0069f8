"""Ragged batches, packed: only the frames that exist, in the order that an LSTM needs.

Shapes: B rows, T frames, N = sum of lengths (frames that exist), F features of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Rows sorted by length, longest first; frames packed time-major, as in a `PackedSequence`.

    ``packed.split(alive.tolist())`` gives the frames of each step. They belong to the rows that are
    still alive, which come first in sorted order. All indices are int64, on CPU.

    num_frames: T of padded tensors.
    alive: ``[T']`` rows alive at each step, T' = the longest length.
    order: ``[B]`` sorted position -> the caller's row. unsorted: the inverse.
    frame: ``[N]`` packed frame -> row * num_frames + time, in the caller's order of rows.
    before: ``[N]`` packed frame of the same row one step earlier; negative at the first step.
    last: ``[B]`` packed frame of each row's last step, in the caller's order of rows.
    """

    num_frames: int
    alive: Tensor
    order: Tensor
    unsorted: Tensor
    frame: Tensor
    before: Tensor
    last: Tensor

    @classmethod
    def of(cls, lengths: Tensor, num_frames: int) -> Packing:
        """lengths: ``[B]``, integer. Raises ValueError for one below 1 or above `num_frames`."""
        if lengths.dim() != 1 or len(lengths) == 0:
            raise ValueError(f"lengths must be [B], got shape {tuple(lengths.shape)}")
        # On CPU whatever the default device; and usable later in a graph with gradients.
        with torch.inference_mode(False), torch.device("cpu"):
            lengths, order = lengths.cpu().clone().sort(descending=True, stable=True)
            if lengths[-1] < 1 or lengths[0] > num_frames:
                found = lengths.tolist()
                raise ValueError(f"lengths must be between 1 and {num_frames}, got {found}")
            exists = lengths > torch.arange(int(lengths[0])).unsqueeze(1)  # [T', B]
            alive = exists.sum(1)
            time, rank = exists.nonzero().unbind(1)
            # A row keeps its position, so its previous frame is one step of alive rows back.
            distance = torch.cat([torch.tensor([len(rank) + 1]), alive[:-1]])
            before = torch.arange(len(rank)) - distance.repeat_interleave(alive)
            unsorted = order.argsort()
            starts = alive.cumsum(0) - alive
            last = (starts[lengths - 1] + torch.arange(len(order)))[unsorted]
            frame = order[rank] * num_frames + time
        return cls(num_frames, alive, order, unsorted, frame, before, last)

    def pack(self, padded: Tensor) -> Tensor:
        """``[B, T, F] -> [N, F]``."""
        self.check(padded)
        frame = self.frame.to(padded.device, non_blocking=True)
        return padded.flatten(0, 1).index_select(0, frame)

    def repeat(self, rows: Tensor) -> Tensor:
        """``[B, F] -> [N, F]``: each row at each of its frames."""
        self.check(rows)
        row = (self.frame // self.num_frames).to(rows.device, non_blocking=True)
        return rows.index_select(0, row)

    def pad(self, packed: Tensor) -> Tensor:
        """``[N, F] -> [B, T, F]``, zero where there is no frame."""
        size = len(self.order) * self.num_frames
        frame = self.frame.to(packed.device, non_blocking=True)
        flat = packed.new_zeros(size, packed.shape[1]).index_copy(0, frame, packed)
        return flat.unflatten(0, (len(self.order), self.num_frames))

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless x is ``[B, T, F]`` or ``[B, F]``, of this B and T."""
        want = (len(self.order), self.num_frames)[: x.dim() - 1]
        if x.dim() not in (2, 3) or x.shape[:-1] != want:
            raise ValueError(f"lengths are of {want}, but x is {tuple(x.shape)}")


def in_use(lengths: Tensor, num_frames: int) -> Tensor:
    """``[...] -> [..., num_frames, 1]``, True on the frames before each length."""
    frames = torch.arange(num_frames, device=lengths.device)
    return (frames < lengths.unsqueeze(-1)).unsqueeze(-1)
