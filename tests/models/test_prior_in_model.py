"""Each prior in a model: the objective, evidence, training, a checkpoint, generation."""

import copy
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from torch.distributions import MultivariateNormal

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.evaluate.importance import estimate, log_weights, weights_by_target
from pvae_pyro.evaluate.likelihood import evaluate_likelihood
from pvae_pyro.generation import sample
from pvae_pyro.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from tests.support.linear_gaussian import (
    DIM,
    NOISE,
    SIZES,
    joint_weight,
    log_evidence,
    make_batch,
    make_pair,
    set_exact_posterior,
)
from tests.support.priors import PRIORS, mixture
from tests.support.tiny import tiny_batch, tiny_pair, tiny_svi

EACH = pytest.mark.parametrize("kind", PRIORS)
LEARNT = pytest.mark.parametrize("kind", ["mixture", "vamp", "flow"])


@LEARNT
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("own", [{"alpha": 0, "beta": 0}, {"gamma": 2.0, "delta": 1.0}])
def test_bound_has_log_q_less_log_p_at_the_sample(kind, own):
    model, guide = make_pair(PRIORS[kind])
    batch = make_batch()
    pyro.set_rng_seed(7)
    with torch.random.fork_rng():
        trace = poutine.trace(guide.multimodal).get_trace(batch)
    terms = PartitionedELBO(**own).terms(model, guide, batch)
    values = {site: trace.nodes[site]["value"] for site in guide.multimodal.heads}
    features = torch.cat([batch[name].value for name in SIZES], 1)
    q = guide.multimodal.heads["z_sem"](features)
    z = values["z_sem"]
    kl = q.log_prob(z) - model.prior().log_prob(z)
    torch.testing.assert_close(terms["kl/z_sem"], kl)
    expected = -kl
    for name in SIZES:
        style = f"z_style_{name}"
        own_q = guide.multimodal.heads[style](features).base_dist
        loc, scale = own_q.loc, own_q.scale
        analytic = (0.5 * (scale**2 + loc**2 - 1) - scale.log()).sum(-1)
        torch.testing.assert_close(terms[f"kl/{style}"], analytic)
        mean = torch.cat([z, values[style]], 1) @ model.likelihoods[name].weight.T
        error = (batch[name].value - mean) / NOISE
        log_prob = -0.5 * (error**2 + math.log(2 * math.pi * NOISE**2)).sum(-1)
        expected = expected + log_prob - analytic
    torch.testing.assert_close(terms["elbo"], expected)


def mixture_log_evidence(model, batch):
    """log Σ_k π_k N(x; W_sem loc_k, W_sem diag(scale_k²) W_semᵀ + W_style W_styleᵀ + NOISE² I)."""
    shared, styles = joint_weight(model).tensor_split([DIM], 1)
    noise = styles @ styles.T + NOISE**2 * torch.eye(len(shared))
    x = torch.cat([batch[name].value for name in SIZES], 1)
    prior = model.prior
    scale = torch.exp(5 * torch.tanh(prior.raw_scale / 5)).detach()
    parts = [
        MultivariateNormal(shared @ loc, noise + shared @ s.square().diag() @ shared.T).log_prob(x)
        for loc, s in zip(prior.loc.detach(), scale, strict=True)
    ]
    return (torch.stack(parts, -1) + prior.logits.detach().log_softmax(-1)).logsumexp(-1)


@pytest.mark.usefixtures("float64")
def test_importance_weights_find_the_evidence_of_a_mixture_prior():
    """The proposal is the exact posterior of N(0, I), widened."""
    model, guide = make_pair(mixture)
    set_exact_posterior(model, guide)
    with torch.no_grad():
        guide.multimodal.heads["z_sem"].log_scale.bias.add_(0.5)
    batch = make_batch()
    expected = mixture_log_evidence(model, batch)
    draws = 20_000
    weights = log_weights(model, guide.multimodal, batch, num_samples=draws, chunk=50_000)
    relative = (weights - expected).exp()
    error = relative.std(0) / math.sqrt(draws)
    assert (error < 0.05).all()
    assert ((relative.mean(0) - 1).abs() < 5 * error).all(), (relative.mean(0), error)
    # It is another evidence than that of N(0, I).
    assert ((log_evidence(model, batch) - expected).abs() > 0.2).any()
    assert (estimate(weights).elbo < expected).all()


@LEARNT
def test_training_moves_the_prior(kind):
    svi = tiny_svi(prior=PRIORS[kind], learning_rate=1e-2)
    prior = svi.model.prior
    before = {name: p.detach().clone() for name, p in prior.named_parameters()}
    assert len(before) == {"mixture": 3, "vamp": 1, "flow": 12}[kind]
    batch = tiny_batch(12)
    objectives = [svi.update(batch)["objective"] for _ in range(8)]
    assert objectives[-1] > objectives[0]
    for name, p in prior.named_parameters():
        assert not torch.equal(p, before[name]), name


def test_the_heads_of_a_vamp_prior_are_trained_once_and_by_both():
    model, guide = tiny_pair(PRIORS["vamp"])
    svi = tiny_svi(prior=PRIORS["vamp"])
    count = sum(p.numel() for p in svi.parameters())
    plain = sum(p.numel() for p in tiny_svi().parameters())
    assert count - plain == svi.model.prior.features.numel()
    assert not any("head" in name for name, _ in model.named_parameters())
    model.prior().log_prob(torch.zeros(3)).backward()
    assert guide.multimodal.heads["z_sem"].log_scale.weight.grad.abs().sum() > 0
    model, guide = copy.deepcopy((model, guide))  # together, so that it still follows
    before = model.prior().mean
    with torch.no_grad():
        guide.multimodal.heads["z_sem"].loc.bias.add_(1.0)
    torch.testing.assert_close(model.prior().mean, before + 1.0)


@EACH
def test_a_checkpoint_holds_the_prior(kind, tmp_path):
    """Going on from it is going on, to the bit; other priors' weights are refused."""
    svi = tiny_svi(prior=PRIORS[kind])
    svi.update(tiny_batch())
    save_checkpoint(tmp_path / "saved", svi, {"step": 1})
    terms = [svi.update(tiny_batch()) for _ in range(2)]
    again = tiny_svi(seed=5, prior=PRIORS[kind])
    assert load_checkpoint(tmp_path / "saved", again).step == 1
    for expected in terms:
        for name, value in again.update(tiny_batch()).items():
            assert torch.equal(value, expected[name]), name
    for one, other in zip(svi.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    other = tiny_pair(PRIORS["flow" if kind == "mixture" else "mixture"])
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(tmp_path / "saved", *other)


@EACH
def test_generation_and_likelihood(kind):
    model, guide = tiny_pair(PRIORS[kind])
    batch = tiny_batch(4)
    for parallel in (False, True):
        draws = Predictive(model, num_samples=3, parallel=parallel)(num_examples=5)
        assert draws["z_sem"].squeeze().shape == (3, 5, 3)
        assert draws["image_loc"].squeeze().shape == (3, 5, 28, 28)
        of_posterior = Predictive(model, guide=guide, num_samples=3, parallel=parallel)(
            batch, observed=()
        )
        assert of_posterior["speech_loc"].shape[:2] == (3, 4)
    made, latents = sample(model, 6, ["image"])
    assert made["image"].value.shape == (6, 1, 28, 28)
    assert latents["z_sem"].shape == (6, 3)
    found = evaluate_likelihood(weights_by_target(model, guide, [batch], num_samples=4))
    assert not found["joint"]["reliable"]
    assert math.isfinite(found["joint"]["bound"])
    assert found["joint"]["bound"] >= found["joint"]["elbo"]
