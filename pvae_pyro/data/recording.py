"""The spoken items of a corpus, and how their sound is read.

A sound file becomes a part of a batch in five steps::

    Recording      a sound file or a part of it, listed but not yet read  (`list_corpus`)
    SpeechCorpus   recordings, with the settings by which they are read   (`open_speech`)
    Examples       the log-Mel features of one partition                  (`compute_features`)
    PairedData     both partitions of all modalities                      (`join`)
    Observation    some examples, normalised and padded, in a Batch       (`PairedLoader`)

Features are cached under `features.fingerprint`, the one digest of all that they depend on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pvae_pyro.data.audio.reading import check_samples, read_audio
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpus import AudioError, Problem, Split
from pvae_pyro.errors import shown

# Word boundaries come in steps of 10 ms and may lie a little after the end of the file.
TOLERANCE = 0.020  # seconds
_ROUNDING = 0.0005  # seconds: the ends of a part are rounded to samples


@dataclass(frozen=True)
class Recording:
    """One spoken item: a sound file or a part of one. Only `read` decodes the sound.

    path: the file. A subclass that makes the sound itself may have any path.
    name: unique within the corpus; messages use it.
    label: the class it belongs to, as the corpus writes it (``"7"``).
    start, end: of the part, in seconds; None is the start or the end of the file.
    channel: which of several channels, from 1; None is their mean.
    required_rate: in Hz; a file at another rate is an error. None is any rate.
    content: changes whenever the sound does; of a file, its SHA-256.
    rate: in Hz, as the file's header says; None if it is unknown.
    """

    path: Path
    name: str
    label: str
    speaker: str
    split: Split
    start: float | None = None
    end: float | None = None
    channel: int | None = None
    required_rate: int | None = None
    content: str = ""
    rate: int | None = None

    @property
    def part(self) -> tuple[float, float, int | None]:
        """Start, end (infinite for the end of the file) and channel."""
        return self.start or 0.0, math.inf if self.end is None else self.end, self.channel

    @property
    def identity(self) -> tuple[str | float | None, ...]:
        """All that the sound, or the reason why it cannot be used, depends on."""
        return (self.name, self.content, self.required_rate, *self.part)

    def read(self) -> tuple[np.ndarray, int]:
        """Mono samples in [-1, 1] (float32, ``[n]``) and their rate in Hz.

        Raises `AudioError`, which names the file and the reason, for unusable sound.
        """
        name = shown(self.path)
        found = _read_file(str(self.path), self.channel, self.content)
        if isinstance(found, Problem):
            raise AudioError(found.reason, found.kind)
        samples, rate = found
        if self.required_rate not in (None, rate):
            reason = f"is at {rate} Hz, but the corpus is at {self.required_rate} Hz"
            raise AudioError(f"{name}: {reason}", "wrong rate")
        if self.start is None and self.end is None:
            return samples, rate
        first = 0 if self.start is None else round(self.start * rate)
        last = len(samples) if self.end is None else round(self.end * rate)
        times = f"{first / rate:.2f} to {last / rate:.2f} s"
        if not 0 <= first < min(last, len(samples)) or last > len(samples) + TOLERANCE * rate:
            reason = f"{name}: {times} is not a part of its {len(samples) / rate:.2f} s"
            raise AudioError(reason, "outside the file")
        part = samples[first:last]
        if not part.any():
            raise AudioError(f"{name}: is silent from {times}", "silent")
        return part, rate


@lru_cache(maxsize=1)
def _read_file(path: str, channel: int | None, _sha: str) -> tuple[np.ndarray, int] | Problem:
    """The decoded file, or why it cannot be used: kept, for its parts are read one by one."""
    try:
        return read_audio(path, channel)
    except AudioError as error:
        return Problem(path, error.kind, str(error))


@dataclass(frozen=True)
class SpeechCorpus:
    """Recordings, how they are to be read, and what a result file must say about them.

    stand_in: the corpus is not the one that was asked for; every result says so.
    sample_rate: of the features, in Hz; recordings of other rates are resampled to it.
    problems: items that were left out.
    notes: what a user should know about the corpus, one sentence each.
    completeness: from the usable recordings, a sentence about how many there should be.
    any_rate: `sample_rate` may be lowered to that of the recordings (`at_lowest_rate`).
    trim: how silence at both ends is cut off; None leaves recordings as they are.
    shortest, longest: bounds of a recording's duration after trimming, in seconds.
    """

    name: str
    stand_in: bool
    sample_rate: int
    recordings: tuple[Recording, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    completeness: Callable[[Sequence[Recording]], str] | None = None
    any_rate: bool = False
    trim: VoiceActivity | None = None
    shortest: float = 0.0
    longest: float = math.inf

    def read(self, recording: Recording) -> tuple[np.ndarray, int]:
        """Samples ``[n]`` of a recording, without the silence at its ends if `trim` is set.

        Raises `AudioError` as `Recording.read` does, and for sound without speech, of too short
        or too long a duration, or without anything to hear.
        """
        samples, rate = recording.read()
        if self.trim is not None:
            span = self.trim.span(samples, rate)
            if span is None:
                raise AudioError(f"{recording.name}: has no speech by its energy", "no speech")
            samples = samples[slice(*span)]
        seconds = len(samples) / rate
        if seconds < self.shortest - _ROUNDING:
            reason = f"{recording.name}: lasts {seconds:.3f} s, less than {self.shortest} s"
            raise AudioError(reason, "too short")
        if seconds > self.longest + _ROUNDING:
            reason = f"{recording.name}: lasts {seconds:.2f} s, more than {self.longest} s"
            raise AudioError(reason, "too long")
        check_samples(samples, recording.name)
        return samples, rate

    def is_usable(self, recording: Recording) -> bool:
        """Whether `read` succeeds."""
        try:
            self.read(recording)
        except AudioError:
            return False
        return True
