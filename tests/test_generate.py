"""Inference and decoding, at latents that are known."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive

from pvae_pyro.generation import decode, infer
from pvae_pyro.guides import JMVAEGuide
from pvae_pyro.models import JMVAE
from tests.support.linear_gaussian import DIM, NOISE, make_batch, make_pair, set_exact_posterior
from tests.support.tiny import MAX_FRAMES, tiny_batch, tiny_modalities, tiny_pair

SITES = {"z_sem": 3, "z_style_speech": 2, "z_style_image": 2}


def speaking_pair():
    """A tiny PVAE whose durations differ from one latent to the next."""
    model, guide = tiny_pair()
    with torch.no_grad():
        model.likelihoods["speech"].duration[-1].weight.mul_(8)
    return model, guide


def latents(size=7):
    return {site: torch.randn(size, dim) for site, dim in SITES.items()}


def log_frames(model, z):
    """The mean log-duration at these latents, ``[B]``."""
    given = torch.cat([z["z_sem"], z["z_style_speech"]], -1)
    return model.likelihoods["speech"].duration(given).squeeze(-1).detach()


def recovered(model, name, observation):
    """z_sem and z_style that a linear model's mean was made of."""
    weight = model.likelihoods[name].weight.detach()
    z = observation.value @ torch.linalg.pinv(weight).T
    return z[:, :DIM], z[:, DIM:]


def test_a_reconstruction_is_the_mean_that_predictive_gives():
    model, _ = speaking_pair()
    z = latents()
    found = decode(model, z, ["speech", "image"])
    fixed = poutine.condition(model, data={**z, "speech_log_frames": log_frames(model, z)})
    draws = Predictive(fixed, num_samples=1)(num_examples=7)
    torch.testing.assert_close(found["image"].value, draws["image_loc"][0])
    torch.testing.assert_close(found["speech"].value, draws["speech_loc"][0])
    assert not torch.allclose(found["image"].value, draws["image"][0])  # which is a noisy draw
    assert found["image"].lengths is None


def test_lengths_are_those_of_the_mean_duration():
    model, _ = speaking_pair()
    z = latents()
    speech = decode(model, z, ["speech"])["speech"]
    expected = log_frames(model, z).exp().round().clamp(1, MAX_FRAMES).long()
    assert len(expected.unique()) > 2
    assert torch.equal(speech.lengths, expected)
    used = torch.arange(MAX_FRAMES) < expected[:, None]
    assert (speech.value[~used] == 0).all()
    assert (speech.value[used] != 0).all()


def test_chunks_change_nothing():
    model, _ = speaking_pair()
    z = latents()
    whole, parts = (decode(model, z, ["image", "speech"], chunk=chunk) for chunk in (500, 3))
    assert list(whole) == list(parts) == ["image", "speech"]
    for name, observation in whole.items():
        torch.testing.assert_close(parts[name].value, observation.value)
    assert torch.equal(parts["speech"].lengths, whole["speech"].lengths)


def test_what_is_given_stays_and_what_is_not_is_drawn_from_its_prior():
    model, _ = make_pair()
    z_sem = torch.randn(400, DIM)
    found = []
    for seed in (0, 0, 1):
        pyro.set_rng_seed(seed)
        found.append(recovered(model, "a", decode(model, {"z_sem": z_sem}, ["a"], 150)["a"]))
    for sem, style in found:
        torch.testing.assert_close(sem, z_sem, atol=1e-4, rtol=0)
        torch.testing.assert_close(style.mean(0), torch.zeros(DIM), atol=0.2, rtol=0)
        torch.testing.assert_close(style.std(0), torch.ones(DIM), atol=0.15, rtol=0)
        assert len(style.unique(dim=0)) == 400  # no chunk is drawn as another one was
    assert torch.equal(found[0][1], found[1][1])
    assert (found[0][1] - found[2][1]).abs().median() > 0.3


@pytest.mark.parametrize("joint", [False, True])
def test_infer_gives_the_means_of_the_guide_that_fits(joint):
    if joint:
        model, guide = JMVAE(tiny_modalities(), 4), JMVAEGuide(tiny_modalities(), 4)
    else:
        model, guide = tiny_pair()
    batch = tiny_batch(5)
    before = torch.get_rng_state()
    for given, chosen in (
        (batch, guide.multimodal),
        ({"speech": batch["speech"]}, guide.unimodal["speech"]),
        ({"image": batch["image"]}, guide.unimodal["image"]),
    ):
        found = infer(guide, given)
        features = torch.cat([e(given[name]) for name, e in chosen.encoders.items()], -1)
        assert found.keys() == chosen.heads.keys()
        for site, head in chosen.heads.items():
            torch.testing.assert_close(found[site], head(features).mean.detach())
            assert not found[site].requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert decode(model, infer(guide, batch), ["image"])["image"].value.shape == (5, 1, 28, 28)
    assert not list(pyro.get_param_store().keys())


def test_inferred_latents_of_a_linear_model_are_its_posterior_means():
    """With exact guides, E[z_sem | x] by the normal equations of the joint Gaussian."""
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    batch = make_batch(5)
    weight = model.likelihoods["a"].weight.detach()
    precision = torch.eye(2 * DIM) + weight.T @ weight / NOISE**2
    expected = torch.linalg.solve(precision, weight.T @ batch["a"].value.T / NOISE**2).T
    found = infer(guide, {"a": batch["a"]})
    torch.testing.assert_close(
        torch.cat([found["z_sem"], found["z_style_a"]], -1), expected, atol=1e-5, rtol=1e-4
    )
