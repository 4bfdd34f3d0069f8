"""A modality: its name, how to encode it, how to generate it.

Shapes: B examples of a batch, D latent dimensions; `...` stands for any leading dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:  # it imports torchaudio, which models and training do not need
    from pvae_pyro.data.paired import PairedData


@dataclass(frozen=True)
class Modality:
    """A name, and the two networks that the models and guides build for it.

    encoder: () -> module mapping an `Observation` to features ``[B, out_features]``;
        the module has the attribute `out_features`.
    likelihood: (latent_dim) -> module called as ``likelihood(name, z, observation)`` with
        ``z: [..., B, latent_dim]``. It holds the decoder and makes the Pyro sites of
        p(x | z), observed where an observation is given, sampled where it is None.
    column: (data folder, classes) -> its data; None if they are read elsewhere. The classes are
        those of the anchor modality, all of which must be present; other classes are left out
        later. For the anchor itself they are the requested classes, or none to read all.
    """

    name: str
    encoder: Callable[[], nn.Module]
    likelihood: Callable[[int], nn.Module]
    column: "Callable[[Path, Sequence[str]], PairedData] | None" = None
