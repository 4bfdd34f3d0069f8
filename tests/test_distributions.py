import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pvae_pyro.distributions import RaggedNormal, SoftBernoulli

LENGTHS = torch.tensor([3, 5, 0])


def test_log_prob_is_that_of_the_frames_in_use():
    loc, value = torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    scale = torch.tensor([0.5, 2.0])
    log_prob = RaggedNormal(loc, scale, LENGTHS).log_prob(value)
    for n, length in enumerate(LENGTHS.tolist()):
        expected = dist.Normal(loc[n, :length], scale).log_prob(value[n, :length]).sum()
        torch.testing.assert_close(log_prob[n], expected)


def test_padding_has_no_influence_even_if_nan():
    loc = torch.randn(3, 5, 2, requires_grad=True)
    scale = torch.tensor(1.5, requires_grad=True)
    value = torch.randn(3, 5, 2)
    value[0, 3:] = math.nan
    log_prob = RaggedNormal(loc, scale, LENGTHS).log_prob(value)
    log_prob.sum().backward()
    assert scale.grad.isfinite()
    assert log_prob.isfinite().all()
    assert loc.grad.isfinite().all()
    assert (loc.grad[0, 3:] == 0).all()
    assert (loc.grad[0, :3] != 0).all()


def test_samples_and_shapes():
    normal = RaggedNormal(torch.full((3, 5, 2), 4.0), 0.5, LENGTHS)
    assert (normal.batch_shape, normal.event_shape) == ((3,), (5, 2))
    draws = normal.expand([1000, 3]).sample()
    assert draws.shape == (1000, 3, 5, 2)
    assert (draws[:, 0, 3:] == 0).all()
    assert draws[:, 0, :3].mean().item() == pytest.approx(4.0, abs=0.05)
    assert draws[:, 0, :3].std().item() == pytest.approx(0.5, abs=0.05)
    with pyro.plate("draws", 7, dim=-2), pyro.plate("examples", 3, dim=-1):
        assert pyro.sample("x", normal).shape == (7, 3, 5, 2)


def test_matrix_scale_is_refused():
    with pytest.raises(ValueError, match="scale"):
        RaggedNormal(torch.zeros(3, 5, 2), torch.ones(5, 2), LENGTHS)


def test_bernoulli_of_probabilities_by_hand():
    bernoulli = SoftBernoulli(torch.tensor([0.25, 0.25, 0.25, 0.25]))
    found = bernoulli.log_prob(torch.tensor([1.0, 0.0, 0.5, 0.25]))
    half = 0.5 * (math.log(0.25) + math.log(0.75))
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found.tolist() == pytest.approx([math.log(0.25), math.log(0.75), half, -entropy])
    expanded = bernoulli.expand([3, 4])
    assert type(expanded) is SoftBernoulli
    assert expanded.log_prob(torch.full((3, 4), 0.5)).flatten().tolist() == pytest.approx(
        [half] * 12
    )
    with pytest.raises(ValueError, match="support"):
        bernoulli.log_prob(torch.tensor(-0.01))
