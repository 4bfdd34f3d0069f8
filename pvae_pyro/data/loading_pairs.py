"""Data whose pairs are known, from a CSV file of pairs."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpora.manifest import USUAL_RATE, images_of
from pvae_pyro.data.corpora.pairs_file import PICTURES, Item, PairRow, read_pairs
from pvae_pyro.data.corpus import SPLITS, CorpusError, Problem, Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.features import refuse_problems
from pvae_pyro.data.known_pairs import Pairs, take_rows, with_labels_of_rows
from pvae_pyro.data.listing import list_corpus
from pvae_pyro.data.loading import (
    LONGEST,
    SHORTEST,
    first_of,
    image_examples,
    log_problems,
    log_remarks,
    ready,
    speech_examples,
)
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.pictures.decoding import SIZE
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.summary import summarise_images
from pvae_pyro.data.table import Row
from pvae_pyro.nn.choices import ImageColour


def load_pairs(
    file: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    modalities: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
    channel: int | None = None,
    image_size: int = SIZE,
    image_colour: ImageColour | None = None,
    trim: bool | None = None,
    vad: VoiceActivity | None = None,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    strict: bool = False,
    workers: int | None = None,
) -> PairedData:
    """The sounds and pictures of a file of pairs (`read_pairs`), and which belong together.

    A row of which a file cannot be used is left out. Features of sounds are computed once, then
    cached, and normalised over the training rows.

    sample_rate, channel: as of `manifest_corpus`. image_size, image_colour: size and colour as of
    `manifest_images`. trim, vad, shortest, longest, strict: as of
    `open_speech`. classes: rows with these labels alone. limit: at most so many rows of each class
    and partition. workers: as of `compute_features`.

    Raises CorpusError as `read_pairs` does, with classes if there are no labels, and if a
    modality has nothing that can be used in a partition.
    """
    name, names, rows, problems, notes = read_pairs(file, root, modalities)
    refuse_problems(problems, strict)
    if classes is not None:
        rows = _of_classes(name, rows, classes)
    if limit is not None:
        rows = _limited(rows, limit)
    if not rows:
        raise CorpusError(f"{name}: nothing can be used{first_of(problems)}")
    prepare = partial(ready, trim=trim, vad=vad, shortest=shortest, longest=longest)
    read: dict[str, _Items] = {}
    for modality in names:
        items = _items(rows, modality)
        if modality == PICTURES:
            read[modality] = _pictures(file, name, items, image_size, image_colour)
        else:
            corpus = prepare(_listed_sounds(name, items, sample_rate, channel))
            read[modality] = _sounds(corpus, items, workers)
    kept, unusable = _usable(rows, read)
    refuse_problems(unusable, strict)
    problems = [*problems, *unusable]
    log_problems(name, problems)
    labels = tuple(sorted({row.label for row in kept} - {""}))
    found = {split: _partition(name, kept, split, read, labels, problems) for split in SPLITS}
    notes = [*notes, *(_counts(split, *found[split]) for split in SPLITS)]
    remarks = [f"{m}: {remark}" for m, of in read.items() for remark in of.remarks]
    remarks += log_remarks({"corpus": name, "notes": notes, "warnings": ()})
    log_mels = {modality: of.log_mel for modality, of in read.items() if of.log_mel is not None}
    _normalise(found, log_mels)
    (train, of_train), (test, of_test) = found["train"], found["test"]
    pairs: dict[Split, Pairs] = {"train": of_train, "test": of_test}
    return PairedData(
        name, False, labels, train, test, tuple(problems), tuple(remarks), log_mels, pairs
    )


@dataclass(frozen=True)
class _Items:
    """What was read of a modality's items: where each is, in its partition; why others failed.

    log_mel: how the features of sounds were computed.
    """

    examples: dict[Split, Examples]
    index: dict[Item, int]
    failed: dict[Item, Problem]
    remarks: tuple[str, ...]
    log_mel: LogMel | None = None

    @classmethod
    def of(
        cls,
        items: Mapping[Item, PairRow],
        examples: dict[Split, Examples],
        problems: Sequence[Problem],
        remarks: tuple[str, ...],
        log_mel: LogMel | None = None,
    ) -> "_Items":
        """examples, problems: named by the items' parts, whose names are unique."""
        of_name = {problem.name: problem for problem in reversed(problems)}
        places = {name: n for of in examples.values() for n, name in enumerate(of.names)}
        index = {item: places[item.part.name] for item in items if item.part.name in places}
        failed = {item: of_name[item.part.name] for item in items if item not in index}
        return cls(examples, index, failed, remarks, log_mel)


def _items(rows: Sequence[PairRow], modality: str) -> dict[Item, PairRow]:
    """The different items of a modality, with the first row of each."""
    found: dict[Item, PairRow] = {}
    for row in rows:
        if modality in row.items:
            found.setdefault(row.items[modality], row)
    return found


