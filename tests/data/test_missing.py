"""Examples that lack modalities: exact in the objective, seen by the guide, any subset in use."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive

from pvae_pyro.batch import Observation
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.generation import infer, infer_from, product_of_experts
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.models import PVAE
from pvae_pyro.objective.contrastive import hinge_of_present, negatives_among, rbf_kernel
from pvae_pyro.objective.hsic import normalised_hsic
from pvae_pyro.svi import SVI
from tests.support import linear_gaussian
from tests.support.tiny import tiny_batch, tiny_pair

PRESENT = {
    0: torch.tensor([True, True, False, True, False, True, True]),
    1: torch.tensor([True, False, True, True, True, False, True]),
}


def gaussian_pair():
    torch.manual_seed(0)
    modalities = linear_gaussian.MODALITIES
    return PVAE(modalities, 2, 2), PartitionedGuide(modalities, 2, 2, sees_presence=True)


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
    "digits": (lambda: tiny_pair(sees_presence=True), lambda: tiny_batch(7)),
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
        whole = _MultimodalAlways(guide)
        found = elbo.terms(_Only(model, some), whole, part)
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


class _MultimodalAlways(torch.nn.Module):
    """The guide of all modalities, whatever there is; and the others of what there is."""

    def __init__(self, guide):
        super().__init__()
        self.guide, self.unimodal = guide, guide.unimodal

    def forward(self, batch):
        return self.guide.multimodal(batch)


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
    style = guide.multimodal(batch)["z_style_a"]
    shared = infer(guide.unimodal["a"], {"a": batch["a"]})["z_sem"]
    a = PRESENT[0]
    torch.testing.assert_close(terms[a], normalised_hsic(shared[a], style[a]))
    assert (terms[~a] == 0).all()


def test_guides_that_do_not_see_presence_refuse():
    torch.manual_seed(0)
    guide = PartitionedGuide(linear_gaussian.MODALITIES, 2, 2)
    with pytest.raises(ValueError, match="sees_presence"):
        guide(lacking(gaussian_batch()))
    z = guide({"a": lacking(gaussian_batch())["a"]})  # a unimodal one masks
    assert z["z_sem"].shape == (7, 2)


def test_any_subset_is_inferred_from():
    torch.manual_seed(0)
    third = linear_gaussian.MODALITIES[0]
    modalities = (*linear_gaussian.MODALITIES, type(third)("c", third.encoder, third.likelihood))
    model = PVAE(modalities, 2, 2)
    guide = PartitionedGuide(modalities, 2, 2, sees_presence=True)
    batch = {**gaussian_batch(), "c": Observation(torch.randn(7, 5))}
    two = {name: batch[name] for name in ("c", "a")}
    found = infer(guide, two)
    assert set(found) == {"z_sem", "z_style_a", "z_style_c"}
    # As if b were there in name alone.
    absent = torch.zeros(7, dtype=torch.bool)
    padded = {**two, "b": Observation(torch.zeros(7, 7), None, absent)}
    torch.testing.assert_close(found["z_sem"], infer(guide.multimodal, padded)["z_sem"])
    product = product_of_experts(guide, two)
    assert not torch.allclose(found["z_sem"], product["z_sem"])
    torch.testing.assert_close(infer_from(guide, two), product)
    # Of one, the product is its own guide's.
    one = {"b": batch["b"]}
    torch.testing.assert_close(product_of_experts(guide, one), infer_from(guide, one))
    drawn = Predictive(model, guide=guide, num_samples=3)(two, observed=())
    assert drawn["b"].shape == (3, 7, 7)

    blind = PartitionedGuide(modalities, 2, 2)
    torch.testing.assert_close(infer_from(blind, two), product_of_experts(blind, two))


def test_trained_on_examples_with_gaps_the_bound_reaches_the_evidence():
    """Of a linear-Gaussian model, for examples with one and with the other and with both."""
    model, guide = gaussian_pair()
    model.requires_grad_(False).eval()

    def draw(size, generator):
        x = Predictive(model, num_samples=1)(num_examples=size)
        patterns = torch.tensor([[1, 1], [1, 0], [0, 1]], dtype=torch.bool)
        there = patterns[torch.randint(3, (size,), generator=generator)]
        return {
            name: Observation(x[name][0], None, there[:, m]) for m, name in enumerate(("a", "b"))
        }

    generator = torch.Generator().manual_seed(0)
    svi = SVI(
        model,
        guide,
        lambda p: torch.optim.Adam((w for w in p if w.requires_grad), lr=3e-3),
        PartitionedELBO(alpha=0.0, beta=0.0),
    )
    for step in range(600):
        if step == 450:
            svi.optim.param_groups[0]["lr"] = 3e-4
        with pyro.validation_enabled(False):
            svi.update(draw(128, generator))
    batch = draw(3000, generator)
    with torch.no_grad():
        bound = PartitionedELBO(alpha=0.0, beta=0.0).terms(model, guide, batch)["elbo"]
    weights = {m: model.likelihoods[m].weight for m in ("a", "b")}
    cov = {m: w @ w.T + linear_gaussian.NOISE**2 * torch.eye(len(w)) for m, w in weights.items()}
    evidence = linear_gaussian.log_evidence(model, batch)
    for m, x in batch.items():
        alone = dist.MultivariateNormal(torch.zeros(len(cov[m])), cov[m]).log_prob(x.value)
        others = next(o.present for n, o in batch.items() if n != m)
        evidence = torch.where(x.present & ~others, alone, evidence)
    for pattern in ((True, True), (True, False), (False, True)):
        which = (batch["a"].present == pattern[0]) & (batch["b"].present == pattern[1])
        gap = (evidence - bound)[which].mean()
        assert -0.01 < gap < 0.1, f"{pattern}: {gap}"
