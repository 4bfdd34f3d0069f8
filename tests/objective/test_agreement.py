"""L_agree: the symmetric KL divergence between the unimodal posteriors of z_sem."""

from dataclasses import replace

import pytest
import torch

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.guides import PartitionedGuide
from tests.support.linear_gaussian import DIM, MODALITIES, make_batch, make_pair

pytestmark = pytest.mark.usefixtures("float64")

ALONE = {"alpha": 0.0, "beta": 0.0, "epsilon": 1.0}


def posterior(guide, name, batch):
    found = guide.unimodal[name].heads["z_sem"](batch[name].value)
    return found.mean, found.stddev


def test_closed_form():
    model, guide = make_pair()
    batch = make_batch()
    terms = PartitionedELBO(**ALONE | {"epsilon": 3.0}).terms(model, guide, batch)
    (a, s), (b, t) = (posterior(guide, name, batch) for name in "ab")
    log, far = (t / s).log(), (a - b).square()
    a_to_b = (log + (s**2 + far) / (2 * t**2) - 0.5).sum(-1)
    b_to_a = (-log + (t**2 + far) / (2 * s**2) - 0.5).sum(-1)
    torch.testing.assert_close(terms["agreement/a/b"], 0.5 * a_to_b)
    torch.testing.assert_close(terms["agreement/b/a"], 0.5 * b_to_a)
    # As Federici et al. write it, the logarithms cancel.
    symmetric = 0.25 * ((s**2 + far) / t**2 + (t**2 + far) / s**2 - 2).sum(-1)
    torch.testing.assert_close(terms["agreement"], symmetric)
    torch.testing.assert_close(terms["objective"], terms["elbo"] - 3.0 * terms["agreement"])


def test_equal_posteriors_agree():
    model, guide = make_pair()
    with torch.no_grad():  # the same posterior for every example of both modalities
        for own in guide.unimodal.values():
            for layer in (own.heads["z_sem"].loc, own.heads["z_sem"].log_scale):
                layer.weight.zero_()
                layer.bias.fill_(0.3)
    elbo = PartitionedELBO(**ALONE)
    assert elbo.terms(model, guide, make_batch())["agreement"].abs().max() < 1e-12
    with torch.no_grad():
        guide.unimodal["a"].heads["z_sem"].loc.bias += 1.0
    terms = elbo.terms(model, guide, make_batch())
    scale = posterior(guide, "a", make_batch())[1]
    torch.testing.assert_close(terms["agreement"], (0.5 / scale**2).sum(-1))


def test_gradients_reach_both_posteriors_and_no_other():
    model, guide = make_pair()
    terms = PartitionedELBO(**ALONE).terms(model, guide, make_batch())
    terms["agreement"].sum().backward()
    for own in guide.unimodal.values():
        assert own.heads["z_sem"].loc.weight.grad.abs().sum() > 0
        assert own.heads["z_sem"].log_scale.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in (*model.parameters(), *guide.multimodal.parameters()))


def test_an_example_that_lacks_a_modality_has_none():
    model, _ = make_pair()
    guide = PartitionedGuide(MODALITIES, DIM, DIM)
    batch = make_batch(4)
    elbo = PartitionedELBO(**ALONE)
    whole = elbo.terms(model, guide, batch)["agreement"]
    present = {"a": [True, True, False, True], "b": [True, False, True, True]}
    lacking = {n: replace(o, present=torch.tensor(present[n])) for n, o in batch.items()}
    found = elbo.terms(model, guide, lacking)
    assert found["agreement"][[1, 2]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found["agreement"][[0, 3]], whole[[0, 3]])


def test_one_modality_has_no_term():
    model, guide = make_pair()
    del guide.unimodal["b"]
    terms = PartitionedELBO(**ALONE).terms(model, guide, make_batch())
    assert not [name for name in terms if name.startswith("agreement")]
    torch.testing.assert_close(terms["objective"], terms["elbo"])
