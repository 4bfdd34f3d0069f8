"""The objective and the guides of three and of four modalities, against closed forms."""

from functools import partial
from itertools import permutations
from math import comb

import pytest
import torch

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.evaluate.importance import estimate, log_weights
from pvae_pyro.generation import infer
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.modality import Modality
from pvae_pyro.objective.contrastive import rbf_kernel
from tests.support import linear_gaussian
from tests.support.linear_gaussian import Flat, LinearLikelihood

pytestmark = pytest.mark.usefixtures("float64")
SIZES = {"a": 5, "b": 7, "c": 6, "d": 4}


@pytest.fixture(params=[3, 4])
def exact(request, monkeypatch):
    """Model, exact guide and batch of so many modalities."""
    sizes = dict(list(SIZES.items())[: request.param])
    modalities = tuple(
        Modality(name, partial(Flat, size), partial(LinearLikelihood, size=size))
        for name, size in sizes.items()
    )
    monkeypatch.setattr(linear_gaussian, "SIZES", sizes)
    monkeypatch.setattr(linear_gaussian, "MODALITIES", modalities)
    model, guide = linear_gaussian.make_pair()
    linear_gaussian.set_exact_posterior(model, guide)
    return model, guide, linear_gaussian.make_batch(4)


def test_every_weight_is_the_evidence_at_the_exact_posterior(exact):
    """The multimodal guide infers from all, and every modality counts once."""
    model, guide, batch = exact
    weights = log_weights(model, guide, batch, num_samples=3)
    expected = linear_gaussian.log_evidence(model, batch)
    torch.testing.assert_close(weights, expected.expand(3, -1))
    torch.testing.assert_close(estimate(weights).log_likelihood, expected)


def test_coherence_is_the_sum_over_all_modalities_of_both_latents(exact):
    model, guide, batch = exact
    terms = PartitionedELBO(alpha=1.0, beta=0.0).terms(model, guide, batch)
    q = _posteriors(guide.multimodal, batch)
    total = torch.zeros(4)
    for name in batch:
        for site, q_m in _posteriors(guide.unimodal[name], batch).items():
            expected = torch.distributions.kl_divergence(q[site], q_m).sum(-1)
            torch.testing.assert_close(terms[f"coherence/{name}/{site}"], expected)
            total = total + expected
    torch.testing.assert_close(terms["coherence"], total)
    assert len([t for t in terms if t.startswith("coherence/")]) == 2 * len(batch)


def test_contrast_is_of_every_ordered_pair(exact, monkeypatch):
    model, guide, batch = exact
    negatives = torch.tensor([1, 2, 3, 0])
    monkeypatch.setattr("pvae_pyro.elbo.derangement", lambda *_: negatives)
    terms = PartitionedELBO(alpha=0.0, beta=2.0, margin=0.4).terms(model, guide, batch)
    locs = {name: infer(guide.unimodal[name], batch)["z_sem"] for name in batch}
    total = torch.zeros(4)
    for i, j in permutations(batch, 2):
        same, other = rbf_kernel(locs[i], locs[j]), rbf_kernel(locs[i], locs[j][negatives])
        expected = (0.4 - same + other).clamp(min=0)
        torch.testing.assert_close(terms[f"contrastive/{i}/{j}"], expected)
        total = total + expected
    torch.testing.assert_close(terms["contrastive"], total)
    torch.testing.assert_close(terms["objective"], terms["elbo"] - 2 * total)
    assert len([t for t in terms if t.startswith("contrastive/")]) == 2 * comb(len(batch), 2)


def test_each_style_is_kept_apart_and_each_modality_read_again(exact):
    model, guide, batch = exact
    terms = PartitionedELBO(gamma=1.0, delta=1.0).terms(model, guide, batch)
    for kind in ("independence", "restyling"):
        parts = {t for t in terms if t.startswith(f"{kind}/")}
        assert parts == {f"{kind}/{name}" for name in batch}
        torch.testing.assert_close(terms[kind], sum(terms[part] for part in parts))


def test_the_multimodal_guide_looks_at_every_modality(exact):
    _, guide, batch = exact
    assert isinstance(guide, PartitionedGuide)
    before = infer(guide, batch)
    for name, x in batch.items():
        other = {**batch, name: type(x)(x.value + 1)}
        after = infer(guide, other)
        assert not torch.allclose(before["z_sem"], after["z_sem"])
        assert not torch.allclose(before[f"z_style_{name}"], after[f"z_style_{name}"])


def _posteriors(guide, batch):
    features = torch.cat([batch[name].value for name in guide.encoders], -1)
    return {site: head(features).base_dist for site, head in guide.heads.items()}
