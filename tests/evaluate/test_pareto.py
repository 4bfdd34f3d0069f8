"""Pareto k of weights whose distribution is known."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from pvae_pyro.evaluate.pareto import pareto_k, reliable_k


@pytest.mark.parametrize("k", [0.2, 0.7, 1.5])
def test_k_is_the_tail_index(k):
    """Of w = u^-k, a Pareto distribution of tail index k."""
    log_weights = -k * torch.rand(4000, 30, generator=torch.Generator().manual_seed(0)).log()
    assert pareto_k(log_weights - 4000).mean() == pytest.approx(k, abs=0.06)


def test_k_of_hopeless_and_of_perfect_weights():
    log_weights = torch.zeros(100, 2)
    log_weights[:, 1] = -2000.0 * torch.arange(100)  # one of them has it all
    assert pareto_k(log_weights).tolist() == [0.0, np.inf]
    assert pareto_k(log_weights[:4]).tolist() == [0.0, np.inf]  # too few to fit
    assert pareto_k(log_weights[:1]).tolist() == [0.0, 0.0]


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
