"""Extreme data and settings: training stays finite, or ends with an error that says why not."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments import run_svi
from pvae_pyro.svi import SVI
from pvae_pyro.training.loop import fit
from tests.support.tiny import NUM_MELS, tiny_pair
from tests.support.tiny_run import small_corpus
from tests.support.training import metrics


def examples(lengths, labels, frames=None):
    """Utterances of these lengths in frames, of noise by default, and images of noise."""
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(sum(lengths), NUM_MELS)) if frames is None else frames
    images = rng.integers(0, 256, (len(labels), 1, 28, 28), dtype=np.uint8)
    unit, pixels = (Normalisation(np.float32(0), np.float32(scale)) for scale in (1, 255))
    offsets, names = np.cumsum([0, *lengths]), [f"speech{n}" for n in range(len(labels))]
    frames, labels = frames.astype(np.float32), np.array(labels)
    return {
        "speech": Examples(frames, labels, unit, offsets=offsets, names=names),
        "image": Examples(images, labels, pixels),
    }


def train(folder, data, batch_size, learning_rate=1e-3, num_epochs=4):
    """With all terms of the objective."""
    torch.manual_seed(0)
    elbo = PartitionedELBO(alpha=3.0, length_scale=3.0, gamma=100.0, delta=1.0, epsilon=0.5)
    adam = partial(torch.optim.Adam, lr=learning_rate, fused=True)
    svi = SVI(*tiny_pair(), adam, elbo)
    loader = PairedLoader(data, batch_size)
    return fit(svi, loader, num_epochs=num_epochs, folder=folder, show_progress=False)


FOUR, CONSTANT = [3, 4, 5, 6], np.ones((16, NUM_MELS))
FINE = {
    "constant features": (lambda: examples([4] * 4, [0, 1] * 2, CONSTANT), 4),
    "utterances of one frame": (lambda: examples([1] * 4, [0, 1] * 2), 4),
    "utterances of 3,000 frames": (lambda: examples([3000, 1, 3000], [0, 1, 0]), 3),
    "batches of one": (lambda: examples(FOUR, [0, 1, 0, 1]), 1),
    "one example of each class, three in all": (lambda: examples(FOUR[1:], [0, 1, 2]), 2),
    "one example in all": (lambda: examples([3], [0]), 4),
    "one class": (lambda: examples(FOUR, [0, 0, 0, 0]), 2),
}  # fmt: skip


@pytest.mark.parametrize("what", FINE)
def test_training_stays_finite(what, tmp_path):
    make, batch_size = FINE[what]
    progress = train(tmp_path, make(), batch_size, num_epochs=2)
    assert (progress.epoch, progress.skipped) == (2, 0)
    records = metrics(tmp_path)
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert records[-1]["objective"] != records[0]["objective"]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def train_on(tmp_path, monkeypatch, capfd):
    """Run the command on a small corpus, less some lines; its exit code, output and results."""
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()

    def train(*options, without=None, **corpus):
        data = small_corpus(tmp_path / "data", **corpus)
        if without:
            words = tmp_path / "data" / "words.csv"
            lines = words.read_text().splitlines()
            words.write_text("\n".join(line for line in lines if not line.startswith(without)))
        out = tmp_path / "run"
        code = run_svi.main([*data, "--epochs", "2", *options, "--out", str(out)])
        printed = capfd.readouterr()
        assert "Traceback" not in printed.err
        results = out / "results.json"
        return code, printed, json.loads(results.read_text()) if results.exists() else None

    return train


@pytest.mark.parametrize("split", ["train", "test"])
def test_command_warns_of_a_class_that_one_split_lacks(train_on, split):
    code, printed, _ = train_on(without=f"{split}-c-")
    assert code == 0, printed.err
    warnings = [line for line in printed.out.splitlines() if "WARNING" in line]
    assert [line for line in warnings if "speakers" not in line]


def test_command_at_a_learning_rate_of_a_million(train_on):
    code, printed, results = train_on("--learning-rate", "1e6", "--batch-size", "2")
    assert (code, results) == (1, None)
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert "finite" in line
