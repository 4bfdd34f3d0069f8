"""The normalised HSIC against its definition, and its place in the objective."""

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
    size = len(k)
    h = np.eye(size) - 1 / size
    return np.trace(k @ h @ l @ h) / size**2


def test_value_is_the_definition():
    x, y = torch.randn(7, 3), torch.randn(7, 2)
    k, l = kernel_by_hand(x.numpy()), kernel_by_hand(y.numpy())
    np.testing.assert_allclose(median_kernel(x).numpy(), k, rtol=1e-5)
    expected = hsic_by_hand(k, l) / np.sqrt(hsic_by_hand(k, k) * hsic_by_hand(l, l))
    assert normalised_hsic(x, y).mean().item() == pytest.approx(expected, rel=1e-4)


def test_hsic_with_itself_is_one_and_with_noise_near_zero():
    x = torch.randn(400, 2)
    assert normalised_hsic(x, 5 * x - 3).mean().item() == pytest.approx(1.0, abs=1e-4)
    assert normalised_hsic(x, torch.randn(400, 2)).mean() < 0.05
    # Neither correlated nor linearly related, but dependent.
    assert normalised_hsic(x[:, :1], x[:, :1].square()).mean() > 0.15


@pytest.mark.parametrize("size", [1, 2])
def test_hsic_of_one_or_two_examples_is_zero(size):
    assert normalised_hsic(torch.randn(size, 2), torch.randn(size, 2)).tolist() == [0.0] * size


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


def test_the_width_is_a_constant_to_gradients():
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(median_kernel(x)[0].sum(), x)
    squared = (x.unsqueeze(1) - x).square().sum(-1)
    width = sorted(squared[i, j].item() for i in range(6) for j in range(6) if i != j)[14]
    (expected,) = torch.autograd.grad(torch.exp(-0.5 * squared[0] / width).sum(), x)
    torch.testing.assert_close(gradient, expected)
