import math

import pytest
import torch

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.objective.contrastive import rbf_kernel
from pvae_pyro.objective.infonce import infonce
from tests.support.tiny import tiny_batch, tiny_pair


@pytest.fixture
def locs():
    torch.manual_seed(0)
    return {name: torch.randn(6, 3) for name in "abc"}


def test_it_is_the_share_of_the_kernel_that_the_pair_has(locs):
    locs = {name: 2 * loc for name, loc in locs.items()}
    found = infonce(locs, length_scale=1.5)
    assert len(found) == 6
    for n in range(6):
        kernels = [rbf_kernel(locs["a"][n], other, 1.5) for other in locs["b"]]
        expected = -math.log(kernels[n] / sum(kernels))
        assert found["a", "b"][n].item() == pytest.approx(expected, rel=1e-5)


def test_it_is_log_b_for_equal_examples_and_0_for_distant_ones():
    same, apart = torch.zeros(5, 2), 100 * torch.eye(5)
    expected = torch.full((5,), math.log(5))
    torch.testing.assert_close(infonce({"a": same, "b": same})["a", "b"], expected)
    assert infonce({"a": apart, "b": apart})["b", "a"].abs().max() == 0
    assert infonce({"a": same[:1], "b": same[:1]})["a", "b"].tolist() == [0.0]


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 0.1])
def test_means_near_each_other_have_a_narrower_kernel(locs, factor):
    """The value does not depend on how near they are, and the gradient does not vanish."""
    near = {name: (factor * locs[name]).requires_grad_() for name in "ab"}
    found = infonce(near)["a", "b"]
    squared = torch.cdist(locs["a"], locs["b"]).square()
    expected = -torch.log_softmax(-2 * squared / squared.mean(), 1).diagonal()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert factor * near["a"].grad.norm() > 0.5


def test_the_width_is_that_of_the_examples_that_are_there(locs):
    far = {name: locs[name].clone() for name in "ab"}
    far["b"][5], far["a"][0] = 1e3, -1e3
    few = {"a": far["a"][1:5], "b": far["b"][1:5]}
    wide = infonce(few, length_scale=100.0)["a", "b"]
    there = dict.fromkeys("ab", (torch.arange(6) > 0) & (torch.arange(6) < 5))
    found = infonce(far, there, length_scale=100.0)["a", "b"]
    torch.testing.assert_close(found[1:5], wide * 6 / 4)


def test_equal_means_have_finite_gradients():
    same = {name: torch.zeros(4, 2, requires_grad=True) for name in "ab"}
    infonce(same)["a", "b"].sum().backward()
    assert same["a"].grad.isfinite().all()


def test_an_absent_example_is_neither_contrasted_nor_a_contrast(locs):
    present = {
        "a": torch.tensor([1, 1, 1, 0, 1, 1]).bool(),
        "b": torch.tensor([1, 1, 0, 1, 1, 0]).bool(),
    }
    two = {name: locs[name] for name in "ab"}
    found = infonce(two, present)["a", "b"]
    # Contrasted: 0, 1 and 4, with 0, 1, 3 and 4.
    others = {"a": locs["a"][[0, 1, 3, 4]], "b": locs["b"][[0, 1, 3, 4]]}
    expected = infonce(others)["a", "b"][[0, 1, 3]]
    torch.testing.assert_close(found[[0, 1, 4]], expected * 6 / 3)
    assert found[[2, 3, 5]].tolist() == [0.0] * 3
    changed = {**two, "b": locs["b"].masked_fill(~present["b"][:, None], 7.0)}
    torch.testing.assert_close(infonce(changed, present)["a", "b"], found)
    nobody = dict.fromkeys("ab", torch.zeros(6, dtype=torch.bool))
    assert infonce(two, nobody)["a", "b"].tolist() == [0.0] * 6


def test_gradients_of_absent_examples_are_0_and_finite(locs):
    two = {name: locs[name].clone().requires_grad_() for name in "ab"}
    present = {"a": torch.ones(6).bool(), "b": torch.arange(6) < 2}
    infonce(two, present)["a", "b"].sum().backward()
    assert two["b"].grad[2:].abs().max() == 0
    assert two["a"].grad[2:].abs().max() == 0
    assert 0 < two["b"].grad[:2].abs().max() < torch.inf


def test_the_objective_has_it_in_place_of_the_hinge():
    torch.manual_seed(0)
    model, guide = tiny_pair()
    batch = tiny_batch(5)
    elbo = PartitionedELBO(contrast="infonce", beta=7.0, length_scale=1.5, alpha=0.0)
    terms = elbo.terms(model, guide, batch)
    locs = {
        name: of.heads["z_sem"](of.encoders[name](batch[name])).mean
        for name, of in guide.unimodal.items()
    }
    expected = sum(infonce(locs, length_scale=1.5).values())
    torch.testing.assert_close(terms["contrastive"], expected)
    torch.testing.assert_close(terms["objective"], terms["elbo"] - 7 * expected)
