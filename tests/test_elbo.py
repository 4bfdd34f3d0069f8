"""The objective against closed forms, finite differences, stock Pyro, and itself."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI as PyroSVI
from pyro.infer import TraceMeanField_ELBO
from torch.distributions import AffineTransform

import pvae_pyro.elbo
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.nn.heads import GaussianHead
from tests.support.linear_gaussian import (
    DIM,
    SIZES,
    log_evidence,
    make_batch,
    make_pair,
    set_exact_posterior,
)
from tests.support.priors import PRIORS

pytestmark = pytest.mark.usefixtures("float64")


def opaque_normal(loc, scale):
    """A Normal for which torch knows no KL divergence."""
    base = dist.Normal(torch.zeros_like(loc), 1.0)
    return dist.TransformedDistribution(base, [AffineTransform(loc, scale)]).to_event(1)


def seeded(function, *args, **kwargs):
    pyro.set_rng_seed(7)
    return function(*args, **kwargs)


def gradients(*modules):
    return {
        (index, name): parameter.grad.clone()
        for index, module in enumerate(modules)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def test_bound_is_log_evidence_at_exact_posterior(monkeypatch):
    """With KL by sampling, log p(x|z) + log p(z) - log q(z|x) is log p(x) for every sample."""
    model, guide = make_pair()
    set_exact_posterior(model, guide)

    def opaque_head(self, features):
        return opaque_normal(self.loc(features), self.log_scale(features).exp())

    monkeypatch.setattr(GaussianHead, "forward", opaque_head)
    batch = make_batch()
    terms = PartitionedELBO(alpha=0, beta=0).terms(model, guide, batch)
    torch.testing.assert_close(terms["elbo"], log_evidence(model, batch))


@pytest.mark.parametrize(
    ("vectorize_particles", "num_particles", "tolerance"), [(True, 3000, 0.15), (False, 500, 0.36)]
)
def test_bound_with_analytic_kl_is_log_evidence_on_average(
    vectorize_particles, num_particles, tolerance
):
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    batch = make_batch()
    elbo = PartitionedELBO(
        num_particles=num_particles, vectorize_particles=vectorize_particles, max_plate_nesting=1
    )
    with torch.no_grad(), pyro.validation_enabled(False):
        terms = elbo.terms(model, guide, batch)
    torch.testing.assert_close(terms["elbo"], log_evidence(model, batch), atol=tolerance, rtol=0)


def diagonal_kl(q, p):
    """KL of diagonal Gaussians, written out."""
    loc, scale, other_loc, other_scale = q.mean, q.stddev, p.mean, p.stddev
    return (
        torch.log(other_scale / scale)
        + (scale**2 + (loc - other_loc) ** 2) / (2 * other_scale**2)
        - 0.5
    ).sum(-1)


def test_coherence_and_contrastive_against_formulas(monkeypatch):
    model, guide = make_pair()
    batch = make_batch(4)
    negatives = torch.tensor([2, 0, 3, 1])
    monkeypatch.setattr(pvae_pyro.elbo, "derangement", lambda size, device: negatives)
    elbo = PartitionedELBO(alpha=0.7, beta=3.0, margin=0.4, length_scale=1.3)
    terms = elbo.terms(model, guide, batch)

    features = torch.cat([batch["a"].value, batch["b"].value], 1)
    q = {"z_sem": guide.multimodal.heads["z_sem"](features)}
    q |= {name: guide.multimodal.heads[f"z_style_{name}"](features) for name in SIZES}
    coherence = 0.0
    for name in SIZES:
        own = guide.unimodal[name]
        coherence = coherence + diagonal_kl(q["z_sem"], own.heads["z_sem"](batch[name].value))
        coherence = coherence + diagonal_kl(
            q[name], own.heads[f"z_style_{name}"](batch[name].value)
        )
    torch.testing.assert_close(terms["coherence"], coherence)

    locs = {name: guide.unimodal[name].heads["z_sem"](batch[name].value).mean for name in SIZES}
    for n in range(4):
        expected = 0.0
        for i, j in (("a", "b"), ("b", "a")):
            same = math.exp(-((locs[i][n] - locs[j][n]) ** 2).sum().item() / (2 * 1.3**2))
            other = math.exp(
                -((locs[i][n] - locs[j][negatives[n]]) ** 2).sum().item() / (2 * 1.3**2)
            )
            expected += max(0.0, 0.4 - same + other)
        assert terms["contrastive"][n].item() == pytest.approx(expected)

    prior = dist.Normal(torch.zeros(DIM), 1.0)
    torch.testing.assert_close(terms["kl/z_sem"], diagonal_kl(q["z_sem"], prior))
    torch.testing.assert_close(
        terms["objective"], terms["elbo"] - 0.7 * terms["coherence"] - 3.0 * terms["contrastive"]
    )
    parts = {k: v for k, v in terms.items() if "/" in k}
    log_prob = sum(v for k, v in parts.items() if k.startswith("log_prob/"))
    kl = sum(v for k, v in parts.items() if k.startswith("kl/"))
    torch.testing.assert_close(terms["elbo"], log_prob - kl)


def test_gradients_by_finite_differences():
    model, guide = make_pair()
    batch = make_batch(4)
    elbo = PartitionedELBO(alpha=0.7, beta=3.0)

    def objective():
        return seeded(elbo.terms, model, guide, batch)["objective"].sum()

    objective().backward()
    step = 1e-6
    for parameter in [*model.parameters(), *guide.parameters()]:
        index = tuple(torch.randint(n, ()).item() for n in parameter.shape)
        with torch.no_grad():
            parameter[index] += step
            above = objective()
            parameter[index] -= 2 * step
            below = objective()
            parameter[index] += step
        numeric = ((above - below) / (2 * step)).item()
        assert parameter.grad[index].item() == pytest.approx(numeric, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("particles", [{}, {"num_particles": 3, "vectorize_particles": True}])
@pytest.mark.parametrize("prior", PRIORS)
def test_without_weights_it_is_the_stock_elbo(prior, particles):
    """Value and gradient; also with a prior whose KL divergence is unknown."""
    model, guide = make_pair(PRIORS[prior])
    batch = make_batch()
    values, grads = [], []
    for elbo in (
        PartitionedELBO(alpha=0, beta=0, max_plate_nesting=1, **particles),
        TraceMeanField_ELBO(max_plate_nesting=1, **particles),
    ):
        model.zero_grad()
        guide.zero_grad()
        loss = seeded(elbo.differentiable_loss, model, guide, batch)
        loss.backward()
        values.append(loss.detach())
        grads.append(gradients(model, guide))
    torch.testing.assert_close(*values)
    assert grads[0].keys() == grads[1].keys()
    assert len(grads[0]) > 5
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name])


@pytest.mark.parametrize(
    "particles", [{}, {"num_particles": 2}, {"num_particles": 2, "vectorize_particles": True}]
)
def test_module_stock_svi_and_terms_agree(particles):
    model, guide = make_pair()
    batch = make_batch()
    elbo = PartitionedELBO(alpha=0.7, beta=3.0, max_plate_nesting=1, **particles)

    class KeepGradients(pyro.optim.PyroOptim):
        """An optimiser that looks and does not touch."""

        def __call__(self, params, *args, **kwargs):
            self.grads = {id(p): p.grad.clone() for p in params if p.grad is not None}

    losses, grads = {}, {}
    for way in ("module", "terms", "svi"):
        model.zero_grad()
        guide.zero_grad()
        if way == "svi":
            optim = KeepGradients(torch.optim.SGD, {"lr": 0.0})
            losses[way] = seeded(PyroSVI(model, guide, optim, loss=elbo).step, batch)
            grads[way] = {
                (index, name): optim.grads[id(parameter)]
                for index, module in enumerate((model, guide))
                for name, parameter in module.named_parameters()
            }
            continue
        if way == "module":
            loss = seeded(elbo(model, guide), batch)
        else:
            loss = -seeded(elbo.terms, model, guide, batch)["objective"].sum()
        loss.backward()
        losses[way] = loss.item()
        grads[way] = gradients(model, guide)
    assert losses["module"] == pytest.approx(losses["terms"], rel=1e-12)
    assert losses["svi"] == pytest.approx(losses["terms"], rel=1e-12)
    assert seeded(elbo.loss, model, guide, batch) == pytest.approx(losses["terms"], rel=1e-12)
    for way in ("module", "svi"):
        assert grads[way].keys() == grads["terms"].keys()
        for name, gradient in grads["terms"].items():
            torch.testing.assert_close(grads[way][name], gradient)


def test_scaling_the_latents_scales_their_kl():
    """KL annealing scales the guide's sites with the model's."""
    model, guide = make_pair()
    batch = make_batch()
    terms = PartitionedELBO(alpha=0, beta=0).terms(model, guide, batch)
    scaled = PartitionedELBO(alpha=0, beta=0).terms(model, pyro.poutine.scale(guide, 0.25), batch)
    torch.testing.assert_close(scaled["kl/z_sem"], 0.25 * terms["kl/z_sem"])


def test_batch_of_one_has_no_contrast():
    model, guide = make_pair()
    terms = PartitionedELBO().terms(model, guide, make_batch(1))
    assert terms["contrastive"].item() == 0.0
    assert terms["coherence"].item() > 0.0


def test_sites_outside_the_plate_are_refused():
    model, guide = make_pair()

    def with_global_site(batch, **kwargs):
        pyro.sample("everywhere", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0))
        return model(batch, **kwargs)

    with pytest.raises(ValueError, match="plate"):
        PartitionedELBO().terms(with_global_site, guide, make_batch())


def test_latents_without_a_guide_are_refused():
    model, guide = make_pair()
    batch = make_batch()
    elbo = PartitionedELBO(alpha=0, beta=0)
    with pyro.validation_enabled(False), pytest.raises(ValueError, match="z_style_b"):
        elbo.terms(model, guide.unimodal["a"], batch)
