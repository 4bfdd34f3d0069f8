"""Where a training run stands, and the terms of its objective so far in the epoch."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from typing_extensions import Self

from pvae_pyro import distributed

Count = Annotated[int, Field(ge=0)]


class Progress(BaseModel):
    """Where a run stands.

    epoch, batch: the next batch to train on. step: gradient steps taken. seconds: time spent
    training, in all sittings. num_seen: examples of this epoch so far. sums: each term summed over
    them, in nats. interrupted: the run was asked to stop. skipped: batches that were left out.
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

    def problem(self, num_batches: int, num_epochs: int) -> str | None:
        """Why a training of so many batches an epoch cannot be here; None where it can."""
        if self.epoch > num_epochs:
            return f"it has {self.epoch} epochs, the run only {num_epochs}"
        if self.batch > num_batches:
            return f"it has {self.batch} batches of an epoch, the run only {num_batches}"
        if self.batch and self.num_seen + self.skipped == 0:
            return f"it has {self.batch} batches without an example"
        if self.num_seen and "objective" not in self.sums:
            return "it has no sum of the objective"
        return None


class EpochSums:
    """The terms of the objective, summed over the examples of an epoch, on the device."""

    def __init__(self, progress: Progress, device: torch.device):
        # A checkpoint holds the sums of all processes; the first one goes on from them.
        first = distributed.rank() == 0
        kept = {name: value if first else 0.0 for name, value in progress.sums.items()}
        self._sums: dict[str, Tensor] = {
            name: torch.tensor(value, device=device) for name, value in kept.items()
        }

    def add(self, means: Mapping[str, Tensor], size: int) -> Self:
        self._sums = {n: self._sums.get(n, 0.0) + size * mean for n, mean in means.items()}
        return self

    def total(self) -> dict[str, float]:
        """Of all processes. Raises FloatingPointError naming the sums that are not finite."""
        found = distributed.sum_of(self._sums)
        if bad := [name for name, value in found.items() if value - value != 0.0]:
            raise FloatingPointError(
                f"no longer finite: {', '.join(bad)}; a smaller learning rate may help"
            )
        return found

    def clear(self) -> None:
        self._sums = {}
