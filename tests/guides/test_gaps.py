"""Examples that lack modalities: exact in the objective, and inferred from what they have."""

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.poutine.util import prune_subsample_sites

from pvae_pyro.batch import Observation
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.generation import infer
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.models import PVAE
from pvae_pyro.objective.contrastive import hinge_of_present, negatives_among, rbf_kernel
from pvae_pyro.objective.hsic import normalised_hsic
from tests.support import linear_gaussian
from tests.support.tiny import tiny_batch, tiny_pair

PRESENT = {
    0: torch.tensor([True, True, False, True, False, True, True]),
    1: torch.tensor([True, False, True, True, True, False, True]),
}


def gaussian_pair():
    torch.manual_seed(0)
    modalities = linear_gaussian.MODALITIES
    return PVAE(modalities, 2, 2), PartitionedGuide(modalities, 2, 2)


def gaussian_batch(size=7):
    torch.manual_seed(1)
    return linear_gaussian.make_batch(size)


def lacking(batch):
    """The batch with modalities missing as in PRESENT; a sequence then has one frame."""
    found = {}
    for present, (name, x) in zip(PRESENT.values(), batch.items(), strict=True):
        lengths = None if x.lengths is None else torch.where(present, x.lengths, 1)
        found[name] = Observation(x.value, lengths, present)
    return found


def rows(batch, which):
    return {
        name: Observation(x.value[which], None if x.lengths is None else x.lengths[which])
        for name, x in batch.items()
    }


@pytest.fixture
def same_noise(monkeypatch):
    """The same draw for every example, however many there are."""

    def noise(shape, dtype, device):
        draw = torch.randn(shape[-1], dtype=dtype, generator=torch.Generator().manual_seed(3))
        return draw.expand(shape)

    monkeypatch.setattr("torch.distributions.normal._standard_normal", noise)


