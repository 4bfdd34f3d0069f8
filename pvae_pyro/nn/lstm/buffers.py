"""Large CPU buffers that are used again: a fresh one costs a page fault for every 4 KiB."""

from threading import Lock

import torch
from torch import Tensor

# What a training step has in use at a time: of five recurrent networks, three each.
_MOST = 16
_free: dict[torch.dtype, list[Tensor]] = {}
_lock = Lock()


def take(dtype: torch.dtype, size: int) -> Tensor:
    """A flat, uninitialised CPU tensor of `size` elements or up to twice as many."""
    with _lock:
        free = _free.setdefault(dtype, [])
        near = sorted((buffer for buffer in free if size <= 2 * len(buffer) <= 4 * size), key=len)
        enough = [buffer for buffer in near if len(buffer) >= size]
        # Else in place of the one that is nearly enough, with room for somewhat longer batches.
        for chosen in (enough or near[::-1])[:1]:
            free[:] = [buffer for buffer in free if buffer is not chosen]
            if enough:
                return chosen
    with torch.inference_mode(False):
        return torch.empty(size + size // 8, dtype=dtype, device="cpu")


def give_back(*buffers: Tensor) -> None:
    """Let `take` use them again: nothing else may read or write them from now on."""
    with _lock:
        for buffer in buffers:
            free = _free.setdefault(buffer.dtype, [])
            free.append(buffer)
            del free[:-_MOST]
