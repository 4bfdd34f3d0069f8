import pytest
import torch

from pvae_pyro.objective.contrastive import contrastive_hinge, derangement, rbf_kernel


def test_kernel_by_hand():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert rbf_kernel(a, a).item() == 1.0
    assert rbf_kernel(a, b).item() == pytest.approx(0.36788, abs=1e-5)  # exp(-2/2)
    assert rbf_kernel(a, b, length_scale=2.0).item() == pytest.approx(0.77880, abs=1e-5)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_derangement_leaves_nothing_in_place(size):
    for _ in range(20):
        negatives = derangement(size)
        assert sorted(negatives.tolist()) == list(range(size))
        assert (negatives != torch.arange(size)).all()


def test_derangements_differ_and_reach_every_other_example():
    reached = {derangement(4)[0].item() for _ in range(100)}
    assert reached == {1, 2, 3}


def test_one_example_has_no_derangement():
    with pytest.raises(ValueError, match="contrasted"):
        derangement(1)


def test_hinge_is_zero_when_apart_and_margin_when_collapsed():
    apart = torch.tensor([[0.0], [100.0]])
    swap = torch.tensor([1, 0])
    hinge = contrastive_hinge({"a": apart, "b": apart}, swap, margin=0.5)
    assert set(hinge) == {("a", "b"), ("b", "a")}
    assert hinge["a", "b"].tolist() == [0.0, 0.0]
    same = torch.zeros(2, 1)
    assert contrastive_hinge({"a": same, "b": same}, swap, margin=0.5)["a", "b"].tolist() == [
        0.5,
        0.5,
    ]


def test_every_ordered_pair_of_three_modalities():
    locs = {name: torch.randn(4, 2) for name in "abc"}
    assert len(contrastive_hinge(locs, derangement(4))) == 6
