"""Log-Mel features of a whole corpus: computed once, then read from the cache.

Shapes: T frames of a recording, F Mel filters, N recordings.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import joblib
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from pvae_pyro.data import cache
from pvae_pyro.data.corpus import AudioError, CorpusError, Recording, SpeechCorpus
from pvae_pyro.data.log_mel import LogMel

__all__ = ["LogMel", "RaggedFeatures", "corpus_features"]

# Raise it when the same settings give other numbers than before: it is part of the cache's key.
_VERSION = "log-mel 1"

# Starting a pool takes about 3 s, in which one core computes about 10,000 spoken digits.
_POOL_FROM = 10_000
_CHUNK = 256


@dataclass(frozen=True)
class RaggedFeatures:
    """Features of recordings of different lengths, end to end.

    frames: ``[sum of T, F]`` (float32), not normalised.
    offsets: ``[N + 1]`` (int64); recording i is ``frames[offsets[i]:offsets[i + 1]]``.
    names: the N recordings, in the corpus's order.
    skipped: name of and reason for every recording left out.
    """

    frames: np.ndarray
    offsets: np.ndarray
    names: list[str]
    skipped: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """``[T, F]`` of recording `index` (a view)."""
        if not 0 <= index < len(self.names):
            raise IndexError(f"recording {index} of {len(self.names)}")
        frames: np.ndarray = self.frames[self.offsets[index] : self.offsets[index + 1]]
        return frames


def corpus_features(
    corpus: SpeechCorpus,
    settings: LogMel,
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
) -> RaggedFeatures:
    """Features of every recording, computed once and then read from the cache.

    cache_dir: folder to keep them in; None is `pvae_pyro.data.cache.cache_dir()`.
    workers: processes; None is one per core for a large corpus and none for a small one.
    progress: show a bar while computing, if stderr is a terminal.
    on_error: what an `AudioError` of a recording does: end the call, or skip the recording.

    Raises `AudioError` (with ``"raise"``), `CorpusError` if no recording is usable, ValueError
    if the settings' sample rate is not the corpus's.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    if settings.sample_rate != corpus.sample_rate:
        raise ValueError(
            f"features at {settings.sample_rate} Hz of a corpus at {corpus.sample_rate} Hz: "
            "change one of the two"
        )
    content = [part for r in corpus.recordings for part in (r.name, r.fingerprint)]
    key = cache.digest(_VERSION, json.dumps(dataclasses.asdict(settings)), *content)
    arrays, metadata = cache.cached_arrays(
        key,
        lambda: _compute(corpus, settings, workers, progress, on_error),
        cache.cache_dir() if cache_dir is None else cache_dir,
    )
    skipped = [(name, reason) for name, reason in json.loads(metadata["skipped"])]
    if skipped and on_error == "raise":
        raise AudioError(skipped[0][1])
    return RaggedFeatures(
        arrays["frames"], arrays["offsets"], json.loads(metadata["names"]), skipped
    )


def _compute(
    corpus: SpeechCorpus, settings: LogMel, workers: int | None, progress: bool, on_error: str
) -> cache.Arrays:
    frames: list[np.ndarray] = []
    names: list[str] = []
    skipped: list[tuple[str, str]] = []
    # Closed here, not when its garbage is collected: it has torch's threads to restore.
    with contextlib.closing(_map(corpus.recordings, settings, workers)) as results:
        bar = tqdm(
            results,
            f"features of {corpus.name}",
            total=len(corpus.recordings),
            disable=None if progress else True,  # None: no bar in a log file
        )
        for recording, result in zip(corpus.recordings, bar, strict=True):
            if isinstance(result, np.ndarray):
                frames.append(result)
                names.append(recording.name)
            elif on_error == "raise":
                raise result
            else:
                skipped.append((recording.name, str(result)))
    if not frames:
        reason = f"; the first: {skipped[0][1]}" if skipped else ""
        raise CorpusError(f"{corpus.name}: no recording can be used{reason}")
    offsets = np.cumsum([0, *map(len, frames)], dtype=np.int64)
    metadata = {"names": json.dumps(names), "skipped": json.dumps(skipped)}
    return {"frames": np.concatenate(frames), "offsets": offsets}, metadata


def _map(
    recordings: Sequence[Recording], settings: LogMel, workers: int | None
) -> Generator[np.ndarray | AudioError, None, None]:
    """`_features` of each recording, in order."""
    if workers is None:
        workers = joblib.cpu_count() if len(recordings) >= _POOL_FROM else 1
    if workers == 1:
        threads = torch.get_num_threads()
        # On a busy machine, two threads waiting for each other took 25 times as long as one.
        torch.set_num_threads(1)
        try:
            for recording in recordings:
                yield _features(recording, settings)
        finally:
            torch.set_num_threads(threads)
        return
    # joblib's processes are neither forked, which torch's threads do not survive, nor do they
    # import __main__ again, which would run an unguarded script a second time.
    chunks = [recordings[i : i + _CHUNK] for i in range(0, len(recordings), _CHUNK)]
    with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        pool = joblib.Parallel(return_as="generator", batch_size=1)
    try:
        for chunk in pool(joblib.delayed(_chunk_features)(chunk, settings) for chunk in chunks):
            yield from chunk
    finally:
        get_reusable_executor().shutdown()  # else idle processes stay for minutes


def _chunk_features(chunk: Sequence[Recording], settings: LogMel) -> list[np.ndarray | AudioError]:
    return [_features(recording, settings) for recording in chunk]


def _features(recording: Recording, settings: LogMel) -> np.ndarray | AudioError:
    try:
        samples, rate = recording.read()
    except AudioError as error:
        return error
    if len(samples) == 0 or not np.isfinite(samples).all():
        return AudioError(f"{recording.name}: no samples, or some that are not finite")
    return settings(samples, rate)
