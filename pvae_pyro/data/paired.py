"""Columns of data, one of each modality, become partitions of paired examples."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.column import Column
from pvae_pyro.data.corpus import CorpusError, Problem
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.spelling import look_alike
from pvae_pyro.data.spoken import speech_column
from pvae_pyro.data.table import SPLITS
from pvae_pyro.data.written import image_column


@dataclass(frozen=True)
class PairedData:
    """Two partitions of paired modalities, ready for a `PairedLoader`.

    corpus: what it is, for result files. stand_in: some part of it is not what was asked for.
    classes: the labels, in the order of the class indices.
    problems: what was left out, and why.
    remarks: what else is to be known of the data, a sentence each.
    log_mels: modality -> how its features were computed, of speech: for what shows and plays it.
    """

    corpus: str
    stand_in: bool
    classes: tuple[str, ...]
    train: dict[str, Examples]
    test: dict[str, Examples]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    log_mels: dict[str, LogMel] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of all values, labels and normalisations."""
        sha = hashlib.sha256()
        for partition in (self.train, self.test):
            for name, examples in partition.items():
                sha.update(name.encode())
                normalisation = (examples.normalisation.loc, examples.normalisation.scale)
                for array in (examples.values, examples.labels, examples.offsets, *normalisation):
                    if array is not None:
                        sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


def join(columns: Mapping[str, Column], *, require_corpus: bool = False) -> PairedData:
    """Modalities side by side, of the classes of the first one.

    columns: modality -> its data; the first leads the pairing. Of the others, examples of other
        classes are left out.
    require_corpus: raise CorpusError rather than take a stand-in.

    Raises CorpusError where a column lacks a class of the first one in a partition, saying what
    to do, and ValueError for no column.
    """
    if not columns:
        raise ValueError("no column of data to join")
    leader, first = next(iter(columns.items()))
    if require_corpus and (stand_ins := [c.corpus for c in columns.values() if c.stand_in]):
        raise CorpusError(
            f"--require-corpus was given, and there is only a stand-in: {', '.join(stand_ins)}"
        )
    of: dict[str, Column] = {}
    for name, column in columns.items():
        for split in SPLITS if name != leader else ():
            there = column.there(split)
            if missing := sorted(set(first.classes) - set(there)):
                common = ", ".join(sorted(set(first.classes) & set(there)))
                raise CorpusError(
                    f"{column.corpus}: no {split} {name} of class {', '.join(missing)}, which the "
                    f"{leader} has; it has {', '.join(there)}{alike(missing, there)}. Give data of "
                    "these classes (images: --image-dataset manifest:FILE.csv)"
                    + f", or take those that both have: --classes {common}"
                    * bool(common)
                )
        of[name] = column.only(first.classes)
    train, test = ({name: of[name].examples[split] for name in of} for split in SPLITS)
    return PairedData(
        " + ".join(column.corpus for column in of.values()),
        any(column.stand_in for column in of.values()),
        first.classes,
        train,
        test,
        tuple(problem for column in of.values() for problem in column.problems),
        tuple(
            remark if name == leader else f"{name}: {remark}"
            for name, column in of.items()
            for remark in column.remarks
        ),
        {name: column.log_mel for name, column in of.items() if column.log_mel is not None},
    )


def alike(missing: Sequence[str], there: Sequence[str]) -> str:
    """Which of the classes that are there are perhaps those that are not, spelled otherwise."""
    groups = [
        g for g in look_alike(missing, there) if set(g) & set(missing) and set(g) & set(there)
    ]
    told = ", ".join(" and ".join(map(repr, group)) for group in groups)
    return f" ({told} look alike: write them the same)" * bool(groups)


def load_paired(
    dataset: str,
    root: Path,
    *,
    image_dataset: str = "mnist",
    image_options: Mapping[str, Any] | None = None,
    require_corpus: bool = False,
    strict: bool = False,
    **speech: Any,
) -> PairedData:
    """Speech and images of the same classes, those of the speech (`join`).

    dataset, image_dataset: names of the `registry`, or ``manifest:FILE.csv``.
    root: where corpora lie or are downloaded to.
    require_corpus: raise CorpusError rather than take a stand-in, for speech or images.
    speech: further arguments of `open_speech`.

    Raises CorpusError as `speech_column`, `image_column` and `join` do.
    """
    given = {"require_corpus": require_corpus, "strict": strict}
    columns = {
        "speech": speech_column(dataset, root, **given, **speech),
        "image": image_column(image_dataset, root, image_options, strict=strict),
    }
    return join(columns, require_corpus=require_corpus)
