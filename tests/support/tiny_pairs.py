"""A file of pairs on disk: short noises and random pictures, with gaps and without labels."""

import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

CLASSES = "ab"
SPEAKERS = {"train": ("s0", "s1"), "test": ("s2", "s3")}


def write_pairs(folder: Path, num_train: int = 12, num_test: int = 10, **columns: bool) -> Path:
    """Write `pairs.csv` and its files; every fourth row lacks its sound, or its picture.

    columns: label, speaker: whether the file has such a column. `labels.csv` has the labels, of the
    sounds where there are any.
    """
    rng = np.random.default_rng(0)
    head = ["speech", "image", "split", *(name for name, wanted in columns.items() if wanted)]
    rows, labels = [head], [["path", "label"]]
    for split, number in (("train", num_train), ("test", num_test)):
        for n in range(number):
            name, label = f"{split}{n}", CLASSES[n // 2 % 2]
            told = {"label": label, "speaker": SPEAKERS[split][n % 2]}
            soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, 800 + 80 * n), 8000)
            pixels = rng.integers(0, 80, (28, 28)) + 100 * CLASSES.index(label)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
            sound = "" if n % 8 == 3 else f"{name}.wav"
            picture = "" if n % 8 == 7 else f"{name}.png"
            rows.append([sound, picture, split, *(told[column] for column in head[3:])])
            labels.append([sound or picture, label])
    write_rows(folder / "pairs.csv", rows)
    write_rows(folder / "labels.csv", labels)
    return folder / "pairs.csv"


def write_rows(file: Path, rows: list[list[str]]) -> None:
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows(rows)
