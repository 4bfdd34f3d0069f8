"""Packing is torch's, and its inverse gives back what was packed."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from pvae_pyro.nn.packing import Packing

LENGTHS = torch.tensor([3, 5, 1, 5, 2])


def test_as_torch_packs() -> None:
    x = torch.randn(5, 6, 4)
    packing = Packing.of(LENGTHS, 6)
    theirs = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    assert torch.equal(packing.alive, theirs.batch_sizes)
    lengths = LENGTHS[packing.order]
    assert lengths.tolist() == sorted(LENGTHS.tolist(), reverse=True)
    assert torch.equal(packing.order[packing.unsorted], torch.arange(5))
    # Equal lengths may stand in another order, so compare through our own.
    sorted_x = x[packing.order]
    ours = pack_padded_sequence(sorted_x, lengths, batch_first=True)
    assert torch.equal(packing.pack(x), ours.data)


def test_padding_is_the_inverse() -> None:
    x, packing = torch.randn(5, 6, 4, requires_grad=True), Packing.of(LENGTHS, 6)
    exists = (torch.arange(6) < LENGTHS.unsqueeze(1)).unsqueeze(-1)
    padded = packing.pad(packing.pack(x))
    assert torch.equal(padded, torch.where(exists, x, 0.0))
    (grad,) = torch.autograd.grad(padded.sum(), x)
    assert torch.equal(grad, exists.expand_as(x).float())


def test_repeat_is_a_constant_packed() -> None:
    rows, packing = torch.randn(5, 4), Packing.of(LENGTHS, 6)
    repeated = packing.pack(rows.unsqueeze(1).expand(-1, 6, -1))
    assert torch.equal(packing.repeat(rows), repeated)


def test_before_and_last() -> None:
    packing = Packing.of(LENGTHS, 6)
    at = packing.frame  # row * 6 + time
    for frame, before in enumerate(packing.before.tolist()):
        if at[frame] % 6 == 0:
            assert before < 0
        else:
            assert at[before] == at[frame] - 1
    assert torch.equal(at[packing.last], torch.arange(5) * 6 + LENGTHS - 1)


@pytest.mark.parametrize("lengths", [[0, 1], [3, -1], [3, 7], [], [[1, 2]]])
def test_bad_lengths(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths must be"):
        Packing.of(torch.tensor(lengths, dtype=torch.int64), 6)
