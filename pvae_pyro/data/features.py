"""Log-Mel features of a whole corpus: computed once, then read from the cache.

Shapes: T frames of a recording, F Mel filters, N recordings.
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from pvae_pyro.data import cache
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.reading import check_samples
from pvae_pyro.data.corpus import AudioError, CorpusError, Problem, Recording, SpeechCorpus
from pvae_pyro.data.shards import Shard, load_shards

__all__ = ["Computed", "LogMel", "RaggedFeatures", "compute_features", "corpus_features"]

# Raise it when the same settings give other numbers than before: it is part of the cache's key.
_VERSION = "log-mel 4"

# A shard is computed by one process, and kept in the cache as soon as it is done.
_SHARD = 512
# Starting a pool takes about 3 s, in which one core computes about 10,000 spoken digits.
_POOL_FROM = 10_000
_FLOOR = 0.01  # nats: rounding


@dataclass(frozen=True)
class Computed:
    """The N recordings that features were computed of, in the corpus's order; and the others.

    index: of each among the corpus's recordings, ``[N]``, rising.
    lengths: T of each, ``[N]``.
    seconds, rates: of each as it was read, ``[N]`` (float64, and int64 in Hz).
    levels: root mean square of each, without an offset, in dB of full scale, ``[N]``.
    silence: share of the frames of each that are digital silence, or as faint, ``[N]``.
    skipped: every recording left out, and why.
    """

    index: np.ndarray
    lengths: np.ndarray
    seconds: np.ndarray
    rates: np.ndarray
    levels: np.ndarray
    silence: np.ndarray
    skipped: list[Problem]


@dataclass(frozen=True)
class RaggedFeatures:
    """Features of recordings of different lengths, end to end.

    frames: ``[sum of T, F]`` (float32), not normalised.
    offsets: ``[N + 1]`` (int64); recording i is ``frames[offsets[i]:offsets[i + 1]]``.
    of: the N recordings.
    """

    frames: np.ndarray
    offsets: np.ndarray
    of: Computed

    def __len__(self) -> int:
        return len(self.of.index)

    def __getitem__(self, index: int) -> np.ndarray:
        """``[T, F]`` of recording `index` (a view)."""
        if not 0 <= index < len(self):
            raise IndexError(f"recording {index} of {len(self)}")
        frames: np.ndarray = self.frames[self.offsets[index] : self.offsets[index + 1]]
        return frames


def corpus_features(
    corpus: SpeechCorpus,
    settings: LogMel,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> RaggedFeatures:
    """Features of every recording, in memory; options and errors are `compute_features`'s."""
    # Grown in place: joining a list of shards at the end would take twice the memory.
    frames = np.empty((0, settings.num_mels), np.float32)

    def keep(shard: np.ndarray) -> None:
        start = len(frames)
        frames.resize((start + len(shard), settings.num_mels), refcheck=False)
        frames[start:] = shard

    computed = compute_features(corpus, settings, cache_dir, **options, keep=keep)
    return RaggedFeatures(frames, np.concatenate([[0], computed.lengths.cumsum()]), computed)


