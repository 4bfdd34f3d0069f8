"""The PVAE on tiny speech and images: invariances, gradients, prediction."""

import math
from functools import partial

import pyro
import pytest
import torch
from pyro.infer import Predictive

from pvae_pyro.batch import Observation, batch_size
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.svi import SVI
from tests.support.tiny import MAX_FRAMES, tiny_batch, tiny_pair


@pytest.mark.parametrize("filler", [0.0, 7.0, math.nan])
def test_padding_changes_nothing(filler):
    model, guide = tiny_pair()
    elbo = PartitionedELBO()
    results = []
    for batch in (tiny_batch(), tiny_batch(padding=4, filler=filler)):
        model.zero_grad()
        guide.zero_grad()
        pyro.set_rng_seed(3)
        with pyro.validation_enabled(False):  # which refuses NaN even in padding
            terms = elbo.terms(model, guide, batch)
        terms["objective"].sum().backward()
        grads = [p.grad.clone() for p in [*model.parameters(), *guide.parameters()]]
        results.append((terms, grads))
    (terms, grads), (padded_terms, padded_grads) = results
    for name, value in terms.items():
        torch.testing.assert_close(padded_terms[name], value, msg=name)
    for gradient, padded in zip(grads, padded_grads, strict=True):
        torch.testing.assert_close(padded, gradient)


def test_generated_padding_is_zero_and_duration_is_the_sites():
    model, _ = tiny_pair()
    draws = Predictive(model, num_samples=4)(num_examples=10)
    lengths = draws["speech_log_frames"].exp().round().clamp(1, MAX_FRAMES).long()
    used = torch.arange(MAX_FRAMES) < lengths[..., None]
    assert (draws["speech"][~used] == 0).all()
    assert (draws["speech"][used] != 0).all()
    assert len(lengths.unique()) > 1


@pytest.mark.parametrize("source", ["speech", None])
def test_parallel_prediction_equals_sequential(source):
    """In shape exactly; in distribution by mean and standard deviation of every element."""
    model, guide = tiny_pair()
    size = 2
    batch = {
        name: Observation(o.value[:size], None if o.lengths is None else o.lengths[:size])
        for name, o in tiny_batch().items()
    }
    if source is None:
        arguments, keywords, chosen = (), {"num_examples": size}, None
    else:
        arguments, keywords = ({source: batch[source]},), {"observed": ()}
        chosen = guide.unimodal[source]
    draws = {
        parallel: Predictive(model, guide=chosen, num_samples=200, parallel=parallel)(
            *arguments, **keywords
        )
        for parallel in (False, True)
    }
    assert draws[True].keys() == draws[False].keys()
    assert {"speech", "image", "speech_loc", "image_loc"} <= draws[True].keys()
    for name, value in draws[False].items():
        other = draws[True][name]
        assert other.shape == value.shape, name
        # The first moment, and that of the squares. Among some thousand elements, chance exceeds
        # 5.5 standard errors once in ten thousand runs.
        for moment in (value, other), (value.square(), other.square()):
            error = sum(m.var(0) for m in moment).div(200).sqrt()
            difference = (moment[0].mean(0) - moment[1].mean(0)).abs()
            assert (difference <= 5.5 * error + 1e-6).all(), name


def test_batches_of_unequal_size_are_refused():
    batch = tiny_batch()
    batch["image"] = Observation(batch["image"].value[:2])
    with pytest.raises(ValueError, match="one size"):
        batch_size(batch)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_objective_on_cuda_equals_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, guide = tiny_pair()
    batch = tiny_batch()
    elbo = PartitionedELBO()
    on_cpu = elbo.terms(model, guide, batch)["coherence"]
    batch = {name: o.to("cuda") for name, o in batch.items()}
    on_cuda = elbo.terms(model.cuda(), guide.cuda(), batch)["coherence"]
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_steps_on_cuda(autocast):
    model, guide = (module.cuda() for module in tiny_pair())
    elbo, adam = PartitionedELBO(gamma=1.0, delta=1.0), partial(torch.optim.Adam, fused=True)
    svi = SVI(model, guide, adam, elbo, autocast)
    batch = {name: o.to("cuda") for name, o in tiny_batch(12).items()}
    before = [parameter.clone() for parameter in svi.parameters()]
    for _ in range(2):
        terms = svi.update(batch)
    assert all(value.isfinite() for value in terms.values())
    pairs = zip(before, svi.parameters(), strict=True)
    assert not any(torch.equal(old, new) for old, new in pairs)
