"""Forced alignment of many recordings: on all cores, and kept as it is made."""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pvae_pyro.data import cache
from pvae_pyro.data.alignment.aligner import AlignedWord, AlignmentError, align_words, aligner
from pvae_pyro.data.corpus import AudioError, Problem
from pvae_pyro.data.shards import Shard, has_passed, load_shards

__all__ = ["AlignedWord", "AlignmentError", "Request", "align_all", "align_words", "aligner"]

# Raise it when the same sound gives other times than before: it is part of the cache's key.
_VERSION = "alignment 1"

_LONGEST = 86_400.0  # seconds
_SHARD = 64
# Starting a pool takes about 3 s, in which one core aligns about 100 utterances.
_POOL_FROM = 256


@dataclass(frozen=True)
class Request:
    """Words to be found in a sound; `name`, `fingerprint` and `read` are as of a `Recording`."""

    name: str
    words: tuple[str, ...]
    fingerprint: str
    read: Callable[[], tuple[np.ndarray, int]]


def align_all(
    requests: Sequence[Request],
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[list[AlignedWord] | Problem]:
    """`align_words` for each request, in order; a `Problem` where that, or reading, failed.

    cache_dir: folder to keep results in, shard by shard, so that a call that was broken off is
        taken up where it stopped; None is `pvae_pyro.data.cache.cache_dir()`.
    workers: processes; None is one per core for many requests and none for a few.
    progress: show a bar while aligning, if stderr is a terminal.

    Raises `CorpusError` when pocketsphinx is not installed.
    """
    made_by = aligner()
    directory = cache.cache_dir() if cache_dir is None else Path(cache_dir)
    groups = [tuple(requests[i : i + _SHARD]) for i in range(0, len(requests), _SHARD)]
    shards = [_shard(group, made_by) for group in groups]
    results: list[list[AlignedWord] | Problem] = []
    bar = tqdm(
        desc="aligning",
        total=len(requests),
        disable=None if progress else True,  # None: no bar in a log file
    )
    # Closed here, not when its garbage is collected: it has processes to end.
    with (
        bar,
        contextlib.closing(load_shards(shards, directory, workers, _POOL_FROM)) as parts,
    ):
        for group, part in zip(groups, parts, strict=True):
            results += _unpacked(group, part)
            bar.update(len(group))
    return results


def _shard(requests: tuple[Request, ...], made_by: str) -> Shard:
    content = (
        part
        for request in requests
        for part in (request.name, request.fingerprint, " ".join(request.words))
    )
    return Shard(
        cache.digest(_VERSION, made_by, *content),
        len(requests),
        partial(_compute, requests),
        partial(_outdated, requests),
        partial(_check, requests),
    )


def _compute(requests: tuple[Request, ...]) -> cache.Arrays:
    values: list[tuple[float, float, float]] = []  # start, end and score of each word
    problems: list[tuple[int, tuple[str, str, str]]] = []
    for index, request in enumerate(requests):
        try:
            aligned = align_words(*request.read(), request.words)
        except AlignmentError as error:
            reason = f"{request.name}: {error}"
            problems.append((index, (request.name, error.kind, reason)))
        except AudioError as error:
            problems.append((index, (request.name, error.kind, str(error))))
        else:
            values += [(word.start, word.end, word.score) for word in aligned]
    words = np.array(values, np.float64).reshape(-1, 3)
    return {"words": words}, {"problems": json.dumps(problems)}


def _problems(kept: cache.Arrays) -> dict[int, Problem]:
    return {index: Problem(*told) for index, told in json.loads(kept[1]["problems"])}


def _check(requests: tuple[Request, ...], kept: cache.Arrays) -> bool:
    """Whether these are alignments of the requests, or problems with them."""
    told = json.loads(kept[1]["problems"])
    for index, problem in told:
        if type(index) is not int or not 0 <= index < len(requests):
            return False
        if len(problem) != 3 or not all(isinstance(part, str) for part in problem):
            return False
    failed = {index for index, _ in told}
    words = sum(len(r.words) for n, r in enumerate(requests) if n not in failed)
    starts, ends, _ = kept[0]["words"].T
    return cache.fits(kept[0]["words"], np.float64, words, 3) and bool(
        (starts >= 0).all() and (starts < ends).all() and (ends < _LONGEST).all()
    )


def _outdated(requests: tuple[Request, ...], kept: cache.Arrays) -> bool:
    return any(has_passed(p.kind, requests[index].read) for index, p in _problems(kept).items())


def _unpacked(
    requests: tuple[Request, ...], kept: cache.Arrays
) -> list[list[AlignedWord] | Problem]:
    problems = _problems(kept)
    values = iter(kept[0]["words"].tolist())
    return [
        problems.get(index) or [AlignedWord(word, *next(values)) for word in request.words]
        for index, request in enumerate(requests)
    ]
