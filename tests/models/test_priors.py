"""The priors by themselves: densities, samples, gradients, components."""

import gc
import math
import weakref

import pytest
import torch

from pvae_pyro.models.flow import Flow
from pvae_pyro.models.priors import StandardNormal, VampPrior
from pvae_pyro.nn.heads import GaussianHead
from tests.support.priors import FEATURES, PRIORS, make_prior

pytestmark = pytest.mark.usefixtures("float64")

EACH = pytest.mark.parametrize("kind", PRIORS)
MIXTURES = pytest.mark.parametrize("kind", ["mixture", "vamp"])


def grid(dim, edge=16.0, points=641):
    """Points ``[N, D]``, and the volume of each."""
    line = torch.linspace(-edge, edge, points)
    return torch.cartesian_prod(*[line] * dim).reshape(-1, dim), (2 * edge / (points - 1)) ** dim


@pytest.mark.parametrize(
    ("kind", "dim"),
    [(kind, dim) for kind in PRIORS for dim in (1, 2) if (kind, dim) != ("flow", 1)],
)
def test_density_integrates_to_one(kind, dim):
    points, volume = grid(dim)
    with torch.no_grad():
        total = make_prior(kind, dim)().log_prob(points).exp().sum() * volume
    assert total.item() == pytest.approx(1.0, abs=1e-4)


@EACH
def test_samples_are_of_the_density(kind):
    """Means, second moments, and the share of three regions, of samples and of the grid."""
    prior = make_prior(kind, 2)
    points, volume = grid(2)
    size = 20_000
    with torch.no_grad():
        density = prior().log_prob(points).exp() * volume
        samples = prior().sample((size,))

    def features(z):
        x, y = z.unbind(-1)
        regions = [x > 0.3, y > x, x.square() + y.square() < 1.5]
        return torch.stack([x, y, x * x, x * y, y * y, *(r.to(z.dtype) for r in regions)], -1)

    expected = density @ features(points)
    found = features(samples)
    error = found.std(0) / math.sqrt(size)
    # The grid's share of a region is off by its edge, some cells of 0.05.
    slack = torch.tensor([1e-3] * 5 + [1e-2] * 3)
    assert ((found.mean(0) - expected).abs() < 5 * error + slack).all()


@pytest.mark.parametrize("kind", ["mixture", "vamp", "flow"])
def test_every_parameter_receives_a_gradient(kind):
    prior = make_prior(kind, 4)
    prior().log_prob(torch.randn(50, 4)).sum().backward()
    parameters = dict(prior.named_parameters())
    if kind == "vamp":
        parameters |= dict(prior._head[0].named_parameters())
        assert len(parameters) == 5
    assert len(parameters) >= 3
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


def by_hand(prior, z):
    """log π_k + log N(z; loc_k, scale_k²) of one z ``[D]`` of a mixture: K numbers."""
    if isinstance(prior, VampPrior):
        head = prior._head[0]
        loc = prior.features @ head.loc.weight.T + head.loc.bias
        scale = (prior.features @ head.log_scale.weight.T + head.log_scale.bias).exp()
        weights = [1 / len(loc)] * len(loc)
    else:
        loc = prior.loc
        scale = (5 * torch.tanh(prior.raw_scale / 5)).exp()
        weights = [math.exp(x) / prior.logits.exp().sum().item() for x in prior.logits.tolist()]
    found = []
    for weight, a, s in zip(weights, loc.tolist(), scale.tolist(), strict=True):
        parts = [
            -0.5 * ((x - m) / d) ** 2 - math.log(d) - 0.5 * math.log(2 * math.pi)
            for x, m, d in zip(z.tolist(), a, s, strict=True)
        ]
        found.append(math.log(weight) + sum(parts))
    return found


@MIXTURES
def test_density_and_responsibilities_by_bayes_rule(kind):
    prior = make_prior(kind, 3)
    z = torch.randn(2, 4, 3)
    shares, density = prior.responsibilities(z), prior().log_prob(z)
    assert shares.shape == (2, 4, 3)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(4)):
        joint = [math.exp(x) for x in by_hand(prior, z[tuple(index)])]
        assert density[tuple(index)].item() == pytest.approx(math.log(sum(joint)))
        expected = [x / sum(joint) for x in joint]
        assert shares[tuple(index)].tolist() == pytest.approx(expected)


def test_standard_normal_leaves_no_trace_in_a_state():
    prior = StandardNormal(3)
    assert not prior.state_dict()
    assert not list(prior.parameters())
    z = torch.randn(5, 3)
    expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(prior().log_prob(z), expected)
    assert prior.to(torch.float32)().log_prob(z.float()).dtype == torch.float32


def test_a_vamp_prior_is_the_average_posterior_of_its_head_and_does_not_own_it():
    head = GaussianHead(FEATURES, 2)
    prior = VampPrior(2, 4)
    with pytest.raises(RuntimeError, match=r"follow\(guide.multimodal"):
        prior()
    prior.follow(head)
    assert [*prior.state_dict()] == ["features"] == [n for n, _ in prior.named_parameters()]
    assert [*prior.modules()] == [prior]
    z = torch.randn(7, 2)
    each = torch.stack([head(u).log_prob(z) for u in prior.features])
    torch.testing.assert_close(prior().log_prob(z), each.logsumexp(0) - math.log(4))
    before = prior().log_prob(z)
    with torch.no_grad():
        head.loc.bias.add_(1.0)
    assert (prior().log_prob(z) - before).abs().min() > 1e-6
    features = prior.features
    prior.follow(GaussianHead(FEATURES, 2))  # another head, the same pseudo-inputs
    assert prior.features is features


def test_a_flow_changes_every_dimension_and_begins_near_the_standard_normal():
    for dim in (2, 3, 7):
        prior = Flow(dim, num_layers=2)
        noise = torch.randn(1, dim)

        def image(e, prior=prior):
            for transform in prior().transforms:
                e = transform(e)
            return e

        moved = torch.autograd.functional.jacobian(image, noise)[0, :, 0]
        # Of a pure permutation every entry would be 0 or 1.
        assert ((moved != 0) & (moved != 1)).any(1).all(), dim
    z = torch.randn(500, 8)
    difference = Flow(8)().log_prob(z) - StandardNormal(8)().log_prob(z)
    assert 0 < difference.abs().mean() < 1.0


def test_a_flow_never_remembers():
    """The same tensor after a step has another density, and nothing of a call stays."""
    prior = Flow(4, num_layers=2)
    optim = torch.optim.SGD(prior.parameters(), 1e-2)
    z = torch.randn(6, 4)
    first = prior().log_prob(z)
    (-first.sum()).backward()
    optim.step()
    second = prior().log_prob(z)
    assert (second > first + 1e-6).any()
    torch.testing.assert_close(prior().log_prob(z.clone()), second)
    draw = prior().rsample((6,))
    kept = weakref.ref(draw)
    assert prior().log_prob(draw).shape == (6,)
    del draw
    gc.collect()
    assert kept() is None
