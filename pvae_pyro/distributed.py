"""Several processes that train one model, by torch's own package (`torchrun` starts them).

Each holds the whole model and a part of every batch; gradients are averaged by
`DistributedDataParallel`. One process alone needs none of this, and every function here then
does the obvious thing.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

_PATIENCE = timedelta(hours=1)  # the first process may compute features while the others wait


def rank() -> int:
    """Which process this is: 0 is the one that writes."""
    return distributed.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _together() else 1


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def started() -> Iterator[None]:
    """Join the processes that `torchrun` started; without its environment this is one process.

    gloo joins those on CPU and nccl those on CUDA, where each takes the GPU of its local rank.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield
        return
    on_cuda = torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        # A thread of gloo frees a work a moment after it is done, and takes the interpreter's lock
        # for it. One that asks while Python ends aborts the process ("terminate called without an
        # active exception"), all of whose work is done. This leaves the lock to it.
        time.sleep(0.2)


def first_of_all(value: Any) -> Any:
    """What process 0 has for `value`, in every process: anything that can be pickled."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def first_alone() -> Iterator[None]:
    """Process 0 runs what is within before the others do: it fills caches that they then find."""
    if world_size() > 1 and rank() > 0:
        first_of_all(None)
    try:
        yield
    finally:
        if world_size() > 1 and rank() == 0:
            first_of_all(None)


def any_of(flags: list[bool], device: torch.device | str) -> list[bool]:
    """Each flag, true where it is true in some process."""
    if world_size() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.uint8, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in found.tolist()]


def sum_of(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Each 0-d tensor summed over processes, which must all have the same names."""
    if not values:
        return {}
    if world_size() == 1:
        return {name: value.item() for name, value in values.items()}
    total = torch.stack([value.detach().double() for value in values.values()])
    distributed.all_reduce(total)
    return dict(zip(values, total.tolist(), strict=True))


def of_each(value: Any) -> list[Any]:
    """What every process has for `value`, by rank: in all of them."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return once every process has come here: none then leaves while another still talks to it."""
    if world_size() > 1:
        distributed.all_reduce(torch.zeros(1))
