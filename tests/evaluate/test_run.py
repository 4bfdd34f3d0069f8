"""Scores of a trained model: whose posterior, of which examples, in which order."""

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.clustering import evaluate_latents
from pvae_pyro.evaluate.posterior import posterior_kl, posterior_locs
from pvae_pyro.evaluate.run import evaluate_terms
from tests.support.tiny import tiny_examples, tiny_loader, tiny_svi


@pytest.mark.parametrize("name", ["speech", "image"])
def test_posterior_locs_are_the_unimodal_guides_in_order(name):
    guide = tiny_svi().guide
    examples = tiny_examples()[name]
    unimodal = guide.unimodal[name]
    features = unimodal.encoders[name](examples.observation(np.arange(len(examples))))
    locs = posterior_locs(unimodal, name, examples, "cpu", chunk=4)
    assert locs.keys() == {"z_sem", f"z_style_{name}"}
    expected = unimodal.heads["z_sem"](features).mean.detach().numpy()
    np.testing.assert_allclose(locs["z_sem"], expected, atol=1e-5)
    expected = unimodal.heads[f"z_style_{name}"](features).mean.detach().numpy()
    np.testing.assert_allclose(locs[f"z_style_{name}"], expected, atol=1e-5)


def test_posterior_samples_are_normal_around_the_means():
    guide = tiny_svi().guide.unimodal["image"]
    examples = tiny_examples(num_images=400)["image"]
    features = guide.encoders["image"](examples.observation(np.arange(len(examples))))
    samples = posterior_locs(guide, "image", examples, "cpu", seed=3)
    for site, head in guide.heads.items():
        normal = head(features).base_dist
        z = ((torch.from_numpy(samples[site]) - normal.loc) / normal.scale).detach()
        assert abs(z.mean()) < 0.1
        assert z.std() == pytest.approx(1.0, abs=0.1)
        again = posterior_locs(guide, "image", examples, "cpu", seed=3)[site]
        np.testing.assert_array_equal(again, samples[site])
        other = posterior_locs(guide, "image", examples, "cpu", seed=4)[site]
        assert not np.array_equal(other, samples[site])


def test_kl_of_posteriors_is_the_closed_form_of_each_dimension():
    """As torch.distributions has it; 0 for a posterior that is the prior."""
    guide = tiny_svi().guide.unimodal["speech"]
    head = guide.heads["z_style_speech"]
    with torch.no_grad():
        for layer in (head.loc, head.log_scale):
            layer.weight[0], layer.bias[0] = 0.0, 0.0
    examples = tiny_examples()["speech"]
    features = guide.encoders["speech"](examples.observation(np.arange(len(examples))))
    found = posterior_kl(guide, "speech", examples, "cpu", chunk=5)
    for site, head in guide.heads.items():
        normal = head(features).base_dist
        kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
        expected = kl.mean(0).detach().numpy()
        np.testing.assert_allclose(found[site], expected, rtol=1e-4, atol=1e-6)
        assert (expected[-1] > 1e-3).all()
    assert found["z_style_speech"][0] == pytest.approx(0.0, abs=1e-12)


def test_scores_see_the_class_where_it_is(monkeypatch):
    """z_sem of images is made to be the class; everything else is made to be constant."""
    examples = tiny_examples(num_speech=60, num_images=60)

    def locs(guide, name, examples, device):
        size = len(examples)
        sem = np.eye(3)[examples.labels] if name == "image" else np.zeros((size, 3))
        rng = np.random.default_rng(0)
        noise = 1e-3 * rng.normal(size=(size, 3))
        return {"z_sem": sem + noise, f"z_style_{name}": noise}

    monkeypatch.setattr("pvae_pyro.evaluate.clustering.posterior_locs", locs)
    scores = evaluate_latents({"speech": None, "image": None}, examples, 3, "cpu")
    assert scores["purity"]["z_sem"]["image"] == 1.0
    assert scores["nmi"]["z_sem"]["image"] == pytest.approx(1.0)
    assert scores["purity"]["z_style"]["image"] < 0.7
    assert scores["active_units"] == {
        "z_sem": {"speech": 0, "image": 3},
        "z_style": {"speech": 0, "image": 0},
    }


def test_terms_are_means_over_the_partition():
    svi = tiny_svi()
    terms = evaluate_terms(svi, tiny_loader(batch_size=23, shuffle=False))
    split = evaluate_terms(svi, tiny_loader(batch_size=4, shuffle=False))
    assert terms["kl/z_sem"] == pytest.approx(split["kl/z_sem"], rel=1e-5)
    assert terms["elbo"] == pytest.approx(split["elbo"], rel=0.05)
    assert terms["objective"] == pytest.approx(
        terms["elbo"] - terms["coherence"] - 100 * terms["contrastive"], rel=1e-4
    )
