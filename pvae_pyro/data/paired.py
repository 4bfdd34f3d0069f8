"""Both partitions of one or several modalities, paired by class or in pairs that are known."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.corpus import SPLITS, CorpusError, Problem, Split
from pvae_pyro.data.examples import Examples, Normalisation, stacked
from pvae_pyro.data.held_out import TooFew, of_classes, of_groups, of_speakers
from pvae_pyro.data.known_pairs import Pairs, check_pairs, connected, labels_of_rows, take_rows
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.missing import of_pairs


@dataclass(frozen=True)
class PairedData:
    """Two partitions of paired modalities, ready for a `PairedLoader`.

    Of a single modality it is a column, such as `column_of` returns; `join` puts columns together.

    corpus: what the data are, for result files. stand_in: some are not what was asked for.
    classes: names of the labels, in the order of the class indices; empty without labels.
    train, test: modality -> its examples.
    problems: what was left out, and why.
    remarks: what else a user should know about the data, one sentence each.
    log_mels: modality -> how its features were computed, for speech.
    pairs: the pairs that are known, of each split; empty if examples are paired by class.

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
    pairs: dict[Split, Pairs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, examples in self.partitions.items():
            if not all(map(len, examples.values())):
                which = "training" if split == "train" else split
                reason = f"{self.corpus}: the {which} partition has nothing that can be used"
                if self.problems:
                    number = len(self.problems)
                    reason += f"; {number} left out, the first: {self.problems[0].reason}"
                raise CorpusError(reason)
            if self.pairs:
                check_pairs(self.pairs[split], examples)

    def loader(
        self, split: Split, batch_size: int, *, complete: bool = False, **options: Any
    ) -> PairedLoader:
        """Batches of a partition, in the pairs that are known, or else by class.

        complete: leave out known pairs that lack a modality of the batches. options: of
        `PairedLoader`. Raises ValueError if nothing is left.
        """
        examples, pairs = self.partitions[split], self.pairs.get(split)
        if complete and pairs is not None:
            names = options.get("names") or examples
            presence = of_pairs({name: pairs[name] for name in names}, options.get("presence"))
            options["presence"] = None if presence is None else presence.complete
        return PairedLoader(examples, batch_size, pairs=pairs, **options)

    def labels_of_tuples(self, split: Split) -> np.ndarray:
        """Class indices of the known pairs, or of the examples of the first modality, ``[R]``."""
        examples = self.partitions[split]
        if self.pairs:
            return labels_of_rows(examples, self.pairs[split])
        return next(iter(examples.values())).labels

    @property
    def partitions(self) -> dict[Split, dict[str, Examples]]:
        return {"train": self.train, "test": self.test}

    def digest(self) -> str:
        """SHA-256 of all values, labels, normalisations and known pairs."""
        sha = hashlib.sha256()
        for pairs in self.pairs.values():
            for index in pairs.values():
                sha.update(np.ascontiguousarray(index, np.int64).data)
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
        if self.pairs:
            chosen = self._rows(lambda of: np.flatnonzero(labels[of] >= 0))
            relabelled = chosen._each(lambda of: replace(of, labels=labels[of.labels]))
            return replace(relabelled, classes=tuple(classes))

        def select(examples: Examples) -> Examples:
            selected = labels[examples.labels] >= 0
            # Values are most of the memory: copied only where some are left out.
            some = examples if selected.all() else examples.take(np.flatnonzero(selected))
            return replace(some, labels=labels[some.labels])

        return replace(self._each(select), classes=tuple(classes))

    def limited(self, limit: int) -> "PairedData":
        """At most so many examples of each class, modality and partition, at random but fixed.

        Of known pairs, at most so many rows of each class and partition.
        """
        rng = np.random.default_rng(0)

        def select(labels: np.ndarray) -> np.ndarray:
            order = rng.permutation(len(labels))
            of_class = [order[labels[order] == label][:limit] for label in np.unique(labels)]
            return np.sort(np.concatenate(of_class))

        if self.pairs:
            return self._rows(select)
        return self._each(lambda examples: examples.take(select(examples.labels)))

    def hold_out(self, fraction: float, seed: int = 0) -> "PairedData":
        """The training partition alone: `fraction` of each class becomes the test partition.

        For choices that must not see the test partition. The normalisation stays that of the whole
        training partition. If no speaker of the test partition is in the training partition, then
        whole speakers are held out, at least `fraction` of the examples. Of known pairs, all rows
        that share an example (or such a speaker) are held out together.

        Raises CorpusError if a class is too small to be divided, or if no rows can be held out.
        """
        rng = np.random.default_rng(seed)
        remark = f"scored on {fraction:g} of the training partition; no test example is used"
        if self.pairs:
            return replace(self._hold_out_rows(fraction, rng), remarks=(*self.remarks, remark))
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
        return replace(self, train=train, test=test, remarks=(*self.remarks, remark))

    def _hold_out_rows(self, fraction: float, rng: np.random.Generator) -> "PairedData":
        pairs = self.pairs["train"]
        shared = list(pairs.values())
        for name, examples in self.train.items():
            groups = np.asarray(examples.groups)
            if len(groups) and set(groups).isdisjoint(self.test[name].groups):
                _, numbers = np.unique(groups, return_inverse=True)
                shared.append(np.where(pairs[name] < 0, -1, numbers[pairs[name]]))
        is_held = of_groups(connected(shared), fraction, rng)
        if is_held.all():
            raise CorpusError(
                f"{self.corpus}: the training rows are connected by the files or speakers that "
                f"they share, so {fraction:g} of them cannot be held out on their own"
            )
        train, of_train = take_rows(self.train, pairs, np.flatnonzero(~is_held))
        test, of_test = take_rows(self.train, pairs, np.flatnonzero(is_held))
        return replace(self, train=train, test=test, pairs={"train": of_train, "test": of_test})

    def _rows(self, choose: Callable[[np.ndarray], np.ndarray]) -> "PairedData":
        """The known pairs that `choose` picks by their labels ``[R]``, in each partition."""
        (train, of_train), (test, of_test) = (
            take_rows(of, self.pairs[split], choose(self.labels_of_tuples(split)))
            for split, of in self.partitions.items()
        )
        return replace(self, train=train, test=test, pairs={"train": of_train, "test": of_test})

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
        values, offsets = stacked(values, f"{corpus}, {split}")
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
