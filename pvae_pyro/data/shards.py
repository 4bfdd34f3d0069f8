"""Work on many recordings in shards: one process computes each, and the cache keeps it at once."""

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import joblib
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from pvae_pyro.data import cache
from pvae_pyro.data.corpus import Problem

# Kinds of problem of the place rather than of the sound. They may pass, so they are not kept.
_MAY_PASS = ("missing", "no permission", "unreadable")

Item = TypeVar("Item")
# Arrays by name, and the items that cannot be used by index.
Result = tuple[dict[str, np.ndarray], dict[int, Problem]]


def compute_in_shards(
    shards: Sequence[Sequence[Item]],
    key: Callable[[Sequence[Item]], str],
    compute: Callable[[Sequence[Item]], Result],
    *,
    directory: Path | None,
    pool_from: int,
    workers: int | None = None,
    title: str | None = None,
) -> Generator[Result, None, None]:
    """``compute(shard)`` for each shard, in order, from the cache where it has been computed.

    Args:
        key: of the cache, a digest of all that a shard's result depends on.
        compute: a function that can be pickled, for other processes.
        directory: of the cache; None is `pvae_pyro.data.cache.cache_dir()`.
        pool_from: the number of items to be computed from which a pool is worth its start.
        workers: processes; None is one per core for `pool_from` items or more, else one.
        title: of the progress bar, which is shown if stderr is a terminal; None is no bar.

    Close the generator (`contextlib.closing`) if you leave it early: it restores torch's number
    of threads and ends processes.
    """
    folder = cache.cache_dir() if directory is None else directory
    keys = [key(shard) for shard in shards]
    missing = [n for n, of in enumerate(keys) if not cache.holds(of, folder)]
    if workers is None:
        many = sum(len(shards[n]) for n in missing) >= pool_from
        workers = joblib.cpu_count() if many else 1
    load = partial(_load, compute, folder)
    total = sum(map(len, shards))
    # With disable=None, tqdm draws no bar in a log file.
    with tqdm(desc=title, total=total, disable=True if title is None else None) as bar:
        if workers == 1 or not missing:
            missing = []
            source = _one_thread()
        else:
            source = _pool(workers, (joblib.delayed(load)(keys[n], shards[n]) for n in missing))
        with source as computed:
            for n, shard in enumerate(shards):
                yield next(computed) if n in missing else load(keys[n], shard)
                bar.update(len(shard))


def _load(
    compute: Callable[[Sequence[Item]], Result], folder: Path, key: str, shard: Sequence[Item]
) -> Result:
    def computed() -> cache.Arrays:
        arrays, problems = compute(shard)
        told = [[n, problem.name, problem.kind, problem.reason] for n, problem in problems.items()]
        return arrays, {"problems": json.dumps(told)}

    def lasts(arrays: cache.Arrays) -> bool:
        return not any(problem.kind in _MAY_PASS for problem in _problems(arrays).values())

    found = cache.cached_arrays(key, computed, folder, lasts)
    return found[0], _problems(found)


def _problems(arrays: cache.Arrays) -> dict[int, Problem]:
    return {n: Problem(*told) for n, *told in json.loads(arrays[1]["problems"])}


@contextlib.contextmanager
def _one_thread() -> Iterator[Iterator[Result]]:
    threads = torch.get_num_threads()
    # On a busy machine, two threads waiting for each other took 25 times as long as one.
    torch.set_num_threads(1)
    try:
        yield iter(())
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _pool(workers: int, calls: Iterator[object]) -> Iterator[Iterator[Result]]:
    # joblib's processes are neither forked, which torch's threads do not survive, nor do they
    # import __main__ again, which would run an unguarded script a second time.
    with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        pool = joblib.Parallel(return_as="generator", batch_size=1)
    try:
        yield pool(calls)
    finally:
        get_reusable_executor().shutdown()  # else idle processes stay for minutes