CASES = {
    "gaussian": (gaussian_pair, gaussian_batch),
    "digits": (tiny_pair, lambda: tiny_batch(7)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_left_out_exactly(case, same_noise, float64):
    """Value and gradient are those of a model and a guide that are not asked for it at all."""
    make, batch_of = CASES[case]
    torch.manual_seed(0)
    model, guide = make()
    model.double(), guide.double()
    batch = {n: Observation(x.value.double(), x.lengths) for n, x in batch_of().items()}
    names = list(batch)
    elbo = PartitionedELBO(alpha=2.0, beta=0.0)
    parameters = [*model.parameters(), *guide.parameters()]

    terms = elbo.terms(model, guide, lacking(batch))
    gradient = torch.autograd.grad(terms["objective"].sum(), parameters, allow_unused=True)

    total, values = 0.0, torch.zeros(7)
    a, b = PRESENT.values()
    for pattern, some in (((a & b), names), ((a & ~b), names[:1]), ((b & ~a), names[1:])):
        part = {name: x for name, x in rows(batch, pattern).items() if name in some}
        found = elbo.terms(_Only(model, some), guide, part)
        values[pattern] = found["objective"].detach()
        total = total + found["objective"].sum()
    expected = torch.autograd.grad(total, parameters, allow_unused=True)

    torch.testing.assert_close(terms["objective"].detach(), values)
    for got, want in zip(gradient, expected, strict=True):
        got = torch.zeros(()) if got is None else got
        torch.testing.assert_close(got, torch.zeros_like(got) if want is None else want)


class _Only(torch.nn.Module):
    """A model asked for some modalities alone."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, batch):
        return self.model(batch, names=self.names)


def test_negatives_are_others_that_are_there():
    present = torch.tensor([True, False, True, True, False, True])
    seen = set()
    for _ in range(50):
        negatives = negatives_among(present)
        assert present[negatives].all()
        there = present.nonzero().flatten()
        assert (negatives[there] != there).all()
        assert sorted(negatives[there].tolist()) == there.tolist()
        seen.add(int(negatives[0]))
    assert seen == {2, 3, 5}
    assert negatives_among(torch.tensor([False, True]))[1] == 1


def test_hinge_of_what_is_there():
    torch.manual_seed(0)
    locs = {"a": torch.randn(3, 2), "b": torch.randn(3, 2)}
    present = {
        "a": torch.tensor([True, False, True]),
        "b": torch.tensor([True, True, False]),
    }
    hinge = hinge_of_present(locs, present, margin=0.5, length_scale=2.0)
    same = rbf_kernel(locs["a"][0], locs["b"][0], 2.0)
    # Of two that are there, the other one is the negative. One of three has both: times 3.
    expected = {
        ("a", "b"): 0.5 - same + rbf_kernel(locs["a"][0], locs["b"][1], 2.0),
        ("b", "a"): 0.5 - same + rbf_kernel(locs["b"][0], locs["a"][2], 2.0),
    }
    for pair, value in expected.items():
        torch.testing.assert_close(
            hinge[pair], torch.stack([3 * value.relu(), torch.zeros(()), torch.zeros(())])
        )
    alone = {"a": present["a"], "b": torch.tensor([True, False, False])}
    assert hinge_of_present(locs, alone)["a", "b"].eq(0).all()  # no negative of b
    assert hinge_of_present(locs, alone)["b", "a"][0] > 0


def test_dependence_is_over_the_examples_that_are_there():
    model, guide = gaussian_pair()
    batch = lacking(gaussian_batch())
    torch.manual_seed(0)
    elbo = PartitionedELBO(alpha=1.0, beta=0.0, gamma=1.0)
    terms = elbo.terms(model, guide, batch)["independence/a"]
    torch.manual_seed(0)
    style = guide(batch)["z_style_a"]
    shared = infer(guide.unimodal["a"], {"a": batch["a"]})["z_sem"]
    a = PRESENT[0]
    torch.testing.assert_close(terms[a], normalised_hsic(shared[a], style[a]))
    assert (terms[~a] == 0).all()


def posteriors(guide, batch):
    """Site -> mean, scale and mask of what the guide samples from."""
    trace = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
    sites = [node for node in trace.nodes.values() if node["type"] == "sample"]
    return {s["name"]: (s["fn"].base_dist.loc, s["fn"].base_dist.scale, s["mask"]) for s in sites}


def test_each_example_is_inferred_from_what_it_has():
    torch.manual_seed(0)
    _, guide = gaussian_pair()
    batch = lacking(gaussian_batch())
    found = posteriors(guide, batch)
    complete = {name: Observation(x.value) for name, x in batch.items()}
    a, b = PRESENT.values()
    every = posteriors(guide.multimodal, complete)
    alone = {name: posteriors(guide.unimodal[name], complete) for name in complete}
    for site, (loc, scale, _) in found.items():
        for which, expected in ((a & b, every), (a & ~b, alone["a"]), (b & ~a, alone["b"])):
            if site in expected:
                torch.testing.assert_close(loc[which], expected[site][0][which])
                torch.testing.assert_close(scale[which], expected[site][1][which])
    assert found["z_sem"][2].all()  # every example has a modality
    assert torch.equal(found["z_style_a"][2], a)
    assert torch.equal(found["z_style_b"][2], b)


@pytest.mark.parametrize("detach", [True, False])
def test_the_bound_of_lone_examples_moves_the_shared_posterior_only_if_asked(detach):
    model, guide = gaussian_pair()
    assert guide.detach_shared
    guide.detach_shared = detach
    absent = torch.zeros(7, dtype=torch.bool)
    batch = gaussian_batch()
    lone = {"a": batch["a"], "b": Observation(batch["b"].value, None, absent)}
    terms = PartitionedELBO(alpha=2.0, beta=0.0).terms(model, guide, lone)
    terms["objective"].sum().backward()

    def moved(module):
        return any(p.grad is not None and p.grad.abs().max() > 1e-4 for p in module.parameters())

    heads = guide.unimodal["a"].heads
    assert moved(heads["z_style_a"])
    assert moved(model.likelihoods["a"])
    assert moved(heads["z_sem"]) != detach
    assert not moved(guide.multimodal)
    assert not moved(guide.unimodal["b"])
    assert not moved(model.likelihoods["b"])


def test_the_multimodal_guide_alone_refuses_gaps():
    _, guide = gaussian_pair()
    with pytest.raises(ValueError, match="needs all of"):
        guide.multimodal(lacking(gaussian_batch()))
    z = guide({"a": lacking(gaussian_batch())["a"]})  # a unimodal one masks
    assert z["z_sem"].shape == (7, 2)


def test_any_subset_is_inferred_from():
    torch.manual_seed(0)
    third = linear_gaussian.MODALITIES[0]
    modalities = (*linear_gaussian.MODALITIES, type(third)("c", third.encoder, third.likelihood))
    model = PVAE(modalities, 2, 2)
    guide = PartitionedGuide(modalities, 2, 2)
    batch = {**gaussian_batch(), "c": Observation(torch.randn(7, 5))}
    two = {name: batch[name] for name in ("c", "a")}
    found = infer(guide, two)
    assert set(found) == {"z_sem", "z_style_a", "z_style_c"}
    (loc_a, scale_a, _), (loc_c, scale_c, _) = (
        posteriors(guide.unimodal[name], two)["z_sem"] for name in ("a", "c")
    )
    precision = (scale_a**-2 + scale_c**-2 - 1).clamp(min=1)
    expected = (loc_a / scale_a**2 + loc_c / scale_c**2) / precision
    torch.testing.assert_close(found["z_sem"], expected)
    torch.testing.assert_close(posteriors(guide, two)["z_sem"][1], precision**-0.5)
    # Where it is missing from the examples, it is as if it were not in the batch.
    absent = torch.zeros(7, dtype=torch.bool)
    padded = {**two, "b": Observation(torch.zeros(7, 7), None, absent)}
    torch.testing.assert_close(infer(guide, padded)["z_sem"], found["z_sem"])
    one = {"b": batch["b"]}
    torch.testing.assert_close(infer(guide, one), infer(guide.unimodal["b"], one))
    drawn = Predictive(model, guide=guide, num_samples=3)(two, observed=())
    assert drawn["b"].shape == (3, 7, 7)


def test_with_exact_posteriors_the_bound_is_the_evidence():
    """Of examples with one modality, with the other and with both, whose guides fit together."""
    model, guide = gaussian_pair()
    linear_gaussian.set_exact_posterior(model, guide)
    x = Predictive(model, num_samples=1)(num_examples=3000)
    patterns = torch.tensor([[1, 1], [1, 0], [0, 1]], dtype=torch.bool)
    there = patterns[torch.arange(3000) % 3]
    batch = {name: Observation(x[name][0], None, there[:, m]) for m, name in enumerate("ab")}
    with torch.no_grad():
        bound = PartitionedELBO(alpha=0.0, beta=0.0).terms(model, guide, batch)["elbo"]
    weights = {m: model.likelihoods[m].weight.detach() for m in "ab"}
    cov = {m: w @ w.T + linear_gaussian.NOISE**2 * torch.eye(len(w)) for m, w in weights.items()}
    evidence = [linear_gaussian.log_evidence(model, batch)] + [
        dist.MultivariateNormal(torch.zeros(len(cov[m])), cov[m]).log_prob(batch[m].value)
        for m in "ab"
    ]
    for pattern, exact in enumerate(evidence):
        gap = (exact - bound)[pattern::3]
        assert gap.mean().abs() < 4 * gap.std() / 1000**0.5
        assert gap.std() < 3
