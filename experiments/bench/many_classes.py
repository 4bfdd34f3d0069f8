"""Make a synthetic corpus of 35 classes, words that eSpeak NG speaks and characters drawn in fonts.

    python experiments/bench/many_classes.py /tmp/words35
    python experiments/run_svi.py --dataset manifest:/tmp/words35/words.csv \
        --image-dataset manifest:/tmp/words35/characters.csv

A class is a word and a character that belong together. 120 + 20 recordings (training and test) of
each, by voices of which a quarter is for testing alone (`espeak_corpus`), and 400 + 60 pictures.
The same files each time, with the same versions of the fonts and of eSpeak NG.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: use the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import csv
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from pvae_pyro.data.corpora.espeak import espeak_corpus

# The words of Speech Commands (Warden 2018, arXiv:1804.03209, Table 1).
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "backward"),
    *("bed", "bird", "cat", "dog", "down", "follow", "forward", "go", "happy", "house", "learn"),
    *("left", "marvin", "no", "off", "on", "right", "sheila", "stop", "tree", "up", "visual"),
    *("wow", "yes"),
)
CHARACTERS = "0123456789ABCDEFGHIJKLMNPQRSTUVWXYZ"  # without O, which many fonts draw like 0
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol"),
    *("STIXGeneralItalic", "cmr10", "cmss10", "cmtt10", "cmb10"),
)
SIZE = 28


def write_words(folder: Path, train: int, test: int) -> Iterable[tuple[str, str, str, str]]:
    """Write the recordings as FLAC; path, label, speaker and split of each."""
    spoken = dict(zip(WORDS, WORDS, strict=True))
    corpus = espeak_corpus("en", train_per_word=train, test_per_word=test, words=spoken)
    for recording in corpus.recordings:
        path = folder / f"{recording.name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = recording.read()
        soundfile.write(path, samples, rate)
        yield str(path), recording.label, recording.speaker, recording.split


def draw(character: str, rng: np.random.Generator) -> Image.Image:
    """White on black, in a random font, turned, slanted, stretched and moved a little."""
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{rng.choice(FONTS)}.ttf"
    large = 4 * SIZE
    picture = Image.new("L", (large, large))
    font = ImageFont.truetype(path, int(rng.uniform(18, 23) * 4))
    ImageDraw.Draw(picture).text((large / 2, large / 2), character, 255, font, anchor="mm")
    angle, slant = rng.normal(0, 0.12), rng.normal(0, 0.15)
    stretch, shift = rng.uniform(0.85, 1.2, 2), rng.normal(0, 4, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[stretch[0], slant], [0, stretch[1]]])
    centre = np.full(2, large / 2)
    (a, b), (c, d), (e, f) = matrix[0], matrix[1], centre - matrix @ (centre + shift)
    moved = picture.transform(picture.size, Image.Transform.AFFINE, (a, b, e, c, d, f), 2)
    return moved.resize((SIZE, SIZE), Image.Resampling.BOX)


def write_characters(folder: Path, train: int, test: int) -> Iterable[tuple[str, str, str]]:
    """Write the pictures; path, label (the class's word) and split of each."""
    rng = np.random.default_rng(0)
    for word, character in zip(WORDS, CHARACTERS, strict=True):
        for index in range(train + test):
            split = "train" if index < train else "test"
            path = folder / "characters" / split / f"{character}_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(character, rng).save(path)
            yield str(path), word, split


def write_table(file: Path, columns: str, rows: Iterable[tuple[str, ...]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns.split())
        writer.writerows(rows)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("--recordings", type=int, nargs=2, default=(120, 20), metavar=("TRAIN", "TEST"))
    add("--pictures", type=int, nargs=2, default=(400, 60), metavar=("TRAIN", "TEST"))
    asked = parser.parse_args(words)
    folder = asked.folder.resolve()
    spoken = write_words(folder, *asked.recordings)
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "words.csv", "path label speaker split", spoken)
    drawn = write_characters(folder, *asked.pictures)
    write_table(folder / "characters.csv", "path label split", drawn)
    print(f"{folder}/words.csv and {folder}/characters.csv: {len(WORDS)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
