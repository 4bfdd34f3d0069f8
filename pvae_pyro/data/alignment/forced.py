"""Forced alignment of many recordings on all cores, with results in the cache."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pvae_pyro.data import cache
from pvae_pyro.data.alignment.aligner import AlignedWord, AlignmentError, align_words, aligner
from pvae_pyro.data.corpus import AudioError, Problem
from pvae_pyro.data.recording import Recording
from pvae_pyro.data.shards import Result, compute_in_shards

_VERSION = "alignment 2"  # part of the cache's key: raise it when the same sound gives other times
_SHARD = 64
# Starting a pool takes about 3 s, in which one core aligns about 100 utterances.
_POOL_FROM = 256


@dataclass(frozen=True)
class Utterance:
    """A recording, and the words that are said in it, in lower case."""

    recording: Recording
    words: tuple[str, ...]


def align_all(
    utterances: Sequence[Utterance],
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> list[list[AlignedWord] | Problem]:
    """`align_words` for each utterance, in order; a `Problem` where that, or reading, failed.

    cache_dir: folder to keep results in, shard by shard, so that an interrupted call continues
        where it stopped; None is `pvae_pyro.data.cache.cache_dir()`.
    workers: processes; None is one per core for many requests and one for a few.

    Raises `CorpusError` if pocketsphinx is not installed.
    """
    shards = [tuple(utterances[i : i + _SHARD]) for i in range(0, len(utterances), _SHARD)]
    parts = compute_in_shards(
        shards,
        partial(_key, aligner()),
        _compute,
        directory=None if cache_dir is None else Path(cache_dir),
        pool_from=_POOL_FROM,
        workers=workers,
        title="aligning",
    )
    results: list[list[AlignedWord] | Problem] = []
    with contextlib.closing(parts):
        for shard, (arrays, problems) in zip(shards, parts, strict=True):
            values = iter(arrays["words"].tolist())
            results += [
                problems.get(n) or [AlignedWord(word, *next(values)) for word in utterance.words]
                for n, utterance in enumerate(shard)
            ]
    return results


def _key(made_by: str, utterances: Sequence[Utterance]) -> str:
    content = [[*said.recording.identity, *said.words] for said in utterances]
    return cache.digest(json.dumps([_VERSION, made_by, content]))


def _compute(utterances: Sequence[Utterance]) -> Result:
    values: list[tuple[float, float, float]] = []  # start, end and score of each word
    problems: dict[int, Problem] = {}
    for n, utterance in enumerate(utterances):
        name = utterance.recording.name
        try:
            aligned = align_words(*utterance.recording.read(), utterance.words)
        except AlignmentError as error:
            problems[n] = Problem(name, error.kind, f"{name}: {error}")
        except AudioError as error:
            problems[n] = Problem(name, error.kind, str(error))
        else:
            values += [(word.start, word.end, word.score) for word in aligned]
    return {"words": np.array(values, np.float64).reshape(-1, 3)}, problems
