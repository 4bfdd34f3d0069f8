"""Pictures, by a corpus's name, become a column."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pvae_pyro.data.column import Column
from pvae_pyro.data.corpora.registry import image_corpus
from pvae_pyro.data.corpus import Split
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.spoken import refuse_problems, tell_problems, tell_remarks
from pvae_pyro.data.summary import summarise_images
from pvae_pyro.data.table import SPLITS


def image_column(
    dataset: str,
    root: Path,
    options: Mapping[str, Any] | None = None,
    *,
    strict: bool = False,
    classes: Sequence[str] | None = None,
) -> Column:
    """The images of that name (`image_corpus`), pixels from 0 to 1.

    strict: raise CorpusError at the first problem instead of leaving it out.
    classes: these labels alone; CorpusError where there is no such label. None is all.

    Raises CorpusError as `image_corpus` does, and where a partition is empty.
    """
    corpus = image_corpus(dataset, root, options or {})
    refuse_problems(corpus.problems, strict)
    tell_problems(corpus.name, corpus.problems)
    remarks = tell_remarks(summarise_images(corpus))
    names = tuple(sorted({label for of in corpus.labels.values() for label in of.tolist()}))
    pixels = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    examples: dict[Split, Examples] = {
        split: Examples(
            corpus.images[split][:, None],
            np.searchsorted(np.array(names), corpus.labels[split]),
            pixels,
        )
        for split in SPLITS
    }
    column = Column(corpus.name, corpus.stand_in, names, examples, corpus.problems, remarks)
    return column if classes is None else column.chosen(classes)
