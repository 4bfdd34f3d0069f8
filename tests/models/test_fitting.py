"""Priors fitted to the posteriors after training, and styles without the content's part."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from pyro.distributions import MixtureSameFamily

from pvae_pyro.batch import Observation
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.generation import decode, draw, infer, sample
from pvae_pyro.guides import JMVAEGuide
from pvae_pyro.models import JMVAE, fitting
from pvae_pyro.models.fitting import (
    confused,
    fit,
    fit_mixture,
    fit_style_map,
    install,
    regression,
    transport,
)
from tests.support.tiny import tiny_batch, tiny_modalities, tiny_pair


@pytest.fixture
def pair():
    """A guide whose posteriors are narrow and far apart, as after training."""
    torch.manual_seed(0)
    model, guide = tiny_pair()
    with torch.no_grad():
        for one in (guide.multimodal, *guide.unimodal.values()):
            for head in one.heads.values():
                head.loc.weight.mul_(100)
                head.log_scale.bias.fill_(-1)
    return model, guide


@pytest.fixture
def apart(monkeypatch):
    """Each component has its own map, whether draws confuse components or not."""
    monkeypatch.setattr(fitting, "CONFUSED", 2.0)


@pytest.fixture
def batches():
    """Two clusters of examples, so that the posteriors are in two clusters."""
    first, second = tiny_batch(40), tiny_batch(60)
    speech = replace(second["speech"], value=second["speech"].value + 3)
    return [
        first,
        {"speech": speech, "image": replace(second["image"], value=1 - second["image"].value)},
    ]


def test_a_mixture_finds_the_clusters_that_there_are():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [8, 0], [0, 8.0]])
    which = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])
    found = fit_mixture(centres[which] + rng.normal(size=(3000, 2)) * [1.0, 0.5])
    order = torch.argsort(found["weights"], descending=True)
    assert len(order) == 3
    torch.testing.assert_close(
        found["weights"][order], torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0
    )
    torch.testing.assert_close(found["loc"][order], torch.tensor(centres).float(), atol=0.1, rtol=0)
    spread = torch.tensor([[1.0, 0.5]]).expand(3, 2)
    torch.testing.assert_close(found["scale"][order], spread, atol=0.06, rtol=0)
    assert len(fit_mixture(rng.normal(size=(2000, 3)))["weights"]) == 1


def test_offsets_are_means_of_components():
    """Of [1, 0], [3, 0] and [8, 6], in components 0, 0 and 1."""
    shares = np.array([[1, 0], [1, 0], [0, 1.0]])
    loc = np.array([[1, 0], [3, 0], [8, 6.0]])
    mean = np.array([4.0, 2.0])
    expected = np.array([([2, 0] - mean) * 2 / 2.1, ([8, 6] - mean) / 1.1])
    np.testing.assert_allclose(regression(shares, loc), expected)


def test_the_transport_maps_one_covariance_to_the_other():
    rng = np.random.default_rng(0)
    source, target = (x @ x.T for x in rng.normal(size=(2, 3, 5)))
    linear = transport(source, target)
    np.testing.assert_allclose(linear @ source @ linear, target)
    np.testing.assert_allclose(linear, linear.T)
    assert (np.linalg.eigvalsh(linear) > 0).all()
    np.testing.assert_allclose(transport(np.diag([1, 4.0]), np.diag([9, 1.0])), np.diag([3, 0.5]))


def test_maps_give_styles_the_covariance_of_their_group():
    """Half-way from the pooled one; of styles N(b_g, S_g). The third group has no example."""
    rng = np.random.default_rng(0)
    roots, which = rng.normal(size=(2, 2, 2)), np.arange(20_000) % 2
    centres = np.array([[1.0, -1], [3, 0]])
    loc = np.einsum("nef,nf->ne", roots[which], rng.normal(size=(20_000, 2))) + centres[which]
    present = rng.random(20_000) < 0.9
    loc[~present] = 1e6
    groups = np.eye(3)[[0, 1, 1, 2]]
    found = fit_style_map(np.eye(3)[which], groups, {"loc": loc, "present": present})
    assert found["linear"].shape == (4, 2, 2)
    mean = centres.mean(0)
    np.testing.assert_allclose(found["loc"], mean, atol=0.05)
    expected = np.stack([*(centres[[0, 1, 1]] - mean), [0, 0]])
    np.testing.assert_allclose(found["offsets"], expected, atol=0.05)
    torch.testing.assert_close(found["linear"][3], torch.eye(2), atol=1e-4, rtol=0)
    pooled = np.mean([root @ root.T for root in roots], 0)
    for group, root in zip([0, 1, 1], [roots[0], roots[1], roots[1]], strict=True):
        linear = found["linear"][group].numpy()
        half_way = (root @ root.T + pooled) / 2
        np.testing.assert_allclose(linear @ pooled @ linear, half_way, rtol=0.05, atol=0.02)


def test_components_that_draws_move_between_share_a_map():
    """Of components 0 and 1 a tenth of the points are taken for the other; 2 is apart."""
    shares = np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1.0]])[[0] * 9 + [1] * 9 + [2] * 9]
    assert confused(shares).tolist() == [[1, 0], [1, 0], [0, 1]]
    assert confused(np.eye(3)[[0, 1, 2, 2]]).tolist() == np.eye(3).tolist()


@pytest.mark.usefixtures("apart")
def test_styles_have_the_same_mean_and_closer_covariances_in_each_component(pair, batches):
    model, guide = pair
    fitted = fit(guide, batches)
    batch = {name: join([batch[name] for batch in batches]) for name in batches[0]}
    before = {of: infer(of, batch) for of in (guide.multimodal, *guide.unimodal.values())}
    install(model, guide, fitted)
    for of, latents in before.items():
        shares = model.prior.responsibilities(latents["z_sem"]).detach()
        occupied = shares.sum(0) > 30
        assert occupied.sum() > 1 or of is not guide.multimodal
        for site, z in infer(of, batch).items():
            if site != "z_sem":
                far = spread_over_components(shares, z)[:, occupied].amax(1)
                earlier = spread_over_components(shares, latents[site])[:, occupied].amax(1)
                assert far[0] < 0.05 < max(earlier[0], 0.06)
                assert far[1] < 0.7 * earlier[1] + 0.01


def spread_over_components(shares, z):
    """How far means (first) and covariances (second) of components are from those of all, [2, K].

    In units of the pooled covariance's largest eigenvalue (of its root, for means).
    """
    weights = shares / shares.sum(0)
    means = weights.T @ z
    centred = z - shares @ means
    of_component = torch.einsum("nk,ne,nf->kef", weights, centred, centred)
    pooled = centred.T @ centred / len(z)
    unit = torch.linalg.matrix_norm(pooled, 2)
    far = torch.linalg.matrix_norm(of_component - pooled, 2) / unit
    return torch.stack([(means - z.mean(0)).norm(dim=1) / unit.sqrt(), far]).detach()


def join(observations):
    lengths = [of.lengths for of in observations if of.lengths is not None]
    value = torch.cat([of.value for of in observations])
    return Observation(value, torch.cat(lengths) if lengths else None)


@pytest.mark.usefixtures("apart")
def test_the_prior_of_a_style_is_that_of_the_styles_that_the_guide_infers(pair, batches):
    model, guide = pair
    torch.manual_seed(0)
    before = torch.cat([draw(guide, batch)["z_style_speech"] for batch in batches])
    install(model, guide, fit(guide, batches))
    after = torch.cat([draw(guide, batch)["z_style_speech"] for batch in batches])
    spread = model.style_priors["speech"]().variance.sqrt()
    assert (before.std(0) > 1.1 * after.std(0)).any()  # the maps do something
    torch.testing.assert_close(spread, after.std(0), rtol=0.05, atol=0)


@pytest.mark.usefixtures("apart")
def test_reconstructions_stay_as_they_were(pair, batches):
    model, guide = pair
    before = decode(model, infer(guide, batches[0]), ["speech", "image"])
    install(model, guide, fit(guide, batches))
    after = decode(model, infer(guide, batches[0]), ["speech", "image"])
    for name, observation in before.items():
        torch.testing.assert_close(after[name].value, observation.value)


def test_the_fitted_prior_raises_the_bound(pair, batches):
    """The priors are those that maximise the bound; maps cost at most a little of it."""
    model, guide = pair
    elbo, fitted = PartitionedELBO(alpha=0.0, beta=0.0), fit(guide, batches)
    torch.manual_seed(0)
    before = sum(elbo.terms(model, guide, batch)["elbo"].sum() for batch in batches)
    install(model, guide, fitted)
    torch.manual_seed(0)
    after = sum(elbo.terms(model, guide, batch)["elbo"].sum() for batch in batches)
    assert after > before


def test_draws_come_from_the_mixture(pair, batches):
    model, guide = pair
    fitted = fit(guide, batches)
    install(model, guide, fitted)
    torch.manual_seed(0)
    _, latents = sample(model, 4000, ["speech"])
    mean = fitted["prior.weights"] @ fitted["prior.loc"]
    spread = latents["z_sem"].std(0)
    assert ((latents["z_sem"].mean(0) - mean).abs() < 5 * spread / 4000**0.5).all()
    assert all(isinstance(prior(), MixtureSameFamily) for prior in model.style_priors.values())


def test_the_random_state_and_the_guide_stay(pair, batches):
    _, guide = pair
    state, weights = torch.get_rng_state(), copy.deepcopy(guide.state_dict())
    fit(guide, batches)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(guide.state_dict()[name], value) for name, value in weights.items())


def test_examples_that_lack_a_modality_do_not_count():
    torch.manual_seed(0)
    model, guide = tiny_pair()
    whole = tiny_batch(60)
    present = torch.arange(60) % 3 > 0
    gaps = dict(whole, image=Observation(whole["image"].value, None, present))
    filled = dict(
        whole,
        image=Observation(whole["image"].value + 7 * ~present[:, None, None, None], None, present),
    )
    a, b = fit(guide, [gaps]), fit(guide, [filled])
    for name in ("map.image.linear", "unimodal_map.image.offsets", "style.image.loc"):
        torch.testing.assert_close(a[name], b[name])
    install(model, guide, a)
    assert PartitionedELBO().terms(model, guide, gaps)["objective"].isfinite().all()


def test_a_model_without_styles_gets_a_prior_alone():
    torch.manual_seed(0)
    modalities = tiny_modalities()
    model, guide = JMVAE(modalities, 4), JMVAEGuide(modalities, 4)
    fitted = fit(guide, [tiny_batch(50)])
    assert {name.partition(".")[0] for name in fitted} == {"prior"}
    install(model, guide, fitted)
    drawn, latents = sample(model, 3, ["speech", "image"])
    assert latents["z"].shape == (3, 4)
    assert len(drawn["image"].value) == 3


def test_tensors_that_do_not_fit_are_refused(pair, batches):
    model, guide = pair
    fitted = fit(guide, batches)
    install(*copy.deepcopy((model, guide)), fitted)
    for name, value, message in (
        ("prior.loc", fitted["prior.loc"][:, :2], "want"),
        ("map.speech.offsets", torch.zeros(1, 7), r"map\.speech has the shapes .*the style has"),
        ("style.image.scale", torch.ones(3, 3), "want"),
    ):
        with pytest.raises(ValueError, match=message):
            install(model, guide, {**fitted, name: value})
    with pytest.raises(ValueError, match=r"no tensor 'style\.image\.weights'"):
        install(model, guide, {k: v for k, v in fitted.items() if k != "style.image.weights"})


def test_the_fit_of_an_earlier_version_shifts_the_styles(pair, batches):
    """It had one offset for each component, which the guide subtracted and the decoder added."""
    model, guide = pair
    fitted = fit(guide, batches)
    before, before_of_one = infer(guide, batches[0]), infer(guide.unimodal["speech"], batches[0])
    offsets = torch.randn(len(fitted["prior.loc"]), 2)
    earlier = {k: v for k, v in fitted.items() if k.startswith(("prior", "style"))}
    for name in ("speech", "image"):
        earlier |= {f"offset.{name}": offsets, f"unimodal_offset.{name}": 2 * offsets}
    install(model, guide, earlier)
    for factor, of, found in ((1, guide, before), (2, guide.unimodal["speech"], before_of_one)):
        shift = model.prior.responsibilities(found["z_sem"]) @ offsets
        z = found["z_style_speech"] - factor * shift
        torch.testing.assert_close(infer(of, batches[0])["z_style_speech"], z)
    z_sem, z = before["z_sem"], before["z_style_speech"]
    shift = model.prior.responsibilities(z_sem) @ offsets
    torch.testing.assert_close(model.style_maps["speech"](z_sem, z), z + shift)


def test_a_fitted_guide_is_not_fitted_again(pair, batches):
    model, guide = pair
    install(model, guide, fit(guide, batches))
    with pytest.raises(ValueError, match="fitted already"):
        fit(guide, batches)
