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
        where an LSTM needs them: reading them from a GPU would wait for all its work.
    present: ``[B]`` bool, the examples that have this modality; None: all of them. The other rows
        are finite, have length 1 if they are sequences, and have no effect.
    """

    value: Tensor
    lengths: Tensor | None = None
    present: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Observation":
        """Move value and presence to a device; the lengths stay on the CPU."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Observation":
        """Copy into page-locked memory, which a GPU reads directly."""
        return self._moved(Tensor.pin_memory)

    def part(self, start: int, stop: int) -> "Observation":
        """The examples from `start` to before `stop`."""
        lengths = None if self.lengths is None else self.lengths[start:stop]
        present = None if self.present is None else self.present[start:stop]
        return Observation(self.value[start:stop], lengths, present)

    def take(self, index: Tensor) -> "Observation":
        """The examples at `index`, integers on the CPU, in that order."""
        lengths = None if self.lengths is None else self.lengths[index]
        present = None if self.present is None else self.present[index]
        return Observation(self.value[index], lengths, present)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> "Observation":
        present = None if self.present is None else move(self.present)
        return replace(self, value=move(self.value), present=present)

    @cached_property
    def packing(self) -> Packing:
        """The frames that exist; made once for all networks. Raises ValueError without lengths."""
        if self.lengths is None:
            raise ValueError("a sequence needs the lengths of its examples")
        return Packing.of(self.lengths, self.value.shape[-2])


# Modality name -> its observation. It contains no class labels; they only make the pairs
# (docs/data.md, "Labels and pairs").
Batch: TypeAlias = Mapping[str, Observation]


def batch_size(batch: Batch) -> int:
    """Number of examples; raises ValueError if the modalities disagree or there are none."""
    sizes = {name: len(observation.value) for name, observation in batch.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"a batch needs at least one modality, all of one size; got {sizes}")
    return next(iter(sizes.values()))


def where_present(observation: Observation | None) -> AbstractContextManager[Any]:
    """A context in which sites have no term for examples that lack the modality.

    None, a modality that is generated, is present in every example.
    """
    return masked(None if observation is None else observation.present)


def masked(present: Tensor | None) -> AbstractContextManager[Any]:
    """A context in which sites have a term for the examples that are present, ``[B]`` bool.

    None: all of them.
    """
    if present is None:
        return nullcontext()
    mask: Any = present  # a Tensor of bool, which Pyro's types call BoolTensor
    return poutine.mask(mask=mask)
