"""Work in shards: each done by one process, and kept in the cache as soon as it is done."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch
from joblib.externals.loky import get_reusable_executor

from pvae_pyro.data import cache
from pvae_pyro.data.corpus import AudioError

# Kinds of problem of the place rather than of the sound: they may have passed.
MAY_PASS = ("missing", "no permission", "unreadable")


@dataclass(frozen=True)
class Shard:
    """A piece of work.

    key: of the cache (`pvae_pyro.data.cache.digest`). size: items, to count by.
    compute: its result; with the two below, it goes to other processes.
    outdated: whether what was kept is to be computed again.
    check: of what was kept, as of `cached_arrays`.
    """

    key: str
    size: int
    compute: Callable[[], cache.Arrays]
    outdated: Callable[[cache.Arrays], bool]
    check: Callable[[cache.Arrays], bool]

    def load(self, directory: Path) -> cache.Arrays:
        """From the cache, or computed and put there."""
        kept = cache.cached_arrays(self.key, self.compute, directory, self.check)
        if not self.outdated(kept):
            return kept
        cache.forget(self.key, directory)
        return cache.cached_arrays(self.key, self.compute, directory)


def load_shards(
    shards: Sequence[Shard], directory: Path, workers: int | None, pool_from: int
) -> Generator[cache.Arrays, None, None]:
    """`Shard.load` of each, in order; what is not in the cache in several processes.

    workers: processes; None is one per core if at least `pool_from` items are to be computed,
        and none for fewer. To be closed, not left to be collected: it has threads to restore.
    """
    missing = [shard for shard in shards if not cache.holds(shard.key, directory)]
    if workers is None:
        many = sum(shard.size for shard in missing) >= pool_from
        workers = joblib.cpu_count() if many else 1
    if workers == 1 or not missing:
        threads = torch.get_num_threads()
        # On a busy machine, two threads waiting for each other took 25 times as long as one.
        torch.set_num_threads(1)
        try:
            for shard in shards:
                yield shard.load(directory)
        finally:
            torch.set_num_threads(threads)
        return
    # joblib's processes are neither forked, which torch's threads do not survive, nor do they
    # import __main__ again, which would run an unguarded script a second time.
    with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        pool = joblib.Parallel(return_as="generator", batch_size=1)
    try:
        in_pool = pool(joblib.delayed(Shard.load)(shard, directory) for shard in missing)
        waiting = {shard.key for shard in missing}
        for shard in shards:
            yield next(in_pool) if shard.key in waiting else shard.load(directory)
    finally:
        get_reusable_executor().shutdown()  # else idle processes stay for minutes


def has_passed(kind: str, read: Callable[[], object]) -> bool:
    """Whether a problem of that kind was one of the place, and the sound can be read now."""
    if kind not in MAY_PASS:
        return False
    try:
        read()
    except AudioError:
        return False
    return True
