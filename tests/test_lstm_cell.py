"""The LSTM step in C equals the one by torch, where numbers are ordinary and where they are not."""

import tempfile

import pytest
import torch
from torch import Tensor

from pvae_pyro.nn import lstm_cell, native

BATCH, ALIVE, GOING_ON, HIDDEN, STRIDE = 7, 5, 3, 37, 41  # 37: no multiple of a vector
DTYPES = [torch.float32, torch.float64]

compiled = pytest.mark.skipif(
    native.build("lstm_cell.c", *lstm_cell._DEFINES[torch.float32]) is None,
    reason="no C compiler, or PVAE_NATIVE=0",
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def forward(gate: Tensor, constant: Tensor | None, before: Tensor | None) -> list[Tensor]:
    """Everything that is written, from fresh buffers."""
    gate = gate.clone()
    dtype = gate.dtype
    cell = torch.full((ALIVE, HIDDEN), 9.0, dtype=dtype)
    joined = torch.full((GOING_ON, STRIDE), 9.0, dtype=dtype)
    last = torch.full((BATCH, HIDDEN), 9.0, dtype=dtype)
    outputs = torch.full((20, HIDDEN), 9.0, dtype=dtype)
    frame = torch.tensor([3, 19, 0, 7, 11])
    lstm_cell.forward(gate, constant, before, cell, joined[:, :HIDDEN], last, outputs, frame)
    return [gate, cell, joined, last, outputs]


def backward(gate: Tensor, before: Tensor | None, optional: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=gate.dtype)

    gate, cell, grad_h, grad_c = (
        gate.sigmoid(), normal(ALIVE, HIDDEN), normal(BATCH, HIDDEN), normal(BATCH, HIDDEN)
    )  # fmt: skip
    grad_outputs = normal(20, HIDDEN) if optional else None
    total = normal(BATCH, 4 * HIDDEN) if optional else None
    frame = torch.tensor([3, 19, 0, 7, 11])
    lstm_cell.backward(gate, before, cell, grad_h, grad_c, grad_outputs, frame, total)
    return [gate, grad_c] + ([] if total is None else [total])


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optional", [False, True])
def test_in_c_as_by_torch(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, optional: bool
) -> None:
    assert lstm_cell.language() == "C"
    gate = 5 * torch.randn(ALIVE, 4 * HIDDEN, dtype=dtype)
    constant = torch.randn(BATCH, 4 * HIDDEN, dtype=dtype) if optional else None
    before = torch.randn(BATCH, HIDDEN, dtype=dtype) if optional else None
    assert lstm_cell._library(dtype) is not None
    ours = forward(gate, constant, before) + backward(gate, before, optional)
    monkeypatch.setattr(lstm_cell, "_library", lambda dtype: None)
    theirs = forward(gate, constant, before) + backward(gate, before, optional)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optional", [False, True])
def test_nan_goes_where_torch_sends_it(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, optional: bool
) -> None:
    gate = torch.randn(ALIVE, 4 * HIDDEN, dtype=dtype)
    gate[range(4), [3, HIDDEN + 5, 2 * HIDDEN + 7, 3 * HIDDEN + 11]] = float("nan")
    before = torch.randn(BATCH, HIDDEN, dtype=dtype) if optional else None
    ours = forward(gate, None, before) + backward(gate, before, optional)
    monkeypatch.setattr(lstm_cell, "_library", lambda dtype: None)
    theirs = forward(gate, None, before) + backward(gate, before, optional)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
    assert ours[0].isnan().sum() == 4


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_numbers(dtype: torch.dtype) -> None:
    values = [0.0, 1e-30, -1e-8, 1e-4, -0.34, 0.35, 9.0, -20.0, 88.8, -104.0, 1e4, -1e30]
    values += [float("inf"), -float("inf"), float("nan")]
    row = torch.tensor(values, dtype=dtype)
    gate = torch.zeros(ALIVE, 4, HIDDEN, dtype=dtype)
    gate[..., : len(row)] = row
    found = forward(gate.flatten(1), None, None)[0].view(ALIVE, 4, HIDDEN)[:, :, : len(row)]
    sigmoid, tanh = row.sigmoid().expand(ALIVE, -1), row.tanh().expand(ALIVE, -1)
    relative = 4 * torch.finfo(dtype).eps  # also where tanh is tiny: no cancellation
    for part in (0, 1, 3):  # a sigmoid below 1e-36 may be a clamped one
        torch.testing.assert_close(
            found[:, part], sigmoid, rtol=relative, atol=1e-36, equal_nan=True
        )
    torch.testing.assert_close(found[:, 2], tanh, rtol=relative, atol=0, equal_nan=True)


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in [
        ("CC", "no-such-compiler"), ("CC", "false"), ("CC", "gcc 'open"), ("PVAE_NATIVE", "0")
    ]:  # fmt: skip
        with monkeypatch.context() as context:
            context.setenv(name, value)
            assert native.build("lstm_cell.c", *lstm_cell._DEFINES[torch.float32]) is None


def test_without_room_to_build_in(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert native.build("lstm_cell.c", *lstm_cell._DEFINES[torch.float32]) is None


@compiled
def test_compiler_that_does_not_know_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path):
    script = tmp_path / "old-cc"
    script.write_text('#!/bin/sh\ncase "$*" in *-march*) exit 1;; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    assert native.build("lstm_cell.c", *lstm_cell._DEFINES[torch.float32]) is not None