def _listed_sounds(
    name: str, items: Mapping[Item, PairRow], sample_rate: int | None, channel: int | None
) -> SpeechCorpus:
    recordings = []
    for (path, part), row in items.items():
        of = part.channel or channel
        recordings.append(
            Recording(path, part.name, row.label, row.speaker, row.split, part.start, part.end, of)
        )
    corpus = list_corpus(name, sample_rate or USUAL_RATE, recordings)
    if not corpus.recordings:
        raise CorpusError(f"{name}: no sound can be used{first_of(corpus.problems)}")
    return replace(corpus, any_rate=sample_rate is None)


def _sounds(corpus: SpeechCorpus, items: Mapping[Item, PairRow], workers: int | None) -> _Items:
    corpus, examples, remarks = speech_examples(corpus, workers=workers)
    if not any(row.speaker for row in items.values()):
        examples = {split: replace(of, groups=()) for split, of in examples.items()}
    return _Items.of(items, examples, corpus.problems, remarks, LogMel(corpus.sample_rate))


def _pictures(
    file: str | os.PathLike[str],
    name: str,
    items: Mapping[Item, PairRow],
    size: int,
    colour: ImageColour | None,
) -> _Items:
    rows = [
        Row(part.name, {"path": path}, row.split, {"path": part.name, "label": row.label})
        for (path, part), row in items.items()
    ]
    corpus = images_of(file, name, rows, [], (), size, colour)
    failed = {problem.name for problem in corpus.problems}
    _, found = image_examples(corpus)
    used = [row for row in rows if row.name not in failed]
    examples: dict[Split, Examples] = {
        split: replace(of, names=[row.name for row in used if row.split == split])
        for split, of in found.items()
    }
    return _Items.of(items, examples, corpus.problems, log_remarks(summarise_images(corpus)))


def _usable(
    rows: Sequence[PairRow], read: Mapping[str, _Items]
) -> tuple[list[PairRow], list[Problem]]:
    """The rows whose items have all been read, and problems with the others."""
    kept, problems = [], []
    for row in rows:
        failed = [read[m].failed[item] for m, item in row.items.items() if item in read[m].failed]
        if failed:
            problems.append(Problem(row.name, failed[0].kind, f"{row.name}: {failed[0].reason}"))
        else:
            kept.append(row)
    return kept, problems


def _partition(
    name: str,
    rows: Sequence[PairRow],
    split: Split,
    read: Mapping[str, _Items],
    labels: Sequence[str],
    problems: Sequence[Problem],
) -> tuple[dict[str, Examples], Pairs]:
    """The examples of a split's rows, and the rows. Raises CorpusError without any."""
    some = [row for row in rows if row.split == split]
    examples: dict[str, Examples] = {}
    pairs: Pairs = {}
    for modality, items in read.items():
        if not any(modality in row.items for row in some):
            which = "training" if split == "train" else split
            raise CorpusError(
                f"{name}: the {which} partition has no {modality} that can be used"
                f"{first_of(problems)}; give some, or --modalities without {modality}"
            )
        examples[modality] = items.examples[split]
        of_rows = (row.items.get(modality) for row in some)
        pairs[modality] = np.array([-1 if of is None else items.index[of] for of in of_rows])
    classes = np.array([labels.index(row.label) if labels else -1 for row in some])
    examples = with_labels_of_rows(examples, pairs, classes)
    return take_rows(examples, pairs, np.arange(len(some)))


def _normalise(
    found: Mapping[Split, tuple[dict[str, Examples], Pairs]], names: Iterable[str]
) -> None:
    """Give these modalities the normalisation of their training examples."""
    for name in names:
        normalisation = Normalisation.fitted(found["train"][0][name].values)
        for examples, _ in found.values():
            examples[name] = replace(examples[name], normalisation=normalisation)


def _counts(split: Split, examples: Mapping[str, Examples], pairs: Pairs) -> str:
    """A sentence about the rows of a split."""
    there = {modality: index >= 0 for modality, index in pairs.items()}
    complete = int(np.logical_and.reduce(list(there.values())).sum())
    counts = ", ".join(
        f"{of.sum():,} with {modality} ({len(examples[modality]):,} different)"
        for modality, of in there.items()
    )
    rows = len(next(iter(pairs.values())))
    return f"{split}: {rows:,} rows, {complete:,} of them complete: {counts}"


def _of_classes(name: str, rows: Sequence[PairRow], classes: Sequence[str]) -> list[PairRow]:
    there = {row.label for row in rows}
    if there == {""}:
        raise CorpusError(f"{name}: --classes needs labels: give the file a column label")
    if unknown := sorted(set(classes) - there):
        raise CorpusError(
            f"{name}: no row of class {', '.join(unknown)}; there are {', '.join(sorted(there))}"
        )
    return [row for row in rows if row.label in classes]


def _limited(rows: Sequence[PairRow], limit: int) -> list[PairRow]:
    """At most `limit` rows of each class and partition, at random but fixed."""
    order = np.random.default_rng(0).permutation(len(rows))
    counts: Counter[tuple[str, str]] = Counter()
    chosen = []
    for n in order.tolist():
        group = rows[n].split, rows[n].label
        counts[group] += 1
        if counts[group] <= limit:
            chosen.append(n)
    return [rows[n] for n in sorted(chosen)]
