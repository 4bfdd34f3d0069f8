"""Data and settings at their extremes: what comes of each is written down, and is no surprise."""

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
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.models import PVAE
from pvae_pyro.svi import SVI
from pvae_pyro.training.loop import fit
from tests.support.outcomes import record
from tests.support.tiny import NUM_MELS, tiny_modalities
from tests.support.tiny_run import small_corpus
from tests.training.test_loop import metrics


def examples(lengths, frames, labels):
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 1, 28, 28), dtype=np.uint8)
    return {
        "speech": Examples(
            frames.astype(np.float32),
            np.array(labels),
            Normalisation(np.float32(0.0), np.float32(1.0)),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            names=[f"speech{n}" for n in range(len(labels))],
        ),
        "image": Examples(images, np.array(labels), Normalisation(np.float32(0), np.float32(255))),
    }


def noise(lengths, labels):
    frames = np.random.default_rng(0).normal(size=(sum(lengths), NUM_MELS))
    return examples(lengths, frames, labels)


# What is extreme -> the data, the batch size, the learning rate.
FINE = {
    "constant features": (lambda: examples([4] * 8, np.ones((32, NUM_MELS)), [0, 1] * 4), 4, 1e-3),
    "utterances of one frame": (lambda: noise([1] * 8, [0, 1] * 4), 4, 1e-3),
    "utterances of 3,000 frames": (lambda: noise([3000, 1, 3000], [0, 1, 0]), 3, 1e-3),
    "batches of one": (lambda: noise([3, 4, 5, 6], [0, 1, 0, 1]), 1, 1e-3),
    "a last batch of one": (lambda: noise([3, 4, 5], [0, 1, 0]), 2, 1e-3),
    "one example of each class": (lambda: noise([3, 4, 5], [0, 1, 2]), 2, 1e-3),
    "one example in all": (lambda: noise([3], [0]), 4, 1e-3),
    "one class": (lambda: noise([3, 4, 5, 6], [0, 0, 0, 0]), 2, 1e-3),
}


def our_svi(learning_rate):
    """With every term there is, as `--objective ours` has them."""
    torch.manual_seed(0)
    modalities = tiny_modalities()
    elbo = PartitionedELBO(alpha=3.0, length_scale=3.0, gamma=100.0, delta=1.0)
    adam = partial(torch.optim.Adam, lr=learning_rate, fused=True)
    return SVI(PVAE(modalities, 3, 2), PartitionedGuide(modalities, 3, 2), adam, elbo)


@pytest.mark.parametrize("what", FINE)
def test_training_stays_finite(what, tmp_path):
    make, size, learning_rate = FINE[what]
    svi = our_svi(learning_rate)
    progress = fit(
        svi, PairedLoader(make(), size), num_epochs=4, folder=tmp_path, show_progress=False
    )
    assert (progress.epoch, progress.skipped) == (4, 0)
    found = metrics(tmp_path)
    assert all(math.isfinite(value) for record in found for value in record.values())
    objectives = [record["objective"] for record in found]
    assert objectives[-1] != objectives[0]
    told = " to ".join(f"{value:.4g}" for value in (objectives[0], objectives[-1]))
    record("extremes", what, f"trains; objective {told} in {progress.step} steps")


def test_learning_rate_of_a_million(tmp_path):
    svi = our_svi(1e6)
    loader = PairedLoader(noise([3, 4, 5, 6], [0, 1, 0, 1]), 2)
    with pytest.raises(FloatingPointError, match="is not finite: ") as error:
        fit(svi, loader, num_epochs=20, folder=tmp_path, show_progress=False)
    told = str(error.value)
    assert "A smaller learning rate may help" in told
    record("extremes", "learning rate 1e6", f"error: {told.split(', with the')[0]}")


@pytest.mark.parametrize("value", [1e15, 1e25])
def test_features_that_overflow(value, tmp_path):
    """A square of 1e25 is more than float32 holds, one of 1e15 is not."""
    data = noise([3, 4, 5, 6], [0, 1, 0, 1])
    data["speech"].values[0] = value
    loader = PairedLoader(data, 2)
    outcome = "trains"
    try:
        fit(our_svi(1e-3), loader, num_epochs=3, folder=tmp_path, show_progress=False)
    except FloatingPointError as error:
        outcome = f"error: {str(error).split('. It changed')[0]}"
        assert "speech0" in outcome
    assert (outcome == "trains") == (value == 1e15)
    record("extremes", f"a feature of {value:g}", outcome)


# --- the whole way, from files -------------------------------------------------------------------


@pytest.fixture
def train_on(tmp_path, monkeypatch, capfd):
    """Run the command on a small corpus that was changed; its code, what it said, its results."""
    monkeypatch.setenv("PVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PVAE_OFFLINE", "1")
    (tmp_path / "data").mkdir()

    def train(*options, change=lambda lines: lines, **corpus):
        data = small_corpus(tmp_path / "data", **corpus)
        words = tmp_path / "data" / "words.csv"
        words.write_text("\n".join(change(words.read_text().splitlines())))
        out = tmp_path / "run"
        code = run_svi.main([*data, "--epochs", "2", *options, "--out", str(out)])
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        results = out / "results.json"
        return code, told, json.loads(results.read_text()) if results.exists() else None

    return train


def without(*parts):
    return lambda lines: [line for line in lines if not all(part in line for part in parts)]


def test_command_one_example_of_each_class(train_on):
    code, _, results = train_on(copies=1)
    assert code == 0
    assert results["steps"] == 2
    record("extremes", "run_svi.py, one example of each class", _scored(results))


def test_command_one_class(train_on):
    code, told, results = train_on(classes="a")
    assert code == 0, told.err
    assert results["purity"]["z_sem"] == {"speech": 1.0, "image": 1.0}
    record("extremes", "run_svi.py, one class", _scored(results))


@pytest.mark.parametrize("split", ["train", "test"])
def test_command_a_class_of_one_partition_only(train_on, split):
    code, told, results = train_on(change=without("-c-", split))
    assert code == 0, told.err
    said = [line for line in told.out.splitlines() if "WARNING" in line and "speakers" not in line]
    record(
        "extremes",
        f"run_svi.py, a class without {split} examples",
        f"{_scored(results)}; told: {' '.join(said)}",
    )
    assert any("c" in line for line in said), told.out


def test_command_learning_rate_of_a_million(train_on):
    code, told, results = train_on("--learning-rate", "1e6", "--batch-size", "2")
    assert (code, results) == (1, None)
    (line,) = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert "is not finite" in line
    record("extremes", "run_svi.py, learning rate 1e6", f"code 1: {line.split(', with the')[0]}")


def test_command_learning_rate_of_a_million_and_skipping(train_on):
    code, told, results = train_on(
        "--learning-rate", "1e6", "--batch-size", "2", "--skip-bad-batches"
    )
    assert (code, results) == (1, None)
    (line,) = [line for line in told.err.splitlines() if line.startswith("error: ")]
    record("extremes", "run_svi.py, learning rate 1e6, --skip-bad-batches", f"code 1: {line}")


def _scored(results):
    assert all(math.isfinite(value) for value in results["test_terms"].values())
    return f"trains and scores; objective {results['test_terms']['objective']:.4g} on the test"
