"""Data whose pairs are known, from arrays or datasets in Python."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pvae_pyro.data.corpus import SPLITS, CorpusError, Split
from pvae_pyro.data.examples import Examples, Normalisation, stacked
from pvae_pyro.data.known_pairs import Pairs, check_pairs, take_rows, with_labels_of_rows
from pvae_pyro.data.paired import PairedData

LABEL = "label"  # a key beside the modalities
_PICTURE = 3  # dimensions [C, H, W] of an example


def paired_data(
    train: Any,
    test: Any,
    *,
    pairs: Mapping[Split, Mapping[str, Any]] | None = None,
    name: str = "paired data",
) -> PairedData:
    """Paired data from two partitions, without labels or with them.

    A partition is one of these; its row n is one example of all modalities:

    - a `torch.utils.data.Dataset` with a length, or a list, of dictionaries: modality -> array. A
      modality that an example lacks is None or is left out.
    - a dictionary: modality -> an array ``[N, ...]``, or a list of N arrays, None where it is
      missing.

    A list of arrays ``[T, F]`` is sequences, each with its own T. Other arrays of a modality have
    one shape: pictures ``[C, H, W]``, vectors ``[D]``. Tensors are arrays too. Pictures of type
    uint8 are divided by 255, others are left as they are. All else is brought to mean 0 and
    standard deviation 1 over the training partition, for each entry of the last dimension.

    Beside the modalities there may be ``label``, any string, which serves to score only.

    Args:
        pairs: of dictionaries of modalities whose examples are in several rows, or in none: split
            -> modality -> ``[R]`` indices of its examples, -1 where it is missing. Labels are then
            of the R rows.
        name: what the data are, for result files.

    Raises CorpusError for values that cannot be used, a partition without a modality of the other
    one, and labels in some rows alone; ValueError for pairs that are not rows of the examples.
    """
    found: dict[Split, tuple[dict[str, Examples], Pairs]] = {}
    labels: dict[Split, list[Any]] = {}
    for split, partition in zip(SPLITS, (train, test), strict=True):
        columns = dict(partition) if isinstance(partition, Mapping) else _columns(partition)
        labels[split] = list(columns.pop(LABEL, ()))
        found[split] = _partition(columns, f"{name}, {split}", (pairs or {}).get(split))
    if found["train"][0].keys() != found["test"][0].keys():
        both = " and ".join(", ".join(found[split][0]) for split in SPLITS)
        raise CorpusError(f"{name}: the partitions have different modalities, {both}")
    sizes = {split: len(next(iter(found[split][1].values()))) for split in SPLITS}
    told = [label for split in SPLITS for label in labels[split] if label is not None]
    if told and len(told) < sum(sizes.values()):
        raise CorpusError(f"{name}: give every row of both partitions a {LABEL}, or none")
    classes = sorted({str(label) for label in told})
    for split, (examples, of_rows) in found.items():
        index = np.full(sizes[split], -1)
        if classes:
            index = np.searchsorted(np.array(classes), [str(label) for label in labels[split]])
        examples = with_labels_of_rows(examples, of_rows, index)
        found[split] = take_rows(examples, of_rows, np.arange(sizes[split]))
    normalisations = {n: _normalisation(of) for n, of in found["train"][0].items()}
    of_train, of_test = (
        {n: replace(of, normalisation=normalisations[n]) for n, of in found[split][0].items()}
        for split in SPLITS
    )
    known = {split: of_rows for split, (_, of_rows) in found.items()}
    return PairedData(name, False, tuple(classes), of_train, of_test, pairs=known)


def _columns(rows: Any) -> dict[str, list[Any]]:
    """Modality -> a value of each row, from a sequence of dictionaries."""
    read: Sequence[Mapping[str, Any]] = [rows[n] for n in range(len(rows))]
    names = dict.fromkeys(name for row in read for name in row)
    return {name: [row.get(name) for row in read] for name in names}


def _partition(
    columns: Mapping[str, Any], where: str, pairs: Mapping[str, Any] | None
) -> tuple[dict[str, Examples], Pairs]:
    examples: dict[str, Examples] = {}
    of_rows: Pairs = {}
    for name, column in columns.items():
        is_there = np.array([value is not None for value in column], bool)
        if not is_there.any():
            raise CorpusError(f"{where}: no row has the modality {name}")
        some = [np.asarray(value) for value in column if value is not None]
        values: Any = some
        if isinstance(column, np.ndarray):
            values = column
        elif {value.ndim for value in some} != {2}:
            if len(shapes := sorted({value.shape for value in some})) > 1:
                raise CorpusError(f"{where}, {name}: arrays of different shapes {shapes}")
            values = np.stack(some)
        values, offsets = stacked(values, f"{where}, {name}")
        examples[name] = Examples(values, np.full(len(some), -1), Normalisation(), offsets)
        of_rows[name] = np.where(is_there, np.cumsum(is_there) - 1, -1)
    if not examples:
        raise CorpusError(f"{where}: there is no modality")
    if pairs is not None:
        of_rows = {name: np.asarray(index) for name, index in pairs.items()}
    elif len(sizes := sorted({len(index) for index in of_rows.values()})) > 1:
        raise CorpusError(f"{where}: modalities of different lengths {sizes}: give their pairs")
    check_pairs(of_rows, examples)
    return examples, of_rows


def _normalisation(examples: Examples) -> Normalisation:
    if examples.offsets is not None or examples.values.ndim != 1 + _PICTURE:
        return Normalisation.fitted(examples.values)
    if examples.values.dtype == np.uint8:
        return Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    return Normalisation()
