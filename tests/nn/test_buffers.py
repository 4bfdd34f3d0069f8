"""Buffers are used again, by one at a time, and not all kept."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pvae_pyro.nn.lstm import buffers
from pvae_pyro.nn.lstm.buffers import give_back, take


@pytest.fixture(autouse=True)
def nothing_free(monkeypatch):
    monkeypatch.setattr(buffers, "_free", {})


def test_what_is_given_back_is_taken_again():
    a = take(torch.float32, 100)
    assert len(a) >= 100
    give_back(a)
    assert take(torch.float32, 90) is a
    assert take(torch.float32, 90) is not a  # not twice


def test_neither_too_small_nor_far_too_large():
    small, large = torch.empty(80), torch.empty(1000)
    give_back(small, large)
    assert len(take(torch.float32, 100)) < 200
    assert buffers._free[torch.float32] == [large]  # the small one was nearly enough: replaced
    assert take(torch.float64, 900).dtype == torch.float64


def test_no_more_than_so_many_are_kept():
    give_back(*(torch.empty(10) for _ in range(100)))
    assert len(buffers._free[torch.float32]) == buffers._MOST


def test_taken_in_inference_mode_it_can_be_written_later():
    with torch.inference_mode():
        a = take(torch.float32, 10)
    a.add_(1)


def test_threads_never_share_one():
    def work(_):
        for _ in range(2000):
            a = take(torch.float32, 8)
            a.fill_(id(a) % 997)
            assert (a == id(a) % 997).all()
            give_back(a)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
