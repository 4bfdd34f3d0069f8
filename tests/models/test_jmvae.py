"""The baselines: the joint VAE, and the VAE of one modality."""

from math import pi

import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.guides import JMVAEGuide, VAEGuide
from pvae_pyro.models import JMVAE
from tests.support.linear_gaussian import MODALITIES, NOISE, SIZES, make_batch, set_head
from tests.support.tiny import tiny_modalities

LATENT = 4
TINY = {modality.name: modality for modality in tiny_modalities()}


def gaussian(head, features):
    """loc and scale of a head, by its layers."""
    return head.loc(features), head.log_scale(features).exp()


def kl(q, p):
    """KL(N(loc_q, scale_q²) ‖ N(loc_p, scale_p²)), summed over dimensions."""
    (loc, scale), (other_loc, other_scale) = q, p
    ratio = (scale / other_scale).square()
    return 0.5 * (ratio + ((loc - other_loc) / other_scale).square() - 1 - ratio.log()).sum(-1)


def log_normal(x, loc):
    return (-0.5 * ((x - loc) / NOISE).square() - 0.5 * torch.tensor(2 * pi * NOISE**2).log()).sum(
        -1
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("alpha", [0.0, 2.5])
def test_objective_by_hand(alpha):
    model, guide = JMVAE(MODALITIES, LATENT), JMVAEGuide(MODALITIES, LATENT)
    batch = make_batch()
    pyro.set_rng_seed(3)
    terms = PartitionedELBO(alpha, beta=0.0, shared="z").terms(model, guide, batch)
    pyro.set_rng_seed(3)
    z = guide(batch)["z"]

    x = torch.cat([batch[name].value for name in SIZES], -1)
    q = gaussian(guide.multimodal.heads["z"], x)
    log_prob = {n: log_normal(batch[n].value, z @ model.likelihoods[n].weight.T) for n in SIZES}
    to_prior = kl(q, (torch.zeros(LATENT), torch.ones(LATENT)))
    to_unimodal = {
        name: kl(q, gaussian(guide.unimodal[name].heads["z"], batch[name].value)) for name in SIZES
    }
    for name in SIZES:
        torch.testing.assert_close(terms[f"log_prob/{name}"], log_prob[name])
    torch.testing.assert_close(terms["kl/z"], to_prior)
    expected = sum(log_prob.values()) - to_prior - alpha * sum(to_unimodal.values())
    torch.testing.assert_close(terms["objective"], expected)


@pytest.mark.usefixtures("float64")
def test_the_bound_is_tight_where_the_guide_is_exact():
    """The columns of W are orthogonal, so the exact posteriors are diagonal, as the guides are:
    the objective is log p(x) - α Σ_m KL(p(z|x) ‖ p(z|x^m)), in the mean over z."""
    model, guide = JMVAE(MODALITIES, LATENT), JMVAEGuide(MODALITIES, LATENT)
    batch = make_batch()
    weights = {name: model.likelihoods[name].weight.detach() for name in SIZES}
    weight = torch.cat([*weights.values()])
    set_head(guide.multimodal.heads["z"], weight)
    for name, own in weights.items():
        set_head(guide.unimodal[name].heads["z"], own)
    terms = PartitionedELBO(0.7, beta=0.0, shared="z").terms(model, guide, batch)

    x = torch.cat([batch[name].value for name in SIZES], -1)
    posterior = {}
    for name, own, seen in [
        ("all", weight, x),
        *((name, weights[name], batch[name].value) for name in SIZES),
    ]:
        precision = torch.eye(LATENT) + own.T @ own / NOISE**2
        loc = torch.linalg.solve(precision, own.T @ seen.T / NOISE**2).T
        posterior[name] = loc, precision.diagonal().rsqrt()
    # E_q[log p(x|z)] in place of its value at one z.
    loc, scale = posterior["all"]
    spread = (weight * scale).square().sum() / NOISE**2
    expected = log_normal(x, loc @ weight.T) - 0.5 * spread
    sampled = sum(terms[f"log_prob/{name}"] for name in SIZES)
    covariance = weight @ weight.T + NOISE**2 * torch.eye(len(weight))
    evidence = torch.distributions.MultivariateNormal(torch.zeros(len(weight)), covariance)
    log_p = evidence.log_prob(x)
    torch.testing.assert_close(terms["elbo"] - sampled + expected, log_p)
    coherence = sum(kl(posterior["all"], posterior[name]) for name in SIZES)
    torch.testing.assert_close(terms["objective"] - sampled + expected, log_p - 0.7 * coherence)


@pytest.mark.parametrize("name", [*SIZES])
def test_with_one_modality_it_is_the_stock_vae(name):
    (modality,) = (m for m in MODALITIES if m.name == name)
    batch = make_batch()  # of both modalities: the other one is nothing to this model
    results = []
    for stock in (True, False):
        pyro.set_rng_seed(5)
        model, guide = JMVAE([modality], LATENT), VAEGuide(modality, LATENT)
        elbo = TraceMeanField_ELBO() if stock else PartitionedELBO(alpha=0.0, beta=0.0)
        loss = elbo.differentiable_loss(model, guide, batch)
        loss.backward()
        results.append([loss, *(p.grad for p in [*model.parameters(), *guide.parameters()])])
    assert len(results[0]) == 6  # the loss, W, and weight and bias of loc and log-scale
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
