import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pvae_pyro.distributions import RaggedNormal, RaggedOneHotCategorical, SoftBernoulli

LENGTHS = torch.tensor([3, 5, 0])


def test_log_prob_is_that_of_the_frames_in_use():
    loc, value = torch.randn(3, 5, 2), torch.randn(3, 5, 2)
    scale = torch.tensor([0.5, 2.0])
    log_prob = RaggedNormal(loc, scale, LENGTHS).log_prob(value)
    for n, length in enumerate(LENGTHS.tolist()):
        expected = dist.Normal(loc[n, :length], scale).log_prob(value[n, :length]).sum()
        torch.testing.assert_close(log_prob[n], expected)


def test_log_prob_by_hand():
    log_prob = RaggedNormal(torch.zeros(1, 2, 1), 2.0, torch.tensor([1])).log_prob(
        torch.tensor([[[3.0], [100.0]]])
    )
    assert log_prob.item() == pytest.approx(-(9 / 8) - math.log(2) - 0.5 * math.log(2 * math.pi))


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


# One-hot sequences


def one_hot(*shape):
    categories = torch.randint(shape[-1], shape[:-1])
    return torch.nn.functional.one_hot(categories, shape[-1]).float()


def test_log_prob_of_categories_is_that_of_the_frames_in_use():
    logits, value = torch.randn(3, 5, 4), one_hot(3, 5, 4)
    log_prob = RaggedOneHotCategorical(logits, LENGTHS).log_prob(value)
    stock = dist.OneHotCategorical(logits=logits).log_prob(value)
    for n, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(log_prob[n], stock[n, :length].sum())


def test_padding_of_categories_has_no_influence_even_if_nan():
    logits = torch.randn(3, 5, 4, requires_grad=True)
    value = one_hot(3, 5, 4)
    expected = RaggedOneHotCategorical(logits, LENGTHS).log_prob(value)
    value[0, 3:] = math.nan
    log_prob = RaggedOneHotCategorical(logits, LENGTHS).log_prob(value)
    torch.testing.assert_close(log_prob, expected)
    log_prob.sum().backward()
    assert (logits.grad[0, 3:] == 0).all()
    assert (logits.grad[2] == 0).all()
    assert (logits.grad[0, :3] != 0).all()
    # d log softmax: the value less the probabilities.
    expected = value[0, :3] - logits[0, :3].softmax(-1)
    torch.testing.assert_close(logits.grad[0, :3], expected.detach())


def test_padding_of_logits_has_no_influence_even_if_nan():
    """The padding of what is read, too: an LSTM's output may be anything there."""
    logits = torch.randn(3, 5, 4)
    value = one_hot(3, 5, 4)
    expected = RaggedOneHotCategorical(logits, LENGTHS).log_prob(value)
    logits[0, 3:] = math.nan
    given = RaggedOneHotCategorical(logits.requires_grad_(), LENGTHS, validate_args=False)
    log_prob = given.log_prob(value)
    torch.testing.assert_close(log_prob, expected)
    log_prob.sum().backward()
    assert logits.grad.isfinite().all()
    assert given.mean.isfinite().all()
    assert given.sample().isfinite().all()


def test_samples_means_and_shapes_of_categories():
    logits = torch.tensor([0.1, 0.2, 0.7]).log().expand(3, 5, 3)
    categories = RaggedOneHotCategorical(logits, LENGTHS)
    assert (categories.batch_shape, categories.event_shape) == ((3,), (5, 3))
    torch.testing.assert_close(categories.mean[0, 0], torch.tensor([0.1, 0.2, 0.7]))
    assert (categories.mean[0, 3:] == 0).all()
    draws = categories.expand([2000, 3]).sample()
    assert draws.shape == (2000, 3, 5, 3)
    assert (draws[:, 0, 3:] == 0).all()
    assert (draws[:, 1].sum(-1) == 1).all()
    torch.testing.assert_close(draws[:, 1].mean((0, 1)), categories.mean[1, 0], atol=0.02, rtol=0)
    assert categories.sample((4,)).shape == (4, 3, 5, 3)
    with pyro.plate("draws", 7, dim=-2), pyro.plate("examples", 3, dim=-1):
        assert pyro.sample("x", categories).shape == (7, 3, 5, 3)
