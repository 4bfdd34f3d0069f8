"""A validation part of the training partition, for choices that must not see the test."""

from dataclasses import replace

import numpy as np

from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.paired import PairedData


def hold_out(data: PairedData, fraction: float, seed: int = 0) -> PairedData:
    """The training partition alone: of each class, `fraction` of it takes the test's place.

    The test partition is left out altogether. The normalisation stays that of the whole training
    partition. Speakers are not kept apart.

    Raises CorpusError where a class is too small to be divided.
    """
    rng = np.random.default_rng(seed)
    train, held = {}, {}
    for name, examples in data.train.items():
        is_held = np.zeros(len(examples), bool)
        for label in np.unique(examples.labels):
            of_class = rng.permutation(np.flatnonzero(examples.labels == label))
            size = max(1, round(fraction * len(of_class)))
            if size == len(of_class):
                raise CorpusError(
                    f"{data.corpus}: class {data.classes[label]} of {name} has too few training "
                    f"examples ({size}) to hold out {fraction:g} of them"
                )
            is_held[of_class[:size]] = True
        train[name] = examples.take(np.flatnonzero(~is_held))
        held[name] = examples.take(np.flatnonzero(is_held))
    remark = f"scored on {fraction:g} of the training partition, held out; no test example is used"
    return replace(data, train=train, test=held, remarks=(*data.remarks, remark))
