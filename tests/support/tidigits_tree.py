"""A look-alike of TIDIGITS: its file names and sound files, with known digit boundaries."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.sphere import write_sphere

RATE = 20000
# A digit is a stretch of one level, silence between digits is 1.
LEVEL = {symbol: 2000 + 500 * n for n, symbol in enumerate("z123456789o")}


@dataclass(frozen=True)
class Spoken:
    """An utterance, and where its digits lie, in samples."""

    split: str
    group: str
    speaker: str
    name: str  # "z9z6531a"
    spans: tuple[tuple[str, int, int], ...]

    @property
    def path(self) -> str:
        return f"{self.split}/{self.group}/{self.speaker}/{self.name}.wav"

    @property
    def samples(self) -> np.ndarray:
        samples = np.ones(self.spans[-1][2] + 3000, np.int16)
        for symbol, start, end in self.spans:
            samples[start:end] = LEVEL[symbol]
        return samples

    @property
    def ctm(self) -> str:
        return "".join(
            f"{self.speaker}_{self.name} 1 {start / RATE:.2f} {(end - start) / RATE:.2f} {symbol}\n"
            for symbol, start, end in self.spans
        )


def spoken() -> list[Spoken]:
    """Three utterances of each of two speakers per group and split; the first has every digit."""
    rng = np.random.default_rng(0)
    made = []
    places = itertools.product(("train", "test"), ("man", "woman", "boy", "girl"), range(2))
    for (split, group, _), letter in zip(places, "bcdefghijklmnopq", strict=True):
        for n in range(3):
            count = 11 if n == 0 else int(rng.integers(1, 8))
            chosen = "".join(rng.permutation(list("z123456789o"))[:count])
            at, spans = 4000, []
            for symbol in chosen:
                start = at + 200 * int(rng.integers(0, 20))  # silences, in steps of 10 ms
                at = start + 200 * int(rng.integers(8, 60))
                spans.append((symbol, start, at))
            made.append(Spoken(split, group, f"a{letter}", f"{chosen}{'ab'[n % 2]}", tuple(spans)))
    return made


def write(root: Path, layout: str, utterances: list[Spoken], coding: str = "pcm") -> None:
    """Write the files under `root`; `layout` may hold {ages} and {disc}, and may be upper case."""
    for utterance in utterances:
        ages = "adults" if utterance.group in ("man", "woman") else "children"
        top = layout.format(ages=ages, disc=1 if utterance.split == "train" else 2)
        tail = utterance.path.upper() if layout.isupper() else utterance.path
        path = root / top / tail
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sphere(path, utterance.samples, RATE, coding=coding)


def write_ctm(folder: Path, utterances: list[Spoken]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        text = "".join(u.ctm for u in utterances if u.split == split)
        (folder / f"{split}_word_align.ctm").write_text(text)
