"""What a call of a model asks for; every model here is called in the same way.

    model(batch=None, *, names=None, observed=None, num_examples=None)

batch: modality -> observation.
names: modalities to model; all by default. Others have no site at all.
observed: modalities of the batch to condition on; all of the batch by default. What is modelled
    and not observed is generated.
num_examples: size of the plate; the batch's by default.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pvae_pyro.batch import Batch, Observation, batch_size


@dataclass(frozen=True)
class Request:
    """modality to model -> its observation, or None where it is to be generated; and the plate."""

    modalities: dict[str, Observation | None]
    num_examples: int


def resolve(
    known: Collection[str],
    batch: Batch | None,
    names: Collection[str] | None,
    observed: Collection[str] | None,
    num_examples: int | None,
) -> Request:
    """Of a model that knows certain modalities; raises ValueError for others."""
    batch = batch or {}
    for unknown in {*(names or ()), *(observed or ())} - set(known):
        raise ValueError(f"no modality {unknown!r}: there are {list(known)}")
    if missing := set(observed or ()) - batch.keys():
        raise ValueError(f"to be observed, but not in the batch: {sorted(missing)}")
    given = batch.keys() if observed is None else observed
    return Request(
        {n: batch[n] if n in given else None for n in known if names is None or n in names},
        num_examples or batch_size(batch),
    )
