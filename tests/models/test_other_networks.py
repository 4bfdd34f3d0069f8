"""Runs with other networks and likelihoods, from training to figures."""

import json
import math

import pytest

from pvae_pyro.experiments import evaluate, figures, run_svi
from pvae_pyro.experiments.support.saved_run import load_run

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
        return folder, results, load_run(folder)[0]

    return train


def test_a_bernoulli_run_ends_in_scores_and_pictures(run):
    folder, results, model = run("--image-likelihood", "bernoulli", "--speech-encoder", "conv")
    assert results["config"]["image_likelihood"] == model.likelihoods["image"].family == "bernoulli"
    # Near log 2 a pixel, before anything is learnt.
    assert results["test_terms"]["log_prob/image"] == pytest.approx(-784 * math.log(2), rel=0.05)
    measures = ["--only", "coherence", "log_likelihood", "--judge-steps", "2"]
    assert evaluate.main([str(folder), *measures, "--num-samples", "5"]) == 0
    measured = json.loads((folder / "evaluation.json").read_text())
    assert measured["coherence"]
    assert math.isfinite(measured["log_likelihood"]["joint"]["mean"])
    assert figures.main([str(folder), "--only", "translate", "--formats", "png"]) == 0
    assert (folder / "figures" / "translate-speech-to-image.png").stat().st_size > 5000


def test_learnt_scales_are_kept_and_gone_on_with(run):
    options = ["--image-likelihood", "laplace", "--speech-encoder", "transformer", "--learn-scale"]
    folder, _, model = run(*options)
    for name, start in (("speech", 1.0), ("image", 0.5)):
        trained = model.likelihoods[name].scale().item()
        assert trained != start
        assert trained == pytest.approx(start, rel=0.05)
    resumed = ["--resume", str(folder), "--epochs", str(EPOCHS + 1), "--no-report"]
    assert run_svi.main(resumed) == 0
    gone_on = load_run(folder)[0].likelihoods["image"].scale().item()
    assert 0 < abs(gone_on - trained) < 0.05
    assert run_svi.main([*resumed, "--speech-encoder", "lstm"]) == 1
