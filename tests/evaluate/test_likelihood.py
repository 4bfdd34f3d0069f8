"""Importance-weighted log-likelihood against the closed forms of linear Gaussian models."""

import json
import math
import random
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch.distributions import MultivariateNormal

from pvae_pyro.batch import Observation
from pvae_pyro.evaluate.importance import estimate, log_weights, weights_by_target
from pvae_pyro.evaluate.likelihood import evaluate_likelihood, why_unreliable
from pvae_pyro.nn.heads import GaussianHead
from tests.support.linear_gaussian import (
    NOISE,
    SIZES,
    joint_weight,
    log_evidence,
    make_batch,
    make_pair,
    set_exact_posterior,
)
from tests.support.tiny import tiny_batch, tiny_pair

JOINT = tuple(SIZES)


def evaluated(*args, **kwargs):
    return evaluate_likelihood(weights_by_target(*args, **kwargs))


def exact_pair():
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    return model, guide


def mismatched_pair():
    """A proposal that is off in location and too wide, but not by much."""
    model, guide = exact_pair()
    with torch.no_grad():
        for head in guide.modules():
            if isinstance(head, GaussianHead):
                head.loc.bias.add_(0.1)
                head.log_scale.bias.add_(0.2)
    return model, guide


def gaussian_log_prob(weight, x, rows, given=None):
    """log p(x[rows] | x[given]) where x ~ N(0, W Wᵀ + NOISE² I)."""
    covariance = weight @ weight.T + NOISE**2 * torch.eye(len(weight))
    own = covariance[rows, rows]
    loc = torch.zeros(len(own))
    if given is not None:
        gain = covariance[rows, given] @ covariance[given, given].inverse()
        loc, own = x[:, given] @ gain.T, own - gain @ covariance[given, rows]
    return MultivariateNormal(loc, own).log_prob(x[:, rows])


def side_by_side(batch):
    return torch.cat([observation.value for observation in batch.values()], 1)


def within_errors(actual, expected, error, times=5):
    assert ((actual - expected).abs() < times * error).all(), (actual - expected) / error


A, B = slice(0, SIZES["a"]), slice(SIZES["a"], None)


@pytest.mark.usefixtures("float64")
def test_every_weight_is_the_evidence_at_the_exact_posterior():
    model, guide = exact_pair()
    batch = make_batch()
    weight, x = joint_weight(model), side_by_side(batch)
    for proposal, names, expected in (
        (guide, JOINT, log_evidence(model, batch)),
        (guide.unimodal["a"], ["a"], gaussian_log_prob(weight, x, A)),
        (guide.unimodal["b"], ["b"], gaussian_log_prob(weight, x, B)),
    ):
        weights = log_weights(model, proposal, batch, names, num_samples=3)
        assert weights.shape == (3, 6)
        torch.testing.assert_close(weights, expected.expand(3, 6))
        torch.testing.assert_close(estimate(weights).log_likelihood, expected)
        torch.testing.assert_close(estimate(weights).effective_sample_size, torch.full((6,), 3.0))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_samples", [1, 4000])
def test_joint_marginal_and_conditional_of_a_partition(num_samples):
    """Means and standard errors over examples, of batches of unequal size."""
    model, guide = exact_pair()
    batches = [make_batch(4), make_batch(3)]
    result = evaluated(model, guide, iter(batches), num_samples=num_samples, chunk=50_000)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["num_examples"] == 7
    weight, x = joint_weight(model), torch.cat([side_by_side(batch) for batch in batches])
    joint = gaussian_log_prob(weight, x, slice(None))
    # Every weight is p(x): from a single draw on, and to rounding.
    assert result["joint"]["mean"] == pytest.approx(joint.mean().item())
    assert result["joint"]["se"] == pytest.approx(joint.std().item() / math.sqrt(7))
    assert result["joint"]["effective_sample_size"] == pytest.approx(num_samples)
    assert set(result["marginal"]) == {"a", "b"}
    assert set(result["conditional"]) == {"a|b", "b|a"}
    # Of the marginals' weights, those of half of the draws vary, to 2 p(x^m) at most.
    tolerance = 1.0 if num_samples == 1 else 0.02
    assert result["joint"]["reliable"]
    names = ("mean", "se", "mean", "se")
    if num_samples == 1:  # one draw from each of two guides is no basis
        names = ("bound", "bound_se", "difference_of_bounds", "difference_of_bounds_se")
    for entry, expected in (
        (result["marginal"]["a"], gaussian_log_prob(weight, x, A)),
        (result["marginal"]["b"], gaussian_log_prob(weight, x, B)),
        (result["conditional"]["a|b"], gaussian_log_prob(weight, x, A, given=B)),
        (result["conditional"]["b|a"], gaussian_log_prob(weight, x, B, given=A)),
    ):
        mean, se = names[2:] if entry in result["conditional"].values() else names[:2]
        assert entry["reliable"] == (num_samples > 1)
        assert entry[mean] == pytest.approx(expected.mean().item(), abs=tolerance)
        assert entry[se] == pytest.approx(expected.std().item() / math.sqrt(7), abs=tolerance)
    sizes = [entry["effective_sample_size"] for entry in (result["joint"], result["marginal"]["b"])]
    assert result["conditional"]["a|b"]["effective_sample_size"] == min(sizes)


