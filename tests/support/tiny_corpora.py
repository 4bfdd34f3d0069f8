"""Corpora on disk, made of noise: each digit twice for training and twice for testing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from pvae_pyro.data.corpora.audio_mnist import TEST_SPEAKERS
from pvae_pyro.data.corpora.speech_commands import WORDS

_HEX = {"ann": "0a7c2a8d", "bob": "1b8d3b9e"}  # speakers of Speech Commands
_DIGITS = [str(digit) for digit in range(10)]


def write_corpora(root: Path) -> None:
    """FSDD, AudioMNIST and Speech Commands in a folder of data."""
    rng = np.random.default_rng(0)
    for number, (name, rate) in enumerate(_recordings()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.003, rate // 10 + 10 * number), rate)
    folder = root / "speech_commands_v0.02"
    for listed, index in (("testing", 0), ("validation", 9)):
        names = [f"{word}/{of}_nohash_{index}.wav" for word in WORDS for of in _HEX.values()]
        (folder / f"{listed}_list.txt").write_text("\n".join(names))


def _recordings() -> Iterator[tuple[str, int]]:
    for digit in _DIGITS:
        for speaker in ("ann", "bob"):
            for index in (0, 7):  # to test, to train
                yield f"fsdd/recordings/{digit}_{speaker}_{index}.wav", 8000
                word = WORDS[int(digit)]
                yield f"speech_commands_v0.02/{word}/{_HEX[speaker]}_nohash_{index}.wav", 16000
        for speaker in (*sorted(TEST_SPEAKERS)[:2], "01", "02"):
            yield f"audio_mnist/{speaker}/{digit}_{speaker}_0.wav", 48000
