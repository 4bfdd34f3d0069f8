"""A corpus of TIDIGITS' size: its whole list of utterances, with FSDD's digits for sound."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample

from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.data.corpora.fsdd import fsdd_corpus
from tests.support.sphere import write_sphere
from tests.support.tiny_run import REPOSITORY

RATE = 20000
GIB = 1 << 30


def _run(root: Path, *arguments: object) -> None:
    """Run a command on the tree under `root`."""
    finished = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "PVAE_DATA": str(root), "PVAE_CACHE": str(root / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout


@pytest.mark.slow
def test_every_digit_of_tidigits_in_2_gib(data_root, tmp_path):
    if not (data_root / "tidigits_ctm").is_dir():
        pytest.skip("no TIDIGITS alignments")
    (tmp_path / "tidigits_ctm").symlink_to(data_root / "tidigits_ctm")
    (tmp_path / "MNIST").symlink_to(data_root / "MNIST")
    sounds: dict[str, list[np.ndarray]] = {}
    for recording in fsdd_corpus(data_root).recordings:
        if recording.speaker == "george":
            sounds.setdefault(recording.label, []).append(recording.read()[0])
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        spans, _ = read_ctm([tmp_path / "tidigits_ctm" / f"{split}_word_align.ctm"])
        for utterance, words in spans.items():
            speaker, name = utterance.split("_")
            samples = rng.integers(-20, 20, round((words[-1].end + 0.2) * RATE)).astype(np.int16)
            for word in words:
                sound = sounds[word.word.replace("z", "0").replace("o", "0")]
                start, end = round(word.start * RATE), round(word.end * RATE)
                digit = resample(sound[rng.integers(len(sound))], end - start)
                samples[start:end] += (10000 * digit / abs(digit).max()).astype(np.int16)
            path = tmp_path / "tidigits" / split / "man" / speaker / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sphere(path, samples, RATE)

    corpus = ("--dataset", "tidigit", "--require-corpus")
    _run(tmp_path, "experiments/prepare.py", *corpus, "--out", tmp_path / "out")
    few = ("--preset", "quick", "--epochs", 1, "--out", tmp_path / "run")
    _run(tmp_path, "experiments/run_svi.py", *corpus, *few)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    splits = report["splits"]
    assert [splits[s]["recordings"] for s in ("train", "test")] == [28329, 28583]
    assert [len(splits[s]["speakers"]) for s in ("train", "test")] == [112, 113]
    assert report["notes"][0].startswith("complete: 28,329 of 28,329 train digits")
    assert report["problems"] == []
    assert 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= 2 * GIB