@pytest.mark.usefixtures("float64")
def test_mixture_of_guides_has_bounded_weights_and_the_evidence_as_mean():
    """One part is exact, so no weight exceeds 2 p(x); the other alone is below the mixture."""
    model, guide = exact_pair()
    batch = make_batch()
    expected = gaussian_log_prob(joint_weight(model), side_by_side(batch), A)
    guides = [guide, guide.unimodal["a"]]
    weights = log_weights(model, guides, batch, ["a"], num_samples=5_000, chunk=30_000)
    assert weights.shape == (10_000, 6)
    assert (weights <= expected + math.log(2) + 1e-9).all()
    relative = (weights - expected).exp()
    within_errors(relative.mean(0), torch.ones(6), relative.std(0) / math.sqrt(10_000))
    alone = log_weights(model, guide, batch, ["a"], num_samples=5_000, chunk=30_000)
    assert (estimate(alone).elbo < estimate(weights).elbo).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 0, 5, 4, 1, 2]])
def test_other_proposals_converge_from_below(order):
    """ELBO < bound of 5 draws < evidence in expectation; the estimate of many draws is there."""
    model, guide = mismatched_pair()
    batch = {name: Observation(o.value[order]) for name, o in make_batch().items()}
    evidence = log_evidence(model, batch)
    draws = 20_000
    weights = log_weights(model, guide, batch, num_samples=draws, chunk=50_000)
    many = estimate(weights)
    relative = (weights - many.log_likelihood).exp().std(0) / math.sqrt(draws)
    within_errors(many.log_likelihood, evidence, relative)
    assert (relative < 0.03).all()

    five = weights.unflatten(0, (-1, 5)).logsumexp(1) - math.log(5)
    assert (five.mean(0) + 5 * five.std(0) / math.sqrt(len(five)) < evidence).all()
    assert (many.elbo + 5 * weights.std(0) / math.sqrt(draws) < five.mean(0)).all()
    assert ((many.effective_sample_size > 1) & (many.effective_sample_size < draws)).all()


@pytest.mark.parametrize("num_samples", [1, 6])
def test_mean_log_weight_is_pyros_elbo_of_the_same_draws(num_samples):
    model, guide = tiny_pair()
    weights = log_weights(model, guide, tiny_batch(), num_samples=num_samples, seed=3)
    torch.manual_seed(3)
    elbo = Trace_ELBO(num_samples, vectorize_particles=True, max_plate_nesting=1)
    loss = elbo.loss(model, guide, tiny_batch())
    assert estimate(weights).elbo.sum().item() == pytest.approx(-loss, rel=1e-5)


@pytest.mark.usefixtures("float64")
def test_estimates_of_hand_made_weights():
    weights = torch.tensor([[1.0, 1.0, 1e-30], [3.0, 1.0, 1.0]]).log() - 1000.0
    result = estimate(weights)
    torch.testing.assert_close(result.log_likelihood, torch.tensor([2.0, 1.0, 0.5]).log() - 1000.0)
    torch.testing.assert_close(result.effective_sample_size, torch.tensor([1.6, 2.0, 1.0]))
    torch.testing.assert_close(
        result.elbo, torch.tensor([math.log(3) / 2, 0.0, -15 * math.log(10)]) - 1000.0
    )


