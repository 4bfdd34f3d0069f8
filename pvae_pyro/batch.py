"""A batch: the observation of each modality.

Shapes: B examples of a batch, T frames, F features of a frame.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from pyro import poutine
from torch import Tensor

from pvae_pyro.nn.packing import Packing


@dataclass(frozen=True)
class Observation:
    """One modality of a batch.

    value: ``[B, ...]``; sequences are padded to ``[B, T, F]``.
    lengths: ``[B]`` frames in use (int64), for sequences; None otherwise. They stay on the CPU,
        where an LSTM wants them: to fetch them from a GPU waits for all that it has to do.
    present: ``[B]`` bool, the examples that have this modality; None: all of them. What stands in
        the rows of the others is finite, of length 1 if a sequence, and of no effect.
    """

    value: Tensor
    lengths: Tensor | None = None
    present: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Observation":
        """The same on a device, but for the lengths."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Observation":
        """The same in page-locked memory, which a GPU reads by itself."""
        return self._moved(Tensor.pin_memory)

    def part(self, start: int, stop: int) -> "Observation":
        """The examples from `start` to before `stop`."""
        lengths = None if self.lengths is None else self.lengths[start:stop]
        present = None if self.present is None else self.present[start:stop]
        return Observation(self.value[start:stop], lengths, present)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Observation":
        present = None if self.present is None else move(self.present)
        return replace(self, value=move(self.value), present=present)

    @cached_property
    def packing(self) -> Packing:
        """Which frames exist; made once for all networks. Raises ValueError without lengths."""
        if self.lengths is None:
            raise ValueError("a sequence needs the lengths of its examples")
        return Packing.of(self.lengths, self.value.shape[-2])


# Modality name -> its observation. Class labels have no place here: that training is
# unsupervised can be read off this type.
Batch: TypeAlias = Mapping[str, Observation]


def batch_size(batch: Batch) -> int:
    """Number of examples; raises ValueError when the modalities disagree or there are none."""
    sizes = {name: len(observation.value) for name, observation in batch.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"a batch needs at least one modality, all of one size; got {sizes}")
    return next(iter(sizes.values()))


def where_present(observation: Observation | None) -> AbstractContextManager[Any]:
    """Within, a site has no term for the examples that lack the modality, as if it were not there.

    None, what is to be generated, is of every example.
    """
    if observation is None or observation.present is None:
        return nullcontext()
    mask: Any = observation.present  # a Tensor of bool, which Pyro's types call BoolTensor
    return poutine.mask(mask=mask)
