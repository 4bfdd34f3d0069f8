"""Predictive checks and Pareto k against distributions that are known."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.predictive_checks import pareto_k, predictive_check, reliable_k, statistics
from pvae_pyro.inference_data import inference_data
from tests.support.linear_gaussian import SIZES, make_batch, make_pair, set_exact_posterior


@pytest.fixture(scope="module")
def exact():
    """Data of the model itself, under its exact posterior."""
    torch.manual_seed(0)
    model, guide = make_pair()
    set_exact_posterior(model, guide)
    with torch.no_grad():
        drawn = model(num_examples=300)
    batch = {n: one.__class__(drawn[n]) for n, one in make_batch(1).items()}
    return inference_data(model, guide, batch, num_samples=60, chunk=3000)


def test_a_model_predicts_its_own_data(exact):
    for name, of_statistic in predictive_check(exact, SIZES).items():
        for what, of_group in of_statistic.items():
            for group, found in of_group.items():
                assert 0.01 < found["p"] < 0.99, (name, what, group)
                assert 0.8 < found["inside"] <= 1.0, (name, what, group)
                assert found["predicted"] == pytest.approx(found["observed"], abs=0.15)


def test_a_wrong_model_is_found_out(exact):
    wrong = {
        group: {name: exact[group][name] for name in SIZES}
        for group in ("posterior_predictive", "prior_predictive")
    }
    wrong["observed_data"] = {name: 3 * exact["observed_data"][name] for name in SIZES}
    for of_statistic in predictive_check(wrong, SIZES).values():
        for found in of_statistic["sd"].values():
            assert found["p"] == 0
            assert found["inside"] < 0.3


def test_statistics_leave_padding_out():
    import xarray  # a dependency of ArviZ

    value = np.array([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [np.nan, np.nan]]])
    found = statistics(xarray.DataArray(value, dims=("example", "s_frame", "s_bin")))
    assert found["mean"].values.tolist() == [4.0, 3.0]
    assert found["sd"].values.tolist() == [pytest.approx(5**0.5), 1.0]
    assert found["energy"].values.tolist() == [84.0, 20.0]
    assert found["duration"].values.tolist() == [2, 1]


@pytest.mark.parametrize("k", [0.2, 0.7, 1.5])
def test_k_is_the_tail_index(k):
    """Of w = u^-k, a Pareto distribution of tail index k."""
    log_weights = -k * torch.rand(4000, 30, generator=torch.Generator().manual_seed(0)).log()
    assert pareto_k(log_weights - 4000).mean() == pytest.approx(k, abs=0.06)


def test_k_of_hopeless_and_of_perfect_weights():
    log_weights = torch.zeros(100, 2)
    log_weights[:, 1] = -2000.0 * torch.arange(100)  # one of them has it all
    assert pareto_k(log_weights).tolist() == [0.0, np.inf]


def test_arviz_1_expects_the_opposite_sign(monkeypatch):
    base = ModuleType("arviz_stats.base")
    base.array_stats = SimpleNamespace(psislw=lambda ary: (None, ary.max(-1)))
    monkeypatch.setitem(sys.modules, "arviz", SimpleNamespace(__version__="1.0.0"))
    monkeypatch.setitem(sys.modules, "arviz_stats", ModuleType("arviz_stats"))
    monkeypatch.setitem(sys.modules, "arviz_stats.base", base)
    assert pareto_k(torch.tensor([[1.0, -5.0], [2.0, 7.0]])).tolist() == [-1.0, 5.0]


def test_reliable_k():
    assert reliable_k(100) == pytest.approx(0.5)
    assert reliable_k(10**6) == 0.7
    assert reliable_k(1) == 0.0
