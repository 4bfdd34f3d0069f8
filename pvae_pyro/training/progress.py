"""The position of a training run, and the sums of its objective's terms over the epoch so far."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pvae_pyro import distributed

Count = Annotated[int, Field(ge=0)]


class Progress(BaseModel):
    """The position of a run, as a checkpoint stores it.

    epoch, batch: the next batch to train on. step: gradient steps taken. seconds: time spent
    training, over all resumptions. num_seen: examples of this epoch so far. sums: each term summed
    over them, in nats. interrupted: the run was asked to stop. skipped: batches left out.
    """

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    seconds: Annotated[float, Field(ge=0.0)] = 0.0
    num_seen: Count = 0
    sums: dict[str, float] = {}
    interrupted: bool = False
    skipped: Count = 0

    @property
    def num_batches(self) -> int:
        """Batches processed since the run began."""
        return self.step + self.skipped

    def problem(self, num_batches: int, num_epochs: int) -> str | None:
        """Why a training with so many batches an epoch cannot continue here; None if it can."""
        if self.epoch > num_epochs:
            return f"it has {self.epoch} epochs, the run only {num_epochs}"
        if self.batch > num_batches:
            return f"it has {self.batch} batches of an epoch, the run only {num_batches}"
        return None


class EpochSums:
    """The terms of the objective, summed on the device over the examples of an epoch."""

    def __init__(self, progress: Progress, device: torch.device):
        # A checkpoint holds the sums of all processes; the first process continues from them.
        share = 1.0 if distributed.rank() == 0 else 0.0
        self._sums: dict[str, Tensor] = {
            name: torch.tensor(share * value, device=device)
            for name, value in progress.sums.items()
        }

    def add(self, means: Mapping[str, Tensor], size: int) -> None:
        """Add a batch of `size` examples, given the mean of each term."""
        self._sums = {n: self._sums.get(n, 0.0) + size * mean for n, mean in means.items()}

    def total(self) -> dict[str, float]:
        """The sums over all processes."""
        return distributed.sum_of(self._sums)

    def clear(self) -> None:
        self._sums = {}
