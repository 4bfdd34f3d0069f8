"""What `generate`'s translations, samples and predictions are made of."""

from functools import partial

import pytest
import torch

from pvae_pyro import generation as generate
from pvae_pyro.batch import Observation
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.modality import Modality
from pvae_pyro.models import PVAE
from tests.support.linear_gaussian import (
    DIM,
    Flat,
    LinearLikelihood,
    make_batch,
    make_pair,
    set_exact_posterior,
)
from tests.support.tiny import tiny_batch, tiny_pair


@pytest.fixture
def exact():
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    return model, guide


def assert_same(a: Observation, b: Observation) -> None:
    torch.testing.assert_close(a.value, b.value)
    assert (a.lengths is None) == (b.lengths is None)
    if a.lengths is not None:
        assert torch.equal(a.lengths, b.lengths)


def test_styles_of_three_modalities_come_from_their_own():
    modalities = [
        Modality(name, partial(Flat, 6), partial(LinearLikelihood, size=6)) for name in "abc"
    ]
    model, guide = PVAE(modalities, DIM, DIM), PartitionedGuide(modalities, DIM, DIM)
    two = {name: Observation(torch.randn(3, 6)) for name in "ac"}
    found = generate.infer(guide, two)
    assert found.keys() == {"z_sem", "z_style_a", "z_style_c"}
    alone = generate.infer(guide, {"c": two["c"]})
    torch.testing.assert_close(found["z_style_c"], alone["z_style_c"])
    assert generate.translate(model, guide, two, "b").value.shape == (3, 6)


def test_a_translation_has_its_content_and_its_style(exact):
    """Latents inferred again, by exact posteriors of linear models, tell which is whose."""
    model, guide = exact
    batch = make_batch(5)
    weight = model.likelihoods["b"].weight.detach()
    for style, size in ((batch["b"], 5), (batch["b"].part(0, 1), 1)):
        made = generate.translate(model, guide, {"a": batch["a"]}, "b", style)
        z = made.value @ torch.linalg.pinv(weight).T
        wanted = generate.infer(guide, {"a": batch["a"]})["z_sem"]
        torch.testing.assert_close(z[:, :DIM], wanted, atol=1e-4, rtol=1e-4)
        own = generate.infer(guide, {"b": style})["z_style_b"]
        assert len(own) == size
        torch.testing.assert_close(z[:, DIM:], own.expand(5, -1), atol=1e-4, rtol=1e-4)


def test_without_a_style_it_is_drawn_from_the_prior(exact):
    model, guide = exact
    given = {"a": Observation(torch.randn(1, 5).expand(4000, -1))}
    made = generate.translate(model, guide, given, "b").value
    own = (made @ torch.linalg.pinv(model.likelihoods["b"].weight.detach()).T)[:, DIM:]
    torch.testing.assert_close(own.mean(0), torch.zeros(DIM), atol=0.06, rtol=0)
    torch.testing.assert_close(own.std(0), torch.ones(DIM), atol=0.06, rtol=0)


def test_restyling_and_reconstruction():
    model, guide = tiny_pair()
    speech = tiny_batch(4)["speech"]
    same = generate.restyle(model, guide, speech, speech, "speech")
    latents = generate.infer(guide, {"speech": speech})
    assert_same(same, generate.decode(model, latents, ["speech"])["speech"])
    flipped = Observation(speech.value.flip(0), speech.lengths.flip(0))
    other = generate.restyle(model, guide, speech, flipped, "speech")
    assert not torch.allclose(other.value, same.value)


def test_samples_share_their_latent(exact):
    model, _ = exact
    made, shared = generate.sample(model, 6, ["a", "b"])
    for name, x in made.items():
        z = x.value @ torch.linalg.pinv(model.likelihoods[name].weight.detach()).T
        torch.testing.assert_close(z[:, :DIM], shared["z_sem"], atol=1e-4, rtol=1e-4)


def test_interpolation_is_straight_in_what_is_moved(exact):
    model, guide = exact
    batch = make_batch(2)
    ends = [generate.infer(guide, {"a": batch["a"].part(n, n + 1)}) for n in (0, 1)]
    made = generate.interpolate(model, *ends, ["z_sem"], ["a"], 5)["a"].value
    z = made @ torch.linalg.pinv(model.likelihoods["a"].weight.detach()).T
    torch.testing.assert_close(z[0, :DIM], ends[0]["z_sem"][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(z[4, :DIM], ends[1]["z_sem"][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(z[2], (z[0] + z[4]) / 2, atol=1e-4, rtol=1e-4)
    kept = ends[0]["z_style_a"].expand(5, -1)
    torch.testing.assert_close(z[:, DIM:], kept, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="two steps"):
        generate.interpolate(model, *ends, ["z_sem"], ["a"], 1)
    with pytest.raises(ValueError, match="no latent"):
        generate.interpolate(model, *ends, ["z_other"], ["a"])
