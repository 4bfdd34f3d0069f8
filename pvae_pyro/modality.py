"""What the library knows of a modality: a name, how to encode it, how to generate it.

Shapes: B examples of a batch, T frames, F features of a frame, D latent dimensions,
S draws; `...` stands for any leading dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from pyro import poutine
from torch import Tensor, nn

from pvae_pyro.nn.packing import Packing

if TYPE_CHECKING:  # which itself is of observations
    from pvae_pyro.data.column import Column


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


@dataclass(frozen=True)
class Modality:
    """A name, and the two networks that the models and guides build for it.

    encoder: () -> module mapping an `Observation` to features ``[B, out_features]``;
        the module tells its `out_features`.
    likelihood: (latent_dim) -> module called as ``likelihood(name, z, observation)`` with
        ``z: [..., B, latent_dim]``. It holds the decoder and makes the Pyro sites of
        p(x | z), observed where an observation is given, sampled where it is None.
    column: (data folder, classes) -> its data; None where they are found in another way. The
        classes are those of the modality that leads the pairing, so that data can be chosen or
        made to fit: others are left out later, none may lack. Of the one that leads itself they
        are those asked for, none for all that there are.
    """

    name: str
    encoder: Callable[[], nn.Module]
    likelihood: Callable[[int], nn.Module]
    column: "Callable[[Path, Sequence[str]], Column] | None" = None


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
