"""Options reach what they name, and each partition is used for its own purpose."""

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.paired import PairedData
from pvae_pyro.experiments.support import scored_training
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import OBJECTIVES
from pvae_pyro.experiments.support.unused_options import unused_options
from pvae_pyro.models.flow import Flow
from pvae_pyro.models.priors import GaussianMixture, StandardNormal, VampPrior
from pvae_pyro.training.progress import Progress
from tests.support import configs
from tests.support.configs import asked
from tests.support.tiny import tiny_examples

MODELS = ("pvae", "jmvae")
PRIORS = ("normal", "mixture", "vamp", "flow")


def config(*arguments):
    return configs.config("--num-cells", "4", *arguments, max_frames=20)


def examples(size, seed):
    """As many utterances as images, of two classes."""
    return tiny_examples(size, size, num_classes=2, seed=seed, num_mels=80)


@pytest.fixture
def data():
    return PairedData("made up", True, ("a", "b"), examples(26, 0), examples(12, 1))


def test_options_reach_the_objective_and_the_optimiser():
    values = {
        "alpha": 2.0,
        "beta": 3.0,
        "margin": 0.4,
        "length_scale": 5.0,
        "gamma": 6.0,
        "delta": 7.0,
        "epsilon": 8.0,
    }
    words = [word for name, value in values.items() for word in (flag(name), value)]
    assert build(config()).optim.defaults["lr"] == 0.003
    assert build(config("--objective", "paper")).optim.defaults["lr"] == 0.001
    svi = build(config(*words, "--learning-rate", 0.02))
    assert {name: getattr(svi.loss, name) for name in values} == values
    assert svi.optim.defaults["lr"] == 0.02
    assert svi.optim.defaults["betas"] == (0.95, 0.999)


def test_options_reach_the_networks(data):
    batch = {n: e.observation(np.arange(5)) for n, e in data.train.items()}

    def terms(*arguments):
        return build(config(*arguments)).terms(batch)

    plain, scaled = terms(), terms("--image-scale", "0.25", "--speech-scale", "2")
    for name in ("image", "speech"):
        assert not torch.allclose(plain[f"log_prob/{name}"], scaled[f"log_prob/{name}"], rtol=0.05)
    assert "log_prob/speech_log_frames" not in terms("--duration-scale", "0")
    svi = build(config("--semantic-dim", "7", "--style-dim", "3"))
    assert svi.guide.multimodal.heads["z_sem"].loc.out_features == 7
    assert svi.guide.unimodal["image"].heads["z_style_image"].loc.out_features == 3


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_every_prior(model, data):
    kinds = {"normal": StandardNormal, "mixture": GaussianMixture, "vamp": VampPrior, "flow": Flow}
    assert kinds.keys() == set(PRIORS)
    for prior, kind in kinds.items():
        svi = build(config("--model", model, "--prior", prior, "--num-components", "7"))
        assert type(svi.model.prior) is kind
        (latent,) = (name for name in ("z_sem", "z") if name in _heads(svi.guide))
        batch = {n: data.train[n].observation(np.arange(5)) for n in svi.guide.unimodal}
        svi.update(batch)["objective"].item()
        svi.terms(batch)["objective"].sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in svi.model.prior.parameters())
        if prior == "mixture":
            assert svi.model.prior.loc.shape == (7, _heads(svi.guide)[latent].loc.out_features)
        if prior == "vamp":
            assert svi.model.prior._head == (_heads(svi.guide)[latent],)
            assert len(svi.model.prior.features) == 7


def _heads(guide):
    return getattr(guide, "multimodal", guide).heads


def test_a_prior_of_too_few_dimensions_is_refused():
    with pytest.raises(RunError, match="--prior flow"):
        build(config("--prior", "flow", "--semantic-dim", "1"))
    assert build(config("--prior", "mixture", "--semantic-dim", "1")).model.prior.loc.shape[1] == 1


def test_each_partition_is_used_for_its_own_purpose(data, monkeypatch, tmp_path):
    used = {}

    def fit(svi, loader, **kwargs):
        assert kwargs["warm_up_steps"] == 7
        used.update(fit=loader.examples, augmented={*loader.augment})
        return Progress()

    def latents(unimodal, test, num_clusters, device):
        used.update(latents=test, clusters=num_clusters)
        return {}

    def terms(svi, loader):
        assert loader.shuffle
        assert not loader.augment
        used["terms"] = loader.examples
        return {}

    monkeypatch.setattr(scored_training, "fit", fit)
    monkeypatch.setattr(scored_training, "evaluate_latents", latents)
    monkeypatch.setattr(scored_training, "evaluate_terms", terms)
    data = replace(data, log_mels={"speech": LogMel(8000)})
    for arguments, clusters, augmented in (
        ((), 2, set()),
        (("--num-clusters", "5", "--augment", "speech,image"), 5, {"speech", "image"}),
        (("--augment", "speech"), 2, {"speech"}),
    ):
        one = config(*arguments, "--epochs", "1", "--no-fit-prior", "--warm-up-steps", "7")
        scored_training.train_and_score(one, data, tmp_path, resume=False)
        found = {"latents": data.test, "terms": data.test, "clusters": clusters}
        assert used == {"fit": data.train, "augmented": augmented, **found}


@pytest.mark.parametrize("model", [*MODELS, "vae-speech", "vae-image"])
def test_options_reported_as_unused_change_no_bit(model):
    unused = unused_options(OBJECTIVES["ours"], config("--model", model, "--objective", "paper"))
    several = examples(4, seed=0)
    batch = {name: of.observation(np.arange(4)) for name, of in several.items()}

    def loss(*more):
        svi = build(config("--model", model, "--objective", "paper", *more))
        pyro.set_rng_seed(1)
        return svi.evaluate_loss({name: batch[name] for name in svi.guide.unimodal})

    plain = loss()
    # These three act in the steps of the training, or after them, and not on a loss.
    for name in set(OBJECTIVES["ours"]) - {"learning_rate", "warm_up_steps", "fit_prior"}:
        option = f"--{name.replace('_', '-')}"
        value = "infonce" if name == "contrast" else "0.7"
        assert (loss(option, value) == plain) == (option in unused), option


def test_options_of_parts_that_the_model_lacks_have_no_effect():
    def unused(*words):
        given = asked(*words)
        return {*unused_options(given.model_fields_set, given.resolved("cpu"))}

    bernoulli = ("--image-likelihood", "bernoulli", "--image-scale", 0.7)
    assert unused(*bernoulli) == {"--image-scale"}
    assert unused("--model", "vae-speech", *bernoulli) == {"--image-likelihood", "--image-scale"}
    assert unused("--model", "vae-image", "--speech-encoder", "conv") == {"--speech-encoder"}
    assert unused("--speech-encoder", "conv", "--image-scale", 0.7, "--learn-scale") == set()
    assert unused("--model", "vae-image", "--augment", "image") == set()
    assert unused("--model", "vae-image", "--augment", "speech") == {"--augment"}
    own = ("--modalities", "speech,touch", "--model", "vae-touch")
    assert unused(*own, "--augment", "touch") == {"--augment"}
    assert unused("--num-components", 3) == {"--num-components"}
    assert unused("--num-components", 3, "--prior", "vamp") == set()
    both = ("--modalities", "speech", "--modality", "spanish=speech:fsdd")
    assert unused(*both, "--speech-scale", 2) == set()
    images = ("--image-scale", 2, "--image-dataset", "mnist")
    assert unused(*both, *images) == {"--image-scale", "--image-dataset"}
    assert unused(*both, "--model", "vae-spanish", "--num-cells", 4, "--alpha", 1) == {"--alpha"}
