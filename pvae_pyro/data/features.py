"""Log-Mel features of a whole corpus: computed once, then read from the cache.

Shapes: T frames of a recording, F Mel filters, N recordings.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.cache import digest
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem
from pvae_pyro.data.recording import Recording, SpeechCorpus
from pvae_pyro.data.shards import Result, compute_in_shards

# Raise it when the same settings give other numbers than before: it is part of the fingerprint.
_VERSION = "log-mel 5"

# A shard is computed by one process, and kept in the cache as soon as it is done.
_SHARD = 512
# Starting a pool takes about 3 s, in which one core computes about 10,000 spoken digits.
_POOL_FROM = 10_000
_FLOOR = 0.01  # nats: rounding


def compute_features(
    corpus: SpeechCorpus,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    strict: bool = False,
    keep: Callable[[np.ndarray], object] | None = None,
) -> tuple[SpeechCorpus, dict[str, np.ndarray]]:
    """Put the features of every recording into the cache, shard by shard.

    A call that was interrupted continues where it stopped.

    Args:
        cache_dir: None is `pvae_pyro.data.cache.cache_dir()`.
        workers: processes; None is one per core for a large corpus and one for a small one.
        progress: show a bar while computing, if stderr is a terminal.
        strict: raise CorpusError at the first recording that cannot be used.
        keep: is given the frames of every shard, ``[sum of T, F]``, in order.

    Returns:
        The corpus with the recordings that can be used, the others among its problems.
        Statistics of these recordings, each ``[N]``: ``lengths`` (T), ``seconds``, ``rates`` (Hz,
        as read), ``levels`` (root mean square without an offset, dB of full scale) and
        ``silence`` (the share of frames that are digital silence or as faint).

    Raises CorpusError if no recording can be used.
    """
    recordings = corpus.recordings
    shards = [recordings[i : i + _SHARD] for i in range(0, len(recordings), _SHARD)]
    results = compute_in_shards(
        shards,
        partial(fingerprint, corpus),
        partial(_compute, replace(corpus, recordings=(), completeness=None)),
        directory=None if cache_dir is None else Path(cache_dir),
        pool_from=_POOL_FROM,
        workers=workers,
        title=f"features of {corpus.name}" if progress else None,
    )
    usable: list[Recording] = []
    problems: list[Problem] = []
    parts: list[dict[str, np.ndarray]] = []
    with contextlib.closing(results):
        for shard, (arrays, failed) in zip(shards, results, strict=True):
            problems += failed.values()
            refuse_problems(problems, strict)
            usable += [recording for n, recording in enumerate(shard) if n not in failed]
            frames = arrays.pop("frames")
            if keep is not None:
                keep(frames)
            parts.append(arrays)
    if not usable:
        reason = f"; the first: {problems[0].reason}" if problems else ""
        raise CorpusError(f"{corpus.name}: no recording can be used{reason}")
    statistics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    problems = [*corpus.problems, *problems]
    return replace(corpus, recordings=tuple(usable), problems=tuple(problems)), statistics


def fingerprint(corpus: SpeechCorpus, recordings: Sequence[Recording]) -> str:
    """The cache's key: a digest of all settings and content that these features depend on."""
    settings = {
        "version": _VERSION,
        "log_mel": asdict(LogMel(corpus.sample_rate)),
        "trim": None if corpus.trim is None else asdict(corpus.trim),
        "seconds": [corpus.shortest, corpus.longest],
    }
    return digest(json.dumps([settings, [recording.identity for recording in recordings]]))


def refuse_problems(problems: Sequence[Problem], strict: bool) -> None:
    """With `strict`, raise CorpusError for the first problem, if there is one."""
    if strict and problems:
        raise CorpusError(f"--strict: {problems[0].reason}")


def _compute(corpus: SpeechCorpus, recordings: Sequence[Recording]) -> Result:
    log_mel = LogMel(corpus.sample_rate)
    frames = [np.empty((0, log_mel.num_mels), np.float32)]
    rows: list[tuple[float, int, float, float]] = []
    problems: dict[int, Problem] = {}
    for n, recording in enumerate(recordings):
        try:
            samples, rate = corpus.read(recording)
        except AudioError as error:
            problems[n] = Problem(recording.name, error.kind, str(error))
            continue
        frames.append(log_mel(samples, rate))
        level = 20 * math.log10(samples.std(dtype=np.float64))
        silent = frames[-1].max(1) <= math.log(log_mel.floor) + _FLOOR
        rows.append((len(samples) / rate, rate, level, silent.mean()))
    seconds, rates, levels, silence = np.array(rows, np.float64).reshape(-1, 4).T
    arrays: dict[str, np.ndarray] = {
        "frames": np.concatenate(frames),
        "lengths": np.array([len(f) for f in frames[1:]], np.int64),
        "seconds": seconds,
        "rates": rates.astype(np.int64),
        "levels": levels,
        "silence": silence,
    }
    return arrays, problems
