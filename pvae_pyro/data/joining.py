"""Put modalities side by side, whose examples are paired by class."""

from collections.abc import Mapping

import numpy as np

from pvae_pyro.data.corpus import SPLITS, CorpusError
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.spelling import alike


def join(columns: Mapping[str, PairedData], *, require_corpus: bool = False) -> PairedData:
    """Put modalities side by side, with the classes of the first one.

    columns: modality -> its data; the first is the anchor modality. Examples of the others whose
        class it lacks are left out.
    require_corpus: raise CorpusError instead of using a stand-in.

    Raises CorpusError if a partition of a column lacks a class of the first one, and says what to
    do; ValueError for no column.
    """
    if not columns:
        raise ValueError("no column of data to join")
    anchor, first = next(iter(columns.items()))
    if require_corpus and (stand_ins := [c.corpus for c in columns.values() if c.stand_in]):
        raise CorpusError(
            f"--require-corpus was given, and there is only a stand-in: {', '.join(stand_ins)}"
        )
    for name, data in columns.items():
        if name != anchor:
            _refuse_missing_classes(anchor, first, name, data)
    joined = {name: data.only(first.classes) for name, data in columns.items()}
    train, test = (
        {name: next(iter(data.partitions[split].values())) for name, data in joined.items()}
        for split in SPLITS
    )
    return PairedData(
        " + ".join(data.corpus for data in joined.values()),
        any(data.stand_in for data in joined.values()),
        first.classes,
        train,
        test,
        tuple(problem for data in joined.values() for problem in data.problems),
        tuple(
            remark if name == anchor else f"{name}: {remark}"
            for name, data in joined.items()
            for remark in data.remarks
        ),
        {name: log_mel for name, data in joined.items() for log_mel in data.log_mels.values()},
    )


def _refuse_missing_classes(anchor: str, first: PairedData, name: str, data: PairedData) -> None:
    for split, partition in data.partitions.items():
        (examples,) = partition.values()
        there = [data.classes[n] for n in np.unique(examples.labels)]
        if missing := sorted(set(first.classes) - set(there)):
            common = ", ".join(sorted(set(first.classes) & set(there)))
            raise CorpusError(
                f"{data.corpus}: no {split} {name} of class {', '.join(missing)}, which the "
                f"{anchor} has; it has {', '.join(there)}{alike(missing, there)}. Give data of "
                "these classes (images: --image-dataset manifest:FILE.csv)"
                + f", or use those that both have: --classes {common}"
                * bool(common)
            )