def compute_features(
    corpus: SpeechCorpus,
    settings: LogMel,
    cache_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    keep: Callable[[np.ndarray], None] | None = None,
) -> Computed:
    """See to it that the features of every recording are in the cache.

    cache_dir: folder to keep them in; None is `pvae_pyro.data.cache.cache_dir()`.
    workers: processes; None is one per core for a large corpus and none for a small one.
    progress: show a bar while computing, if stderr is a terminal.
    on_error: what an `AudioError` of a recording does: end the call, or skip the recording.
    keep: is given the frames of every shard, in order.

    What is computed is kept shard by shard: a call that was broken off is taken up where it
    stopped.

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
    directory = cache.cache_dir() if cache_dir is None else Path(cache_dir)
    recordings = corpus.recordings
    shards = [
        _shard(recordings[i : i + _SHARD], settings) for i in range(0, len(recordings), _SHARD)
    ]
    names = ("index", "lengths", "seconds", "rates", "levels", "silence")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    skipped: list[Problem] = []
    bar = tqdm(
        desc=f"features of {corpus.name}",
        total=len(recordings),
        disable=None if progress else True,  # None: no bar in a log file
    )
    # Closed here, not when its garbage is collected: it has torch's threads to restore.
    with (
        bar,
        contextlib.closing(load_shards(shards, directory, workers, _POOL_FROM)) as results,
    ):
        for number, (shard, (arrays, _)) in enumerate(zip(shards, results, strict=True)):
            first = number * _SHARD
            skipped += [_problem(recordings[first + n]) for n in arrays["skipped"]]
            if skipped and on_error == "raise":
                raise AudioError(skipped[0].reason, skipped[0].kind)
            arrays["index"] += first
            for name, part in parts.items():
                part.append(arrays[name])
            if keep is not None:
                keep(arrays["frames"])
            bar.update(shard.size)
    if len(skipped) == len(recordings):
        reason = f"; the first: {skipped[0].reason}" if skipped else ""
        raise CorpusError(f"{corpus.name}: no recording can be used{reason}")
    joined = {name: np.concatenate(part) for name, part in parts.items()}
    return Computed(**joined, skipped=skipped)


def _shard(recordings: Sequence[Recording], settings: LogMel) -> Shard:
    content = [part for r in recordings for part in (r.name, r.fingerprint)]
    return Shard(
        cache.digest(_VERSION, json.dumps(dataclasses.asdict(settings)), *content),
        len(recordings),
        partial(_compute, recordings, settings),
        partial(_outdated, recordings),
        partial(_check, len(recordings), settings.num_mels),
    )


def _compute(recordings: Sequence[Recording], settings: LogMel) -> cache.Arrays:
    frames = [np.empty((0, settings.num_mels), np.float32)]
    index: list[int] = []
    seconds: list[float] = []
    rates: list[int] = []
    levels: list[float] = []
    silence: list[float] = []
    skipped: list[int] = []
    for n, recording in enumerate(recordings):
        try:
            samples, rate = _read(recording)
        except AudioError:
            skipped.append(n)
            continue
        frames.append(settings(samples, rate))
        index.append(n)
        seconds.append(len(samples) / rate)
        rates.append(rate)
        levels.append(20 * math.log10(samples.std(dtype=np.float64)))
        silence.append(float((frames[-1].max(1) <= math.log(settings.floor) + _FLOOR).mean()))
    arrays: dict[str, np.ndarray] = {
        "frames": np.concatenate(frames),
        "index": np.array(index, np.int64),
        "lengths": np.array([len(f) for f in frames[1:]], np.int64),
        "seconds": np.array(seconds, np.float64),
        "rates": np.array(rates, np.int64),
        "levels": np.array(levels, np.float64),
        "silence": np.array(silence, np.float64),
        "skipped": np.array(skipped, np.int64),
    }
    return arrays, {}


def _check(size: int, num_mels: int, kept: cache.Arrays) -> bool:
    """Whether these are the features of `size` recordings."""
    index, lengths, skipped = (kept[0][name] for name in ("index", "lengths", "skipped"))
    number = len(index)
    return (
        cache.fits(index, np.int64, number)
        and cache.fits(skipped, np.int64, size - number)
        and sorted([*index.tolist(), *skipped.tolist()]) == list(range(size))
        and bool((np.diff(index) > 0).all() and (np.diff(skipped) > 0).all())
        and cache.fits(lengths, np.int64, number)
        and bool((lengths > 0).all())
        and cache.fits(kept[0]["frames"], np.float32, sum(lengths.tolist()), num_mels)
        and cache.fits(kept[0]["seconds"], np.float64, number)
        and cache.fits(kept[0]["rates"], np.int64, number)
        and cache.fits(kept[0]["levels"], np.float64, number)
        and cache.fits(kept[0]["silence"], np.float64, number)
        and bool((kept[0]["seconds"] > 0).all() and (kept[0]["rates"] > 0).all())
    )


def _outdated(recordings: Sequence[Recording], kept: cache.Arrays) -> bool:
    """Whether what could not be read then can be read now: the place may have changed."""
    return any(_error(recordings[n]) is None for n in kept[0]["skipped"])


def _problem(recording: Recording) -> Problem:
    """Why it cannot be read: told anew, for what is kept may be of another place or time."""
    error = _error(recording)
    if error is None:
        raise CorpusError(f"{recording.name}: could not be read and now can be: try again")
    return Problem(recording.name, error.kind, str(error))


def _error(recording: Recording) -> AudioError | None:
    try:
        _read(recording)
    except AudioError as error:
        return error
    return None


def _read(recording: Recording) -> tuple[np.ndarray, int]:
    samples, rate = recording.read()
    check_samples(samples, recording.name)
    return samples, rate
