"""Runs of the command, too short to learn anything."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]

# Synthetic digits, where `PVAE_DATA` has no TIDIGITS; needs eSpeak.
TINY = ["--dataset", "tidigit", "--limit", "2", "--num-cells", "8", "--no-report"]


def command(arguments, cache, **kwargs):
    """Run run_svi.py in another process; `cache` holds environment variables."""
    return subprocess.run(
        [sys.executable, "experiments/run_svi.py", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **cache},
        capture_output=True,
        text=True,
        timeout=600,
        **kwargs,
    )


def small_corpus(folder, classes="abc", copies=4, speakers=("s0", "s1"), missing=()):
    """Write noise and random pictures of a few classes, by speakers who are in both splits.

    missing: more training words (path, label, speaker), whose files are not written.
    Returns the options of a run on them.
    """
    import soundfile  # not for every test: tests of CUDA run where there is neither
    from PIL import Image

    rng = np.random.default_rng(0)
    words, drawings = [["path", "label", "speaker", "split"]], [["path", "label", "split"]]
    for split in ("train", "test"):
        for n, label in enumerate(classes):
            for copy in range(copies):
                name = f"{split}-{label}-{copy}"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)  # a label has a slash
                noise = rng.normal(0, 0.1, 800 + 160 * n + 80 * copy)
                soundfile.write(folder / f"{name}.wav", noise, 8000)
                words.append([f"{name}.wav", label, speakers[copy % len(speakers)], split])
                pixels = rng.integers(0, 80, (28, 28)) + 80 * n
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")
                drawings.append([f"{name}.png", label, split])
    words += [[*word, "train"] for word in missing]
    for name, rows in (("words.csv", words), ("drawings.csv", drawings)):
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return [
        *("--dataset", f"manifest:{folder}/words.csv"),
        *("--image-dataset", f"manifest:{folder}/drawings.csv"),
        *("--num-cells", "8", "--no-report"),
    ]
