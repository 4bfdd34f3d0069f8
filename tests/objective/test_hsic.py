"""The normalised HSIC against its definition, and its place in the objective."""

from itertools import permutations

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.objective.hsic import median_kernel, normalised_hsic
from tests.support.linear_gaussian import DIM, SIZES, make_batch, make_pair


def kernel_by_hand(x):
    size = len(x)
    squared = np.array([[((a - b) ** 2).sum() for b in x] for a in x])
    pairs = sorted(squared[i, j] for i in range(size) for j in range(size) if i != j)
    # torch's median is the lower of the two in the middle; every pair is there twice.
    return np.exp(-squared / (2 * pairs[(len(pairs) - 1) // 2]))


def hsic_by_hand(k, l):
    """Song et al. 2012, Eq. 5."""
    size = len(k)
    k, l = (m - np.diag(np.diag(m)) for m in (k, l))
    one = np.ones(size)
    trace = np.trace(k @ l)
    product = (one @ k @ one) * (one @ l @ one) / ((size - 1) * (size - 2))
    return (trace + product - 2 * (one @ k @ l @ one) / (size - 2)) / (size * (size - 3))


@pytest.mark.parametrize("size", [4, 5, 9])
def test_value_is_the_definition(size):
    x, y = torch.randn(size, 3).double(), torch.randn(size, 2).double()
    k, l = kernel_by_hand(x.numpy()), kernel_by_hand(y.numpy())
    np.testing.assert_allclose(median_kernel(x).numpy(), k, rtol=1e-10)
    expected = hsic_by_hand(k, l) / np.sqrt(hsic_by_hand(k, k) * hsic_by_hand(l, l))
    assert normalised_hsic(x, y).mean().item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("size", [4, 5, 6])
def test_over_all_permutations_the_mean_is_zero(size):
    x, y = torch.randn(size, 2).double(), torch.randn(size, 3).double()
    values = [normalised_hsic(x, y[list(order)]).mean() for order in permutations(range(size))]
    assert torch.stack(values).std() > 0.05
    assert torch.stack(values).mean().item() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_independent_latents_have_zero_on_average_at_every_batch_size(size):
    values = torch.stack(
        [normalised_hsic(torch.randn(size, 8), torch.randn(size, 8)).mean() for _ in range(200)]
    )
    assert abs(values.mean()) < 4 * values.std() / 200**0.5
    # As the cosine of two random directions of a space of B (B - 3) / 2 dimensions.
    assert values.std().item() == pytest.approx((2 / (size * (size - 3))) ** 0.5, rel=0.2)


def test_a_rotated_shifted_rescaled_copy_has_one():
    x = torch.randn(40, 3).double()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3).double())
    for y in (x, 5 * x - 3, 1e-3 * x @ rotation):
        assert normalised_hsic(x, y).mean().item() == pytest.approx(1.0, abs=1e-8)
    # Neither correlated nor linearly related, but dependent.
    x = torch.randn(400, 1)
    assert normalised_hsic(x, x.square()).mean() > 0.15


@pytest.mark.parametrize("dependent", [False, True])
def test_gradients_do_not_change_the_scale(dependent):
    x, noise = torch.randn(16, 3).double(), torch.randn(16, 3).double()
    y = (0.5 * x + noise if dependent else noise).requires_grad_()
    (gradient,) = torch.autograd.grad(normalised_hsic(x, y).mean(), y)
    assert gradient.abs().max() > 1e-3
    # d value / d log s of s y, at s = 1.
    assert (gradient * y).sum().item() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_than_four_examples_have_zero(size):
    x = torch.randn(size, 2)
    assert normalised_hsic(x, x).tolist() == [0.0] * size


def test_constant_latents_give_finite_values_and_gradients():
    y = torch.zeros(5, 2, requires_grad=True)
    value = normalised_hsic(torch.randn(5, 2), y)
    value.sum().backward()
    assert value.isfinite().all()
    assert y.grad.isfinite().all()


def test_the_objective_uses_each_modalitys_means_and_samples():
    model, guide = make_pair()
    batch = make_batch(8)
    pyro.set_rng_seed(4)
    terms = PartitionedELBO(alpha=0.7, beta=2.0, gamma=5.0).terms(model, guide, batch)
    pyro.set_rng_seed(4)
    drawn = poutine.trace(guide).get_trace(batch).nodes
    for name in SIZES:
        mean = guide.unimodal[name].heads["z_sem"](batch[name].value).mean
        expected = normalised_hsic(mean, drawn[f"z_style_{name}"]["value"])
        torch.testing.assert_close(terms[f"independence/{name}"], expected)
    torch.testing.assert_close(
        terms["objective"],
        terms["elbo"]
        - 0.7 * terms["coherence"]
        - 2.0 * terms["contrastive"]
        - 5.0 * terms["independence"],
    )
    total = sum(terms[f"independence/{name}"] for name in SIZES)
    torch.testing.assert_close(terms["independence"], total)


def test_only_the_style_heads_receive_a_gradient():
    model, guide = make_pair()
    terms = PartitionedELBO(alpha=0.0, beta=0.0, gamma=1.0).terms(model, guide, make_batch(8))
    terms["independence"].sum().backward()
    for name in SIZES:
        heads = guide.multimodal.heads
        assert heads[f"z_style_{name}"].loc.weight.grad.abs().sum() > 0
        assert guide.unimodal[name].heads["z_sem"].loc.weight.grad is None
    assert heads["z_sem"].loc.weight.grad is None
    assert heads[f"z_style_{name}"].loc.weight.shape[0] == DIM
