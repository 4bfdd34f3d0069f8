from functools import partial

import pyro
import pytest
import torch
from pyro.poutine.util import prune_subsample_sites

from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.nn.heads import GaussianHead
from pvae_pyro.svi import SVI
from tests.support.tiny import tiny_batch, tiny_pair, tiny_svi
from tests.support.training import moved, snapshot


def test_two_in_one_process_both_move_and_the_store_stays_as_it_was():
    pyro.param("theirs", torch.tensor(1.0))
    for seed in (0, 1):
        svi = tiny_svi(seed)
        before = snapshot(svi)
        for _ in range(3):
            svi.step(tiny_batch(12))
        assert all(moved(before, svi))
        assert list(pyro.get_param_store().keys()) == ["theirs"]


def test_step_is_one_of_the_optimiser_on_the_mean():
    """Against plain SGD on the module form, whose loss is the sum over the batch."""
    batch = tiny_batch(4)
    torch.manual_seed(0)
    model, guide = tiny_pair()
    elbo = PartitionedELBO()
    module = elbo(model, guide)
    pyro.set_rng_seed(5)
    loss = module(batch)
    (loss / 4).backward()
    expected = [p.detach() - 1e-3 * p.grad for p in module.parameters()]
    model.zero_grad()
    guide.zero_grad()
    svi = SVI(model, guide, partial(torch.optim.SGD, lr=1e-3), elbo)
    pyro.set_rng_seed(5)
    assert svi.step(batch) == pytest.approx(loss.item(), rel=1e-6)
    for parameter, value in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


@pytest.mark.parametrize("limit", [None, 1e9, 2.0])
def test_gradients_are_scaled_down_to_a_norm(limit):
    """One step of SGD at rate 1 moves the parameters by the gradient, and at most by the norm."""
    moves = []
    for clip_norm in (None, limit):
        torch.manual_seed(0)
        model, guide = tiny_pair()
        sgd = partial(torch.optim.SGD, lr=1.0)
        svi = SVI(model, guide, sgd, PartitionedELBO(), clip_norm=clip_norm)
        before = torch.cat([p.detach().flatten() for p in svi.parameters()])
        pyro.set_rng_seed(5)
        svi.step(tiny_batch(4))
        moves.append(torch.cat([p.detach().flatten() for p in svi.parameters()]) - before)
    whole, clipped = moves
    assert whole.norm() > 10
    expected = whole if limit != 2.0 else 2.0 * whole / whole.norm()
    torch.testing.assert_close(clipped, expected, rtol=1e-4, atol=1e-4)


def test_the_command_clips_at_its_option():
    for norm, expected in ((300.0, 300.0), (7.0, 7.0), (0.0, None)):
        options = Options(num_cells=8, clip_norm=norm).resolved("cpu").but(max_frames=9)
        assert build(options).clip_norm == expected


def test_a_norm_that_is_not_positive_is_an_error():
    for norm in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="clip_norm must be positive"):
            SVI(*tiny_pair(), torch.optim.Adam, PartitionedELBO(), clip_norm=norm)


def test_update_reports_means_over_the_batch():
    svi = tiny_svi()
    batch = tiny_batch(4)
    pyro.set_rng_seed(5)
    terms = svi.terms(batch)
    pyro.set_rng_seed(5)
    means = svi.update(batch)
    assert means.keys() == terms.keys()
    for name, value in terms.items():
        torch.testing.assert_close(means[name], value.detach().mean())


def test_autocast_is_of_networks_alone():
    """Distributions and terms are float32, and the objective is about the same."""
    batch = tiny_batch(12)
    exact = tiny_svi()
    pyro.set_rng_seed(5)
    expected = exact.terms(batch)
    adam = partial(torch.optim.Adam, lr=1e-3)
    svi = SVI(exact.model, exact.guide, adam, exact.loss, torch.bfloat16)
    dtypes = set()
    heads = [m for m in svi.guide.modules() if isinstance(m, GaussianHead)]
    handles = [h.loc.register_forward_hook(lambda *of: dtypes.add(of[2].dtype)) for h in heads]
    pyro.set_rng_seed(5)
    found = svi.terms(batch)
    assert dtypes == {torch.bfloat16}  # it does something
    for handle in handles:
        handle.remove()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert not torch.equal(found[name], value) or name == "contrastive"
        torch.testing.assert_close(found[name], value, rtol=0.02, atol=0.02, msg=name)
    with torch.autocast("cpu", torch.bfloat16):
        for name, trace in (
            ("guide", pyro.poutine.trace(svi.guide).get_trace(batch)),
            ("model", pyro.poutine.trace(svi.model).get_trace(batch)),
        ):
            sites = prune_subsample_sites(trace).nodes.items()
            for site, node in sites:
                if node["type"] == "sample":
                    assert node["fn"].mean.dtype == torch.float32, (name, site)
    before = snapshot(svi)
    svi.update(batch)
    assert all(moved(before, svi))
