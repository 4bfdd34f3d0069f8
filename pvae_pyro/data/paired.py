"""Both partitions of one or several modalities, paired by class."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import SPLITS, CorpusError, Problem, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.held_out import TooFew, of_classes, of_speakers
from pvae_pyro.data.spelling import alike


@dataclass(frozen=True)
class PairedData:
    """Two partitions of paired modalities, ready for a `PairedLoader`.

    Of a single modality it is a column, such as `column_of` returns; `join` puts columns together.

    corpus: what the data are, for result files. stand_in: some are not what was asked for.
    classes: names of the labels, in the order of the class indices.
    train, test: modality -> its examples.
    problems: what was left out, and why.
    remarks: what else a user should know about the data, one sentence each.
    log_mels: modality -> how its features were computed, for speech.

    Raises CorpusError if a partition is empty.
    """

    corpus: str
    stand_in: bool
    classes: tuple[str, ...]
    train: dict[str, Examples]
    test: dict[str, Examples]
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    log_mels: dict[str, LogMel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, examples in self.partitions.items():
            if not all(map(len, examples.values())):
                which = "training" if split == "train" else split
                reason = f"{self.corpus}: the {which} partition has nothing that can be used"
                if self.problems:
                    number = len(self.problems)
                    reason += f"; {number} left out, the first: {self.problems[0].reason}"
                raise CorpusError(reason)

    @property
    def partitions(self) -> dict[Split, dict[str, Examples]]:
        return {"train": self.train, "test": self.test}

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

    def only(self, classes: Sequence[str]) -> "PairedData":
        """The examples of these classes; labels become indices into `classes`.

        Raises CorpusError for a class that no example has.
        """
        if unknown := sorted(set(classes) - set(self.classes)):
            raise CorpusError(
                f"{self.corpus}: no example of class {', '.join(unknown)}; there are "
                f"{', '.join(self.classes)}"
            )
        number = {name: n for n, name in enumerate(classes)}
        labels = np.array([number.get(name, -1) for name in self.classes])

        def select(examples: Examples) -> Examples:
            selected = labels[examples.labels] >= 0
            # Values are most of the memory: copied only where some are left out.
            some = examples if selected.all() else examples.take(np.flatnonzero(selected))
            return replace(some, labels=labels[some.labels])

        return replace(self._each(select), classes=tuple(classes))

    def limited(self, limit: int) -> "PairedData":
        """At most so many examples of each class, modality and partition, at random but fixed."""
        rng = np.random.default_rng(0)

        def select(examples: Examples) -> Examples:
            order = rng.permutation(len(examples))
            classes = np.unique(examples.labels)
            of_class = [order[examples.labels[order] == label][:limit] for label in classes]
            return examples.take(np.sort(np.concatenate(of_class)))

        return self._each(select)

    def hold_out(self, fraction: float, seed: int = 0) -> "PairedData":
        """The training partition alone: `fraction` of each class becomes the test partition.

        For choices that must not see the test partition. The normalisation stays that of the whole
        training partition. If no speaker of the test partition is in the training partition, then
        whole speakers are held out, at least `fraction` of the examples.

        Raises CorpusError if a class is too small to be divided.
        """
        rng = np.random.default_rng(seed)
        train, test = {}, {}
        for name, examples in self.train.items():
            speakers = np.asarray(examples.groups)
            try:
                if len(speakers) and set(speakers).isdisjoint(self.test[name].groups):
                    is_held = of_speakers(speakers, examples.labels, fraction, rng)
                else:
                    is_held = of_classes(examples.labels, fraction, rng)
            except TooFew as error:
                label = self.classes[error.label]
                raise CorpusError(
                    f"{self.corpus}: class {label} of {name} has too few training {error} to hold "
                    f"out {fraction:g} of them"
                ) from error
            train[name] = examples.take(np.flatnonzero(~is_held))
            test[name] = examples.take(np.flatnonzero(is_held))
        remark = f"scored on {fraction:g} of the training partition; no test example is used"
        return replace(self, train=train, test=test, remarks=(*self.remarks, remark))

    def _each(self, change: Callable[[Examples], Examples]) -> "PairedData":
        train, test = (
            {name: change(examples) for name, examples in partition.items()}
            for partition in (self.train, self.test)
        )
        return replace(self, train=train, test=test)


def column_of(
    corpus: str,
    partitions: Mapping[Split, tuple[Any, Sequence[str]]],
    *,
    stand_in: bool = False,
    standardise: bool = True,
) -> PairedData:
    """A column of your own data, from arrays.

    Args:
        corpus: what the data are, for result files.
        partitions: "train" and "test" -> values and the label of each. Values are an array
            ``[N, ...]`` or, for sequences, a list of N arrays ``[T, F]``, each with its own T.
        stand_in: True if the data are not what the name says, as synthetic ones.
        standardise: to mean 0 and standard deviation 1 in the training partition, for each entry
            of the last dimension, so not for pictures ``[1, H, W]``, of which that is a column.
            Otherwise the values are left as they are.

    Raises CorpusError if a partition is empty, the numbers of values and labels differ, a sequence
    has no frame, or a value is not finite.
    """
    classes = tuple(sorted({str(label) for _, labels in partitions.values() for label in labels}))
    found: dict[Split, Examples] = {}
    for split in SPLITS:
        values, labels = partitions[split]
        if len(values) != len(labels):
            raise CorpusError(f"{corpus}, {split}: {len(values)} values and {len(labels)} labels")
        offsets = None
        if len(labels) and not isinstance(values, np.ndarray):
            if {np.ndim(sequence) for sequence in values} != {2}:
                raise CorpusError(f"{corpus}, {split}: a list must have sequences [T, F] alone")
            lengths = [len(sequence) for sequence in values]
            if min(lengths) < 1:
                raise CorpusError(f"{corpus}, {split}: sequence {lengths.index(0)} has no frame")
            offsets, values = np.cumsum([0, *lengths]), np.concatenate(values)
        values = np.asarray(values)
        if values.dtype.kind not in "fiub":
            raise CorpusError(f"{corpus}, {split}: values must be numbers, not {values.dtype}")
        if not np.isfinite(values).all():
            raise CorpusError(f"{corpus}, {split}: a value is not finite")
        indices = np.searchsorted(np.array(classes), np.array([*map(str, labels)]))
        found[split] = Examples(values, indices, Normalisation(), offsets)
    if standardise:
        normalisation = Normalisation.fitted(found["train"].values)
        found = {split: replace(of, normalisation=normalisation) for split, of in found.items()}
    return column(corpus, stand_in, classes, found)


def column(
    corpus: str,
    stand_in: bool,
    classes: tuple[str, ...],
    examples: Mapping[Split, Examples],
    problems: tuple[Problem, ...] = (),
    remarks: tuple[str, ...] = (),
    log_mel: LogMel | None = None,
) -> PairedData:
    """Data of a single modality, which is called by the name of its corpus until `join`."""
    train, test = ({corpus: examples[split]} for split in SPLITS)
    log_mels = {} if log_mel is None else {corpus: log_mel}
    return PairedData(corpus, stand_in, classes, train, test, problems, remarks, log_mels)


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
