"""A pool of large CPU buffers: each fresh buffer would cost a page fault for every 4 KiB."""

from threading import Lock

import torch
from torch import Tensor

# A training step uses three buffers for each of at most five recurrent networks.
_MOST = 16
_free: dict[torch.dtype, list[Tensor]] = {}
_lock = Lock()


def take(dtype: torch.dtype, size: int) -> Tensor:
    """A flat, uninitialised CPU tensor of `size` elements or up to twice as many."""
    with _lock:
        free = _free.setdefault(dtype, [])
        near = sorted((buffer for buffer in free if size <= 2 * len(buffer) <= 4 * size), key=len)
        enough = [buffer for buffer in near if len(buffer) >= size]
        # A buffer that is nearly large enough is replaced, with room for somewhat longer batches.
        for chosen in (enough or near[::-1])[:1]:
            free[:] = [buffer for buffer in free if buffer is not chosen]
            if enough:
                return chosen
    with torch.inference_mode(False):
        return torch.empty(size + size // 8, dtype=dtype, device="cpu")


def give_back(*buffers: Tensor) -> None:
    """Return buffers to the pool: the caller must not read or write them afterwards."""
    with _lock:
        for buffer in buffers:
            free = _free.setdefault(buffer.dtype, [])
            free.append(buffer)
            del free[:-_MOST]
