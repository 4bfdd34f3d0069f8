"""Several processes that train one model with torch's own package; `torchrun` starts them.

Each holds the whole model and a part of every batch; `DistributedDataParallel` averages the
gradients. In a single process every function here does the obvious thing.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

_TIMEOUT = timedelta(hours=1)  # the first process may compute features while the others wait


def rank() -> int:
    """The number of this process; process 0 is the one that writes."""
    return distributed.get_rank() if _is_initialised() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if _is_initialised() else 1


def _is_initialised() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def started() -> Iterator[None]:
    """Join the processes that `torchrun` started; without `torchrun` this is a single process.

    The backend is gloo on CPU and nccl on CUDA, where each process takes the GPU of its local rank.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield
        return
    on_cuda = torch.cuda.is_available()
    if on_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        # A thread of gloo still takes the interpreter's lock for a moment. If Python ended in
        # that moment, it would abort ("terminate called without an active exception").
        time.sleep(0.2)


def first_of_all(value: Any) -> Any:
    """The value that process 0 passes, in every process: anything that can be pickled."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextmanager
def first_alone() -> Iterator[None]:
    """Process 0 runs the body before the others do, e.g. to fill a cache that they then read."""
    if rank() > 0:
        first_of_all(None)
    try:
        yield
    finally:
        if rank() == 0:
            first_of_all(None)


def any_of(flags: list[bool], device: torch.device | str) -> list[bool]:
    """Each flag, true if it is true in any process."""
    if world_size() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.uint8, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in found.tolist()]


def sum_of(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Each 0-d tensor summed over processes, which must all pass the same names."""
    if not values:
        return {}
    if world_size() == 1:
        return {name: value.item() for name, value in values.items()}
    total = torch.stack([value.detach().double() for value in values.values()])
    distributed.all_reduce(total)
    return dict(zip(values, total.tolist(), strict=True))


def of_each(value: Any) -> list[Any]:
    """The values that all processes pass, by rank, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Return when every process has called this, so that none ends while others need it."""
    if world_size() > 1:
        distributed.all_reduce(torch.zeros(1))
