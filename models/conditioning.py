"""The arguments of a model's call, which are the same for every model here.

    model(batch=None, *, names=None, observed=None, num_examples=None)

batch: modality -> observation.
names: modalities to model; all by default. Other modalities get no site.
observed: modalities of the batch to condition on; all of the batch by default. A modality that is
    modelled and not observed is generated.
num_examples: size of the plate; the batch's by default.
"""

from collections.abc import Collection

from pvae_pyro.batch import Batch, Observation, batch_size


def condition(
    known: Collection[str],
    batch: Batch | None,
    names: Collection[str] | None,
    observed: Collection[str] | None,
    num_examples: int | None,
) -> tuple[dict[str, Observation | None], int]:
    """Each modality to model -> its observation, or None to generate it; and the plate's size.

    known: the model's modalities. Raises ValueError for other names, and for a modality that is to
    be observed but is not in the batch.
    """
    batch = batch or {}
    for unknown in {*(names or ()), *(observed or ())} - set(known):
        raise ValueError(f"no modality {unknown!r}: there are {list(known)}")
    if missing := set(observed or ()) - batch.keys():
        raise ValueError(f"to be observed, but not in the batch: {sorted(missing)}")
    given = batch.keys() if observed is None else observed
    observations = {
        name: batch[name] if name in given else None
        for name in known
        if names is None or name in names
    }
    return observations, num_examples or batch_size(batch)
