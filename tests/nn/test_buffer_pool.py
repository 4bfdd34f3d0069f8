"""Buffers are used again, by one caller at a time, and only a few are kept."""

import pytest
import torch

from pvae_pyro.nn.lstm import buffer_pool
from pvae_pyro.nn.lstm.buffer_pool import give_back, take


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    monkeypatch.setattr(buffer_pool, "_free", {})


def test_a_buffer_is_taken_again_but_not_twice():
    a = take(torch.float32, 100)
    assert len(a) >= 100
    give_back(a)
    assert take(torch.float32, 90) is a
    assert take(torch.float32, 90) is not a


def test_a_buffer_is_neither_too_small_nor_far_too_large():
    small, large = torch.empty(80), torch.empty(1000)
    give_back(small, large)
    assert 100 <= len(take(torch.float32, 100)) < 200
    assert buffer_pool._free[torch.float32] == [large]  # the small one was replaced
    assert take(torch.float64, 900).dtype == torch.float64


def test_only_a_few_are_kept():
    give_back(*(torch.empty(10) for _ in range(100)))
    assert len(buffer_pool._free[torch.float32]) == buffer_pool._MOST
