"""Strings of spoken digits, joined from single digits, so that all boundaries are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio

from pvae_pyro.data.corpora.espeak import espeak_corpus
from pvae_pyro.data.recording import Recording

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_GAP = (0.05, 0.15)  # seconds between digits, and at the ends
_NOISE = 1e-3  # of full scale, in the gaps
_HEARD = -30.0  # dB of the loudest frame


@dataclass(frozen=True)
class Joined:
    """files, heard: start and end in seconds of each recording, and of the sound in it."""

    samples: np.ndarray
    rate: int
    words: tuple[str, ...]
    files: np.ndarray
    heard: np.ndarray


def joined(recordings: Sequence[Recording], rate: int, seed: int) -> Joined:
    """The digits in this order, with 50 to 150 ms of faint noise around each."""
    rng = np.random.default_rng(seed)

    def gap() -> np.ndarray:
        return rng.normal(0, _NOISE, round(rng.uniform(*_GAP) * rate)).astype(np.float32)

    parts, files, heard = [gap()], [], []
    for recording in recordings:
        samples, recorded = recording.read()
        digit = torchaudio.functional.resample(torch.from_numpy(samples), recorded, rate).numpy()
        at = sum(map(len, parts)) / rate
        files.append((at, at + len(digit) / rate))
        heard.append([at + edge for edge in _heard(digit, rate)])
        parts += [digit, gap()]
    words = tuple(WORDS[int(recording.label)] for recording in recordings)
    return Joined(np.concatenate(parts), rate, words, np.array(files), np.array(heard))


def american_strings(*strings: str) -> list[Joined]:
    """Strings of digits at 16 kHz, in American voices of eSpeak NG."""
    corpus = espeak_corpus("en", train_per_word=60, test_per_word=0)
    voices = [r for r in corpus.recordings if r.speaker.startswith("en-us+")]
    first = {digit: next(r for r in voices if r.label == digit) for digit in "0123456789"}
    return [joined([first[d] for d in digits], 16000, n) for n, digits in enumerate(strings)]


def strings(recordings: Sequence[Recording], rate: int, count: int, seed: int = 0) -> list[Joined]:
    """Strings of three to seven digits, each of one speaker; the speakers take turns."""
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    speakers = sorted(by_speaker)
    made = []
    for n in range(count):
        own = by_speaker[speakers[n % len(speakers)]]
        chosen = rng.choice(len(own), rng.integers(3, 8), replace=False)
        made.append(joined([own[i] for i in chosen], rate, seed + n))
    return made


def _heard(samples: np.ndarray, rate: int) -> tuple[float, float]:
    """From the first to the last frame of 15 ms, every 5 ms, within 30 dB of the loudest."""
    hop = round(0.005 * rate)
    power = (samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(1)
    power = np.convolve(power, np.ones(3) / 3, "same")
    active = np.flatnonzero(power > power.max() * 10 ** (_HEARD / 10))
    return float(active[0] * hop / rate), float((active[-1] + 1) * hop / rate)
