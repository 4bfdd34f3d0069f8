"""Runs of the command with other networks and likelihoods."""

import json
import math

import pytest

from pvae_pyro.experiments import run_svi
from pvae_pyro.experiments.support.saved_run import load_run
from pvae_pyro.models.modalities import SPEECH_ENCODERS

EPOCHS = 2


@pytest.fixture
def run(small, environment, tmp_path):
    """Trains one: its folder, its results and its model."""

    def train(*options):
        folder = tmp_path / "run"
        given = [*small, *options, "--epochs", str(EPOCHS), "--out", str(folder)]
        assert run_svi.main(given) == 0
        results = json.loads((folder / "results.json").read_text())
        assert all(math.isfinite(value) for value in results["test_terms"].values())
        return folder, results, *load_run(folder)

    return train


def test_a_bernoulli_run_ends_in_scores(run):
    _, results, model, guide = run("--image-likelihood", "bernoulli", "--speech-encoder", "conv")
    assert results["config"]["image_likelihood"] == model.likelihoods["image"].family == "bernoulli"
    for part in (guide.multimodal, guide.unimodal["speech"]):
        assert type(part.encoders["speech"]) is SPEECH_ENCODERS["conv"]
    # Near log 2 a pixel, before anything is learnt.
    assert results["test_terms"]["log_prob/image"] == pytest.approx(-784 * math.log(2), rel=0.05)


def test_learnt_scales_are_saved_and_resumed(run):
    options = ["--image-likelihood", "laplace", "--speech-encoder", "transformer", "--learn-scale"]
    folder, _, model, _ = run(*options)
    for name, start in (("speech", 1.0), ("image", 0.32)):
        trained = model.likelihoods[name].scale().item()
        assert trained != start
        assert trained == pytest.approx(start, rel=0.05)
    resumed = ["--resume", str(folder), "--epochs", str(EPOCHS + 1), "--no-report"]
    assert run_svi.main(resumed) == 0
    gone_on = load_run(folder)[0].likelihoods["image"].scale().item()
    assert 0 < abs(gone_on - trained) < 0.05
    assert run_svi.main([*resumed, "--speech-encoder", "lstm"]) == 1
