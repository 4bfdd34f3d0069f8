"""One modality's column of data: its examples, with labels of its own, and what they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import CorpusError, Problem, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.table import SPLITS

_CHUNK = 100_000  # rows, 32 MB of 80 features


@dataclass(frozen=True)
class Column:
    """What a modality brings to `pvae_pyro.data.paired.join`.

    corpus: what it is, for result files. stand_in: it is not what was asked for.
    classes: names of the labels, in the order of the indices in ``examples[split].labels``.
    examples: of both partitions.
    problems: what was left out, and why. remarks: what else is to be known, a sentence each.
    log_mel: of speech, how its features were computed, for what shows and plays them.

    Raises CorpusError where a partition is empty.
    """

    corpus: str
    stand_in: bool
    classes: tuple[str, ...]
    examples: Mapping[Split, Examples]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    log_mel: LogMel | None = None

    def __post_init__(self) -> None:
        for split in SPLITS:
            refuse_empty(self.corpus, split, len(self.examples[split]), self.problems)

    def only(self, classes: Sequence[str]) -> "Column":
        """The examples of `classes`, in the order there is; labels are indices into `classes`."""
        of = np.array([{c: n for n, c in enumerate(classes)}.get(c, -1) for c in self.classes])
        examples: dict[Split, Examples] = {}
        for split, some in self.examples.items():
            kept = of[some.labels] >= 0
            # Values are most of the memory: copied only where some are left out.
            some = some if kept.all() else some.take(np.flatnonzero(kept))
            examples[split] = replace(some, labels=of[some.labels])
        return replace(self, classes=tuple(classes), examples=examples)

    def chosen(self, classes: Sequence[str]) -> "Column":
        """As `only`, of classes that a user names: CorpusError for one that is not there."""
        if unknown := sorted(set(classes) - set(self.classes)):
            raise CorpusError(
                f"{self.corpus}: no example of class {', '.join(unknown)}; there are "
                f"{', '.join(self.classes)}"
            )
        return self.only(sorted(set(classes)))

    def there(self, split: Split) -> list[str]:
        """The classes that a partition has an example of."""
        return [self.classes[n] for n in np.unique(self.examples[split].labels)]

    def limited(self, limit: int) -> "Column":
        """At most so many examples of each class and partition, at random: the same each time."""
        rng = np.random.default_rng(0)
        examples: dict[Split, Examples] = {}
        for split, some in self.examples.items():
            order = rng.permutation(len(some))
            of_class = [order[some.labels[order] == n][:limit] for n in np.unique(some.labels)]
            examples[split] = some.take(np.sort(np.concatenate(of_class)))
        return replace(self, examples=examples)


def column_of(
    corpus: str,
    partitions: Mapping[Split, tuple[Any, Sequence[str]]],
    *,
    stand_in: bool = False,
    standardise: bool = True,
) -> Column:
    """A column of one's own data, by arrays.

    Args:
        corpus: what it is, for result files.
        partitions: "train" and "test" -> values and the label of each. Values are an array
            ``[N, ...]`` or, for sequences, a list of N arrays ``[T, F]``, each with its own T.
        stand_in: True where the data are not what the name says, as synthetic ones.
        standardise: to mean 0 and standard deviation 1 in the training partition, each entry of
            the last dimension by itself, so not for pictures ``[1, H, W]``, of which that is a
            column; else the values are left as they are.

    Raises CorpusError where a partition is empty, numbers differ, a sequence has no frame, or a
    value is not finite.
    """
    classes = tuple(sorted({str(label) for _, labels in partitions.values() for label in labels}))
    values: dict[Split, np.ndarray] = {}
    offsets: dict[Split, np.ndarray | None] = {}
    for split in SPLITS:
        given, labels = partitions[split]
        refuse_empty(corpus, split, len(labels))
        if len(given) != len(labels):
            raise CorpusError(f"{corpus}, {split}: {len(given)} values and {len(labels)} labels")
        offsets[split] = None
        if not isinstance(given, np.ndarray):
            shapes = {np.ndim(sequence) for sequence in given}
            if shapes != {2}:
                raise CorpusError(f"{corpus}, {split}: a list is of sequences [T, F], all of them")
            lengths = [len(sequence) for sequence in given]
            if min(lengths) < 1:
                raise CorpusError(f"{corpus}, {split}: sequence {lengths.index(0)} has no frame")
            offsets[split], given = np.cumsum([0, *lengths]), np.concatenate(given)
        values[split] = given
        if given.dtype.kind not in "fiub":
            raise CorpusError(f"{corpus}, {split}: values are numbers, not {given.dtype}")
        if not np.isfinite(given).all():
            raise CorpusError(f"{corpus}, {split}: a value is not finite")
    unit = Normalisation(np.zeros((), np.float32), np.ones((), np.float32))
    normalisation = fitted(values["train"]) if standardise else unit
    return Column(
        corpus,
        stand_in,
        classes,
        {
            split: Examples(
                values[split],
                np.searchsorted(np.array(classes), np.array([*map(str, partitions[split][1])])),
                normalisation,
                offsets[split],
            )
            for split in SPLITS
        },
    )


def fitted(values: np.ndarray) -> Normalisation:
    """Mean and standard deviation of the last dimension's entries, over all others."""
    from sklearn.preprocessing import StandardScaler  # not by everyone who imports a Modality

    rows = values.reshape(-1, values.shape[-1])
    scaler = StandardScaler()
    for start in range(0, len(rows), _CHUNK):  # in double precision, so not all at once
        scaler.partial_fit(rows[start : start + _CHUNK].astype(np.float64))
    return Normalisation(
        scaler.mean_.astype(np.float32),
        # What never changes stays zero.
        np.maximum(np.sqrt(scaler.var_), 1e-6).astype(np.float32),
    )


def refuse_empty(corpus: str, split: Split, size: int, problems: Sequence[Problem] = ()) -> None:
    if not size:
        which = "training" if split == "train" else split
        first = f"; {len(problems)} left out, the first: {problems[0].reason}" if problems else ""
        raise CorpusError(f"{corpus}: the {which} partition has nothing that can be used{first}")
