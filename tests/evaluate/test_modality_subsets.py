"""Inference from sets of modalities, of a linear-Gaussian model whose exact posterior is known."""

import numpy as np
import pytest
import torch
from torch import nn

from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.evaluate import modality_subsets
from pvae_pyro.guides import PartitionedGuide
from tests.support import linear_gaussian
from tests.support.measuring import measured_by

subset_scores = measured_by(modality_subsets)

SAME = Normalisation(np.float32(0), np.float32(1))


class Nearest(nn.Module):
    """Logits: how near an observation is to the mean of each class."""

    def __init__(self, means):
        super().__init__()
        self.means = means

    def forward(self, observation):
        return -torch.cdist(observation.value, self.means)


@pytest.fixture
def world():
    """Three classes of z_sem, far apart; the examples, and judges that know their means."""
    torch.manual_seed(0)
    model, guide = linear_gaussian.make_pair()
    linear_gaussian.set_exact_posterior(model, guide)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    labels = np.arange(3).repeat(20)
    examples, judges = {}, {}
    for name in linear_gaussian.SIZES:
        weight = model.likelihoods[name].weight.detach()
        means = centres @ weight[:, :2].T
        values = means[labels] + 0.1 * torch.randn(60, weight.shape[0])
        examples[name] = Examples(values.numpy(), labels, SAME)
        judges[name] = Nearest(means)
    return model, guide, judges, examples


def test_every_subset_is_scored_by_every_guide(world):
    found = subset_scores(*world)
    assert list(found) == ["a", "b", "a+b"]
    for some in ("a", "b"):
        assert set(found[some]) == {"product"}
        assert found[some]["product"]["purity"] == 1.0
        (target,) = found[some]["product"]["coherence"]
        assert target != some
        assert found[some]["product"]["coherence"][target] > 0.9
    for way in ("product", "multimodal"):
        assert found["a+b"][way]["purity"] == 1.0
        assert found["a+b"][way]["coherence"].keys() == {"a", "b"}


def test_a_guide_that_knows_nothing_scores_as_chance(world):
    """The multimodal one, untrained; the unimodal ones stay exact."""
    model, exact, judges, examples = world
    torch.manual_seed(1)
    guide = PartitionedGuide(linear_gaussian.MODALITIES, 2, 2)
    guide.unimodal = exact.unimodal
    for head in guide.multimodal.heads.values():
        nn.init.normal_(head.loc.weight, std=1e-3)
    found = subset_scores(model, guide, judges, examples)["a+b"]
    assert found["product"]["coherence"]["b"] > 0.9
    assert found["multimodal"]["coherence"]["b"] < 0.7
