"""Labels of data that have none, from a CSV file; they serve only to score a trained model."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from pvae_pyro.data.corpora.manifest import PART, part_of
from pvae_pyro.data.corpus import CorpusError, Problem, Split
from pvae_pyro.data.known_pairs import connected, with_labels_of_rows
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.table import read_table
from pvae_pyro.errors import shown


def read_labels(file: str | os.PathLike[str]) -> dict[str, str]:
    """Name of an example -> its label, from a file with the columns ``path,label``.

    Paths are written as in the file of pairs, and so are parts of sounds, if there are any
    (``start``, ``end``, ``duration``, ``channel``). Raises CorpusError for a row that cannot be
    used, and for two labels of one file.
    """
    rows, problems, _ = read_table(file, ("path", "label"), optional=PART, files=())
    labels: dict[str, str] = {}
    for row in rows:
        part = part_of(row, str(PurePosixPath(row.fields["path"])))
        if isinstance(part, Problem):
            problems.append(part)
        elif labels.setdefault(part.name, row.fields["label"]) != row.fields["label"]:
            told = f"{shown(labels[part.name])} and {shown(row.fields['label'])}"
            raise CorpusError(f"{row.name}: {shown(part.name)} has two labels, {told}")
    if problems:
        raise CorpusError(problems[0].reason)
    return labels


def with_labels(data: PairedData, labels: Mapping[str, str], file: str) -> PairedData:
    """The data with the labels of `read_labels`; a label of one file is one of its whole row.

    Rows that share a file have one label. `file` is named in messages.

    Raises CorpusError for data with labels of their own, a row without a label, or with two.
    """
    if data.classes or not data.pairs:
        raise CorpusError(f"--labels: {data.corpus} has labels of its own")
    of_rows = {split: _of_rows(data, split, labels, file) for split in data.pairs}
    classes = sorted({label for found in of_rows.values() for label in found})
    train, test = (
        with_labels_of_rows(
            examples, data.pairs[split], np.searchsorted(np.array(classes), of_rows[split])
        )
        for split, examples in data.partitions.items()
    )
    return replace(data, train=train, test=test, classes=tuple(classes))


def _of_rows(data: PairedData, split: Split, labels: Mapping[str, str], file: str) -> list[str]:
    """The label of each row, which may be told of any file in the rows that it is connected to."""
    examples, pairs = data.partitions[split], data.pairs[split]
    groups = connected(list(pairs.values()))
    told: dict[int, tuple[str, str]] = {}  # group -> label, and the file that has it
    for name, index in pairs.items():
        for row, n in enumerate(index.tolist()):
            path = examples[name].names[n]
            if n < 0 or path not in labels:
                continue
            label, before = told.setdefault(int(groups[row]), (labels[path], path))
            if label != labels[path]:
                raise CorpusError(
                    f"{file}: {shown(before)} is of class {shown(label)} and {shown(path)} of "
                    f"class {shown(labels[path])}, but they belong to one row, or to rows that "
                    "share files"
                )
    for row, group in enumerate(groups.tolist()):
        if group not in told:
            paths = [examples[name].names[n[row]] for name, n in pairs.items() if n[row] >= 0]
            raise CorpusError(
                f"{file}: has no label of {' or '.join(map(shown, paths))}: give one of each row "
                "of the run's training and test partitions, with paths as in the file of pairs"
            )
    return [told[group][0] for group in groups.tolist()]
