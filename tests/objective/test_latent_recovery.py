"""The term that reads z_sem again off what is generated: its value, and whom it moves."""

import pytest
import torch
from pyro import poutine

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.objective import latent_recovery as module
from pvae_pyro.objective.latent_recovery import restyling
from tests.support.linear_gaussian import (
    DIM,
    MODALITIES,
    NOISE,
    SIZES,
    make_batch,
    make_pair,
    set_exact_posterior,
)

EXACT = "donot_use_mm_for_euclid_dist"
ALONE = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}


def draw(guide, batch):
    nodes = poutine.trace(guide).get_trace(batch).nodes
    return {name: site["value"] for name, site in nodes.items() if name.startswith("z_")}


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_value_is_the_closed_form_whatever_the_style(size):
    """Style columns are orthogonal to the shared ones, so the exact guide sees z_sem alone."""
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    latents = draw(guide, make_batch(size))
    found = restyling(model, guide.unimodal, latents)
    rows = (size + 1) // 2
    z = latents["z_sem"][:rows]
    for name in SIZES:
        signal = model.likelihoods[name].weight[:, :DIM].square().sum(0) / NOISE**2
        posterior = torch.distributions.Normal(z * signal / (1 + signal), (1 + signal) ** -0.5)
        expected = -posterior.log_prob(z).sum(-1) * size / rows
        torch.testing.assert_close(found[name][:rows], expected)
        assert found[name][rows:].tolist() == [0.0] * (size - rows)


def test_styles_are_those_of_others_and_then_of_the_prior(monkeypatch):
    """A guide that takes the style for z_sem shows what styles there were."""
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    seen = {}
    plain = module.generated_means

    def watched(*arguments):
        seen.update(plain(*arguments))
        return seen

    monkeypatch.setattr(module, "generated_means", watched)
    latents = draw(guide, make_batch(400))
    restyling(model, guide.unimodal, latents)
    for name in SIZES:
        weight = model.likelihoods[name].weight[:, DIM:]
        style = seen[name].value @ weight / weight.square().sum(0)
        own = latents[f"z_style_{name}"]
        assert len(style) == 200
        distance = torch.cdist(style[:100], own, compute_mode=EXACT)
        assert distance.min(1).values.max() < 1e-4  # each is somebody's
        assert (distance.argmin(1) != torch.arange(100)).all()  # and not its own
        assert len(distance.argmin(1).unique()) == 100
        drawn = style[100:]
        assert torch.cdist(drawn, own, compute_mode=EXACT).min(1).values.median() > 1e-2  # nobody's
        assert drawn.mean().abs() < 0.25
        assert drawn.std().item() == pytest.approx(1.0, abs=0.15)


def test_only_the_decoders_and_styles_receive_a_gradient():
    model, guide = make_pair()
    terms = PartitionedELBO(**ALONE, delta=1.0).terms(model, guide, make_batch(8))
    terms["restyling"].sum().backward()
    for name in SIZES:
        assert model.likelihoods[name].weight.grad.abs().sum() > 0
        assert guide.multimodal.heads[f"z_style_{name}"].loc.weight.grad.abs().sum() > 0
        for parameter in guide.unimodal[name].parameters():
            assert parameter.grad is None
            assert parameter.requires_grad  # again


def test_the_latent_to_recover_receives_no_gradient():
    """A generation that ignores z_sem leaves it alone, far as it may be from what is read."""
    model, guide = make_pair()
    with torch.no_grad():
        for name in SIZES:
            model.likelihoods[name].weight[:, :DIM] = 0.0
    latents = {name: z.detach().requires_grad_() for name, z in draw(guide, make_batch(8)).items()}
    sum(value.sum() for value in restyling(model, guide.unimodal, latents).values()).backward()
    assert latents["z_sem"].grad.abs().sum() == 0
    assert latents["z_style_a"].grad.abs().sum() > 0


def test_the_objective_subtracts_the_weighted_term():
    model, guide = make_pair()
    weights = {"alpha": 0.7, "beta": 2.0, "gamma": 5.0, "delta": 3.0}
    terms = PartitionedELBO(**weights).terms(model, guide, make_batch(8))
    named = ("coherence", "contrastive", "independence", "restyling")
    penalty = sum(w * terms[name] for w, name in zip(weights.values(), named, strict=True))
    torch.testing.assert_close(terms["objective"], terms["elbo"] - penalty)
    total = sum(terms[f"restyling/{m.name}"] for m in MODALITIES)
    torch.testing.assert_close(terms["restyling"], total)


@pytest.mark.parametrize("weight", ["gamma", "delta"])
def test_vectorised_particles_are_refused(weight):
    model, guide = make_pair()
    elbo = PartitionedELBO(
        **{weight: 1.0}, num_particles=3, vectorize_particles=True, max_plate_nesting=1
    )
    with pytest.raises(ValueError, match=r"\[B, D\], (not|got).* \(3, 6, 2\)"):
        elbo.terms(model, guide, make_batch())