def test_what_makes_an_estimate_unreliable():
    """Of 50 draws, a Pareto k of 0.41 and a median effective sample size of 5 are the limits."""
    sizes, k = torch.full((20,), 5.0), np.full(20, 0.41)
    assert why_unreliable(sizes, k, 50) is None
    k[:2] = 3.0, np.inf  # 10 % of the examples
    assert why_unreliable(sizes, k, 50) is None
    k[2] = 0.42
    assert "k is above 0.41 for 15 % of the examples" in why_unreliable(sizes, k, 50)
    few = torch.where(torch.arange(20) < 11, 4.9, 50.0)
    assert "sample size is 4.9 of 50 draws" in why_unreliable(few, np.zeros(20), 50)
    assert why_unreliable(few, np.zeros(20), 49) is None
    # With enough draws 0.7 is the limit (Vehtari et al. 2024).
    assert why_unreliable(few, np.full(20, 0.7), 10_000) is not None
    assert why_unreliable(1000 * few, np.full(20, 0.7), 10_000) is None
    assert why_unreliable(1000 * few, np.full(20, 0.71), 10_000) is not None


@pytest.mark.usefixtures("float64")
def test_a_proposal_that_misses_the_posterior_gives_no_estimate():
    """Its bound is below the evidence, and has another name; the elbo and the reason are there."""
    model, guide = exact_pair()
    with torch.no_grad():
        for head in guide.modules():
            if isinstance(head, GaussianHead):
                head.log_scale.bias.sub_(1.5)
    batch = make_batch(20)
    result = evaluated(model, guide, [batch], num_samples=50)
    evidence = log_evidence(model, batch).mean().item()
    joint, given = result["joint"], result["conditional"]["a|b"]
    assert joint["elbo"] < joint["bound"] < evidence - 0.5
    assert joint["pareto_k_above"] > 0.5
    for entry in (joint, given, *result["marginal"].values()):
        assert not entry["reliable"]
        assert not entry.keys() & {"mean", "se"}
        assert "only a bound" in entry["reason"]
    assert given["reason"].startswith("log p(joint) is not reliable: ")
    difference = joint["bound"] - result["marginal"]["b"]["bound"]
    assert given["difference_of_bounds"] == pytest.approx(difference)


def test_scales_are_no_part_of_a_density_and_masks_are():
    model, guide = make_pair()
    batch = make_batch()
    plain = log_weights(model, guide, batch, num_samples=2)
    scaled = log_weights(poutine.scale(model, 7.0), poutine.scale(guide, 3.0), batch, num_samples=2)
    torch.testing.assert_close(scaled, plain)
    mask = torch.arange(6) < 4
    masked = log_weights(poutine.mask(model, mask), poutine.mask(guide, mask), batch, num_samples=2)
    torch.testing.assert_close(masked, torch.where(mask, plain, 0.0))


def test_seed_decides_and_the_callers_state_stays():
    model, guide = make_pair()
    batch = make_batch()
    pyro.param("mine", torch.zeros(1))
    store = set(pyro.get_param_store().keys())
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = evaluated(model, guide, [batch, batch], seed=1)
    assert evaluated(model, guide, [batch, batch], seed=1) == first
    assert evaluated(model, guide, [batch, batch], seed=2)["joint"] != first["joint"]
    # The two batches are equal, but not their noise.
    once = evaluated(model, guide, [batch], seed=1)
    assert once["joint"]["elbo"] != pytest.approx(first["joint"]["elbo"], rel=1e-6)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert set(pyro.get_param_store().keys()) == store
    assert not log_weights(model, guide, batch).requires_grad


def test_bad_arguments_are_refused():
    model, guide = make_pair()
    batch = make_batch()
    with pytest.raises(ValueError, match=r"not in the batch: \['b'\]"):
        evaluated(model, guide, [{"a": batch["a"]}])
    with pytest.raises(
        ValueError, match=r"the model samples \['z_style_b'\], but a guide does not"
    ):
        log_weights(model, guide.unimodal["a"], batch)

    def also_global(run, batch, **kwargs):
        pyro.sample("temperature", dist.Normal(0.0, 1.0))
        return run(batch, **kwargs)

    with pytest.raises(ValueError, match="in the plate of the batch.*'temperature': "):
        log_weights(partial(also_global, model), partial(also_global, guide), batch)


def test_a_likelihood_that_is_not_finite_is_refused():
    model, guide = make_pair()
    batch = make_batch()
    batch["a"].value[2] = math.nan
    with (
        pyro.validation_enabled(False),
        pytest.raises(FloatingPointError, match="log-likelihood of example 2 is nan"),
    ):
        evaluated(model, guide, [batch], num_samples=2)
